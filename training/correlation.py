"""Does diversity go with scores? Rank correlation over datasets, with exact or asymptotic p and a bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from pwcat.errors import TrainingError

__all__ = ["Correlation", "correlate", "correlate_table", "read_table", "spearman"]

EXACT_UP_TO = 9  # 9! = 362,880 orders are quickly gone through
RESAMPLES = 2000
TOLERANCE = 1e-9  # two orders of equal |rho| must count as equal whatever the rounding


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Spearman's rank correlation of two columns.

    Attributes:
        by: name of the measure related to the score.
        rho: within -1..1; NaN where one side is constant.
        p: two-sided probability of an |rho| at least as large without any relation.
        method: "exact" goes through every order; "t" is scipy's approximation.
        ci_low: lower bound of the 95 % percentile bootstrap interval over datasets.
        ci_high: upper bound.
        resamples: bootstrap resamples in which both sides varied, out of 2000; the others have no rho.
        n: datasets.
        tied: datasets whose score another one has too. Which of them has which value of the measure changes no rank, so that
            rho and p stand where that is not known.
    """

    by: str
    rho: float
    p: float
    method: Literal["exact", "t"]
    ci_low: float
    ci_high: float
    resamples: int
    n: int
    tied: int


def spearman(x_N: np.ndarray, y_N: np.ndarray) -> tuple[float, float, Literal["exact", "t"]]:
    """Spearman's rho, its two-sided p and how p was found: exactly up to nine pairs, by Student's t beyond.

    Ties get mean ranks; rho is Pearson's correlation of ranks; a constant side gives NaN. The exact p is the share of all
    orders of one side whose |rho| is at least the observed. Source: Spearman (1904); the t approximation as in
    ``scipy.stats.spearmanr``.
    """
    ranks_x, ranks_y = stats.rankdata(x_N), stats.rankdata(y_N)
    method: Literal["exact", "t"] = "exact" if len(x_N) <= EXACT_UP_TO else "t"
    rho = _pearson(ranks_x, ranks_y[None, :])[0]
    if math.isnan(rho):
        return float("nan"), float("nan"), method
    if method == "exact":
        orders = np.array(list(permutations(ranks_y)))
        return float(rho), float((np.abs(_pearson(ranks_x, orders)) >= abs(rho) - TOLERANCE).mean()), method
    return float(rho), float(stats.spearmanr(x_N, y_N).pvalue), method


def correlate(x_N: np.ndarray, y_N: np.ndarray, *, by: str, rng: np.random.Generator) -> Correlation:
    """The correlation of a measure with a score over datasets.

    Args:
        x_N: the measure, a value for each dataset.
        y_N: the score of each.
        by: name of the measure.
        rng: where the bootstrap resamples are drawn from.

    Raises:
        TrainingError: fewer than three datasets.
    """
    x_N, y_N = np.asarray(x_N, dtype=np.float64), np.asarray(y_N, dtype=np.float64)
    if len(x_N) < 3:
        raise TrainingError(
            f"{len(x_N)} datasets cannot be correlated: at least three with both {by} and a score are needed"
        )
    rho, p, method = spearman(x_N, y_N)
    low, high, varied = _interval(x_N, y_N, rng)
    tied = int(sum(count for count in np.unique(y_N, return_counts=True)[1] if count > 1))
    return Correlation(
        by=by, rho=rho, p=p, method=method, ci_low=low, ci_high=high, resamples=varied, n=len(x_N), tied=tied
    )


def correlate_table(
    table: pd.DataFrame, *, score: str, by: Sequence[str], rng: np.random.Generator
) -> list[Correlation]:
    """The correlation of each column ``by`` with the column ``score``; datasets without either value are left out.

    Raises:
        TrainingError: columns are missing or hold no numbers; all are listed.
    """
    _check_columns(table, [score, *by])
    results = []
    for name in by:
        pairs = table[[name, score]].dropna()
        results.append(correlate(pairs[name].to_numpy(), pairs[score].to_numpy(), by=name, rng=rng))
    return results


def read_table(path: str | Path) -> pd.DataFrame:
    """A CSV of one dataset a row.

    Raises:
        TrainingError: the file is missing or no CSV.
    """
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as exc:
        raise TrainingError(f"{path} cannot be read as CSV: {exc}") from exc


def _check_columns(table: pd.DataFrame, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in table]
    texts = [name for name in names if name in table and not pd.api.types.is_numeric_dtype(table[name])]
    if missing or texts:
        faults = [f"no column {name!r}" for name in missing] + [f"column {name!r} holds text" for name in texts]
        raise TrainingError(
            f"the table cannot be correlated: {'; '.join(faults)}. Its columns are {', '.join(map(str, table.columns))}"
        )


def _pearson(x_N: np.ndarray, ys_RN: np.ndarray) -> np.ndarray:
    """Pearson's correlation of one vector with each row, (R,); NaN where either side is constant."""
    x = x_N - x_N.mean(axis=-1, keepdims=True)
    y = ys_RN - ys_RN.mean(axis=-1, keepdims=True)
    norm = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    rho_R: np.ndarray = np.divide((x * y).sum(axis=-1), norm, out=np.full(len(ys_RN), np.nan), where=norm > 0)
    return rho_R


def _interval(x_N: np.ndarray, y_N: np.ndarray, rng: np.random.Generator) -> tuple[float, float, int]:
    draws = rng.integers(len(x_N), size=(RESAMPLES, len(x_N)))
    rhos = _pearson(stats.rankdata(x_N[draws], axis=1), stats.rankdata(y_N[draws], axis=1))
    rhos = rhos[~np.isnan(rhos)]
    if not len(rhos):
        return float("nan"), float("nan"), 0
    low, high = np.quantile(rhos, [0.025, 0.975])
    return float(low), float(high), len(rhos)
