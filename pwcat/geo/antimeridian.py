"""Polygons whose longitudes go on where the map ends.

Files write a polygon over the antimeridian in one of three ways: cut in two there, with longitudes beyond 180°, or with edges
that jump from 179° to -179°. The last is ambiguous, and is read as everybody means it: an edge goes the short way round.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

__all__ = ["unwrap", "within_reach"]


def unwrap(polygons: NDArray[np.object_]) -> NDArray[np.object_]:
    """Polygons ``(n,)`` with continuous longitudes, which may pass ±180°; edges of a full turn stay as they are.

    A ring that goes once around the Earth holds a pole, the one nearer to its mean latitude, and is closed over it.

    Args:
        polygons: shapely polygons, not multi-polygons; EPSG:4326.
    """
    coordinates, index = shapely.get_coordinates(polygons, return_index=True)
    steps = np.abs(np.diff(coordinates[:, 0]))
    suspects = np.unique(index[1:][(index[1:] == index[:-1]) & (steps > 180) & (steps < 360)])
    unwrapped = polygons.copy()
    for number in suspects:
        unwrapped[number] = _unwrap(polygons[number])
    return unwrapped


def within_reach(polygons: NDArray[np.object_]) -> NDArray[np.object_]:
    """The polygons, and those that pass ±180° once more on the other side, so that points within ±180° find them all."""
    west, _, east, _ = shapely.bounds(polygons).T
    moved = [_shift(polygons[beyond], by) for beyond, by in ((east > 180, -360), (west < -180, 360))]
    return np.concatenate([polygons, *moved])


def _shift(polygons: NDArray[np.object_], degrees: float) -> NDArray[np.object_]:
    return np.asarray(shapely.transform(polygons, lambda lonlat: lonlat + np.array([degrees, 0.0])), dtype=object)


def _unwrap(polygon: shapely.Polygon) -> shapely.Polygon:
    shell = _unwrap_ring(shapely.get_coordinates(polygon.exterior))
    middle = (shell[:, 0].min() + shell[:, 0].max()) / 2
    holes = []
    for interior in polygon.interiors:
        hole = _unwrap_ring(shapely.get_coordinates(interior))
        hole[:, 0] += 360 * np.round((middle - hole[:, 0].mean()) / 360)
        holes.append(hole)
    return shapely.Polygon(shell, holes)


def _unwrap_ring(lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
    steps = np.diff(lonlat[:, 0])
    jumps = (np.abs(steps) > 180) & (np.abs(steps) < 360)
    steps[jumps] -= 360 * np.sign(steps[jumps])
    lon = lonlat[0, 0] + np.concatenate([[0.0], np.cumsum(steps)])
    ring = np.column_stack([lon, lonlat[:, 1]])
    if abs(lon[-1] - lon[0]) < 180:
        return ring
    pole = 90.0 if lonlat[:, 1].mean() > 0 else -90.0
    return np.concatenate([ring, [[lon[-1], pole], [lon[0], pole], ring[0]]])
