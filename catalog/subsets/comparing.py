"""Two datasets or subsets side by side: how many samples they share, how diverse they are, how far apart they lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from catalog.querying.queryables import LAYERS
from catalog.subsets.sets import overlap

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["compare", "jensen_shannon", "total_variation"]

# Shares of a distribution of distances that are told, per cent.
PERCENTILES = (5, 50, 95)
NEAR_KM = 10.0
# By how much of itself a nearest distance may be too large: exact ones are slow where all sites are far.
TOLERANCE = 0.001


def compare(a: Subset, b: Subset) -> dict[str, Any]:
    """Counts, diversity, classes and distances of two subsets, ready for JSON.

    Keys: ``samples`` (of each, shared, and of one alone), one a layer with the ``statistics`` of both and the distance between
    their classes, ``spectral`` with the statistics of both, and ``distance_km`` from the samples of each to the nearest of the
    other, geodesic.

    Raises:
        CatalogError: both have a collection of the same name, and these are not the same.
    """
    shared = overlap(a, b)
    of_a, of_b = a.stats(), b.stats()
    return {
        "samples": {"a": len(a), "b": len(b), "shared": shared, "only_a": len(a) - shared, "only_b": len(b) - shared},
        **{layer: _layer(of_a[layer], of_b[layer]) for layer in LAYERS if layer in of_a and layer in of_b},
        "spectral": {"a": of_a["spectral"], "b": of_b["spectral"]},
        "distance_km": {"from_a_to_b": _distances(a, b), "from_b_to_a": _distances(b, a)},
    }


def _layer(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    classes = sorted({*a["counts"], *b["counts"]})
    shares = [_shares(of["counts"], classes) for of in (a, b)]
    comparable = all(total > 0 for total in (a["num_labelled"], b["num_labelled"]))
    return {
        "a": a,
        "b": b,
        "only_a": [name for name in classes if name not in b["counts"]],
        "only_b": [name for name in classes if name not in a["counts"]],
        "total_variation": total_variation(*shares) if comparable else None,
        "jensen_shannon": jensen_shannon(*shares) if comparable else None,
        "unit": "nat",
    }


def _shares(counts: Mapping[str, int], classes: list[str]) -> NDArray[np.float64]:
    values = np.array([counts.get(name, 0) for name in classes], dtype=np.float64)
    return values / max(1.0, values.sum())


def total_variation(p_K: NDArray[np.float64], q_K: NDArray[np.float64]) -> float:
    """Total variation distance of two distributions, within [0, 1]: the share of samples that would have to change class.

    ``TV = sum(|p_i - q_i|) / 2``.
    """
    return float(np.abs(p_K - q_K).sum() / 2)


def jensen_shannon(p_K: NDArray[np.float64], q_K: NDArray[np.float64]) -> float:
    """Jensen-Shannon divergence of two distributions in nats, within [0, ln 2]; 0 where they are the same.

    ``JS = H((p + q) / 2) - (H(p) + H(q)) / 2``. Source: Lin (1991), "Divergence measures based on the Shannon entropy".
    """
    from pwcat.entropy import shannon_entropy

    return max(0.0, shannon_entropy((p_K + q_K) / 2) - (shannon_entropy(p_K) + shannon_entropy(q_K)) / 2)


def _distances(a: Subset, b: Subset) -> dict[str, Any] | None:
    """From the samples of ``a`` to the nearest of ``b``: percentiles, the mean, and the share nearer than 10 km."""
    from pwcat.geo.geodesy import SiteIndex

    if not len(a) or not len(b):
        return None
    nearest = SiteIndex(b.lonlat).nearest_km(a.lonlat, tolerance=TOLERANCE)
    told = {
        f"p{share}": float(value) for share, value in zip(PERCENTILES, np.percentile(nearest, PERCENTILES), strict=True)
    }
    return {**told, "mean": float(nearest.mean()), "share_nearer_than_10_km": float((nearest < NEAR_KM).mean())}
