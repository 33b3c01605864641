"""p values of several metrics tried on one score, corrected for their number; NaN stays, and counts for nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["benjamini_hochberg", "holm"]


def holm(p_M: Sequence[float] | np.ndarray) -> np.ndarray:
    """Values of p that hold the chance of any false finding among all metrics: the k-th smallest of m times ``m - k + 1``.

    No smaller one's is larger, and none exceeds 1. Needs no independence. Source: Holm (1979).
    """
    return _corrected(p_M, lambda ordered, m: np.maximum.accumulate(ordered * np.arange(m, 0, -1)))


def benjamini_hochberg(p_M: Sequence[float] | np.ndarray) -> np.ndarray:
    """Values of p that hold the expected share of false ones among the findings: the k-th smallest of m times ``m / k``.

    No larger one's is smaller, and none exceeds 1. Holds for independent metrics and those that go together positively.
    Source: Benjamini and Hochberg (1995).
    """
    return _corrected(p_M, lambda ordered, m: np.minimum.accumulate((ordered * m / np.arange(1, m + 1))[::-1])[::-1])


def _corrected(p_M: Sequence[float] | np.ndarray, rule: Callable[[np.ndarray, int], np.ndarray]) -> np.ndarray:
    p = np.asarray(p_M, dtype=np.float64)
    held = np.flatnonzero(~np.isnan(p))
    order = held[np.argsort(p[held], kind="stable")]
    corrected = np.full(len(p), np.nan)
    corrected[order] = np.minimum(rule(p[order], len(order)), 1)
    return corrected
