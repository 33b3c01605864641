"""Distances on the WGS84 ellipsoid: exact, and fast for millions of sites.

Sites are ``(n, 2)`` longitude and latitude in degrees (EPSG:4326); distances are geodesics, in kilometres. A k-d tree over
geocentric coordinates finds who may be near whom by the straight line through the Earth, the chord; the few pairs that the
chord cannot decide are measured by GeographicLib (Karney, 2013), through pyproj.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pyproj import Geod
from scipy.spatial import cKDTree

__all__ = ["EARTH_RADIUS_KM", "SiteIndex", "chord_bounds_m", "destination", "ecef_m", "geodesic_km"]

WGS84 = Geod(ellps="WGS84")

# The sphere with the area of the WGS84 ellipsoid (authalic radius).
EARTH_RADIUS_KM = 6371.0071809

# Smallest radius of curvature of the ellipsoid, along the meridian at the equator: b² / a.
LEAST_RADIUS_M = WGS84.b**2 / WGS84.a

# Coordinates of 6.4e6 m have steps of 1e-9 m; pairs this close to a bound are measured.
MARGIN_M = 1e-3

# Pairs, and queries, that are worked on at once.
BLOCK = 1 << 20


def geodesic_km(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Geodesic distance of each pair of points, ``(n,)``, in kilometres on WGS84.

    Args:
        a: ``(n, 2)`` longitude and latitude, EPSG:4326.
        b: likewise.
    """
    _, _, metres = WGS84.inv(a[:, 0], a[:, 1], b[:, 0], b[:, 1])
    return np.asarray(metres, dtype=np.float64) / 1000


def destination(
    lonlat: NDArray[np.float64], azimuth_deg: NDArray[np.float64], km: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Where one arrives, ``(n, 2)`` EPSG:4326, after so many kilometres along the geodesic that starts in a direction.

    Args:
        lonlat: ``(n, 2)`` starts, EPSG:4326.
        azimuth_deg: ``(n,)`` degrees clockwise from north.
        km: ``(n,)`` lengths on WGS84.
    """
    lon, lat, _ = WGS84.fwd(lonlat[:, 0], lonlat[:, 1], azimuth_deg, np.asarray(km) * 1000)
    return np.column_stack([lon, lat]).astype(np.float64)


def ecef_m(lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Geocentric coordinates, ``(..., 3)`` in metres (EPSG:4978), of points on the ellipsoid, ``(..., 2)`` EPSG:4326."""
    lon, lat = np.deg2rad(lonlat[..., 0]), np.deg2rad(lonlat[..., 1])
    normal = WGS84.a / np.sqrt(1 - WGS84.es * np.sin(lat) ** 2)
    across = normal * np.cos(lat)
    return np.stack([across * np.cos(lon), across * np.sin(lon), normal * (1 - WGS84.es) * np.sin(lat)], axis=-1)


def chord_bounds_m(km: float) -> tuple[float, float]:
    """Two chords in metres: whoever is closer than the first is surely nearer than ``km``, and beyond the second surely not.

    A chord is never longer than the geodesic over it. A geodesic bends no more than the ellipsoid's sharpest normal section,
    of radius ``r = b² / a``, so that by Schur's theorem its chord is at least ``2 r sin(s / 2 r)``: between the two lie
    16 mm at 25 km and 130 m at 500 km.
    """
    metres = km * 1000
    half_angle = min(metres / (2 * LEAST_RADIUS_M), np.pi / 2)
    return 2 * LEAST_RADIUS_M * float(np.sin(half_angle)) - MARGIN_M, metres + MARGIN_M


class SiteIndex:
    """Sites on the ellipsoid, found by geodesic distance.

    Args:
        lonlat: ``(n, 2)`` longitude and latitude, EPSG:4326; duplicates are sites of their own.
    """

    def __init__(self, lonlat: NDArray[np.float64]) -> None:
        self.lonlat = np.asarray(lonlat, dtype=np.float64).reshape(-1, 2)
        self._points = ecef_m(self.lonlat)
        self._tree = cKDTree(self._points)

    def __len__(self) -> int:
        return len(self.lonlat)

    def pairs_within(self, km: float) -> NDArray[np.intp]:
        """Pairs ``(m, 2)`` of sites, ``i < j``, less than ``km`` apart; sorted.

        The pairs take 16 bytes each, and three times that while they are made: a million sites in dense clusters can have
        more than memory holds. Ask :meth:`near` for some sites at a time there.
        """
        sure, reach = chord_bounds_m(km)
        pairs = np.asarray(self._tree.query_pairs(reach, output_type="ndarray"), dtype=np.intp)
        keep = np.empty(len(pairs), dtype=bool)
        for block in _blocks(len(pairs)):
            i, j = pairs[block].T
            chords = np.linalg.norm(self._points[i] - self._points[j], axis=1)
            keep[block] = self._nearer(self.lonlat[i], j, chords, km=km, sure=sure)
        pairs = pairs[keep]
        return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]

    def near(self, lonlat: NDArray[np.float64], km: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Indexed sites less than ``km`` from each query, as compressed rows.

        Args:
            lonlat: ``(n, 2)`` queries, EPSG:4326.
            km: geodesic distance.

        Returns:
            ``indptr`` ``(n + 1,)`` and ``indices``: those of query ``i`` are ``indices[indptr[i]:indptr[i + 1]]``, ascending.
        """
        lonlat = np.asarray(lonlat, dtype=np.float64).reshape(-1, 2)
        sure, reach = chord_bounds_m(km)
        counts = np.zeros(len(lonlat), dtype=np.intp)
        found: list[NDArray[np.intp]] = []
        for block in _blocks(len(lonlat), BLOCK // 16):
            rows, sites, chords = self._candidates(lonlat[block], reach)
            keep = self._nearer(lonlat[block][rows], sites, chords, km=km, sure=sure)
            counts[block] = np.bincount(rows[keep], minlength=block.stop - block.start)
            found.append(sites[keep])
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.intp)
        return indptr, np.concatenate(found) if found else np.empty(0, dtype=np.intp)

    def nearest_km(self, lonlat: NDArray[np.float64], *, tolerance: float = 0.0) -> NDArray[np.float64]:
        """Geodesic distance to the nearest indexed site, ``(n,)`` in kilometres; infinite where there are no sites.

        Args:
            lonlat: ``(n, 2)`` queries, EPSG:4326.
            tolerance: by how much of itself an answer may be too large. To be exact is slow where many sites are far away
                and about as far: all of them are measured.
        """
        return self.nearest(lonlat, tolerance=tolerance)[1]

    def nearest(
        self, lonlat: NDArray[np.float64], *, tolerance: float = 0.0
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """The nearest indexed site of each query, of several as near the first, and its geodesic distance; ``(n,)`` each.

        -1 and infinitely far where there are no sites. For the arguments see :meth:`nearest_km`; with a tolerance another site
        may be as much nearer.
        """
        lonlat = np.asarray(lonlat, dtype=np.float64).reshape(-1, 2)
        site, nearest = np.full(len(lonlat), -1, dtype=np.intp), np.full(len(lonlat), np.inf)
        left = np.arange(len(lonlat)) if len(self) else np.empty(0, dtype=np.intp)
        k = 2
        while len(left):  # until the next chord alone is longer than the best geodesic
            undecided = []
            for block in _blocks(len(left), max(1, BLOCK // k)):
                rows = left[block]
                site[rows], nearest[rows], beyond_km = self._best_of(lonlat[rows], k)
                if tolerance:
                    beyond_km = _arc_km(beyond_km) * (1 + tolerance)
                undecided.append(rows[beyond_km <= nearest[rows]])
            left, k = np.concatenate(undecided), k * 4
        return site, nearest

    def _best_of(
        self, lonlat: NDArray[np.float64], k: int
    ) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
        """The nearest of the ``k`` sites of the shortest chords, its geodesic, a chord that all others exceed; ``(n,)`` km."""
        chords, sites = self._tree.query(ecef_m(lonlat), k=k, workers=-1)
        rows, columns = np.nonzero(sites < len(self))
        geodesics = np.full(sites.shape, np.inf)
        geodesics[rows, columns] = geodesic_km(lonlat[rows], self.lonlat[sites[rows, columns]])
        best = geodesics.min(axis=1)
        first = np.where(geodesics == best[:, None], sites, len(self)).min(axis=1)
        return first.astype(np.intp), best, (chords[:, -1] - MARGIN_M) / 1000

    def _candidates(
        self, lonlat: NDArray[np.float64], reach: float
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
        """Queries, sites and chords in metres ``(m,)`` of all pairs with a chord up to ``reach``; by query, then by site."""
        tree = cKDTree(ecef_m(lonlat))
        pairs = tree.sparse_distance_matrix(self._tree, reach, output_type="ndarray")
        order = np.lexsort((pairs["j"], pairs["i"]))
        return pairs["i"][order], pairs["j"][order], pairs["v"][order]

    def _nearer(
        self,
        lonlat: NDArray[np.float64],
        sites: NDArray[np.intp],
        chords: NDArray[np.float64],
        *,
        km: float,
        sure: float,
    ) -> NDArray[np.bool_]:
        """Which pairs of point and site are nearer than ``km``, ``(m,)``; those that the chord leaves open are measured."""
        nearer = chords < sure
        open_ = np.flatnonzero(~nearer)
        nearer[open_] = geodesic_km(lonlat[open_], self.lonlat[sites[open_]]) < km
        return nearer


def _arc_km(chord_km: NDArray[np.float64]) -> NDArray[np.float64]:
    """Arc over a chord on a sphere of the ellipsoid's largest radius of curvature, ``a² / b``: shorter than the geodesic, but
    for torsion, by less than .1 % up to 7,000 km.
    """
    diameter = 2 * WGS84.a**2 / WGS84.b / 1000
    return np.asarray(diameter * np.arcsin(np.minimum(chord_km / diameter, 1)))


def _blocks(n: int, size: int = BLOCK) -> Iterator[slice]:
    """Slices of at most ``size`` that cover ``n``."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
