"""Exclusion zones: places that no chip may touch or come near, such as the footprints of an evaluation set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pwcat.constraints import Exclusion
from pwcat.geo.antimeridian import unwrap, within_reach
from pwcat.geo.geodesy import EARTH_RADIUS_KM, ecef_m
from pwcat.geo.places import read_places

__all__ = ["Zone", "Zones", "open_exclusions"]

# Edges are cut into straight pieces that stray from them by at most this share of the distance asked for (at least 10 cm).
# What is nearer is always found; what is found is nearer than the distance and twice this much, 4 %.
SLACK = 0.02
LEAST_SLACK_M = 0.1

# Chips are squares on the grids of UTM and UPS, whose metres are up to 0.6 % longer than the Earth's (UPS at the poles).
STRETCH = 1.006

# Pieces of like length share a tree, so that long ones do not make the search among short ones wide.
LENGTH_STEP = 8.0

# Points that are worked on at once.
BLOCK = 65_536

POINT, LINE, RING, POLYGON = 0, 1, 2, 3


@dataclass(frozen=True, eq=False)
class Boundary:
    """Straight pieces through the ellipsoid near which something is looked for.

    Attributes:
        start: ``(m, 3)`` geocentric metres of one end of each piece.
        end: ``(m, 3)`` of the other; of points the same.
        reach_m: how near is near.
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    reach_m: float

    @cached_property
    def _classes(self) -> list[tuple[cKDTree, NDArray[np.intp], float]]:
        """By length of the pieces: a tree of their middles, their numbers, and half the longest length."""
        half = np.linalg.norm(self.end - self.start, axis=1) / 2
        kind = np.ceil(np.log(np.maximum(half / self.reach_m, 1)) / np.log(LENGTH_STEP))
        members = [np.flatnonzero(kind == number) for number in np.unique(kind)]
        middles = (self.start + self.end) / 2
        return [(cKDTree(middles[rows]), rows, float(half[rows].max())) for rows in members]

    def near(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which points come within reach of a piece, ``(n,)``.

        Args:
            points: ``(n, 3)`` geocentric metres.
        """
        hit = np.zeros(len(points), dtype=bool)
        for tree, pieces, half in self._classes:
            left, k = np.flatnonzero(~hit), 4
            while len(left):  # until the nearest middle not looked at is too far off
                undecided = []
                for start in range(0, len(left), max(1, 4 * BLOCK // k)):
                    rows = left[start : start + max(1, 4 * BLOCK // k)]
                    hit[rows], full = self._near_some(points[rows], tree, pieces, half, k)
                    undecided.append(rows[full & ~hit[rows]])
                left, k = np.concatenate(undecided), 4 * k
        return hit

    def _near_some(
        self, points: NDArray[np.float64], tree: cKDTree, pieces: NDArray[np.intp], half: float, k: int
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether one of the ``k`` pieces with the nearest middles is within reach; whether there may be more of them."""
        _, found = tree.query(points, k=k, distance_upper_bound=self.reach_m + half, workers=-1)
        rows, columns = np.nonzero(found < len(pieces))
        numbers = pieces[found[rows, columns]]
        close = _distance_m(points[rows], self.start[numbers], self.end[numbers]) <= self.reach_m
        hit = np.zeros(len(points), dtype=bool)
        hit[rows[close]] = True
        return hit, found[:, -1] < len(pieces)


@dataclass(frozen=True, kw_only=True, eq=False)
class Zone:
    """The places of one file, and how far to stay away from them.

    Attributes:
        source: the file.
        geometries: ``(n,)`` shapely geometries of any kind, EPSG:4326.
        buffer_km: no part of a chip comes nearer.
    """

    source: str
    geometries: NDArray[np.object_]
    buffer_km: float
    _boundaries: dict[float, Boundary] = field(default_factory=dict, repr=False)

    def hit(self, lonlat: NDArray[np.float64], *, radius_km: float) -> NDArray[np.bool_]:
        """Which discs of this radius touch or come too near, ``(n,)``.

        Args:
            lonlat: ``(n, 2)`` centres, EPSG:4326.
            radius_km: of the discs.
        """
        reach_km = self.buffer_km + radius_km
        if reach_km not in self._boundaries:
            self._boundaries[reach_km] = self._boundary(reach_km)
        hit = self._boundaries[reach_km].near(ecef_m(lonlat))
        for start in range(0, len(lonlat), BLOCK):
            rows = start + np.flatnonzero(~hit[start : start + BLOCK])
            hit[rows[self._inside(lonlat[rows])]] = True
        return hit

    @cached_property
    def _parts(self) -> NDArray[np.object_]:
        """Points, lines, rings and polygons; longitudes of polygons are continuous."""
        parts = self.geometries.copy()
        while (shapely.get_type_id(parts) > POLYGON).any():
            parts = shapely.get_parts(parts)
        polygons = shapely.get_type_id(parts) == POLYGON
        parts[polygons] = unwrap(parts[polygons])
        return parts

    @cached_property
    def _polygons(self) -> NDArray[np.object_]:
        polygons = within_reach(self._parts[shapely.get_type_id(self._parts) == POLYGON])
        shapely.prepare(polygons)
        return polygons

    def _inside(self, lonlat: NDArray[np.float64]) -> NDArray[np.intp]:
        """Rows of the points that lie in a polygon."""
        if not len(self._polygons) or not len(lonlat):
            return np.empty(0, dtype=np.intp)
        points = shapely.STRtree(shapely.points(lonlat))
        return np.unique(points.query(self._polygons, predicate="intersects")[1])

    def _boundary(self, reach_km: float) -> Boundary:
        kinds = shapely.get_type_id(self._parts)
        curves = np.concatenate(
            [self._parts[(kinds == LINE) | (kinds == RING)], shapely.get_rings(self._parts[kinds == POLYGON])]
        )
        points = shapely.get_coordinates(self._parts[kinds == POINT])
        slack_m = max(SLACK * reach_km * 1000, LEAST_SLACK_M)
        start, end = _cut(_edges(curves), slack_m)
        return Boundary(
            ecef_m(np.concatenate([start, points])),
            ecef_m(np.concatenate([end, points])),
            reach_km * 1000 + slack_m,
        )


@dataclass(frozen=True)
class Zones:
    """All zones of a recipe."""

    zones: Sequence[Zone] = ()

    def hit(self, lonlat: NDArray[np.float64], *, chip_km: float) -> NDArray[np.bool_]:
        """Which chips touch a zone, or come nearer to it than its buffer, ``(n,)``.

        A chip is taken for the circle around its corners, and the zones for up to 4 % of buffer and circle wider than they are:
        none that is too near is missed.

        Args:
            lonlat: ``(n, 2)`` middles of the chips, EPSG:4326.
            chip_km: their side.
        """
        hit = np.zeros(len(lonlat), dtype=bool)
        for zone in self.zones:
            left = np.flatnonzero(~hit)
            hit[left] = zone.hit(lonlat[left], radius_km=STRETCH * chip_km / np.sqrt(2))
        return hit


def open_exclusions(exclusions: Sequence[Exclusion], *, base_dir: Path) -> Zones:
    """The zones that a recipe excludes.

    Args:
        exclusions: files and buffers.
        base_dir: the folder that relative paths start from.

    Raises:
        RegionError: a file is missing or unreadable, or holds no places.
    """
    return Zones(tuple(_open(exclusion, base_dir) for exclusion in exclusions))


def _open(exclusion: Exclusion, base_dir: Path) -> Zone:
    places = read_places(base_dir / Path(exclusion.path).expanduser())
    return Zone(source=places.source, geometries=places.geometries, buffer_km=exclusion.buffer_km)


def _edges(curves: NDArray[np.object_]) -> NDArray[np.float64]:
    """Edges of lines and rings, ``(m, 2, 2)``: longitude and latitude of both ends, the short way round."""
    lonlat, index = shapely.get_coordinates(curves, return_index=True)
    joined = index[1:] == index[:-1]
    edges = np.stack([lonlat[:-1][joined], lonlat[1:][joined]], axis=1)
    steps = edges[:, 1, 0] - edges[:, 0, 0]
    jumps = (np.abs(steps) > 180) & (np.abs(steps) < 360)
    edges[jumps, 1, 0] -= 360 * np.sign(steps[jumps])
    return edges


def _cut(edges: NDArray[np.float64], slack_m: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Edges, straight in degrees, as pieces whose chords stray from them by at most ``slack_m``; both ends, ``(k, 2)``.

    An arc of angle ``t`` on a circle of radius ``r`` rises ``r t² / 8`` above its chord: the edge itself on the Earth, and
    on its circle of latitude, which near a pole bends more.
    """
    radius = EARTH_RADIUS_KM * 1000
    dlon, dlat = np.abs(np.deg2rad(edges[:, 1] - edges[:, 0])).T
    widest = np.cos(np.deg2rad(np.abs(edges[:, :, 1]).min(axis=1)))
    crossing = edges[:, 0, 1] * edges[:, 1, 1] < 0
    widest[crossing] = 1.0
    angle = np.hypot(dlon * widest, dlat)
    pieces = np.ceil(np.sqrt(radius / (8 * slack_m)) * (angle + dlon * np.sqrt(widest))).astype(np.intp)
    pieces = np.maximum(pieces, 1)
    edge = np.repeat(np.arange(len(edges)), pieces)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    first, last = edges[edge, 0], edges[edge, 1]
    share = (step / pieces[edge])[:, None]
    share_next = ((step + 1) / pieces[edge])[:, None]
    return first + (last - first) * share, first + (last - first) * share_next


def _distance_m(
    points: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Distance of each point from its straight piece, ``(n,)`` in metres."""
    along, offset = end - start, points - start
    length2 = np.einsum("ij,ij->i", along, along)
    share = np.einsum("ij,ij->i", offset, along) / np.where(length2 > 0, length2, 1.0)
    return np.linalg.norm(offset - np.clip(share, 0, 1)[:, None] * along, axis=1)
