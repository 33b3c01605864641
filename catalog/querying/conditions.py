"""What a search asks, as conditions of SQL: names of columns and operators of ours, and values that are bound."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from numbers import Real
from typing import Any, Protocol

from catalog.querying.queryables import LAYERS, Kind, Queryable
from pwcat.errors import CatalogError, RegionError

__all__ = [
    "Classes",
    "Condition",
    "Crossing",
    "MoreColumns",
    "Question",
    "Seam",
    "Times",
    "bbox_condition",
    "bbox_overlap",
    "class_condition",
    "conditions",
    "datetime_condition",
    "moment",
    "named_beside",
    "share_condition",
]

Classes = str | Sequence[str] | None
Times = str | date | tuple[date | None, date | None] | None
SPLITS = ("train", "val", "test")


@dataclass
class Condition:
    """A piece of SQL and the values it binds, in order; and the columns beside the items that it names, each with its kind."""

    sql: str
    values: list[Any] = field(default_factory=list)
    beside: Mapping[str, Kind] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Seam:
    """Bounding boxes of items that lie across the antimeridian: few, and known before they are asked for.

    Attributes:
        boxes: west and east of each, degrees; west is larger than east.
    """

    boxes: tuple[tuple[float, float], ...]

    def meets(self, west: float, east: float) -> bool:
        """Whether one of them meets the longitudes from ``west`` to ``east``."""
        parts = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
        return any(first <= high or last >= low for first, last in self.boxes for low, high in parts)

    @property
    def edges(self) -> tuple[float, float]:
        """Their westernmost western bound and their easternmost eastern one."""
        return min(west for west, _ in self.boxes), max(east for _, east in self.boxes)


# Whether a bounding box of an item may lie across the antimeridian: it may, none does, or those that do. To know these takes
# reading, and is asked for where boxes are compared.
Crossing = bool | Seam | Callable[[], Seam]


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a search asks; see :meth:`catalog.query.Catalog.search`."""

    biome: Classes = None
    landcover: Classes = None
    continent: Classes = None
    ecoregion: Classes = None
    landcover_share: Mapping[str, float | tuple[float, float]] | None = None
    ids: Classes = None
    split: str | None = None
    bbox: Sequence[float] | None = None
    datetime: Times = None
    min_spectral_entropy: float | None = None
    filter: str | Mapping[str, Any] | None = None


class MoreColumns(Protocol):
    """Columns that a filter may name beside those of all items."""

    def names(self) -> list[str]:
        """All of them, as far as they can be listed."""
        ...

    def find(self, names: Iterable[str]) -> dict[str, Queryable]:
        """What these names stand for; those that stand for nothing are left out."""
        ...


def named_beside(conditions: Iterable[Condition]) -> dict[str, Kind]:
    """The columns beside the items that some conditions name, each with its kind."""
    return {name: kind for condition in conditions for name, kind in condition.beside.items()}


def conditions(
    question: Question,
    *,
    known: Mapping[str, Iterable[str]],
    crossing: Crossing = True,
    columns: Mapping[str, str],
    more: MoreColumns | None = None,
) -> list[Condition]:
    """The conditions that a question is made of; all must hold.

    Args:
        question: what is asked.
        known: classes there are, by layer; asked only of the layers that are named.
        crossing: whether a bounding box of an item may lie across the antimeridian. Where none does, or those that do are
            known, whole row groups are passed over.
        columns: names that the filter may use, and the SQL expression of each.
        more: further names that it may use; asked where it names what is not among ``columns``.

    Raises:
        CatalogError: a name, class, date, number or filter that is not known or makes no sense.
    """
    found = [
        class_condition(layer, classes, known[layer])
        for layer in LAYERS
        if (classes := getattr(question, layer)) is not None
    ]
    if question.ids is not None:
        ids = [question.ids] if isinstance(question.ids, str) else question.ids
        found.append(_among('"id"', [str(name) for name in ids]))
    for name, bounds in (question.landcover_share or {}).items():
        found.append(share_condition(_class_of("landcover", name, known["landcover"]), bounds))
    if question.split is not None:
        found.append(Condition('"pwcat:split" = ?', [_known_split(question.split)]))
    if question.bbox is not None:
        found.append(bbox_condition(question.bbox, crossing=crossing))
    if question.datetime is not None:
        found.append(datetime_condition(question.datetime))
    if question.min_spectral_entropy is not None:
        least = _number("min_spectral_entropy", question.min_spectral_entropy)
        found.append(Condition('"div:spectral_entropy" >= ?', [least]))
    if question.filter is not None:
        from catalog.querying.cql2_sql import to_sql

        found.append(to_sql(question.filter, columns, crossing=crossing, more=more))
    return found


def class_condition(layer: str, classes: str | Sequence[str], known: Iterable[str]) -> Condition:
    """That a sample is of one of these classes of a layer.

    Raises:
        CatalogError: there is no such class.
    """
    asked = [classes] if isinstance(classes, str) else list(classes)
    known = list(known)
    return _among(f'"div:{layer}"', [_class_of(layer, name, known) for name in asked])


def _class_of(layer: str, name: str, known: Iterable[str]) -> str:
    from pwcat.regions.layer import require_class

    known = list(known)
    if not known:
        raise CatalogError(f"no collection searched has labels of {layer}")
    try:
        return require_class(name, known, layer=layer)
    except RegionError as exc:
        raise CatalogError(str(exc)) from exc


def _among(column: str, values: list[str]) -> Condition:
    if len(values) == 1:  # a comparison that the database can answer from a column's dictionary
        return Condition(f"{column} = ?", [*values])
    return Condition(f"{column} IN ({', '.join('?' * len(values))})" if values else "FALSE", [*values])


def share_condition(name: str, bounds: float | tuple[float, float]) -> Condition:
    """That a land cover has a share of the chip's area: at least so much, or between two numbers, both included.

    A class that a chip does not have has the share 0; a chip without any is not found.

    Raises:
        CatalogError: the bounds are not shares, or the wrong way round.
    """
    pair = tuple(bounds) if isinstance(bounds, Iterable) else (bounds, 1.0)
    if len(pair) != 2:
        raise CatalogError(f"the share of {name} is a number, or the least and the largest, got {bounds!r}")
    low, high = pair
    low, high = (_number(f"the share of {name}", bound) for bound in (low, high))
    if not 0 <= low <= high <= 1:
        raise CatalogError(
            f"the share of {name} lies between 0 and 1, the smaller bound first; got {low:g} to {high:g}"
        )
    share = (
        'CASE WHEN "div:landcover_fractions" IS NOT NULL THEN '
        'coalesce(list_filter("div:landcover_fractions", lambda part: part.name = ?)[1].fraction, 0) END'
    )
    return Condition(f"({share} BETWEEN ? AND ?)", [name, low, high])


def _known_split(split: str) -> str:
    if split not in SPLITS:
        raise CatalogError(f"unknown split {split!r}: {' or '.join(SPLITS)}")
    return split


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise CatalogError(f"{name} is a finite number, got {value!r}")
    return float(value)


def bbox_condition(bbox: Sequence[float], *, crossing: Crossing = True) -> Condition:
    """That the item's bounding box meets this one, which may cross the antimeridian.

    Raises:
        CatalogError: it is no bounding box.
    """
    numbers = len(bbox) == 4 and all(isinstance(number, Real) for number in bbox)
    if not numbers or not (-90 <= bbox[1] <= bbox[3] <= 90) or not all(-180 <= x <= 180 for x in (bbox[0], bbox[2])):
        raise CatalogError(f"bbox is west, south, east, north in degrees with south <= north, got {list(bbox)}")
    return bbox_overlap([float(number) for number in bbox], crossing=crossing)


def bbox_overlap(bbox: Sequence[float], *, crossing: Crossing = True) -> Condition:
    """SQL that is true where the item's bounding box meets this one.

    Either may cross the antimeridian, its western bound then being the larger. Comparisons of one column with numbers, joined
    by AND, are what row groups are pruned by.

    Args:
        bbox: west, south, east, north, degrees.
        crossing: which items lie across the antimeridian; what allows for them is left out where the box meets none.
    """
    west, south, east, north = bbox
    if callable(crossing):
        crossing = crossing()
    if isinstance(crossing, Seam) and not crossing.meets(west, east):
        crossing = False
    parts = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    meets, values = [], [north, south]
    pruned = ""
    if isinstance(crossing, Seam) and west <= east:
        pruned = "(bbox.xmin <= ? OR bbox.xmin >= ?) AND (bbox.xmax >= ? OR bbox.xmax <= ?) AND "
        first, last = crossing.edges
        values += [east, first, west, last]
    for low, high in parts:
        meets.append("(bbox.xmin <= ? AND bbox.xmax >= ?)")
        values += [high, low]
        if crossing:
            meets.append("(bbox.xmin > bbox.xmax AND (bbox.xmin <= ? OR bbox.xmax >= ?))")
            values += [high, low]
    across = meets[0] if len(meets) == 1 else f"({' OR '.join(meets)})"
    return Condition(f"(bbox.ymin <= ? AND bbox.ymax >= ? AND {pruned}{across})", values)


def datetime_condition(span: str | date | tuple[date | None, date | None]) -> Condition:
    """That a sample's first date lies in an interval, both ends included; a day is all of it.

    Raises:
        CatalogError: it is no interval, or ends before it starts.
    """
    parts: list[str | date | None] = [*span.split("/")] if isinstance(span, str) else _ends(span)
    if len(parts) == 1 and parts[0] not in ("", ".."):
        parts = [parts[0], parts[0]]
    if len(parts) != 2:
        raise CatalogError(f"datetime is a day or an interval start/end, got {span!r}")
    first, last = (moment(parts[0], end=False), moment(parts[1], end=True))
    if first and last and last < first:
        raise CatalogError(f"datetime: the end lies before the start: {span!r}")
    bounds = [("datetime >= ?", first), ("datetime <= ?", last)]
    return Condition(
        " AND ".join(sql for sql, value in bounds if value) or "TRUE", [value for _, value in bounds if value]
    )


def _ends(span: date | tuple[date | None, date | None]) -> list[str | date | None]:
    return [span] if isinstance(span, date) else [*span]


def moment(part: Any, *, end: bool) -> datetime | None:
    """An instant, UTC where no zone is told; the last of a day, where ``end`` says so; ``None`` for an open end.

    Raises:
        CatalogError: it is no ISO 8601 date or time.
    """
    if part in (None, "", ".."):
        return None
    text = part if isinstance(part, str) else part.isoformat()
    try:
        found = datetime.fromisoformat(text)
    except ValueError as exc:
        raise CatalogError(f"datetime: {text!r} is no ISO 8601 date or time") from exc
    if end and _is_day(text):
        found = found.replace(hour=23, minute=59, second=59, microsecond=999999)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


_DAY = re.compile(r"\d{4}-?\d{2}-?\d{2}|\d{4}-?W\d{2}(-?\d)?")


def _is_day(text: str) -> bool:
    return _DAY.fullmatch(text) is not None
