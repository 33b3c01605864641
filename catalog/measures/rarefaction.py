"""Diversity at a given number of samples: what a smaller draw from the same dataset would be expected to show.

Entropy and classes grow with the samples that are counted, so that datasets of different size compare only at one
size. The expectation over all draws of ``m`` samples without replacement has a closed form; no draw is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pwcat.errors import CatalogError

__all__ = ["SIZES", "Rarefied", "rarefy"]

# Sizes that statistics are kept at, as far as a dataset reaches: the same for all, so that any two compare.
SIZES = (100, 1_000, 10_000, 100_000)

# A class's count in a draw is summed over so many standard deviations around its mean: what is left out is below 1e-20.
REACH = 10


@dataclass(frozen=True, kw_only=True)
class Rarefied:
    """What draws of ``num_samples`` are expected to show.

    Attributes:
        num_samples: size of the draws, of samples that have a class.
        shannon: entropy of the expected frequencies of frequencies, nats.
        hill_0: classes.
        hill_1: exponential of ``shannon``.
        hill_2: inverse of the expected sum of squared shares.
    """

    num_samples: int
    shannon: float
    hill_0: float
    hill_1: float
    hill_2: float


def rarefy(counts_K: ArrayLike, num_samples: int) -> Rarefied:
    """The expected diversity of ``num_samples`` drawn without replacement.

    The number ``k`` that a draw holds of a class of ``n`` in ``N`` is hypergeometric. Of it, over classes: the
    probability that it is not 0 adds up to the classes; the mean of ``-k/m ln(k/m)`` to the entropy; the mean of
    ``(k/m)**2`` to the concentration. At ``m = N`` they are the plug-in values.

    Args:
        counts_K: samples by class.
        num_samples: size of the draws, at least one.

    Raises:
        CatalogError: there are fewer samples than that.

    Source: Hurlbert (1971) for classes; Chao et al. (2014), Rarefaction and extrapolation with Hill numbers, for
    orders 1, 2.
    """
    counts = np.asarray(counts_K, dtype=np.int64)
    total = int(counts.sum())
    if not 1 <= num_samples <= total:
        raise CatalogError(f"{total} samples with a class cannot be rarefied to {num_samples}: ask for 1 to {total}")
    sizes, how_many = np.unique(counts[counts > 0], return_counts=True)
    terms = np.array([_expected(int(n), total, num_samples) for n in sizes])
    classes, shannon, concentration = how_many @ terms
    return Rarefied(
        num_samples=num_samples,
        shannon=max(0.0, float(shannon)),
        hill_0=float(classes),
        hill_1=math.exp(max(0.0, shannon)),
        hill_2=1 / float(concentration),
    )


def _expected(n: int, total: int, m: int) -> tuple[float, float, float]:
    """Of a class of ``n``: that it is drawn at all, and the means of ``-k/m ln(k/m)`` and ``(k/m)**2``."""
    mean = m * n / total
    variance = mean * (1 - n / total) * (total - m) / max(1, total - 1)
    reach = REACH * math.sqrt(variance) + 3 * REACH
    first, last = max(0, m - (total - n), math.floor(mean - reach)), min(n, m, math.ceil(mean + reach))
    k = np.arange(first, last + 1, dtype=np.float64)
    logs = _log_choose(n, k) + _log_choose(total - n, m - k) - _log_choose(total, np.float64(m))
    chance, share = np.exp(logs), k / m
    absent = (
        math.exp(_log_choose(total - n, np.float64(m)) - _log_choose(total, np.float64(m))) if m <= total - n else 0.0
    )
    spread = -share * np.log(np.where(share > 0, share, 1.0))
    return 1 - absent, float(chance @ spread), (variance + mean**2) / m**2


def _log_choose(n: int, k: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    from scipy.special import gammaln

    return np.asarray(gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0))
