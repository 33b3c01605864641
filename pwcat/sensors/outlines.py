"""Where chips and items lie, in degrees: polygons whose longitudes go on where the map ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from pwcat.geo.antimeridian import unwrap

__all__ = ["chip_outlines", "item_outline", "points_of"]

# Corners of a square and the middles of its sides, clockwise from the upper left: sides of a projected chip bend in degrees, by
# 3 m at most between two of these where the chip is 20 km wide at 60° of latitude.
_RING = np.array([[0, 0], [0.5, 0], [1, 0], [1, 0.5], [1, 1], [0.5, 1], [0, 1], [0, 0.5]])

# How far chips may reach beyond ±180°, degrees: one of 20 km at 84° of latitude, twice.
BEYOND_DEG = 4.0


@lru_cache(maxsize=256)
def _to_degrees(epsg: int) -> Transformer:
    return Transformer.from_crs(f"EPSG:{epsg}", "EPSG:4326", always_xy=True)


def chip_outlines(
    epsg: NDArray[np.int64], x0: NDArray[np.float64], y0: NDArray[np.float64], *, side_m: float, grow_m: float = 0.0
) -> NDArray[np.object_]:
    """Outlines of chips ``(n,)``, EPSG:4326; those over the antimeridian go on beyond ±180°, their middle does not.

    Args:
        epsg: ``(n,)`` CRS of each chip.
        x0: ``(n,)`` easting of the upper-left corner, metres.
        y0: ``(n,)`` northing of it.
        side_m: of every chip.
        grow_m: by how much they are to be wider on each side.
    """
    lonlat = np.empty((len(epsg), len(_RING), 2))
    steps = -grow_m + _RING * (side_m + 2 * grow_m)
    for code in np.unique(epsg):
        rows = np.flatnonzero(epsg == code)
        x, y = x0[rows, None] + steps[:, 0], y0[rows, None] - steps[:, 1]
        lonlat[rows] = np.stack(_to_degrees(int(code)).transform(x, y), axis=-1)
    first = lonlat[:, :1, 0]
    lon = first + (lonlat[..., 0] - first + 180) % 360 - 180
    middle = (lon.min(axis=1) + lon.max(axis=1)) / 2
    lonlat[..., 0] = lon - (360 * np.round(middle / 360))[:, None]
    return np.asarray(shapely.polygons(lonlat), dtype=object)


def points_of(outlines: NDArray[np.object_]) -> NDArray[np.float64]:
    """``(m, 2)`` longitudes within ±180° and latitudes of the corners of outlines and of their middles, each once."""
    corners = shapely.get_coordinates(outlines)
    middles = np.column_stack([shapely.get_x(shapely.centroid(outlines)), shapely.get_y(shapely.centroid(outlines))])
    points = np.concatenate([corners.reshape(len(outlines), -1, 2)[:, :-1:2].reshape(-1, 2), middles])
    points[:, 0] = (points[:, 0] + 180) % 360 - 180
    return np.unique(points, axis=0)


def item_outline(geometry: Mapping[str, Any] | None, bbox: Sequence[float] | None) -> shapely.Geometry | None:
    """Where an item lies, EPSG:4326, by its geometry, or its bounding box where it has none; ``None`` without either.

    What touches the antimeridian is there on both sides of the map, and whole.
    """
    outline = _of_geometry(geometry) if geometry else _of_bbox(bbox) if bbox else None
    if outline is None or shapely.is_empty(outline):
        return None
    west, _, east, _ = shapely.bounds(outline)
    if west > -180 + BEYOND_DEG and east < 180 - BEYOND_DEG:
        return outline
    copies = [
        shapely.transform(outline, lambda lonlat, by=by: lonlat + np.array([by, 0.0])) for by in (-360.0, 0.0, 360.0)
    ]
    world = shapely.box(-180 - BEYOND_DEG, -90, 180 + BEYOND_DEG, 90)
    return shapely.intersection(shapely.union_all(copies), world)


def _of_geometry(geometry: Mapping[str, Any]) -> shapely.Geometry | None:
    try:
        parts = shapely.get_parts(shapely.geometry.shape(geometry))
    except (KeyError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError):
        return None
    polygons = np.array([part for part in parts if isinstance(part, shapely.Polygon)], dtype=object)
    polygons = unwrap(polygons[~shapely.is_empty(polygons)]) if len(polygons) else polygons
    return shapely.union_all(shapely.make_valid(polygons)) if len(polygons) else None


def _of_bbox(bbox: Sequence[float]) -> shapely.Geometry:
    west, south, east, north = (bbox[i] for i in ((0, 1, 2, 3) if len(bbox) == 4 else (0, 1, 3, 4)))
    return shapely.box(west, south, east + 360 if east < west else east, north)
