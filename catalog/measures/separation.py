"""How far apart the splits of a dataset lie: from each held-out sample to the nearest one that others learn from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwcat.geo.geodesy import SiteIndex

__all__ = ["describe_separation"]

# The first of two splits is measured from the second: who is held out from whom.
ORDER = ("train", "val", "test")

# Below this the nearest is found exactly; beyond, by the chord, to a part in a thousand.
EXACT_KM = 200.0
TOLERANCE = 1e-3

METHOD = f"nearest neighbour, geodesic on WGS84; beyond {EXACT_KM:g} km to {100 * TOLERANCE:g} %"


def describe_separation(
    lonlat: NDArray[np.float64], splits: NDArray[np.object_], *, width_km: float
) -> list[dict[str, Any]]:
    """The distances between each two splits, as JSON: from each sample of ``of`` to the nearest of ``to``, kilometres.

    ``num_overlapping`` counts those at the same place, or nearer than a chip is wide: their chips share ground.

    Args:
        lonlat: ``(n, 2)`` centres of the samples, EPSG:4326.
        splits: ``(n,)`` the name of each one's split.
        width_km: of a chip; 0 where neighbours touch and none overlap.
    """
    described = []
    for of, to in _pairs(splits):
        distances = _distances_km(lonlat[splits == of], SiteIndex(lonlat[splits == to]))
        described.append(
            {
                "of": of,
                "to": to,
                "num_samples": len(distances),
                "min_km": float(distances.min()),
                "median_km": float(np.median(distances)),
                "max_km": float(distances.max()),
                "num_overlapping": int(((distances < width_km) | (distances == 0)).sum()),
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


def _distances_km(lonlat: NDArray[np.float64], others: SiteIndex) -> NDArray[np.float64]:
    distances = others.nearest_km(lonlat, tolerance=TOLERANCE)
    near = np.flatnonzero(distances < EXACT_KM)
    distances[near] = others.nearest_km(lonlat[near])
    return distances
