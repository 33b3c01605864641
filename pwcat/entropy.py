"""Entropies in nats: of class counts, and of a chip's reflectance."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["BINS", "entropies", "evenness", "hill_number", "shannon_entropy", "spectral_entropy"]

BINS = 256

# DN of reflectance 1.0, where the last bin ends; brighter pixels are counted in it.
FULL_SCALE_DN = 10_000

# Bin of every possible DN.
_BIN_OF_DN = np.minimum(np.arange(2**16) * BINS // FULL_SCALE_DN, BINS - 1).astype(np.int64)


def shannon_entropy(counts_K: ArrayLike) -> float:
    """Shannon entropy of class counts, in nats, within ``[0, ln K]``.

    ``H = -sum(p_i ln p_i)`` with ``p_i = n_i / sum(n)``; empty classes add nothing, and no samples at all give NaN.

    Source: Shannon (1948), section 6; the continent diversity of Kaur et al. (2026): six equal shares give 1.7918.
    """
    return float(entropies(np.atleast_2d(np.asarray(counts_K, dtype=np.float64)))[0])


def entropies(counts_NK: NDArray[np.float64]) -> NDArray[np.float64]:
    """:func:`shannon_entropy` of each row of counts, ``(n,)``."""
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
    found = np.empty(len(chips_NTBHW))
    for number, chip_TBHW in enumerate(chips_NTBHW):
        bins = (_BIN_OF_DN[chip_TBHW] + first_bin)[chip_TBHW > 0]
        found[number] = _mean_entropy(np.bincount(bins, minlength=bands * BINS).reshape(bands, BINS))
    return found


def _mean_entropy(counts_BK: NDArray[np.int64]) -> float:
    totals = counts_BK.sum(axis=1, keepdims=True)
    if not totals.any():
        return math.nan
    shares = counts_BK / np.maximum(totals, 1)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return float(-(shares * logs).sum(axis=1)[totals[:, 0] > 0].mean())
