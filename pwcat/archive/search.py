"""Item search over an archive in memory: bbox, geometry, time, ids, collections, CQL2, sorting and pages.

The items are read once. Space goes through an STR tree, time and collections through arrays, and only what is left meets
the CQL2 filter.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cql2
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import box, shape

from pwcat.archive import folder
from pwcat.errors import ArchiveError

__all__ = ["BadRequest", "ItemIndex", "Query", "parse_datetime"]

# Names a filter may use beside the properties of the items.
_CORE_NAMES = frozenset({"id", "collection", "geometry", "bbox", "datetime", "stac_version"})
Item = dict[str, Any]


class BadRequest(ValueError):
    """A request that the API refuses; its text, one line, is the answer."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is searched for; None asks for nothing. ``start`` and ``end`` are inclusive Unix seconds.

    ``sort`` lists (dotted name, descending).
    """

    collections: Sequence[str] | None = None
    ids: Sequence[str] | None = None
    area: shapely.Geometry | None = None
    start: float = -np.inf
    end: float = np.inf
    filter: cql2.Expr | None = None
    sort: Sequence[tuple[str, bool]] = ()


class ItemIndex:
    """All items of an archive, ready to be searched; the folder is read once, when this is made."""

    def __init__(self, directory: Path) -> None:
        """Read the collections and items below ``directory``.

        Raises:
            ArchiveError: There is no catalog, or a document cannot be read.
        """
        if not (directory / "catalog.json").is_file():
            raise ArchiveError(
                f"{directory} is no archive: it has no catalog.json; make one with `pwcat archive synth {directory}` "
                f"or `pwcat archive add {directory} FILES...`"
            )
        names = sorted(path.parent.name for path in directory.glob("*/collection.json"))
        self.collections: dict[str, dict[str, Any]] = {
            name: folder.read_json(directory / name / "collection.json") for name in names
        }
        self.items: list[dict[str, Any]] = [item for name in names for item in folder.read_items(directory, name)]
        self._by_id: dict[str, list[int]] = {}
        self._by_key = {(str(item["collection"]), str(item["id"])): i for i, item in enumerate(self.items)}
        for i, item in enumerate(self.items):
            self._by_id.setdefault(str(item["id"]), []).append(i)
        self._geometries = [shape(item["geometry"]) for item in self.items]
        self._tree = shapely.STRtree(self._geometries)
        self._collection_of = np.array([item["collection"] for item in self.items], dtype=object)
        spans = [_span(item["properties"]) for item in self.items]
        self._start, self._end = (np.array([span[k] for span in spans], np.float64) for k in (0, 1))
        self.property_names = frozenset(name for item in self.items for name in item["properties"])

    def get(self, collection: str, item_id: str) -> dict[str, Any] | None:
        """The item of that id in that collection."""
        i = self._by_key.get((collection, item_id))
        return None if i is None else self.items[i]

    def search(self, query: Query) -> list[dict[str, Any]]:
        """Every item that matches, by the asked order, else by collection and id."""
        chosen = np.ones(len(self.items), bool)
        if query.collections is not None:
            chosen &= np.isin(self._collection_of, list(query.collections))
        if query.ids is not None:
            chosen &= self._mask([i for name in query.ids for i in self._by_id.get(name, [])])
        if query.area is not None:
            chosen &= self._mask(self._tree.query(query.area, predicate="intersects"))
        chosen &= (self._start <= query.end) & (self._end >= query.start)
        found = [self.items[i] for i in np.flatnonzero(chosen)]
        if query.filter is not None:
            found = self._filter(found, query.filter)
        for name, descending in reversed(query.sort):
            key = functools.partial(_sort_key, name=name)
            missing = [item for item in found if key(item) is None]
            present = [item for item in found if key(item) is not None]
            try:
                found = sorted(present, key=key, reverse=descending) + missing
            except TypeError as exc:
                raise BadRequest(f"cannot sort by {name}: its values have no order") from exc
        return found

    def check_names(self, names: Iterator[str] | Sequence[str], *, what: str) -> None:
        """Refuse names that no item has.

        Raises:
            BadRequest: Lists them.
        """
        unknown = sorted({name for name in names if name.removeprefix("properties.") not in self._known()})
        if unknown:
            raise BadRequest(f"unknown in {what}: {', '.join(unknown)}; known: {', '.join(sorted(self._known()))}")

    def _known(self) -> frozenset[str]:
        return self.property_names | _CORE_NAMES

    def _filter(self, items: list[dict[str, Any]], expression: cql2.Expr) -> list[dict[str, Any]]:
        names = {name.removeprefix("properties.") for name in property_names(expression.to_json())}
        self.check_names(sorted(names), what="filter")
        return [item for item in items if _matches(item, expression, names)]

    def _mask(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.bool_]:
        mask = np.zeros(len(self.items), bool)
        mask[np.asarray(indices, np.int64)] = True
        return mask


def parse_datetime(text: str) -> tuple[float, float]:
    """The inclusive span, in Unix seconds, of an RFC 3339 instant or interval, open ends ``..`` or empty.

    Raises:
        BadRequest: It is neither.
    """
    parts = text.split("/")
    if len(parts) > 2 or all(part in ("", "..") for part in parts):
        raise BadRequest(f"datetime {text!r} is no instant and no interval, as 2021-06-01T00:00:00Z/..")
    start = -np.inf if parts[0] in ("", "..") else _instant(parts[0])
    end = np.inf if parts[-1] in ("", "..") else _instant(parts[-1])
    if start > end:
        raise BadRequest(f"datetime {text!r} ends before it starts")
    return start, end


def parse_area(bbox: Sequence[float] | None, intersects: Mapping[str, Any] | None) -> shapely.Geometry | None:
    """The area of a request's bbox or GeoJSON geometry, EPSG:4326; a bbox may cross the antimeridian.

    Raises:
        BadRequest: Both are given, or one is not valid.
    """
    if bbox is not None and intersects is not None:
        raise BadRequest("give bbox or intersects, not both")
    if intersects is not None:
        try:
            area = shape(intersects)
            valid = bool(shapely.is_valid(area)) and not shapely.is_empty(area)
        except (KeyError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError) as exc:
            raise BadRequest(f"intersects is no GeoJSON geometry: {exc}") from exc
        if not valid:
            raise BadRequest("intersects is an empty or invalid geometry")
        return area
    if bbox is None:
        return None
    if len(bbox) not in (4, 6) or not np.isfinite(bbox).all():
        raise BadRequest(f"bbox has {len(bbox)} numbers, needs 4 (west,south,east,north) or 6, all finite")
    west, south, east, north = (bbox[i] for i in ((0, 1, 2, 3) if len(bbox) == 4 else (0, 1, 3, 4)))
    if south > north or not (-180 <= west <= 180 and -180 <= east <= 180 and south >= -90 and north <= 90):
        raise BadRequest(f"bbox {list(bbox)} is not within west,south,east,north of -180,-90,180,90")
    if west > east:
        return shapely.union(box(west, south, 180, north), box(-180, south, east, north))
    return box(west, south, east, north)


def property_names(node: Any) -> Iterator[str]:
    """Names of the properties that a CQL2 JSON expression uses."""
    if isinstance(node, Mapping):
        if isinstance(node.get("property"), str):
            yield node["property"]
        for value in node.values():
            yield from property_names(value)
    elif isinstance(node, list):
        for value in node:
            yield from property_names(value)


def _matches(item: Item, expression: cql2.Expr, names: set[str]) -> bool:
    """Whether an item matches; what it lacks is null, and a comparison with null is no match.

    Raises:
        BadRequest: The expression cannot be evaluated on an item that has all it names.
    """
    # without links and assets, which are most of an item and no filter asks for
    probe = {name: item[name] for name in ("id", "collection", "geometry", "bbox", "stac_version", "properties")}
    try:
        return bool(expression.matches(probe))
    except Exception as exc:  # cql2 raises a bare Exception where it cannot reduce to a boolean
        if any(name not in _CORE_NAMES and item["properties"].get(name) is None for name in names):
            return False
        raise BadRequest(f"filter cannot be evaluated: {' '.join(str(exc).split())}") from exc


def _sort_key(item: Item, *, name: str) -> Any:
    bare = name.removeprefix("properties.")
    return item[bare] if bare in ("id", "collection") else item["properties"].get(bare)


def _instant(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise BadRequest(f"datetime {text!r} is not RFC 3339, as 2021-06-01T00:00:00Z") from exc
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _span(properties: Mapping[str, Any]) -> tuple[float, float]:
    """The span an item is of: its start and end where it has them, else its datetime."""
    if properties.get("start_datetime") and properties.get("end_datetime"):
        return _instant(properties["start_datetime"]), _instant(properties["end_datetime"])
    return (moment := _instant(properties["datetime"])), moment
