"""Where samples lie on the ground, and which of them lie on, or near, which others.

A sample is a centre, and the outline of its chip where that is known: items have those of a catalog's samples, and a task's are
squares where the side of its pixels is known. Distances are geodesics between centres; outlines are compared in the plane that
touches the ellipsoid at one of the two, so that neither the antimeridian nor a pole is special.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.geo.geodesy import SiteIndex, destination, ecef_m, geodesic_km
from training.tasks.base import TaskData
from training.tasks.chips import SubsetChips

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["Footprints", "Nearness", "compare_places", "footprints_of"]

QUERIES = 4096  # compared at once
SHARED_M2 = 1.0  # chips that only touch share less
TOLERANCE = 1e-3  # of the distances of samples that are not near
CURVED = 1.001  # a geodesic of the length of a chip is not longer than its chord by as much


@dataclass(frozen=True, kw_only=True, eq=False)
class Footprints:
    """Places of samples.

    Attributes:
        lonlat: centres, (N, 2), EPSG:4326; NaN where unknown.
        outlines: of chips, (N,) shapely geometries in EPSG:4326, ``None`` where there is the centre alone.
    """

    lonlat: NDArray[np.float64]
    outlines: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.lonlat)

    @cached_property
    def known(self) -> NDArray[np.int64]:
        """Rows whose centres are known."""
        return np.flatnonzero(np.isfinite(self.lonlat).all(axis=1))

    @cached_property
    def index(self) -> SiteIndex:
        """Finds those whose centres are known, numbered as in :attr:`known`."""
        return SiteIndex(self.lonlat[self.known])

    @cached_property
    def reach_km(self) -> NDArray[np.float64]:
        """From the centre to the farthest corner, (N,), at least; 0 of centres alone."""
        reach = np.zeros(len(self))
        corners, rows = shapely.get_coordinates(self.outlines, return_index=True)
        away = np.linalg.norm(ecef_m(corners) - ecef_m(self.lonlat)[rows], axis=1) / 1000 * CURVED
        np.maximum.at(reach, rows, np.nan_to_num(away))
        return reach

    def only(self, rows: NDArray[np.int64]) -> Footprints:
        """Some of them."""
        return Footprints(lonlat=self.lonlat[rows], outlines=self.outlines[rows])


def footprints_of(data: Subset | TaskData) -> Footprints:
    """The places of a subset's or a task's samples, in their order."""
    if not isinstance(data, TaskData):
        wkb = np.array(data.columns(["geometry"])["geometry"].to_pylist(), dtype=object)
        return Footprints(
            lonlat=data.lonlat, outlines=np.asarray(shapely.from_wkb(wkb), dtype=object).reshape(len(data))
        )
    if isinstance(data.chips, SubsetChips):
        return footprints_of(data.chips.subset)
    outlines = np.full(len(data), None, dtype=object)
    known = np.isfinite(data.lonlat).all(axis=1)
    height, width = data.chips.shape[2:]
    if data.info.pixel_m > 0 and height and known.any():
        outlines[known] = _rectangles(data.lonlat[known], height * data.info.pixel_m, width * data.info.pixel_m)
    return Footprints(lonlat=data.lonlat, outlines=outlines)


def _rectangles(lonlat: NDArray[np.float64], height_m: float, width_m: float) -> NDArray[np.object_]:
    """North-up rectangles around places; across the antimeridian their longitudes jump, which coordinates alone tell."""
    away = np.full(len(lonlat), np.hypot(height_m, width_m) / 2000)
    across = float(np.degrees(np.arctan2(width_m, height_m)))
    corners = [destination(lonlat, np.full(len(lonlat), azimuth), away)
               for azimuth in (across, 180 - across, 180 + across, -across)]  # fmt: skip
    return np.asarray(shapely.polygons(np.stack(corners, axis=1)), dtype=object)


@dataclass(frozen=True, kw_only=True, eq=False)
class Nearness:
    """Which samples lie near which others.

    Attributes:
        near: whether a sample is nearer than asked to one of the others, or on its chip, (N,).
        km: from the nearest of the others, centre to centre, (N,); exact where it is near, else too large by a thousandth at
            most; NaN where a place is unknown, or there are no others.
        nearest: which one that is, (N,); -1 where there is none.
        others: whether one of the others is near to any sample, (M,).
    """

    near: NDArray[np.bool_]
    km: NDArray[np.float64]
    nearest: NDArray[np.int64]
    others: NDArray[np.bool_]


def compare_places(samples: Footprints, others: Footprints, *, km: float) -> Nearness:
    """Which samples are less than ``km`` from the centre of one of the others, or share ground with it.

    Args:
        samples: N samples, such as those of a test.
        others: M samples, such as those of pretraining.
        km: geodesic distance between centres.
    """
    near, touched = np.zeros(len(samples), dtype=bool), np.zeros(len(others), dtype=bool)
    away, nearest = np.full(len(samples), np.nan), np.full(len(samples), -1, dtype=np.int64)
    if not len(samples.known) or not len(others.known):
        return Nearness(near=near, km=away, nearest=nearest, others=touched)
    for i, j in _pairs(samples, others, km=km):
        near[i], touched[j] = True, True
    for rows, tolerance in (
        (np.flatnonzero(near), 0.0),
        (np.setdiff1d(samples.known, np.flatnonzero(near)), TOLERANCE),
    ):
        site, away[rows] = others.index.nearest(samples.lonlat[rows], tolerance=tolerance)
        nearest[rows] = others.known[site]
    return Nearness(near=near, km=away, nearest=nearest, others=touched)


def _pairs(
    samples: Footprints, others: Footprints, *, km: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows of samples and of others that are near each other, some at a time."""
    farthest = float(samples.reach_km.max() + others.reach_km.max())
    for start in range(0, len(samples.known), QUERIES):
        rows = samples.known[start : start + QUERIES]
        starts, sites = others.index.near(samples.lonlat[rows], max(km, farthest) * CURVED)
        i, j = np.repeat(rows, np.diff(starts)), others.known[sites]
        away = geodesic_km(samples.lonlat[i], others.lonlat[j])
        close = away < km
        open_ = np.flatnonzero(~close & (away <= samples.reach_km[i] + others.reach_km[j]))
        close[open_] = _share_ground(samples, others, i[open_], j[open_])
        yield i[close], j[close]


def _share_ground(
    samples: Footprints, others: Footprints, i: NDArray[np.int64], j: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether outlines share ground, or one holds the other's centre where that has no outline, (P,)."""
    one, two = _flat(samples, i, others.lonlat[j]), _flat(others, j, others.lonlat[j])
    areas = shapely.area(shapely.intersection(one, two))
    points = (shapely.get_dimensions(one) == 0) | (shapely.get_dimensions(two) == 0)
    return np.asarray(np.where(points, shapely.intersects(one, two), areas > SHARED_M2))


def _flat(of: Footprints, rows: NDArray[np.int64], centres: NDArray[np.float64]) -> NDArray[np.object_]:
    """Outlines, or centres where there are none, in metres east and north of other places, (P,)."""
    shapes = of.outlines[rows]
    alone = shapely.is_missing(shapes)
    shapes[alone] = shapely.points(of.lonlat[rows[alone]])
    corners, of_shape = shapely.get_coordinates(shapes, return_index=True)
    lon, lat = np.deg2rad(centres[of_shape]).T
    away = ecef_m(corners) - ecef_m(centres)[of_shape]
    east = np.stack([-np.sin(lon), np.cos(lon), np.zeros_like(lon)], axis=1)
    north = np.stack([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)], axis=1)
    plane = np.column_stack([np.einsum("pk,pk->p", away, east), np.einsum("pk,pk->p", away, north)])
    return np.asarray(shapely.set_coordinates(shapes, plane), dtype=object)
