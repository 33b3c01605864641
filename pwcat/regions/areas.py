"""Areas on the sphere of the Earth's area, in km²."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

__all__ = ["EARTH_RADIUS_KM", "METRES_PER_DEGREE", "band_km2", "polygons_km2"]

# The authalic radius of WGS84: the sphere of the same area as the ellipsoid.
EARTH_RADIUS_KM = 6371.0072

METRES_PER_DEGREE = 111_320.0  # along a meridian, on the sphere of the equator's radius


def polygons_km2(polygons: NDArray[np.object_]) -> NDArray[np.float64]:
    """Area of each polygon or multipolygon, ``(n,)``, in closed form; edges are straight in longitude and latitude.

    By Green's theorem the area under an edge is ``R² (λ2 - λ1) (cos φ1 - cos φ2) / (φ2 - φ1)``, written here as
    ``R² Δλ sin((φ1 + φ2) / 2) sinc(Δφ / 2)`` so that level edges need no case of their own.
    """
    parts, polygon_of_part = shapely.get_parts(polygons, return_index=True)
    rings, part_of_ring = shapely.get_rings(parts, return_index=True)
    coordinates, ring_of_point = shapely.get_coordinates(rings, return_index=True)
    lon, lat = np.deg2rad(coordinates).T
    half = np.diff(lat) / 2
    under = np.diff(lon) * np.sin(lat[:-1] + half) * np.sinc(half / np.pi)
    inside = ring_of_point[1:] == ring_of_point[:-1]
    ring_areas = np.abs(np.bincount(ring_of_point[1:][inside], weights=under[inside], minlength=len(rings)))
    holes = part_of_ring[1:] == part_of_ring[:-1]  # the first ring of a polygon is its exterior
    signed = np.where(np.concatenate([[False], holes])[: len(rings)], -ring_areas, ring_areas)
    of_parts = np.bincount(part_of_ring, weights=signed, minlength=len(parts))
    of_polygons = np.bincount(polygon_of_part, weights=of_parts, minlength=len(polygons))
    return np.asarray(EARTH_RADIUS_KM**2 * of_polygons, dtype=np.float64)


def band_km2(north: NDArray[np.float64], south: NDArray[np.float64], width_deg: float) -> NDArray[np.float64]:
    """Area between two latitudes over a width of longitude, all in degrees."""
    sines = np.sin(np.deg2rad(north)) - np.sin(np.deg2rad(south))
    return np.asarray(EARTH_RADIUS_KM**2 * np.deg2rad(width_deg) * sines)
