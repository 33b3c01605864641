"""Shapes of a map's things in world coordinates: points, lines and polygons by themselves, mended where they are broken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.osm.features import Features, Losses
from pwcat.osm.meridian import cross_meridian, cut_at_meridian
from pwcat.osm.tiles import MAX_LATITUDE, to_world

__all__ = ["LINE", "POINT", "POLYGON", "Shapes", "resolve_shapes"]

POINT, LINE, POLYGON = range(3)  # places in pwcat.osm.schema.KINDS

# By GEOS's numbers of types: point, line, ring, polygon; collections have none
_KIND_OF: Final = np.array([POINT, LINE, LINE, POLYGON, -1, -1, -1, -1])


@dataclass(frozen=True, kw_only=True, eq=False)
class Shapes:
    """Shapes of one kind; a thing of several parts has several.

    Attributes:
        kind: place in :data:`pwcat.osm.schema.KINDS`.
        owner: ``(n,)`` int64, the thing among the features that were given, ascending.
        geometry: ``(n,)`` shapely points, lines or polygons, two-dimensional, valid, world coordinates.
    """

    kind: int
    owner: NDArray[np.int64]
    geometry: NDArray[np.object_]


def resolve_shapes(features: Features, zoom: int, losses: Losses) -> list[Shapes]:
    """The shapes of features by kind, in world coordinates of a zoom; what cannot be had is counted.

    Polygons that cross themselves become what their lines enclose. North of :data:`~pwcat.osm.tiles.MAX_LATITUDE` and south
    of it there are no tiles: points there are left out, other shapes end there.
    """
    geometry, owner = _parts(features.geometry)
    is_place = _has_place(geometry)
    losses.leave("coordinates that are none", len(np.unique(owner[~is_place])))
    geometry, owner = shapely.force_2d(geometry[is_place]), owner[is_place]
    crossing = cross_meridian(geometry)
    if crossing.any():
        losses.mend("shape across the 180th meridian: cut there", len(np.unique(owner[crossing])))
        geometry[crossing] = cut_at_meridian(geometry[crossing])
        geometry, inside = _parts(geometry)
        owner = owner[inside]
    kinds = _KIND_OF[shapely.get_type_id(geometry)]
    found = []
    for kind, resolve in ((POINT, _points), (LINE, _lines), (POLYGON, _polygons)):
        mine = kinds == kind
        if mine.any():
            found.append(resolve(geometry[mine], owner[mine], zoom, losses))
    return found


def _parts(geometry: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Single parts, and the place of the whole that each is of; collections may hold multipolygons."""
    owner = np.arange(len(geometry))
    while (shapely.get_type_id(geometry) >= shapely.GeometryType.MULTIPOINT).any():
        geometry, inside = shapely.get_parts(geometry, return_index=True)
        owner = owner[inside]
    filled = ~shapely.is_missing(geometry) & ~shapely.is_empty(geometry)
    return geometry[filled], owner[filled]


def _has_place(geometry: NDArray[np.object_]) -> NDArray[np.bool_]:
    west, south, east, north = shapely.bounds(geometry).T
    finite = np.isfinite([west, south, east, north]).all(axis=0)
    return finite & (west >= -180) & (east <= 180) & (south >= -90) & (north <= 90)


def _points(geometry: NDArray[np.object_], owner: NDArray[np.int64], zoom: int, losses: Losses) -> Shapes:
    on_tiles = np.abs(shapely.get_y(geometry)) < MAX_LATITUDE
    losses.leave("beyond 85 degrees north or south, where there are no tiles", int((~on_tiles).sum()))
    return Shapes(kind=POINT, owner=owner[on_tiles], geometry=_in_world(geometry[on_tiles], zoom))


def _lines(geometry: NDArray[np.object_], owner: NDArray[np.int64], zoom: int, losses: Losses) -> Shapes:
    lines = _in_world(geometry, zoom)
    has_length = shapely.length(lines) > 0
    losses.leave("line without a length", int((~has_length).sum()))
    return Shapes(kind=LINE, owner=owner[has_length], geometry=lines[has_length])


def _polygons(geometry: NDArray[np.object_], owner: NDArray[np.int64], zoom: int, losses: Losses) -> Shapes:
    polygons = _in_world(geometry, zoom)
    broken = ~shapely.is_valid(polygons)
    # Structure, not linework: a lobe that is wound twice stays inside
    polygons[broken] = shapely.make_valid(polygons[broken], method="structure", keep_collapsed=False)
    parts, inside = shapely.get_parts(polygons, return_index=True)
    is_area = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & (shapely.area(parts) > 0)
    parts, inside = parts[is_area], inside[is_area]
    empty = np.setdiff1d(np.arange(len(polygons)), inside)
    losses.leave("area without an inside", len(empty))
    losses.mend("area whose outline crosses or touches itself", int(broken.sum()) - int(broken[empty].sum()))
    return Shapes(kind=POLYGON, owner=owner[inside], geometry=parts)


def _in_world(geometry: NDArray[np.object_], zoom: int) -> NDArray[np.object_]:
    lon, lat = shapely.get_coordinates(geometry).T
    world = np.column_stack(to_world(lon, np.clip(lat, -MAX_LATITUDE, MAX_LATITUDE), zoom))
    east = np.nextafter(2.0**zoom, 0)  # 180 degrees east lies on the last tile
    return shapely.set_coordinates(geometry.copy(), np.clip(world, 0, [east, 2.0**zoom]))
