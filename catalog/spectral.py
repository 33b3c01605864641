"""Spectral diversity: the entropy of each sample's reflectance, and its mean over samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["describe_spectral", "spectral_entropy"]

ESTIMATOR = "band-histogram"
VERSION = "1.0"
BINS = 256

# DN of reflectance 1.0, where the last bin ends; brighter pixels are counted in it.
FULL_SCALE_DN = 10_000

# Bin of every possible DN.
_BIN_OF_DN = np.minimum(np.arange(2**16) * BINS // FULL_SCALE_DN, BINS - 1).astype(np.int64)


def spectral_entropy(chips_NTBHW: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Spectral entropy of each chip, nats, ``(n,)`` within ``[0, ln 256]``; NaN for a chip without data.

    Per band, the histogram of harmonised surface reflectance over [0, 1] in 256 equal bins, its Shannon entropy, and the
    mean over bands. Pixels without data (0) are not counted; dates of a chip share its histograms.

    Args:
        chips_NTBHW: DN, reflectance times 10,000.

    Source: the spectral diversity of Kaur et al. (2026), *Pretrain Where?*, is the mean of a per-sample spectral entropy.
    Its bins are not published; these are ours.
    """
    bands = chips_NTBHW.shape[2]
    first_bin = (np.arange(bands) * BINS)[None, :, None, None]
    entropies = np.empty(len(chips_NTBHW))
    for number, chip_TBHW in enumerate(chips_NTBHW):
        bins = (_BIN_OF_DN[chip_TBHW] + first_bin)[chip_TBHW > 0]
        entropies[number] = _mean_entropy(np.bincount(bins, minlength=bands * BINS).reshape(bands, BINS))
    return entropies


def _mean_entropy(counts_BK: NDArray[np.int64]) -> float:
    totals = counts_BK.sum(axis=1, keepdims=True)
    if not totals.any():
        return math.nan
    shares = counts_BK / np.maximum(totals, 1)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return float(-(shares * logs).sum(axis=1)[totals[:, 0] > 0].mean())


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
