"""Geographic dispersion: how far samples lie from each other, against samples drawn at random on the same ground."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import gammaln

from pwcat.geo.geodesy import EARTH_RADIUS_KM, ecef_m, geodesic_km

__all__ = ["Footprint", "describe_dispersion", "footprint_of", "nearest_neighbour_km", "uniform_globe_km", "uniform_km"]

ESTIMATOR = "nearest neighbour"
VERSION = "1.0"

# The footprint is made of cells of equal height and nearly equal area: bands of latitude, each cut into as many cells
# as fit its middle; 5° are 556 km. They are the smallest of these that hold so many sites each on average, for small
# cells of few sites would be empty by chance; at 180° the footprint is the globe.
CELL_DEG = (1, 2, 5, 10, 20, 60, 180)
SITES_PER_CELL = 8

# Of more sites than this the neighbours of so many are looked for, among all: the mean is then sure to .1 %. Of fewer
# sites than the other, the random ones are drawn several times.
MEASURED = 200_000
DRAWN_AT_LEAST = 20_000

# Sites from which on threads are worth their start.
MANY = 20_000

# Below this chord an arc of the sphere over it is the geodesic to 1e-6 of itself.
SHORT_KM = 200.0


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """The ground that sites lie on, as cells.

    Attributes:
        cell_deg: height of the cells, degrees.
        south: sine of each cell's southern edge.
        north: of its northern edge.
        west: longitude of its western edge, degrees.
        width: degrees.
    """

    cell_deg: int
    south: NDArray[np.float64]
    north: NDArray[np.float64]
    west: NDArray[np.float64]
    width: NDArray[np.float64]

    @property
    def areas_km2(self) -> NDArray[np.float64]:
        """On the sphere of the ellipsoid's area."""
        return np.asarray(EARTH_RADIUS_KM**2 * np.deg2rad(self.width) * (self.north - self.south))


def describe_dispersion(lonlat: NDArray[np.float64], *, num_samples: int) -> dict[str, Any]:
    """Mean distance to the nearest neighbour, ready for ``stats.json``, beside what it would be at random.

    ``ratio`` is the index of Clark and Evans (1954): below 1 sites are clustered, near 1 they lie as at random, and
    above 1 they keep apart. Samples of one place, to a centimetre, are one site.

    Args:
        lonlat: ``(n, 2)`` EPSG:4326, of the samples whose place is known.
        num_samples: all samples.
    """
    sites = _different(np.asarray(lonlat, dtype=np.float64))
    footprint = footprint_of(sites)
    n = len(sites)
    distances = _some_distances(sites)
    numbers = _means(distances)
    if n > 1:
        expected, globe = uniform_km(footprint, n), uniform_globe_km(n)
        numbers |= {"uniform_km": expected, "ratio": numbers["mean_km"] / expected}
        numbers |= {"globe_km": globe, "globe_ratio": numbers["mean_km"] / globe}
    return {
        **{name: numbers.get(name) for name in _NUMBERS},
        "num_samples": num_samples,
        "num_sites": n,
        "num_measured": len(distances),
        "footprint_cells": len(footprint.west),
        "footprint_cell_deg": footprint.cell_deg,
        "footprint_km2": float(footprint.areas_km2.sum()),
        "unit": "km",
        "estimator": ESTIMATOR,
        "reference": "uniform by area on the cells that hold sites; globe: on the whole sphere",
        "interval": "95 %, normal, distances taken for independent",
        "version": VERSION,
        "layer": None,
    }


_NUMBERS = (
    "mean_km", "ci_low", "ci_high", "median_km", "uniform_km", "ratio", "globe_km", "globe_ratio",
)  # fmt: skip


def _different(lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each place once, in order of first appearance."""
    lon, lat = (np.rint((lonlat[:, axis] + offset) * 1e7).astype(np.int64) for axis, offset in ((0, 180.0), (1, 90.0)))
    return np.asarray(lonlat[~pd.Series(lon << 31 | lat).duplicated().to_numpy()])


def _means(distances_N: NDArray[np.float64]) -> dict[str, float]:
    n = len(distances_N)
    if n < 2:
        return {}
    mean, half = float(distances_N.mean()), 1.96 * float(distances_N.std(ddof=1)) / math.sqrt(n)
    return {
        "mean_km": mean,
        "ci_low": mean - half,
        "ci_high": mean + half,
        "median_km": float(np.median(distances_N)),
    }


def _some_distances(sites: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances of all sites to their nearest, or of a fixed choice where they are very many."""
    if len(sites) <= MEASURED:
        return nearest_neighbour_km(sites)
    return nearest_neighbour_km(
        sites, rows=np.sort(np.random.default_rng(0).choice(len(sites), MEASURED, replace=False))
    )


def nearest_neighbour_km(lonlat: NDArray[np.float64], *, rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """Geodesic distance of each site to the nearest other, ``(n,)`` kilometres on WGS84; NaN where there is no other.

    The nearest is found by the chord through the Earth, which picks another site than the geodesic only where the two
    are as far to a part in a thousand.

    Args:
        lonlat: ``(n, 2)`` EPSG:4326.
        rows: of which alone it is wanted.
    """
    rows = np.arange(len(lonlat)) if rows is None else rows
    if len(lonlat) < 2:
        return np.full(len(rows), np.nan)
    points = ecef_m(lonlat)
    tree = cKDTree(points, balanced_tree=False, compact_nodes=False)
    chords, sites = tree.query(points[rows], k=2, workers=-1 if len(rows) > MANY else 1)
    other = np.where(sites[:, 1] == rows, sites[:, 0], sites[:, 1])
    distances = _arcs_km(chords[:, 1] / 1000)
    far = np.flatnonzero(distances > SHORT_KM)
    distances[far] = geodesic_km(lonlat[rows[far]], lonlat[other[far]])
    return distances


def _arcs_km(chords_km: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(chords_km / (2 * EARTH_RADIUS_KM), 1)))


def uniform_globe_km(n: int) -> float:
    """Mean distance to the nearest neighbour of ``n`` sites uniform on the sphere, at least two: a closed form.

    No other of ``n - 1`` lies within the angle ``t`` with probability ``((1 + cos t) / 2)**(n - 1)``; its integral
    over t.
    """
    return EARTH_RADIUS_KM * math.sqrt(math.pi) * math.exp(gammaln(n - 0.5) - gammaln(n))


def uniform_km(footprint: Footprint, n: int) -> float:
    """Mean distance to the nearest neighbour of ``n`` sites uniform by area on a footprint, at least two.

    Drawn with a fixed seed, more than once where they are few.

    Args:
        footprint: of some sites.
        n: how many are drawn.
    """
    if len(footprint.west) == 1 and footprint.cell_deg == CELL_DEG[-1]:
        return uniform_globe_km(n)
    areas = footprint.areas_km2
    rng = np.random.default_rng(0)
    times = math.ceil(DRAWN_AT_LEAST / n) if n < DRAWN_AT_LEAST else 1
    means = []
    for _ in range(min(times, 500)):
        chosen = rng.choice(len(areas), size=n, p=areas / areas.sum())
        sine = footprint.south[chosen] + rng.random(n) * (footprint.north - footprint.south)[chosen]
        lon = footprint.west[chosen] + rng.random(n) * footprint.width[chosen]
        drawn = np.column_stack([lon, np.rad2deg(np.arcsin(np.clip(sine, -1, 1)))])
        means.append(float(_some_distances(drawn).mean()))
    return float(np.mean(means))


def footprint_of(lonlat: NDArray[np.float64]) -> Footprint:
    """The cells that hold sites: the smallest cells of which those that hold any hold eight on average.

    Args:
        lonlat: ``(n, 2)`` EPSG:4326.
    """
    for cell_deg in CELL_DEG:
        cells = np.unique(_cell_of(lonlat, cell_deg))
        if len(lonlat) >= SITES_PER_CELL * len(cells):
            break
    return _footprint(cells, cell_deg)


def _cell_of(lonlat: NDArray[np.float64], cell_deg: int) -> NDArray[np.int64]:
    """Number of each site's cell, ``(n,)``, counted from the south and in each band from 180° west."""
    per_band = _cells_per_band(cell_deg)
    band = np.clip(np.floor((lonlat[:, 1] + 90) / cell_deg), 0, len(per_band) - 1).astype(np.int64)
    column = np.floor((lonlat[:, 0] + 180) % 360 / 360 * per_band[band]).astype(np.int64)
    return np.asarray(_first_cells(per_band)[band] + np.minimum(column, per_band[band] - 1))


def _cells_per_band(cell_deg: int) -> NDArray[np.int64]:
    bands = 180 // cell_deg
    if bands == 1:
        return np.ones(1, dtype=np.int64)
    middles = np.deg2rad(-90 + cell_deg * (np.arange(bands) + 0.5))
    return np.maximum(1, np.rint(360 / cell_deg * np.cos(middles))).astype(np.int64)


def _first_cells(per_band: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(per_band)[:-1]])


def _footprint(cells: NDArray[np.int64], cell_deg: int) -> Footprint:
    per_band = _cells_per_band(cell_deg)
    first = _first_cells(per_band)
    band = np.searchsorted(first, cells, side="right") - 1
    width = 360 / per_band[band]
    edges = np.sin(np.deg2rad(-90.0 + cell_deg * np.arange(len(per_band) + 1)))
    west = -180 + (cells - first[band]) * width
    return Footprint(cell_deg=cell_deg, south=edges[band], north=edges[band + 1], west=west, width=width)
