"""OpenStreetMap extracts (``.osm.pbf``) read as features, some thousand at a time.

The file is read once for each type of object: what relations are made of, nodes, ways, relations. So it may have them in any
order, and what is kept meanwhile is little: the places of nodes (in memory where the extract is small, else in a file that
the system keeps in memory as far as there is room), and the vertices of ways that relations are made of (in a file).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import osmium
import shapely
from numpy.typing import NDArray

from pwcat.errors import SourceError
from pwcat.osm.areas import is_area
from pwcat.osm.exclusion import Exclusion
from pwcat.osm.features import Features, Losses
from pwcat.osm.rings import DEGREE, assemble_area
from pwcat.osm.schema import OSM_TYPES

__all__ = ["EXTRACTS", "ExtractFacts", "describe_extract", "read_extract"]

EXTRACTS: Final = (".pbf", ".osm", ".osm.gz", ".osm.bz2")  # endings of their names
BATCH: Final = 16_384  # objects
NODE, WAY, RELATION = range(len(OSM_TYPES))

# Sixteen bytes a node: in memory up to some million nodes, then in a file; of half the planet and more by node number.
SMALL_BYTES: Final = 16 * 2**20
PLANET_BYTES: Final = 32 * 2**30


@dataclass(frozen=True, kw_only=True)
class ExtractFacts:
    """What an extract says of itself.

    Attributes:
        day: up to which it has what was mapped.
        bounds: west, south, east, north of what it covers, degrees: beyond it there are ends of what reaches out of it.
    """

    day: date | None
    bounds: tuple[float, float, float, float] | None


def describe_extract(path: Path) -> ExtractFacts:
    """What an extract says of itself.

    Raises:
        SourceError: the file cannot be read.
    """
    try:
        with _opened(path, osmium.osm.osm_entity_bits.NOTHING) as reader:
            header = reader.header()
    except RuntimeError as exc:
        raise _unreadable(path, exc) from exc
    box, said = header.box(), header.get("osmosis_replication_timestamp") or header.get("timestamp")
    bounds = None
    if box.valid() and box.size() > 0:
        bounds = (box.bottom_left.lon, box.bottom_left.lat, box.top_right.lon, box.top_right.lat)
    try:
        return ExtractFacts(day=datetime.fromisoformat(said).date() if said else None, bounds=bounds)
    except ValueError:
        return ExtractFacts(day=None, bounds=bounds)


def read_extract(path: Path, *, exclude: Exclusion, losses: Losses, scratch: Path) -> Iterator[Features]:
    """Nodes, ways and multipolygons that have tags left; closed ways are polygons where their tags say so.

    Args:
        path: of the extract; its objects may be in any order.
        exclude: tags that are left out.
        losses: what is broken is counted there.
        scratch: a folder for what is kept on disk meanwhile.

    Raises:
        SourceError: the file is missing, damaged, or holds several versions of objects.
    """
    reading = _Reading(path=path, exclude=exclude, losses=losses, scratch=scratch)
    try:
        yield from reading.nodes()
        members = reading.members()
        with _MemberWays(scratch / "members.bin", members) as ways:
            yield from reading.ways(ways)
            yield from reading.relations(ways)
    except RuntimeError as exc:
        raise _unreadable(path, exc) from exc


def _opened(path: Path, entities: Any) -> Any:
    try:
        return osmium.io.Reader(str(path), entities)
    except RuntimeError as exc:
        raise _unreadable(path, exc) from exc


def _unreadable(path: Path, exc: RuntimeError) -> SourceError:
    if not path.is_file():
        return SourceError(
            f"{path}: there is no such file; name an extract of OpenStreetMap (.osm.pbf) or a vector file"
        )
    return SourceError(f"{path} cannot be read as an extract of OpenStreetMap: {exc}; fetch it anew")


@dataclass
class _Batch:
    """Objects that wait to become features."""

    ids: list[int]
    tags: list[list[tuple[str, str]]]
    shapes: list[Any]
    areas: list[bool]

    @classmethod
    def empty(cls) -> _Batch:
        return cls([], [], [], [])

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, number: int, tags: list[tuple[str, str]], shape: Any, is_area: bool = False) -> None:
        self.ids.append(number)
        self.tags.append(tags)
        self.shapes.append(shape)
        self.areas.append(is_area)


class _Reading:
    """One extract that is read, type by type."""

    def __init__(self, *, path: Path, exclude: Exclusion, losses: Losses, scratch: Path) -> None:
        self._path = path
        self._exclude = exclude
        self._losses = losses
        size = path.stat().st_size if path.is_file() else 0
        table = osmium.index.create_map(_storage(size, scratch))
        self._locations = osmium.NodeLocationsForWays(table)
        self._locations.ignore_errors()

    def members(self) -> NDArray[np.int64]:
        """Numbers of the ways that multipolygons are made of, sorted."""
        found = [np.empty(0, dtype=np.int64)]
        some: list[int] = []
        for relation in self._objects(osmium.osm.osm_entity_bits.RELATION):
            if relation.tags.get("type") == "multipolygon":
                some += [member.ref for member in relation.members if member.type == "w"]
            if len(some) > BATCH:
                found, some = [*found, np.array(some)], []
        return np.unique(np.concatenate([*found, np.array(some, dtype=np.int64)]))

    def nodes(self) -> Iterator[Features]:
        has_tags = osmium.filter.EmptyTagFilter()
        batch = _Batch.empty()
        for node in self._objects(osmium.osm.osm_entity_bits.NODE, self._locations, has_tags):
            tags = self._exclude.keep([(tag.k, tag.v) for tag in node.tags])
            if not tags:
                continue
            if not node.location.valid():
                self._losses.leave("node without a place")
                continue
            batch.add(node.id, tags, (node.location.x, node.location.y))
            if len(batch) == BATCH:
                yield self._points(batch)
                batch = _Batch.empty()
        if len(batch):
            yield self._points(batch)

    def _points(self, batch: _Batch) -> Features:
        places = np.array(batch.shapes, dtype=np.int64) / DEGREE
        return _features(NODE, batch.ids, batch.tags, shapely.points(places))

    def ways(self, members: _MemberWays) -> Iterator[Features]:
        to_wkb = osmium.geom.WKBFactory()
        batch = _Batch.empty()
        for way in self._objects(osmium.osm.osm_entity_bits.WAY, self._locations):
            tags = [(tag.k, tag.v) for tag in way.tags]
            kept = self._exclude.keep(tags)
            if not kept and way.id not in members:
                continue
            shape = self._line_of(way, to_wkb)
            if not isinstance(shape, str):
                self._require_numbers(way)
            if shape is not None:
                batch.add(way.id, kept, shape, way.is_closed() and is_area(dict(tags)))
            elif kept:
                self._losses.leave("way of less than two places")
            if len(batch) == BATCH:
                yield from self._ways(batch, members)
                batch = _Batch.empty()
        if len(batch):
            yield from self._ways(batch, members)

    def _line_of(self, way: Any, to_wkb: Any) -> str | bytes | None:
        """The line along a way's nodes; along those that are there, where some are missing."""
        try:
            return str(to_wkb.create_linestring(way))
        except osmium.InvalidLocationError:
            runs: list[list[tuple[float, float]]] = [[]]
            for node in way.nodes:
                if not node.location.valid():
                    runs.append([])
                elif not runs[-1] or runs[-1][-1] != (node.lon, node.lat):
                    runs[-1].append((node.lon, node.lat))
            lines = [run for run in runs if len(run) > 1]
            return bytes(shapely.to_wkb(shapely.MultiLineString(lines))) if lines else None
        except RuntimeError:  # of one place
            return None

    def _require_numbers(self, way: Any) -> None:
        """See that the places of a way's nodes can be known: the table of places has none of negative numbers."""
        if any(node.ref < 0 for node in way.nodes):
            raise SourceError(
                f"{self._path}: way {way.id} has nodes with negative numbers, which editors give to what is not uploaded; "
                "give its objects others, with `osmium renumber` say"
            )

    def _ways(self, batch: _Batch, members: _MemberWays) -> Iterator[Features]:
        lines = shapely.from_wkb(np.array(batch.shapes, dtype=object))
        ids = np.array(batch.ids, dtype=np.int64)
        members.keep(ids, lines)
        tagged, areas = np.array([bool(tags) for tags in batch.tags]), np.array(batch.areas)
        whole = shapely.get_type_id(lines) == shapely.GeometryType.LINESTRING
        closed = whole & shapely.is_closed(lines) & (shapely.get_num_coordinates(lines) >= 4)
        self._losses.leave("area some of whose nodes are not in the extract", (tagged & areas & ~whole).sum())
        self._losses.leave("area of less than three places", (tagged & areas & whole & ~closed).sum())
        self._losses.mend("way some of whose nodes are not in the extract", (tagged & ~areas & ~whole).sum())
        vertices, of = shapely.get_coordinates(lines[areas & closed], return_index=True)
        if len(of):
            lines[areas & closed] = shapely.polygons(shapely.linearrings(vertices, indices=of))
        chosen = np.flatnonzero(tagged & (~areas | closed))
        if len(chosen):
            yield _features(WAY, ids[chosen], [batch.tags[n] for n in chosen], lines[chosen])

    def relations(self, members: _MemberWays) -> Iterator[Features]:
        batch = _Batch.empty()
        for relation in self._objects(osmium.osm.osm_entity_bits.RELATION):
            tags = {tag.k: tag.v for tag in relation.tags}
            kind = tags.pop("type", "")
            kept = self._exclude.keep(tags.items())
            if not kept:
                continue
            if kind != "multipolygon":
                self._losses.leave("relation that is no multipolygon: a route, a border, a restriction")
                continue
            shape = self._area_of([member.ref for member in relation.members if member.type == "w"], members)
            if shape is not None:
                batch.add(relation.id, kept, shape)
            if len(batch) == BATCH:
                yield _features(RELATION, batch.ids, batch.tags, np.array(batch.shapes, dtype=object))
                batch = _Batch.empty()
        if len(batch):
            yield _features(RELATION, batch.ids, batch.tags, np.array(batch.shapes, dtype=object))

    def _area_of(self, wanted: list[int], members: _MemberWays) -> shapely.MultiPolygon | None:
        ways = [way for number in wanted if (way := members.vertices(number)) is not None]
        area = assemble_area(ways)
        if area.geometry.is_empty:
            why = "of whose ways some are not in the extract" if len(ways) < len(wanted) else "whose rings do not close"
            self._losses.leave(f"multipolygon {why}, so that nothing closes")
            return None
        if len(ways) < len(wanted):
            self._losses.mend("multipolygon of whose ways some are not in the extract: what closes is kept")
        elif area.is_open:
            self._losses.mend("multipolygon with a ring that does not close: what closes is kept")
        if area.is_crossed:
            self._losses.mend("multipolygon whose lines cross")
        return area.geometry

    def _objects(self, entities: Any, *handlers: Any) -> Iterator[Any]:
        """Objects of a type; the handlers are held here, for the iterator does not."""
        with _opened(self._path, entities) as reader:
            if reader.header().has_multiple_object_versions:
                raise SourceError(
                    f"{self._path} holds several versions of its objects; make an extract of one moment "
                    "(osmium time-filter)"
                )
            objects: Iterator[Any] = iter(osmium.OsmFileIterator(reader, *handlers))
            yield from (each for each in objects if not each.deleted)


def _features(kind: int, ids: Any, tags: list[list[tuple[str, str]]], geometry: NDArray[np.object_]) -> Features:
    numbers = np.asarray(ids, dtype=np.int64)
    return Features(osm_type=np.full(len(numbers), kind, dtype=np.int8), osm_id=numbers, tags=tags, geometry=geometry)


def _storage(size: int, scratch: Path) -> str:
    if size < SMALL_BYTES:
        return "flex_mem"
    return f"{'sparse' if size < PLANET_BYTES else 'dense'}_file_array,{scratch / 'locations.bin'}"


class _MemberWays:
    """Vertices of the ways that multipolygons are made of, in a file."""

    def __init__(self, path: Path, wanted: NDArray[np.int64]) -> None:
        self._path = path
        self._wanted = wanted
        self._start = np.full(len(wanted), -1, dtype=np.int64)
        self._count = np.zeros(len(wanted), dtype=np.int32)
        self._used = 0

    def __enter__(self) -> _MemberWays:
        self._file = self._path.open("w+b")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, number: int) -> bool:
        return self._place(number) is not None

    def _place(self, number: int) -> int | None:
        place = int(np.searchsorted(self._wanted, number))
        return place if place < len(self._wanted) and self._wanted[place] == number else None

    def keep(self, ids: NDArray[np.int64], lines: NDArray[np.object_]) -> None:
        """Keep those that are wanted."""
        chosen = np.flatnonzero(np.isin(ids, self._wanted))
        vertices, owner = shapely.get_coordinates(lines[chosen], return_index=True)
        counts = np.bincount(owner, minlength=len(chosen))
        place = np.searchsorted(self._wanted, ids[chosen])
        self._start[place] = self._used + np.cumsum(counts) - counts
        self._count[place] = counts
        self._used += len(vertices)
        self._file.write(np.round(vertices * DEGREE).astype(np.int32).tobytes())

    def vertices(self, number: int) -> NDArray[np.int32] | None:
        """``(vertices, 2)`` longitude and latitude, in units of ``1 / DEGREE`` degrees; none where the way is not there."""
        place = self._place(number)
        if place is None or self._start[place] < 0:
            return None
        self._file.seek(8 * int(self._start[place]))
        return np.frombuffer(self._file.read(8 * int(self._count[place])), dtype=np.int32).reshape(-1, 2)
