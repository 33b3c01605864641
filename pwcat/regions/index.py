"""An exact index of polygons: a raster of classes where no border is near, and the polygons themselves where one is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import MergeAlg
from rasterio.features import rasterize

from pwcat.regions.cells import CELL_DEG, SHAPE, cell_of
from pwcat.regions.layer import NONE

__all__ = ["PolygonIndex"]

# The value of a cell that a border may touch: its points are tested against the polygons.
BORDER = -2

# Below this many points it is quicker to test all of them than to make the raster.
FEW_POINTS = 5_000

# Points tested at a time, so that candidate pairs stay small.
POINTS_AT_ONCE = 250_000

# Vertices walked at a time while borders are marked.
VERTICES_AT_ONCE = 1_000_000

# Rows and columns of a part of the grid, and all of it.
Window = tuple[slice, slice]
ALL: Window = (slice(0, SHAPE[0]), slice(0, SHAPE[1]))


@dataclass(frozen=True, kw_only=True, eq=False)
class PolygonIndex:
    """Finds the class of points, as an exact test against every polygon would.

    A cell of 0.05° is *pure* where no polygon's boundary touches it or one of its eight neighbours: then all of its points
    have the class of its centre, which is looked up. The points of all other cells are tested exactly, against the polygons
    whose bounding boxes hold them. The raster is made when many points ask for the first time, and kept.

    Attributes:
        polygons: ``(m,)`` polygons or multipolygons, EPSG:4326.
        code_of: ``(m,)`` their codes. Where polygons meet or overlap the first one wins.
    """

    polygons: NDArray[np.object_]
    code_of: NDArray[np.int16]

    def codes(self, lonlat_N2: NDArray[np.float64]) -> NDArray[np.int16]:
        """Code of each point, ``(n,)``; -1 where no polygon is, and for points that are not finite."""
        if len(lonlat_N2) < FEW_POINTS and "cells" not in self.__dict__:
            return self._tested(lonlat_N2)
        lon, lat = lonlat_N2.T
        within = (np.abs(lon) < 180) & (np.abs(lat) < 90)  # a boundary on the grid's own edge would not be marked
        codes = np.full(len(lonlat_N2), BORDER, dtype=np.int16)
        codes[within] = self.cells.ravel()[cell_of(lonlat_N2 if within.all() else lonlat_N2[within])]
        unsure = np.flatnonzero(codes == BORDER)
        codes[unsure] = self._tested(lonlat_N2[unsure])
        return codes

    @cached_property
    def cells(self) -> NDArray[np.int16]:
        """``(3600, 7200)``: the code of each pure cell, -1 where no polygon is, -2 in cells that a border may touch."""
        cells = _burn(self.polygons[::-1], self.code_of[::-1])  # burned last, and so kept: the first in the file
        _mark(cells, self.polygons, BORDER)
        return cells

    def touching(self, wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Cells where a point of the wanted codes can lie, ``(3600, 7200)``.

        Args:
            wanted: ``(K,)``, by code.
        """
        chosen = wanted[self.code_of]
        around = _around(self.polygons[chosen])  # most classes are small
        cells = self.cells[around]
        pure = np.append(wanted, [False, False])[cells]  # -1 and -2 are the two at the end
        touched = _burn(self.polygons[chosen], np.ones(int(chosen.sum()), dtype=np.int16), around) == 1
        _mark(touched, self.polygons[chosen], True, around)
        mask = np.zeros(SHAPE, dtype=bool)
        mask[around] = (touched & (cells == BORDER)) | pure
        return mask

    @cached_property
    def _tree(self) -> shapely.STRtree:
        shapely.prepare(self.polygons)
        return shapely.STRtree(self.polygons)

    def _tested(self, lonlat_N2: NDArray[np.float64]) -> NDArray[np.int16]:
        """Code of each point, ``(n,)``, from the polygons alone."""
        codes = np.full(len(lonlat_N2), NONE, dtype=np.int16)
        finite = np.flatnonzero(np.isfinite(lonlat_N2).all(axis=1))
        for start in range(0, len(finite), POINTS_AT_ONCE):
            numbers = finite[start : start + POINTS_AT_ONCE]
            first = self._first(lonlat_N2[numbers])
            hit = first < len(self.polygons)
            codes[numbers[hit]] = self.code_of[first[hit]]
        return codes

    def _first(self, lonlat_N2: NDArray[np.float64]) -> NDArray[np.int64]:
        """Number of the first polygon that intersects each point, ``(n,)``; the count of polygons where none does."""
        first = np.full(len(lonlat_N2), len(self.polygons), dtype=np.int64)
        points, polygons = self._tree.query(shapely.points(lonlat_N2))
        order = np.argsort(polygons, kind="stable")
        points, polygons = points[order], polygons[order]
        starts = np.flatnonzero(np.diff(polygons, prepend=-1))
        for start, end in zip(starts[::-1], np.append(starts, len(points))[:0:-1], strict=True):
            number, candidates = polygons[start], points[start:end]
            x, y = lonlat_N2[candidates].T
            first[candidates[shapely.intersects_xy(self.polygons[number], x, y)]] = number  # written last: the first
        return first


def _around(polygons: NDArray[np.object_]) -> Window:
    """The rows and columns that the polygons lie in, and two more on each side."""
    if not len(polygons):
        return slice(0, 0), slice(0, 0)
    west, south, east, north = shapely.total_bounds(polygons)
    first = np.floor([(90 - north) / CELL_DEG, (west + 180) / CELL_DEG]).astype(int) - 2
    last = np.floor([(90 - south) / CELL_DEG, (east + 180) / CELL_DEG]).astype(int) + 3
    first, last = (np.clip(edge, 0, SHAPE) for edge in (first, last))
    return slice(int(first[0]), int(last[0])), slice(int(first[1]), int(last[1]))


def _burn(polygons: NDArray[np.object_], values: NDArray[np.int16], window: Window = ALL) -> NDArray[np.int16]:
    """The value of the last polygon that holds the whole of each cell of a window, ``(rows, columns)``; -1 where none does.

    Cells that a polygon holds only a part of have its value, or not: a boundary touches them.
    """
    rows, columns = window
    cells = np.full((rows.stop - rows.start, columns.stop - columns.start), NONE, dtype=np.int16)
    west, south, east, north = shapely.bounds(polygons).reshape(-1, 4).T
    large = (east - west >= CELL_DEG) & (north - south >= CELL_DEG)
    if large.any():
        to_degrees = Affine(CELL_DEG, 0, -180 + CELL_DEG * columns.start, 0, -CELL_DEG, 90 - CELL_DEG * rows.start)
        shapes = zip(polygons[large], values[large].tolist(), strict=True)
        rasterize(shapes, out=cells, transform=to_degrees, merge_alg=MergeAlg.replace)
    return cells


def _mark(cells: NDArray[Any], polygons: NDArray[np.object_], value: int, window: Window = ALL) -> None:
    """Set every cell of a window that a boundary touches, and some beside them, to a value."""
    for rows, columns in _walk(shapely.get_rings(shapely.get_parts(polygons))):
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                row, column = rows + down - window[0].start, columns + right - window[1].start
                on = (row >= 0) & (row < cells.shape[0]) & (column >= 0) & (column < cells.shape[1])
                cells[row[on], column[on]] = value


def _walk(rings: NDArray[np.object_]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows and columns of cells along rings; every cell that a ring touches is one of them, or beside one.

    Each edge is sampled at steps of at most half a cell, so that no point of it is farther than a quarter from a sample.
    Cells off the grid are named too.
    """
    coordinates, ring = shapely.get_coordinates(rings, return_index=True)
    scaled = (coordinates - (-180, 90)) / (CELL_DEG, -CELL_DEG)
    for start in range(0, len(scaled) - 1, VERTICES_AT_ONCE):
        piece = slice(start, start + VERTICES_AT_ONCE)
        after = slice(start + 1, start + VERTICES_AT_ONCE + 1)
        ends = scaled[after]
        begins, joined = scaled[piece][: len(ends)], ring[piece][: len(ends)] == ring[after]
        cells = np.floor(_samples(begins[joined], ends[joined])).astype(np.int64)
        fresh = np.ones(len(cells), dtype=bool)
        fresh[1:] = (cells[1:] != cells[:-1]).any(axis=1)
        yield cells[fresh, 1], cells[fresh, 0]


def _samples(begins: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points along edges that come near the grid, ``(s, 2)``, in cells; both ends are among them."""
    low, high = np.minimum(begins, ends), np.maximum(begins, ends)
    near = (low <= (SHAPE[1] + 1, SHAPE[0] + 1)).all(axis=1) & (high >= -1).all(axis=1)
    begins, ends = begins[near], ends[near]
    steps = np.ceil(2 * np.abs(ends - begins).max(axis=1, initial=0)).astype(np.int64) + 1
    edge = np.repeat(np.arange(len(steps)), steps + 1)
    number = np.arange(len(edge)) - np.repeat(np.cumsum(steps + 1) - steps - 1, steps + 1)
    points = begins[edge] + (ends - begins)[edge] * (number / steps[edge])[:, None]
    return np.clip(points, -1, (SHAPE[1] + 1, SHAPE[0] + 1))
