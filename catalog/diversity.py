"""How diverse a dataset is over classes: entropy, Hill numbers, evenness, from counts that add."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["describe_classes", "evenness", "hill_number", "shannon_entropy"]

ESTIMATOR = "plug-in"
VERSION = "1.0"

# Bootstrap of the confidence interval: resamples and the quantiles of a 95 % interval.
RESAMPLES = 1000
INTERVAL = (2.5, 97.5)


def shannon_entropy(counts_K: ArrayLike) -> float:
    """Shannon entropy of class counts, in nats, within ``[0, ln K]``.

    ``H = -sum(p_i ln p_i)`` with ``p_i = n_i / sum(n)``; empty classes add nothing, and no samples at all give NaN.

    Source: Shannon (1948), section 6; the continent diversity of Kaur et al. (2026): six equal shares give 1.7918.
    """
    return float(_entropies(np.atleast_2d(np.asarray(counts_K, dtype=np.float64)))[0])


def _entropies(counts_NK: NDArray[np.float64]) -> NDArray[np.float64]:
    totals = counts_NK.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = counts_NK / totals
        terms = np.where(shares > 0, shares * np.log(shares), 0.0)
    return np.where(totals[:, 0] > 0, -terms.sum(axis=1) + 0.0, np.nan)  # + 0.0: no minus zero


def hill_number(counts_K: ArrayLike, *, q: float) -> float:
    """Hill number of order ``q``, the effective number of classes, within ``[1, K]``; NaN without samples.

    ``D = (sum p_i**q) ** (1 / (1 - q))``; at ``q = 1`` its limit ``exp(H)``. Order 0 counts the classes present.

    Source: Hill (1973), Diversity and evenness.
    """
    counts = np.asarray(counts_K, dtype=np.float64)
    if not counts.sum() > 0:
        return float("nan")
    if q == 1:
        return float(np.exp(shannon_entropy(counts)))
    shares = counts[counts > 0] / counts.sum()
    return float((shares**q).sum() ** (1 / (1 - q)))


def evenness(counts_K: ArrayLike) -> float:
    """Pielou's evenness ``H / ln S`` over the ``S`` classes present, within ``[0, 1]``; NaN for fewer than two.

    Source: Pielou (1966).
    """
    present = int((np.asarray(counts_K) > 0).sum())
    return shannon_entropy(counts_K) / float(np.log(present)) if present > 1 else float("nan")


def describe_classes(counts: Mapping[str, int], *, num_samples: int, layer: str | None) -> dict[str, Any]:
    """The diversity of one layer, ready for ``stats.json``; NaN is ``None`` there.

    Args:
        counts: samples by class; samples without a class are in none of them.
        num_samples: all samples, those without a class included.
        layer: where the classes come from.
    """
    counts = dict(sorted(counts.items()))
    values = np.array(list(counts.values()), dtype=np.float64)
    low, high = _interval(values)
    numbers = {
        "shannon": shannon_entropy(values) if counts else float("nan"),
        "ci_low": low,
        "ci_high": high,
        "hill_0": hill_number(values, q=0),
        "hill_1": hill_number(values, q=1),
        "hill_2": hill_number(values, q=2),
        "evenness": evenness(values),
    }
    return {
        **{name: None if np.isnan(number) else number for name, number in numbers.items()},
        "num_classes": len(counts),
        "num_samples": num_samples,
        "num_labelled": int(values.sum()),
        "counts": counts,
        "unit": "nat",
        "estimator": ESTIMATOR,
        "interval": f"95 %, multinomial bootstrap of {RESAMPLES}",
        "version": VERSION,
        "layer": layer,
    }


def _interval(counts_K: NDArray[np.float64]) -> tuple[float, float]:
    """Percentile bootstrap of the entropy; the seed is fixed, so that the same counts have the same interval."""
    total = int(counts_K.sum())
    if total == 0:
        return float("nan"), float("nan")
    resamples = np.random.default_rng(0).multinomial(total, counts_K / total, size=RESAMPLES)
    low, high = np.percentile(_entropies(resamples.astype(np.float64)), INTERVAL)
    return float(low), float(high)
