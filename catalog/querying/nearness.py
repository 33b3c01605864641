"""Samples near a place, or near those of another subset: by the geodesic, on WGS84."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from catalog.querying.conditions import Condition, Crossing, bbox_overlap
from pwcat.errors import CatalogError

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["Near", "nearer_than", "surroundings"]

# A longitude and a latitude, or a subset.
Near: TypeAlias = "tuple[float, float] | Subset"

# Kilometres of a degree of latitude, at the least (110.574 at the equator), with a margin.
KM_PER_DEGREE = 110.5


def surroundings(near: Any, within_km: float | None, *, crossing: Crossing) -> list[Condition]:
    """Conditions that all samples meet that can be near; row groups are pruned by them.

    Args:
        near: a place, or a subset.
        within_km: how near.
        crossing: which bounding boxes of items may lie across the antimeridian.

    Raises:
        CatalogError: no place, or no distance, or neither makes sense.
    """
    lonlat = _places(near)
    if within_km is None or not math.isfinite(within_km) or within_km <= 0:
        raise CatalogError(f"near needs within_km, a distance above 0 km, got {within_km!r}")
    if not len(lonlat):
        return [Condition("FALSE")]
    reach = within_km / KM_PER_DEGREE
    south, north = float(lonlat[:, 1].min()) - reach, float(lonlat[:, 1].max()) + reach
    if max(-south, north) < 89:
        # Half the width, at the latitude farthest from the equator, of a circle on the sphere.
        widest = math.sin(math.radians(min(reach, 90))) / math.cos(math.radians(max(-south, north)))
        aside = math.degrees(math.asin(min(widest, 1))) * 1.01
        west, east = float(lonlat[:, 0].min()) - aside, float(lonlat[:, 0].max()) + aside
        if widest < 1 and east - west < 360:
            return [bbox_overlap([_turned(west), south, _turned(east), north], crossing=crossing)]
    return [Condition("bbox.ymin <= ? AND bbox.ymax >= ?", [north, south])]


def _turned(lon: float) -> float:
    """A longitude that went past the antimeridian, from its other side."""
    return lon if -180 <= lon <= 180 else (lon + 180) % 360 - 180


def nearer_than(found: Subset, near: Any, within_km: float) -> Subset:
    """Those samples that are nearer than ``within_km`` to the place, or to one of the subset's samples."""
    from pwcat.geo.geodesy import SiteIndex, geodesic_km

    places, lonlat = _places(near), found.lonlat
    if not len(places) or not len(lonlat):
        return found.only(np.zeros(len(lonlat), dtype=bool))
    if len(places) == 1:
        return found.only(geodesic_km(lonlat, np.repeat(places, len(lonlat), axis=0)) < within_km)
    starts, _ = SiteIndex(places).near(lonlat, within_km)
    return found.only(np.diff(starts) > 0)


def _places(near: Any) -> NDArray[np.float64]:
    """``(n, 2)`` longitude and latitude, EPSG:4326."""
    if hasattr(near, "lonlat"):
        return np.asarray(near.lonlat, dtype=np.float64)
    try:
        lon, lat = (float(number) for number in near)
    except (TypeError, ValueError) as exc:
        raise CatalogError(f"near is a longitude and a latitude, or a subset, got {near!r}") from exc
    if not (-180 <= lon <= 180 and -90 <= lat <= 90):
        raise CatalogError(f"near is a longitude and a latitude in degrees, got {lon:g}, {lat:g}")
    return np.array([[lon, lat]])
