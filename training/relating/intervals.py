"""How far a coefficient could move: bootstrap intervals over datasets, over datasets and seeds, and Fisher's.

Shapes: N datasets, R resamples, S rows of the dataset that has most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from training.relating.estimates import Method, coefficients

__all__ = ["RESAMPLES", "Interval", "bca", "datasets_and_seeds", "fisher", "percentile", "resampled", "spread_of_z"]

RESAMPLES = 49_999  # bounds of ten datasets then move by .01 to .03 from draw to draw
LEVEL = 0.95
AT_ONCE = 4_000_000  # resampled values held at once


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A 95 % interval of a coefficient; NaN where there is none.

    Attributes:
        low: lower bound.
        high: upper bound.
        resamples: bootstrap resamples it rests on; 0 of a formula.
        degenerate: resamples left out, in which one side was constant.
    """

    low: float
    high: float
    resamples: int = 0
    degenerate: int = 0


NONE = Interval(low=float("nan"), high=float("nan"))


def resampled(
    x_N: np.ndarray, y_N: np.ndarray, *, method: Method, rng: np.random.Generator, resamples: int = RESAMPLES
) -> np.ndarray:
    """The coefficient of each of R tables of N datasets drawn with replacement, (R,); NaN where a side is constant."""
    if method == "kendall":
        return _resampled_tau(x_N, y_N, rng=rng, resamples=resamples)
    step, parts = max(1, AT_ONCE // len(x_N)), []
    for start in range(0, resamples, step):
        draws = rng.integers(len(x_N), size=(min(step, resamples - start), len(x_N)))
        parts.append(coefficients(x_N[draws], y_N[draws], method=method))
    return np.concatenate(parts)


def _resampled_tau(x_N: np.ndarray, y_N: np.ndarray, *, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """Kendall's tau-b of resamples from how often each dataset is in them: sums over pairs are quadratic forms of that."""
    x_NN, y_NN = (np.sign(side[:, None] - side) for side in (x_N, y_N))
    step, parts = max(1, AT_ONCE // len(x_N)), []
    for start in range(0, resamples, step):
        times_RN = rng.multinomial(len(x_N), np.full(len(x_N), 1 / len(x_N)), size=min(step, resamples - start)).astype(
            float
        )
        score, x, y = ((times_RN @ form * times_RN).sum(axis=1) for form in (x_NN * y_NN, np.abs(x_NN), np.abs(y_NN)))
        parts.append(np.divide(score, np.sqrt(x * y), out=np.full(len(score), np.nan), where=x * y > 0))
    return np.concatenate(parts)


def percentile(resampled_R: np.ndarray) -> Interval:
    """The middle 95 % of resampled coefficients; those that are NaN are left out and counted.

    Source: Efron and Tibshirani (1993), chapter 13.
    """
    return _quantiles(resampled_R, np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2]))


def bca(resampled_R: np.ndarray, *, estimate: float, without_N: np.ndarray) -> Interval:
    """The bias-corrected and accelerated interval.

    The levels of :func:`percentile` are moved by ``z0``, the normal quantile of the share of resamples below the estimate (half
    of the equal ones), and ``a = sum(d^3) / (6 sum(d^2)^1.5)``, where d is the mean of the leave-one-out coefficients less
    each. A coefficient of exactly -1 or 1 has no interval: every resample has it too, which says nothing. Nor has one that is
    undefined without one of the datasets (all others are equal: resamples tell how often that one is drawn, and nothing
    else), nor where ties leave both bounds at the same value.

    Args:
        resampled_R: as :func:`resampled` gives them.
        estimate: the coefficient of the datasets.
        without_N: the coefficient without each dataset; NaN where it is undefined.

    Source: Efron (1987).
    """
    held = resampled_R[~np.isnan(resampled_R)]
    none = Interval(low=np.nan, high=np.nan, resamples=len(held), degenerate=len(resampled_R) - len(held))
    if not len(held) or np.isnan(estimate) or abs(estimate) >= 1 - 1e-12 or np.isnan(without_N).any():
        return none
    share = float(((held < estimate - 1e-12).mean() + (held <= estimate + 1e-12).mean()) / 2)
    moved = stats.norm.ppf(np.clip(share, 0.5 / len(held), 1 - 0.5 / len(held)))
    z = moved + stats.norm.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    found = _quantiles(resampled_R, stats.norm.cdf(moved + z / (1 - _acceleration(without_N) * z)))
    return found if found.high - found.low > 1e-9 else none


def fisher(estimate: float, *, n: int, method: Method) -> Interval:
    """The interval of a formula: Fisher's z of the coefficient plus and minus 1.96 of its spread, turned back.

    Meant for normal data (Pearson) and close for monotone relations of them. None where the coefficient is -1 or 1.
    """
    spread = spread_of_z(estimate, n=n, method=method)
    if not np.isfinite(spread) or abs(estimate) >= 1:
        return NONE
    half = stats.norm.ppf((1 + LEVEL) / 2) * spread
    low, high = np.tanh(np.arctanh(estimate) + np.array([-half, half]))
    return Interval(low=float(low), high=float(high))


def spread_of_z(coefficient: float, *, n: int, method: Method) -> float:
    """The standard deviation of Fisher's z, ``atanh(coefficient)``, of n datasets; NaN of too few.

    ``1 / sqrt(n - 3)`` for Pearson (Fisher, 1921), ``sqrt((1 + rho^2 / 2) / (n - 3))`` for Spearman (Bonett and Wright,
    2000), ``sqrt(0.437 / (n - 4))`` for Kendall (Fieller, Hartley and Pearson, 1957).
    """
    if n <= (4 if method == "kendall" else 3):
        return float("nan")
    variance = {"pearson": 1.0, "spearman": 1 + coefficient**2 / 2, "kendall": 0.437}[method]
    return float(np.sqrt(variance / (n - (4 if method == "kendall" else 3))))


def datasets_and_seeds(
    x_M: np.ndarray,
    y_M: np.ndarray,
    *,
    members_NS: np.ndarray,
    counts_N: Sequence[int] | np.ndarray,
    method: Method,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Interval:
    """The percentile interval over datasets and seeds: N datasets are drawn, and of each as many of its rows as it has.

    Datasets are drawn with replacement, and so are the rows within each drawn one, on their own for each time it is
    drawn; rows are averaged before the coefficient is taken. With one row a dataset this is :func:`percentile`. What seeds do
    is in the averages already and comes in a second time, so that the interval errs towards 0.

    Args:
        x_M: the measure of each row.
        y_M: the score of each row.
        members_NS: the rows of each dataset.
        counts_N: how many of them it has.
        method: which coefficient.
        rng: what is drawn from.
        resamples: how often.
    """
    num, most = members_NS.shape
    step, parts, counts_N = max(1, AT_ONCE // (num * most)), [], np.asarray(counts_N)
    for start in range(0, resamples, step):
        units = rng.integers(num, size=(min(step, resamples - start), num))
        held = counts_N[units][..., None]
        picked = np.floor(rng.random((*units.shape, most)) * held).astype(np.int64)
        rows = members_NS[units[..., None], picked]
        weight = (np.arange(most) < held) / held
        parts.append(coefficients(_means(x_M[rows], weight), _means(y_M[rows], weight), method=method))
    return percentile(np.concatenate(parts))


def _means(values_RNS: np.ndarray, weight_RNS: np.ndarray) -> np.ndarray:
    """Weighted means over the last axis; that of equal values is exactly the value, so that ties stay ties."""
    first = values_RNS[..., :1]
    return np.asarray(first[..., 0] + ((values_RNS - first) * weight_RNS).sum(axis=-1))


def _quantiles(resampled_R: np.ndarray, levels: np.ndarray) -> Interval:
    held = resampled_R[~np.isnan(resampled_R)]
    degenerate = len(resampled_R) - len(held)
    if not len(held):
        return Interval(low=np.nan, high=np.nan, resamples=0, degenerate=degenerate)
    low, high = np.quantile(held, levels)
    return Interval(low=float(low), high=float(high), resamples=len(held), degenerate=degenerate)


def _acceleration(without_N: np.ndarray) -> float:
    away = without_N.mean() - without_N
    scale = float((away**2).sum()) ** 1.5
    return float((away**3).sum()) / (6 * scale) if scale > 0 else 0.0
