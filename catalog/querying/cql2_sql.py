"""CQL2 filters as SQL with bound values, over an allow-list of columns and operators."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import cql2

from catalog.querying.conditions import Condition, Crossing, MoreColumns, bbox_overlap
from catalog.querying.geometry_sql import RELATIONS
from catalog.querying.queryables import KINDS, Kind
from pwcat.errors import CatalogError
from pwcat.filters import filter_faults

__all__ = ["SUPPORTED", "Condition", "to_sql"]

_COMPARISONS = {"=": "=", "<>": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
# Which instant of a DATE each operand of a comparison is, where it is one: its last, or else its first.
_LAST = {
    "<": (True, False),
    "<=": (False, True),
    ">": (False, True),
    ">=": (True, False),
    "between": (False, False, True),
}
_TEMPORAL = ("t_after", "t_before", "t_during", "t_equals", "t_intersects", "t_disjoint")
_OPERANDS = {
    **dict.fromkeys((*_COMPARISONS, "in", "like", *RELATIONS, *_TEMPORAL), 2),
    **dict.fromkeys(("not", "isNull", "casei"), 1),
    "between": 3,
}
SUPPORTED = (
    "and, or, not, =, <>, <, <=, >, >=, in, between, like, isNull, casei, "
    f"{', '.join(RELATIONS)} of geometry, {', '.join(_TEMPORAL)} of datetime"
)

# Vertices of a filter's geometry: what no person draws is refused.
MAX_VERTICES = 10_000
_GEOMETRIES = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon")


def to_sql(
    filter_: str | Mapping[str, Any],
    columns: Mapping[str, str],
    *,
    crossing: Crossing = True,
    kinds: Mapping[str, Kind] = KINDS,
    more: MoreColumns | None = None,
) -> Condition:
    """A CQL2 filter, as text or JSON, as a condition.

    Args:
        filter_: CQL2 text, or a CQL2 JSON object.
        columns: queryable names, and the SQL expression of each. No other name reaches the database.
        crossing: which bounding boxes of items may lie across the antimeridian.
        kinds: what kind of value each expression is.
        more: further columns, asked for those that are named and are not among ``columns``.

    Raises:
        CatalogError: the filter cannot be parsed, names a field or operator that is not supported, or compares what cannot be.
    """
    document = _parse(filter_)
    if not isinstance(document, Mapping) or "op" not in document:
        raise CatalogError(
            f'the filter {_shown(filter_)} is no condition: compare fields, as in "spectral_entropy > 3"'
        )
    unknown = [name for name in dict.fromkeys(_named(document)) if name not in columns] if more else []
    found = more.find(unknown) if more and unknown else {}
    translation = _Translation(
        columns={**columns, **{name: one.sql for name, one in found.items()}} if unknown else columns,
        crossing=crossing,
        kinds={**kinds, **{one.sql: one.kind for one in found.values()}} if found else kinds,
        further=more.names if more else list,
    )
    sql = translation.condition(document)
    return Condition(sql, translation.values, {name: one.kind for name, one in found.items()})


def _named(node: Any) -> Iterator[str]:
    """Names of the fields in a filter."""
    if isinstance(node, Mapping):
        if isinstance(node.get("property"), str):
            yield node["property"]
        node = node.get("args", [])
    if isinstance(node, list):
        for inner in node:
            yield from _named(inner)


def _parse(filter_: str | Mapping[str, Any]) -> Any:
    if isinstance(filter_, str) and (faults := filter_faults(filter_)):
        raise CatalogError(f"the filter {filter_[:40]!r}… cannot be read: {'; '.join(faults)}")
    try:
        parsed = cql2.parse_text(filter_) if isinstance(filter_, str) else cql2.parse_json(json.dumps(filter_))
        return parsed.to_json()
    except (cql2.ParseError, cql2.ValidationError, ValueError, TypeError, RecursionError) as exc:
        lines = str(exc).splitlines() or [type(exc).__name__]
        first = next((line for line in lines if "expected" in line), lines[0])
        raise CatalogError(f"not a CQL2 filter: {_shown(filter_)}: {first.strip(' =|')[:200]}") from exc


def _shown(filter_: Any) -> str:
    if not isinstance(filter_, str):
        return reprlib.repr(filter_)
    return repr(filter_ if len(filter_) <= 200 else f"{filter_[:200]}…")


@dataclass
class _Translation:
    """One filter on its way to SQL: its values in the order in which they are bound."""

    columns: Mapping[str, str]
    crossing: Crossing
    kinds: Mapping[str, Kind]
    further: Callable[[], list[str]] = list
    values: list[Any] = field(default_factory=list)

    def condition(self, node: Any) -> str:
        """What is true or false."""
        if not isinstance(node, Mapping) or "op" not in node:
            raise CatalogError(f"the filter holds {_shown(node)} where a condition is wanted; there are {SUPPORTED}")
        op, args = node["op"], node.get("args", [])
        self._require_operands(op, args)
        if op in ("and", "or"):
            return "(" + f" {op.upper()} ".join(self.condition(arg) for arg in args) + ")"
        if op == "not":
            return f"(NOT {self.condition(args[0])})"
        if op == "isNull":
            return f"({self._scalar(args[0])} IS NULL)"
        if op in RELATIONS:
            return self._spatial(op, *args)
        if op in _TEMPORAL:
            return self._temporal(op, *args)
        return self._comparison(op, args)

    def _require_operands(self, op: Any, args: Any) -> None:
        known = op in ("and", "or") or op in _OPERANDS
        if not known:
            raise CatalogError(f"the filter uses {_shown(op)}, which is not supported; there are {SUPPORTED}")
        if not isinstance(args, list) or not args or len(args) != _OPERANDS.get(op, len(args)):
            raise CatalogError(f"the filter's {op!r} has the operands {_shown(args)}, which make no sense")

    def _comparison(self, op: str, args: list[Any]) -> str:
        if op == "in" and not (isinstance(args[1], list) and args[1]):
            raise CatalogError(f"the filter's 'in' has the operands {_shown(args)}, which make no sense")
        operands = [args[0], *args[1]] if op == "in" else args
        self._require_alike(op, operands)
        if op == "like":
            return self._like(*args)
        if op in ("=", "<>", "in") and any(map(_is_date, operands)):
            same = " OR ".join(self._same(operands[0], other) for other in operands[1:])
            return f"(NOT ({same}))" if op == "<>" else f"({same})"
        last = _LAST.get(op, (False,) * len(operands))
        first, *rest = (self._scalar(one, last=end) for one, end in zip(operands, last, strict=True))
        if op == "in":
            return f"({first} IN ({', '.join(rest)}))"
        if op == "between":
            return f"({first} BETWEEN {rest[0]} AND {rest[1]})"
        return f"({first} {_COMPARISONS[op]} {rest[0]})"

    def _same(self, one: Any, other: Any) -> str:
        """That two are equal; a DATE is all of its day."""
        if _is_date(one):
            one, other = other, one
        if not _is_date(other):
            return f"{self._scalar(one)} = {self._scalar(other)}"
        return f"{self._scalar(one)} BETWEEN {self._scalar(other)} AND {self._scalar(other, last=True)}"

    def _like(self, text: Any, pattern: Any) -> str:
        """That a text is like a pattern, where a backslash takes the next sign for itself, as CQL2 has it."""
        first, before = self._scalar(text), len(self.values)
        second = self._scalar(pattern)
        escaped = False
        for k, value in enumerate(self.values[before:], start=before):
            if "\\" in value:
                alone = (len(value) - len(value.rstrip("\\"))) % 2  # one with nothing behind it stands for itself
                self.values[k], escaped = value + "\\" * alone, True
        return f"({first} LIKE {second} ESCAPE '\\')" if escaped else f"({first} LIKE {second})"

    def _require_alike(self, op: str, operands: list[Any]) -> None:
        """That a number is compared with numbers, a text with texts, a time with times."""
        kinds = [self._kind(operand) for operand in operands]
        if len({kind for kind in kinds if kind}) > 1:
            told = ", ".join(
                f"{_shown(operand)} is a {kind}" for operand, kind in zip(operands, kinds, strict=True) if kind
            )
            raise CatalogError(f"the filter's {op!r} compares what is not alike: {told[:300]}")
        if kinds[0] == "geometry" or (op == "like" and kinds[0] not in ("text", None)):
            raise CatalogError(f"the filter's {op!r} cannot compare a {kinds[0]}: {_shown(operands[0])}")

    def _kind(self, node: Any) -> Kind | None:
        """Of a value or a field; ``None`` where it is not known of a field."""
        if isinstance(node, Mapping) and "property" in node:
            return self.kinds.get(self._column(node["property"]))
        if isinstance(node, Mapping) and node.get("op") == "casei":
            return "text"
        if isinstance(node, Mapping) and ("timestamp" in node or "date" in node):
            return "time"
        if isinstance(node, str):
            return "text"
        return "number" if isinstance(node, int | float) and not isinstance(node, bool) else None

    def _column(self, name: Any) -> str:
        if name not in self.columns:
            known = ", ".join(sorted({*self.columns, *self.further()}))
            raise CatalogError(f"the filter names an unknown field {_shown(name)}; there are {known}")
        return self.columns[name]

    def _scalar(self, node: Any, *, last: bool = False) -> str:
        if isinstance(node, Mapping) and "property" in node:
            return self._column(node["property"])
        if isinstance(node, Mapping) and node.get("op") == "casei" and len(node.get("args", [])) == 1:
            self._require_alike("casei", [node["args"][0], ""])
            return f"lower({self._scalar(node['args'][0])})"
        if isinstance(node, Mapping) and ("timestamp" in node or "date" in node):
            return self._bound(_time(node.get("timestamp") or node.get("date"), last=last and _is_date(node)))
        if isinstance(node, str) or (type(node) in (int, float) and math.isfinite(node)):
            return self._bound(node)
        raise CatalogError(f"the filter holds {_shown(node)}, which is not supported; there are {SUPPORTED}")

    def _bound(self, value: Any) -> str:
        self.values.append(value)
        return "?"

    def _spatial(self, op: str, field_: Any, shape: Any) -> str:
        if field_ != {"property": "geometry"}:
            raise CatalogError(f"the filter's {op!r} takes geometry first and a shape second, got {_shown(field_)}")
        box = shape.get("bbox") if isinstance(shape, Mapping) else None
        if box is not None:
            if op != "s_intersects":
                raise CatalogError(f"the filter's {op!r} takes a polygon, or another geometry, and no BBOX")
            return self._box(_four_numbers(box))
        wkt, bounds = _geometry(shape)
        exactly = f"pwcat_{RELATIONS[op]}({self.columns['geometry']}, ?)"
        if op == "s_disjoint":
            return f"({exactly.replace('?', self._bound(wkt))})"
        near = self._box(bounds)
        self._bound(wkt)
        return f"({near} AND {exactly})"

    def _box(self, box: list[float]) -> str:
        found = bbox_overlap(box, crossing=self.crossing)
        self.values += found.values
        return found.sql

    def _temporal(self, op: str, field_: Any, when: Any) -> str:
        column = self._column(field_["property"]) if isinstance(field_, Mapping) and "property" in field_ else ""
        if self.kinds.get(column) != "time":
            raise CatalogError(f"the filter's {op!r} takes datetime first and a time second, got {_shown(field_)}")
        start, end = _span(when)
        if op == "t_equals" and _is_date(when):
            op = "t_intersects"
        return _TEMPORAL_SQL[op](self, column, start, end)

    def within(self, column: str, start: datetime | None, end: datetime | None, *, strictly: bool) -> str:
        """That an instant lies in an interval; a bound that is open holds always."""
        least, most = (">", "<") if strictly else (">=", "<=")
        parts = [f"{column} {least} {self._bound(start)}"] if start else []
        parts += [f"{column} {most} {self._bound(end)}"] if end else []
        return f"({' AND '.join(parts) or 'TRUE'})"


# A field is an instant: it is before or after an interval, or in it; "during" leaves out the ends, as CQL2 has it.
_TEMPORAL_SQL: Mapping[str, Callable[[_Translation, str, datetime | None, datetime | None], str]] = {
    "t_after": lambda t, c, start, end: t.within(c, end, None, strictly=True) if end else "FALSE",
    "t_before": lambda t, c, start, end: t.within(c, None, start, strictly=True) if start else "FALSE",
    "t_during": lambda t, c, start, end: t.within(c, start, end, strictly=True),
    "t_intersects": lambda t, c, start, end: t.within(c, start, end, strictly=False),
    "t_disjoint": lambda t, c, start, end: f"(NOT {t.within(c, start, end, strictly=False)})",
    "t_equals": lambda t, c, start, end: t.within(c, start, end, strictly=False) if start == end else "FALSE",
}


def _is_date(node: Any) -> bool:
    return isinstance(node, Mapping) and "date" in node


def _time(text: Any, *, last: bool = False) -> datetime:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError as exc:
        raise CatalogError(f"the filter holds the time {_shown(text)}, which is no ISO 8601 date or time") from exc
    if last and len(str(text)) <= len("2021-01-01"):
        moment += timedelta(days=1, microseconds=-1)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _span(when: Any) -> tuple[datetime | None, datetime | None]:
    """First and last instant of a time: a date is all of its day, ``..`` is open."""
    if isinstance(when, Mapping) and "interval" in when:
        ends = when["interval"]
        if not isinstance(ends, list) or len(ends) != 2:
            raise CatalogError(f"the filter holds the interval {_shown(ends)}, which has not two ends")
        texts = [end.get("timestamp") or end.get("date") if isinstance(end, Mapping) else end for end in ends]
        start = None if texts[0] == ".." else _time(texts[0])
        end = None if texts[1] == ".." else _time(texts[1], last=True)
        if start and end and end < start:
            raise CatalogError(f"the filter's interval {_shown(ends)} ends before it starts")
        return start, end
    if isinstance(when, Mapping) and "timestamp" in when:
        return _time(when["timestamp"]), _time(when["timestamp"])
    if isinstance(when, Mapping) and "date" in when:
        return _time(when["date"]), _time(when["date"], last=True)
    raise CatalogError(f"the filter holds {_shown(when)} where a time is wanted: TIMESTAMP, DATE or INTERVAL")


def _four_numbers(box: Any) -> list[float]:
    numbers = box if isinstance(box, list) else []
    if (
        len(numbers) != 4
        or not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers)
        or not -90 <= numbers[1] <= numbers[3] <= 90
        or not all(-180 <= numbers[k] <= 180 for k in (0, 2))
    ):
        raise CatalogError(
            f"the filter's box is west, south, east, north in degrees with south <= north, got {_shown(box)}"
        )
    return [float(number) for number in numbers]


def _geometry(shape: Any) -> tuple[str, list[float]]:
    """A geometry as WKT, which is bound as a value, and its bounds."""
    import shapely
    from shapely.geometry import shape as as_shape

    if not isinstance(shape, Mapping) or shape.get("type") not in _GEOMETRIES:
        raise CatalogError(f"the filter holds {_shown(shape)} where a geometry is wanted: {', '.join(_GEOMETRIES)}")
    try:
        found = as_shape(dict(shape))
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, shapely.errors.ShapelyError) as exc:
        raise CatalogError(f"the filter's geometry makes no sense: {str(exc).splitlines()[0][:200]}") from exc
    if found.is_empty or not all(math.isfinite(bound) for bound in found.bounds) or not found.is_valid:
        raise CatalogError(
            f"the filter's geometry makes no sense: {shapely.is_valid_reason(found) if not found.is_empty else 'it is empty'}"
        )
    if shapely.get_num_coordinates(found) > MAX_VERTICES:
        raise CatalogError(f"the filter's geometry has more than {MAX_VERTICES:,} vertices; simplify it")
    return shapely.to_wkt(found, rounding_precision=-1), [float(bound) for bound in found.bounds]
