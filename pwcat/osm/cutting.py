"""Shapes cut where the edges of tiles are.

A line is cut at every whole number of its world coordinates, a polygon by halving the box of tiles around it until a part
lies on one tile; where a part fills its box, its tiles are filled and nothing more is computed: a country costs what its
border does. What only touches a tile is not on it. Points on an edge belong to the tile east and south of it, as do lines
that run along one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.osm.shapes import LINE, POINT, POLYGON, Shapes

__all__ = ["Pieces", "Window", "cut_shapes"]

# Of a tile's area, or of its side: what a cut leaves that is smaller is not kept. At zoom 16 4 cm², and 1 micrometre.
LEAST_AREA: Final = 1e-9
LEAST_LENGTH: Final = 1e-9
AT_ONCE: Final = 4_096  # parts of polygons that are halved together
FILLED: Final = 1 - 1e-12


@dataclass(frozen=True, kw_only=True, eq=False)
class Pieces:
    """What tiles hold of shapes of one kind.

    Attributes:
        kind: place in :data:`pwcat.osm.schema.KINDS`.
        owner: ``(n,)`` int64, as the shapes'.
        tiles: ``(n, 2)`` int64, x and y.
        geometry: ``(n,)`` shapely points, lines or polygons, world coordinates.
        cut: ``(n,)`` whether a tile's edge cut it.
        order: ``(n, 3)`` what the pieces of one thing on one tile are sorted by: places along a line, else bounds and area.
    """

    kind: int
    owner: NDArray[np.int64]
    tiles: NDArray[np.int64]
    geometry: NDArray[np.object_]
    cut: NDArray[np.bool_]
    order: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.owner)

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Pieces:
        """Some of them."""
        return Pieces(
            kind=self.kind,
            owner=self.owner[chosen],
            tiles=self.tiles[chosen],
            geometry=self.geometry[chosen],
            cut=self.cut[chosen],
            order=self.order[chosen],
        )


@dataclass(frozen=True, kw_only=True)
class Window:
    """Tiles that are asked for, at most: first and last x and y."""

    x0: int
    y0: int
    x1: int
    y1: int


def cut_shapes(shapes: Shapes, window: Window) -> Iterator[Pieces]:
    """What the tiles of a window hold of shapes, some thousand pieces at a time."""
    if shapes.kind == POINT:
        yield _within(_place_points(shapes, window), window)
    elif shapes.kind == LINE:
        yield _within(_cut_lines(shapes), window)
    else:
        yield from _cut_polygons(shapes, window)


def _within(pieces: Pieces, window: Window) -> Pieces:
    x, y = pieces.tiles.T
    return pieces[(x >= window.x0) & (x <= window.x1) & (y >= window.y0) & (y <= window.y1)]


def _place_points(shapes: Shapes, window: Window) -> Pieces:
    places = shapely.get_coordinates(shapes.geometry)
    tiles = np.floor(places).astype(np.int64)
    return Pieces(
        kind=shapes.kind,
        owner=shapes.owner,
        tiles=tiles,
        geometry=shapes.geometry,
        cut=np.zeros(len(tiles), dtype=bool),
        order=np.column_stack([places, np.zeros(len(tiles))]),
    )


def _cut_lines(shapes: Shapes) -> Pieces:
    first, last = _tile_ranges(shapes.geometry)
    many = (first != last).any(axis=1)
    part = np.arange(len(many)) - np.searchsorted(shapes.owner, shapes.owner)  # a thing may be several lines
    whole = Pieces(
        kind=shapes.kind,
        owner=shapes.owner[~many],
        tiles=first[~many],
        geometry=shapes.geometry[~many],
        cut=np.zeros(int((~many).sum()), dtype=bool),
        order=np.column_stack([part[~many], *np.zeros((2, int((~many).sum())))]),
    )
    if not many.any():
        return whole
    return _joined(whole, _pieces_of_lines(shapes.geometry[many], shapes.owner[many], part[many]))


def _pieces_of_lines(lines: NDArray[np.object_], owner: NDArray[np.int64], part: NDArray[np.int64]) -> Pieces:
    start_S2, end_S2, line_S = _stretches(lines)
    tile_S2 = np.floor((start_S2 + end_S2) / 2).astype(np.int64)
    begins_S = np.ones(len(line_S), dtype=bool)
    begins_S[1:] = (tile_S2[1:] != tile_S2[:-1]).any(axis=1) | (line_S[1:] != line_S[:-1])
    piece_S = np.cumsum(begins_S) - 1
    is_vertex = np.column_stack([begins_S, np.ones_like(begins_S)]).ravel()
    vertices = np.column_stack([start_S2, end_S2]).reshape(-1, 2)[is_vertex]
    geometry = shapely.linestrings(vertices, indices=np.repeat(piece_S, 2)[is_vertex])
    line = line_S[begins_S]
    pieces = Pieces(
        kind=LINE,
        owner=owner[line],
        tiles=tile_S2[begins_S],
        geometry=geometry,
        cut=np.bincount(line)[line] > 1,
        order=np.column_stack([part[line], np.arange(len(line)) - np.searchsorted(line, line), np.zeros(len(line))]),
    )
    return pieces[shapely.length(geometry) > LEAST_LENGTH]


def _stretches(
    lines: NDArray[np.object_],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Lines in stretches that cross no whole number: start and end of each, ``(S, 2)``, and its line, ``(S,)``, in order."""
    vertices, line = shapely.get_coordinates(lines, return_index=True)
    from_vertex = np.flatnonzero(line[1:] == line[:-1])
    a_N2, b_N2 = vertices[from_vertex], vertices[from_vertex + 1]
    number = np.arange(len(from_vertex))
    places, segments, shares = [a_N2, b_N2], [number, number], [np.zeros(len(number)), np.ones(len(number))]
    for axis in (0, 1):
        segment, whole = _whole_numbers_between(a_N2[:, axis], b_N2[:, axis])
        a, b = a_N2[segment], b_N2[segment]
        share = (whole - a[:, axis]) / (b[:, axis] - a[:, axis])
        crossing = a + share[:, None] * (b - a)
        crossing[:, axis] = whole
        places, segments, shares = [*places, crossing], [*segments, segment], [*shares, share]
    segment, share = np.concatenate(segments), np.concatenate(shares)
    order = np.lexsort((share, segment))
    place, segment = np.concatenate(places)[order], segment[order]
    here = np.flatnonzero((segment[1:] == segment[:-1]) & (place[1:] != place[:-1]).any(axis=1))
    return place[here], place[here + 1], line[from_vertex][segment[here]]


def _whole_numbers_between(
    a: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Places of ``a`` and ``b``, as often as a whole number lies strictly between the two, and these numbers."""
    first, last = np.floor(np.minimum(a, b)) + 1, np.ceil(np.maximum(a, b)) - 1
    counts = np.maximum(last - first + 1, 0).astype(np.int64)
    place = np.repeat(np.arange(len(a)), counts)
    return place, first[place] + np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)


def _tile_ranges(geometry: NDArray[np.object_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last tile, ``(n, 2)`` x and y each, of the boxes around shapes."""
    bounds = shapely.bounds(geometry)
    first = np.floor(bounds[:, :2])
    return first.astype(np.int64), np.maximum(np.ceil(bounds[:, 2:]) - 1, first).astype(np.int64)


def _joined(one: Pieces, other: Pieces) -> Pieces:
    names = ("owner", "tiles", "geometry", "cut", "order")
    parts: dict[str, Any] = {name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in names}
    return Pieces(kind=one.kind, **parts)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Parts:
    """Parts of polygons, ``(n,)``, each within a box of tiles: first and last x and y, ``(n, 2)``."""

    owner: NDArray[np.int64]
    geometry: NDArray[np.object_]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    cut: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.owner)

    def __getitem__(self, chosen: NDArray[Any] | slice) -> _Parts:
        return _Parts(**{name: getattr(self, name)[chosen] for name in ("owner", "geometry", "first", "last", "cut")})


def _cut_polygons(shapes: Shapes, window: Window) -> Iterator[Pieces]:
    first, last = _tile_ranges(shapes.geometry)
    stack = [
        _Parts(owner=shapes.owner, geometry=shapes.geometry, first=first, last=last, cut=(first != last).any(axis=1))
    ]
    while stack:
        parts = stack.pop()
        if len(parts) > AT_ONCE:
            stack.append(parts[AT_ONCE:])
            parts = parts[:AT_ONCE]
        parts = parts[_overlap(parts, window)]
        if not len(parts):
            continue
        alone = (parts.first == parts.last).all(axis=1)
        filled = ~alone & (shapely.area(parts.geometry) >= FILLED * (parts.last - parts.first + 1).prod(axis=1))
        yield _pieces_of_polygons(parts[alone])
        for part in np.flatnonzero(filled).tolist():
            yield from _filled_tiles(parts[part : part + 1], window)
        rest = parts[~(alone | filled)]
        if len(rest):
            stack.append(_halved(rest))


def _overlap(parts: _Parts, window: Window) -> Any:
    after, before = parts.last >= (window.x0, window.y0), parts.first <= (window.x1, window.y1)
    return np.all(after & before, axis=1)


def _pieces_of_polygons(parts: _Parts) -> Pieces:
    corner, lines = parts.first, parts.geometry
    if parts.cut.any():  # vertices on the edge are computed: to the last bit they may lie beyond it
        places, owner = shapely.get_coordinates(lines, return_index=True)
        lines = shapely.set_coordinates(lines.copy(), np.clip(places, corner[owner], corner[owner] + 1))
    west, north, *_ = shapely.bounds(lines).T if len(lines) else np.empty((4, 0))
    return Pieces(
        kind=POLYGON,
        owner=parts.owner,
        tiles=corner,
        geometry=lines,
        cut=parts.cut,
        order=np.column_stack([north, west, -shapely.area(lines)]),
    )


def _filled_tiles(part: _Parts, window: Window) -> Iterator[Pieces]:
    """A piece that fills its tile, for each tile of a part's box, some thousand at a time."""
    (x0, y0), (x1, y1) = part.first[0], part.last[0]
    x0, x1 = max(x0, window.x0), min(x1, window.x1)
    rows = max(1, AT_ONCE // int(x1 - x0 + 1))
    for y in range(max(y0, window.y0), min(y1, window.y1) + 1, rows):
        some = np.arange(y, min(y + rows - 1, y1, window.y1) + 1)
        tiles = np.stack(np.meshgrid(np.arange(x0, x1 + 1), some), axis=-1).reshape(-1, 2)
        yield _pieces_of_polygons(
            _Parts(
                owner=np.repeat(part.owner, len(tiles)),
                geometry=shapely.box(tiles[:, 0], tiles[:, 1], tiles[:, 0] + 1, tiles[:, 1] + 1),
                first=tiles,
                last=tiles,
                cut=np.ones(len(tiles), dtype=bool),
            )
        )


def _halved(parts: _Parts) -> _Parts:
    """What lies in either half of the boxes, cut where they are longer."""
    sides = parts.last - parts.first
    axis = (sides[:, 1] > sides[:, 0]).astype(int)[:, None]
    middle = np.take_along_axis(parts.first + (sides + 1) // 2, axis, axis=1)
    before, after = parts.last.copy(), parts.first.copy()
    np.put_along_axis(before, axis, middle - 1, axis=1)
    np.put_along_axis(after, axis, middle, axis=1)
    first, last = np.vstack([parts.first, after]), np.vstack([before, parts.last])
    boxes = shapely.box(first[:, 0], first[:, 1], last[:, 0] + 1, last[:, 1] + 1)
    inside, of = _polygons_in(shapely.intersection(np.tile(parts.geometry, 2), boxes))
    low, high = _tile_ranges(inside)
    return _Parts(
        owner=np.tile(parts.owner, 2)[of],
        geometry=inside,
        first=np.clip(low, first[of], last[of]),
        last=np.clip(high, first[of], last[of]),
        cut=np.tile(parts.cut, 2)[of],
    )


def _polygons_in(geometry: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """The polygons among what an intersection left, slivers aside, and the place of the whole that each is of."""
    of = np.arange(len(geometry))
    for _ in range(2):  # collections may hold multipolygons
        geometry, inside = shapely.get_parts(geometry, return_index=True)
        of = of[inside]
    kept = (shapely.get_type_id(geometry) == shapely.GeometryType.POLYGON) & (shapely.area(geometry) > LEAST_AREA)
    return geometry[kept], of[kept]
