"""Spectral diversity: the entropy of each sample's reflectance, and its mean over samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pwcat.entropy import BINS, spectral_entropy

__all__ = ["describe_spectral", "spectral_entropy"]

ESTIMATOR = "band-histogram"
VERSION = "1.0"


def describe_spectral(entropies_N: ArrayLike) -> dict[str, Any]:
    """Mean spectral entropy, ready for ``stats.json``; its sums are kept, and add over datasets."""
    values = np.asarray(entropies_N, dtype=np.float64)
    values = values[~np.isnan(values)]
    return from_sums({"count": len(values), "sum": float(values.sum()), "sum_of_squares": float((values**2).sum())})


def from_sums(sums: Mapping[str, float]) -> dict[str, Any]:
    """The same from sums: count, sum, and sum of squares of the samples' entropies."""
    count = int(sums["count"])
    mean = sums["sum"] / count if count else math.nan
    variance = max(0.0, sums["sum_of_squares"] - count * mean**2) / (count - 1) if count > 1 else math.nan
    half = 1.96 * math.sqrt(variance / count) if count > 1 else math.nan
    numbers = {"mean": mean, "ci_low": mean - half, "ci_high": mean + half, "standard_deviation": math.sqrt(variance)}
    return {
        **{name: None if math.isnan(number) else number for name, number in numbers.items()},
        **dict(sums),
        "num_samples": count,
        "unit": "nat",
        "estimator": ESTIMATOR,
        "bins": BINS,
        "interval": "95 %, normal",
        "version": VERSION,
        "layer": "surface reflectance, [0, 1]",
    }
