"""Shapes that cross the 180th meridian, cut there: read as they stand, they would reach around the world the other way.

OpenStreetMap asks for ways to be split there, and not all are. A stretch of more than half the world, but not of all of it, is
one that goes the other way (as RFC 7946, section 3.1.9, and editors of maps have it).
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

__all__ = ["cross_meridian", "cut_at_meridian"]

_EAST, _WEST = shapely.box(-180, -90, 180, 90), shapely.box(180, -90, 540, 90)


def cross_meridian(geometry: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Which shapes, degrees, have a stretch that is longer than half the world and shorter than all of it."""
    west, _, east, _ = shapely.bounds(geometry).T
    wide = np.flatnonzero(east - west > 180)
    crossing = np.zeros(len(geometry), dtype=bool)
    if len(wide):
        crossing[wide] = [_leaps(shape, 360) for shape in geometry[wide]]
    return crossing


def cut_at_meridian(geometry: NDArray[np.object_]) -> NDArray[np.object_]:
    """Lines and polygons as what lies on either side of the meridian; what has no leap less so stays as it is."""
    return np.array([_cut(shape) for shape in geometry], dtype=object)


def _leaps(shape: shapely.Geometry, least: float) -> bool:
    """Whether any stretch is longer than half the world, and shorter than so much."""
    places, ring = shapely.get_coordinates(_lines(shape), return_index=True)
    steps = np.abs(np.diff(places[:, 0]))[ring[1:] == ring[:-1]]
    return bool(((steps > 180) & (steps < least)).any())


def _lines(shape: shapely.Geometry) -> NDArray[np.object_]:
    parts = shapely.get_parts(shape)
    is_area = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    return np.concatenate([parts[~is_area], shapely.get_rings(parts[is_area])])


def _cut(shape: shapely.Geometry) -> shapely.Geometry:
    east = shapely.transform(shape, lambda places: np.column_stack([places[:, 0] % 360, places[:, 1]]))
    if _leaps(east, np.inf):
        return shape
    if not shapely.is_valid(east):
        east = shapely.make_valid(east, method="structure", keep_collapsed=False)
    before, after = (shapely.get_parts(shapely.intersection(east, half)) for half in (_EAST, _WEST))
    parts = np.concatenate([before, shapely.transform(after, lambda places: places - [360, 0])])
    return shapely.GeometryCollection(list(parts[shapely.get_dimensions(parts) == shapely.get_dimensions(shape)]))
