"""Coefficients of correlation, many at once.

Shapes: N datasets, R pairs of vectors.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from scipy import stats

__all__ = ["COEFFICIENT", "METHODS", "Method", "coefficient", "coefficients", "pair_signs", "values_of"]

Method = Literal["spearman", "pearson", "kendall"]
METHODS: tuple[Method, ...] = get_args(Method)
# for people: whose coefficient it is, and its letter
COEFFICIENT: dict[Method, tuple[str, str]] = {
    "spearman": ("Spearman's rho", "rho"),
    "pearson": ("Pearson's r", "r"),
    "kendall": ("Kendall's tau-b", "tau"),
}
PAIRS_AT_ONCE = 8_000_000  # signs of pairs held at once, a byte each


def coefficient(x_N: np.ndarray, y_N: np.ndarray, *, method: Method) -> float:
    """One coefficient within -1..1; NaN where a side is constant."""
    return float(coefficients(np.atleast_2d(x_N), np.atleast_2d(y_N), method=method)[0])


def coefficients(x_RN: np.ndarray, y_RN: np.ndarray, *, method: Method) -> np.ndarray:
    """A coefficient a row, (R,), within -1..1; NaN where a side is constant. One row stands for as many as the other has.

    ``spearman`` is Pearson's correlation of mean ranks (Spearman, 1904); ``pearson`` the product moment; ``kendall`` tau-b,
    the concordant less the discordant pairs over the geometric mean of the pairs untied on either side (Kendall, 1945).
    """
    if method == "kendall":
        return _kendall(x_RN, y_RN)
    return _pearson(values_of(x_RN, method=method), values_of(y_RN, method=method))


def values_of(x_RN: np.ndarray, *, method: Method) -> np.ndarray:
    """What the product moment is taken of, along the last axis: mean ranks for ``spearman``, the values for ``pearson``."""
    values: np.ndarray = stats.rankdata(x_RN, axis=-1) if method == "spearman" else np.asarray(x_RN, dtype=np.float64)
    return values


def pair_signs(x_RN: np.ndarray) -> np.ndarray:
    """Of each pair i < j whether the second is larger (1), equal (0) or smaller (-1), (R, N (N - 1) / 2) int8."""
    first, second = np.triu_indices(x_RN.shape[-1], k=1)
    a, b = x_RN[..., first], x_RN[..., second]
    signs: np.ndarray = (b > a).view(np.int8) - (b < a).view(np.int8)
    return signs


def _pearson(x_RN: np.ndarray, y_RN: np.ndarray) -> np.ndarray:
    x, y = _centred(x_RN), _centred(y_RN)
    norm = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    r_R: np.ndarray = np.divide((x * y).sum(axis=-1), norm, out=np.full(len(norm), np.nan), where=norm > 0)
    return np.asarray(np.clip(r_R, -1, 1))


def _centred(x_RN: np.ndarray) -> np.ndarray:
    """Less its mean; exactly zero where the row is constant, which rounding of the mean would hide."""
    constant = np.ptp(x_RN, axis=-1, keepdims=True) == 0
    return np.asarray(np.where(constant, 0.0, x_RN - x_RN.mean(axis=-1, keepdims=True)))


def _kendall(x_RN: np.ndarray, y_RN: np.ndarray) -> np.ndarray:
    step = max(1, PAIRS_AT_ONCE // max(x_RN.shape[-1] * (x_RN.shape[-1] - 1) // 2, 1))
    rows = max(len(x_RN), len(y_RN))
    parts = [_tau_b(_part(x_RN, i, step), _part(y_RN, i, step)) for i in range(0, rows, step)]
    return np.concatenate(parts)


def _part(values_RN: np.ndarray, start: int, step: int) -> np.ndarray:
    return values_RN if len(values_RN) == 1 else values_RN[start : start + step]


def _tau_b(x_RN: np.ndarray, y_RN: np.ndarray) -> np.ndarray:
    x, y = pair_signs(x_RN), pair_signs(y_RN)
    score = (x * y).sum(axis=-1, dtype=np.int32)
    untied = np.count_nonzero(x, axis=-1) * np.count_nonzero(y, axis=-1)
    return np.asarray(np.divide(score, np.sqrt(untied), out=np.full(len(score), np.nan), where=untied > 0))
