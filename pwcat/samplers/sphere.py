"""Points uniform by area on the sphere, within polygons or within cells of a grid of longitude and latitude.

In the cylindrical equal-area plane (longitude, sin latitude) equal areas are equal areas on the sphere (Archimedes' hat-box
theorem): a box there is drawn by its area, and then a point uniform in the box.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.errors import RegionError

__all__ = ["WORLD", "AreaSampler", "CellSampler", "PartSampler"]

WORLD = shapely.box(-180, -90, 180, 90)

# Points a draw: few at first, for most datasets in the making are small, and twice as many each time.
BATCH = (1024, 65_536)

# Draws thrown before the polygons are said to have no area that can be hit.
MAX_EMPTY_ROUNDS = 20


def _batches() -> Iterator[int]:
    size, largest = BATCH
    while True:
        yield size
        size = min(2 * size, largest)


def _in_boxes(bounds: NDArray[np.float64], box: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A point in each of the boxes, ``(n, 2)``; ``bounds`` are west, sin south, east, sin north of every box."""
    west, south, east, north = bounds[box].T
    lon = west + rng.random(len(box)) * (east - west)
    lat = np.rad2deg(np.arcsin(south + rng.random(len(box)) * (north - south)))
    return np.column_stack([lon, lat])


@dataclass(frozen=True, eq=False)
class AreaSampler:
    """Points uniform by area from the union of polygons (EPSG:4326; edges straight in longitude and latitude).

    A polygon's bounding box is drawn, a point in it, and the point is kept if the polygon holds it and no earlier polygon
    does: so overlaps are not drawn twice. Good for many small polygons; a large one with a long outline is slow.

    Calling it gives the points, without end.

    Raises:
        RegionError: there are no polygons, or they have no area.
    """

    polygons: Sequence[shapely.Geometry]

    @cached_property
    def _bounds(self) -> NDArray[np.float64]:
        bounds = shapely.bounds(np.asarray(self.polygons, dtype=object)).astype(np.float64)
        bounds[:, 1::2] = np.sin(np.deg2rad(bounds[:, 1::2]))
        return bounds

    @cached_property
    def _areas(self) -> NDArray[np.float64]:
        """Of the bounding boxes on the unit sphere, but for the factor of degrees."""
        west, south, east, north = self._bounds.T
        return np.asarray((east - west) * (north - south))

    @property
    def area(self) -> float:
        """Of the bounding boxes together, on the unit sphere."""
        return float(np.deg2rad(self._areas.sum()))

    def holds(self, lonlat: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of the points ``(n, 2)`` some polygon holds."""
        held = np.zeros(len(lonlat), dtype=bool)
        held[self._tree.query(shapely.points(lonlat), predicate="intersects")[0]] = True
        return held

    @cached_property
    def _tree(self) -> shapely.STRtree:
        shapely.prepare(np.asarray(self.polygons, dtype=object))
        return shapely.STRtree(self.polygons)

    def __call__(self, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
        """``(k, 2)`` longitudes and latitudes at a time."""
        if not len(self.polygons):
            raise RegionError("there is no area to sample: the region holds no polygon")
        areas = self._areas
        if not areas.sum() > 0:
            raise RegionError("there is no area to sample: the region's polygons have none")
        empty_rounds = 0
        for size in _batches():
            points = self._draw(size, areas / areas.sum(), rng)
            empty_rounds = 0 if len(points) else empty_rounds + 1
            if empty_rounds > MAX_EMPTY_ROUNDS:
                raise RegionError(
                    "the region's polygons are too thin to sample: no point of many thousands fell inside"
                )
            yield points

    def draw(self, n: int, *, rng: np.random.Generator) -> NDArray[np.float64]:
        """The first ``n``, ``(n, 2)``."""
        taken, missing = [np.empty((0, 2))], n
        for points in self(rng):
            taken.append(points[:missing])
            missing -= len(taken[-1])
            if not missing:
                break
        return np.concatenate(taken)

    def _draw(self, n: int, shares: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        box = rng.choice(len(shares), size=n, p=shares)
        points = _in_boxes(self._bounds, box, rng)
        first = np.full(n, -1)
        point_index, polygon_index = self._tree.query(shapely.points(points), predicate="intersects")
        order = np.lexsort((polygon_index, point_index))[::-1]  # the first polygon is written last
        first[point_index[order]] = polygon_index[order]
        return points[first == box]


@dataclass(frozen=True, eq=False)
class CellSampler:
    """Points uniform by area from cells of a grid of longitude and latitude.

    Calling it gives the points, without end.

    Attributes:
        cells: flat indices into the grid, each once.
        shape: rows, from the north, and columns, from 180° west, of the grid over the globe.
    """

    cells: NDArray[np.int32]
    shape: tuple[int, int]

    @cached_property
    def _edges(self) -> NDArray[np.float64]:
        """Sine of the latitude of every row's edges, from the north."""
        return np.sin(np.deg2rad(np.linspace(90, -90, self.shape[0] + 1)))

    @cached_property
    def _sums(self) -> NDArray[np.float64]:
        """Area of the cells up to each, in that of a cell as wide as the globe and of all latitudes to the equator."""
        rows = self.cells // self.shape[1]
        return np.cumsum((self._edges[:-1] - self._edges[1:])[rows])

    @cached_property
    def _up_to(self) -> NDArray[np.float64]:
        """Area of the cells up to each, as a share of all."""
        return np.asarray(self._sums / self._sums[-1])

    @property
    def area(self) -> float:
        """Of the cells together, on the unit sphere."""
        return float(self._sums[-1]) * 2 * np.pi / self.shape[1] if len(self.cells) else 0.0

    def __call__(self, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
        """``(k, 2)`` longitudes and latitudes at a time."""
        if not len(self.cells):
            raise RegionError("there is no area to sample: no cell of the grid is left")
        width = 360 / self.shape[1]
        for size in _batches():
            number = np.searchsorted(self._up_to, rng.random(size), side="right")
            row, column = np.divmod(self.cells[number], self.shape[1])
            lon = -180 + (column + rng.random(size)) * width
            north, south = self._edges[row], self._edges[row + 1]
            yield np.column_stack([lon, np.rad2deg(np.arcsin(south + rng.random(size) * (north - south)))])


@dataclass(frozen=True, eq=False)
class PartSampler:
    """Points uniform by area from the part of cells that polygons hold: drawn from the cells, and kept if one holds them.

    Calling it gives the points, without end.

    Raises:
        RegionError: cells and polygons have no place in common that can be hit.
    """

    cells: CellSampler
    polygons: AreaSampler

    def __call__(self, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
        """``(k, 2)`` longitudes and latitudes at a time."""
        empty_rounds = 0
        for points in self.cells(rng):
            kept = points[self.polygons.holds(points)]
            empty_rounds = 0 if len(kept) else empty_rounds + 1
            if empty_rounds > MAX_EMPTY_ROUNDS:
                raise RegionError("no scene of the source lies where the class is: no point of many thousands did")
            yield kept
