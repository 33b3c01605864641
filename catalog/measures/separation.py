"""How far apart the splits of a dataset lie: from each held-out sample to the nearest one that others learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.geo.geodesy import SiteIndex

__all__ = ["describe_separation"]

# The first of two splits is measured from the second: who is held out from whom.
ORDER = ("train", "val", "test")

# Below this the nearest is found exactly; beyond, by the chord, to a part in a thousand.
EXACT_KM = 200.0
TOLERANCE = 1e-3

# Outlines may share ground up to a diagonal apart, which is 1.41 widths, and a grid's metres differ from those on the ground.
REACH = 1.5
# Of an outline: neighbours that touch overlap by less, for edges that are straight in a grid are drawn straight in degrees.
LEAST_SHARE = 1e-3

Rows = NDArray[np.int64]
Outlines = Callable[[Rows], NDArray[np.object_]]

METHOD = f"nearest neighbour, geodesic on WGS84; beyond {EXACT_KM:g} km to {100 * TOLERANCE:g} %"


def describe_separation(
    lonlat: NDArray[np.float64], splits: NDArray[np.object_], *, width_km: float, outlines: Outlines | None = None
) -> list[dict[str, Any]]:
    """The distances between each two splits, as JSON: from each sample of ``of`` to the nearest of ``to``, kilometres.

    ``num_overlapping`` counts those of ``of`` whose chips share ground with one of ``to``, by their outlines; without these
    those at the same place, or nearer than a chip is wide, which leaves out chips that share a corner.

    Args:
        lonlat: ``(n, 2)`` centres of the samples, EPSG:4326.
        splits: ``(n,)`` the name of each one's split.
        width_km: of a chip; 0 where neighbours touch and none overlap.
        outlines: gives the shapes of some samples, ascending, EPSG:4326; asked for those alone that are near enough.
    """
    described = []
    for of, to in _pairs(splits):
        mine, others = np.flatnonzero(splits == of), np.flatnonzero(splits == to)
        distances = _distances_km(lonlat[mine], SiteIndex(lonlat[others]))
        shared = (distances == 0) | (distances < width_km)
        if outlines is not None and (distances < REACH * width_km).any():
            near = np.flatnonzero(distances < REACH * width_km)
            index = SiteIndex(lonlat[mine[near]])
            beside = others[index.nearest_km(lonlat[others], tolerance=TOLERANCE) < REACH * width_km]
            shared[near] = _share_ground(outlines(mine[near]), outlines(beside), otherwise=shared[near])
        described.append(
            {
                "of": of,
                "to": to,
                "num_samples": len(distances),
                "min_km": float(distances.min()),
                "median_km": float(np.median(distances)),
                "max_km": float(distances.max()),
                "num_overlapping": int(shared.sum()),
                "chip_km": width_km,
                "unit": "km",
                "estimator": METHOD,
            }
        )
    return described


def _pairs(splits: NDArray[np.object_]) -> Iterator[tuple[str, str]]:
    """Each two splits that have samples, the one that is held out first."""
    present = sorted(set(splits), key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), str(name)))
    for number, of in enumerate(present):
        for to in present[:number]:
            yield of, to


def _share_ground(
    outlines: NDArray[np.object_], others: NDArray[np.object_], *, otherwise: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which of some outlines overlap any of the others; ``otherwise`` where they have no area."""
    areas = shapely.area(outlines)
    one, other = shapely.STRtree(others).query(outlines, predicate="intersects")
    common = shapely.area(shapely.intersection(outlines[one], others[other]))
    shared = np.zeros(len(outlines), dtype=bool)
    shared[one[common > LEAST_SHARE * areas[one]]] = True
    return np.where(areas > 0, shared, otherwise)


def _distances_km(lonlat: NDArray[np.float64], others: SiteIndex) -> NDArray[np.float64]:
    distances = others.nearest_km(lonlat, tolerance=TOLERANCE)
    near = np.flatnonzero(distances < EXACT_KM)
    distances[near] = others.nearest_km(lonlat[near])
    return distances
