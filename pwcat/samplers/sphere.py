"""Points uniform by area on the sphere, within polygons given in longitude and latitude."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.errors import RegionError

__all__ = ["WORLD", "AreaSampler"]

WORLD = shapely.box(-180, -90, 180, 90)

# Draws thrown before the polygons are said to have no area that can be hit.
MAX_EMPTY_ROUNDS = 1000


@dataclass(frozen=True, eq=False)
class AreaSampler:
    """Draws points uniform by area from the union of polygons (EPSG:4326; edges straight in longitude and latitude).

    In the cylindrical equal-area plane (longitude, sin latitude) equal areas are equal areas on the sphere
    (Archimedes' hat-box theorem). A polygon's bounding box is drawn by its area there, a point uniform in the box, and
    the point is kept if the polygon holds it and no earlier polygon does: so overlaps are not drawn twice.
    """

    polygons: Sequence[shapely.Geometry]

    @cached_property
    def _bounds(self) -> NDArray[np.float64]:
        bounds = shapely.bounds(np.asarray(self.polygons, dtype=object)).astype(np.float64)
        bounds[:, 1::2] = np.sin(np.deg2rad(bounds[:, 1::2]))
        return bounds

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(self.polygons)

    def draw(self, n: int, *, rng: np.random.Generator) -> NDArray[np.float64]:
        """``(n, 2)`` longitudes and latitudes.

        Raises:
            RegionError: there are no polygons, or they have no area.
        """
        if not len(self.polygons) or not self._areas().sum() > 0:
            raise RegionError("there is no area to sample: the region holds no polygon")
        found: list[NDArray[np.float64]] = []
        missing, empty_rounds = n, 0
        while missing > 0:
            points = self._draw_once(max(64, 2 * missing), rng)[:missing]
            found.append(points)
            missing -= len(points)
            empty_rounds = 0 if len(points) else empty_rounds + 1
            if empty_rounds > MAX_EMPTY_ROUNDS:
                raise RegionError(
                    "the region's polygons are too thin to sample: no point of many thousands fell inside"
                )
        return np.concatenate(found) if found else np.empty((0, 2))

    def _areas(self) -> NDArray[np.float64]:
        west, south, east, north = self._bounds.T
        return np.asarray((east - west) * (north - south))

    def _draw_once(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        areas = self._areas()
        box = rng.choice(len(areas), size=n, p=areas / areas.sum())
        west, south, east, north = self._bounds[box].T
        lon = west + rng.random(n) * (east - west)
        lat = np.rad2deg(np.arcsin(south + rng.random(n) * (north - south)))
        first = np.full(n, -1)
        point_index, polygon_index = self._tree.query(shapely.points(lon, lat), predicate="intersects")
        order = np.lexsort((polygon_index, point_index))[::-1]  # the first polygon is written last
        first[point_index[order]] = polygon_index[order]
        keep = first == box
        return np.column_stack([lon[keep], lat[keep]])
