"""How diverse a dataset is over classes: entropy, Hill numbers, evenness, from counts that add."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwcat.entropy import entropies, evenness, hill_number, shannon_entropy

__all__ = ["describe_classes", "evenness", "hill_number", "shannon_entropy"]

ESTIMATOR = "plug-in"
VERSION = "1.0"

# Bootstrap of the confidence interval: resamples and the quantiles of a 95 % interval.
RESAMPLES = 1000
INTERVAL = (2.5, 97.5)


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
    low, high = np.percentile(entropies(resamples.astype(np.float64)), INTERVAL)
    return float(low), float(high)
