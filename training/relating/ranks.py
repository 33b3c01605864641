"""Ranks of datasets over tasks, and whether they would come out the same again.

Shapes: D datasets, T tasks, S seeds, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pwcat.errors import TrainingError

__all__ = ["Stability", "dense_ranks", "mean_dense_ranks", "rank_stability"]

DECIMALS = 2  # as papers print scores; equal as printed is equal
RESAMPLES = 2000


def dense_ranks(scores_RDT: np.ndarray) -> np.ndarray:
    """Ranks within each task, 0 the best, of the same shape (..., D, T); equal scores share a rank, and none is skipped."""
    better = np.sort(-scores_RDT, axis=-2)
    new = np.concatenate([np.zeros_like(better[..., :1, :]), np.diff(better, axis=-2) > 0], axis=-2)
    order = np.argsort(-scores_RDT, axis=-2, kind="stable")
    ranks = np.empty_like(better)
    np.put_along_axis(ranks, order, np.cumsum(new, axis=-2), axis=-2)
    return ranks


def mean_dense_ranks(scores: Mapping[str, Sequence[float]], *, decimals: int = DECIMALS) -> dict[str, float]:
    """The mean over tasks of each row's zero-based dense rank, 0 the best, of scores rounded as they are printed.

    Source: the column "Ranks" of Kaur et al. (2026), which this reproduces for the seven datasets: 0, 1, 1.5, 2, 2.75, 3.5,
    4.5. The paper's last row does not follow from its own cells: "none" is printed with 5.25, but its .46 on GEO-Bench, the
    same as Global's, makes it 4.75; 5.25 would need Africa's .41 there.

    Args:
        scores: a row a dataset, a score a task.
        decimals: scores that are equal to so many decimals share a rank.
    """
    table_DT = np.round(np.array(list(scores.values()), dtype=np.float64), decimals)
    return dict(zip(scores, dense_ranks(table_DT).mean(axis=-1).tolist(), strict=True))


@dataclass(frozen=True, kw_only=True)
class Stability:
    """Whether ranks would come out the same with other seeds.

    Attributes:
        names: the datasets.
        rank: mean dense rank of each, from scores averaged over seeds, (D,).
        low: lower bound of its 95 % bootstrap interval over seeds, (D,).
        high: upper bound, (D,).
        above: the probability that the row's dataset ranks above the column's, equal ranks counted half, (D, D); NaN on the
            diagonal.
        first: the probability that a dataset has the best rank, shared ones divided, (D,).
    """

    names: tuple[str, ...]
    rank: np.ndarray
    low: np.ndarray
    high: np.ndarray
    above: np.ndarray
    first: np.ndarray


def rank_stability(
    runs: Mapping[str, np.ndarray],
    *,
    rng: np.random.Generator,
    decimals: int = DECIMALS,
    resamples: int = RESAMPLES,
    paired: bool = False,
) -> Stability:
    """How ranks would come out if everything were run again with as many other seeds.

    The seeds of each dataset are drawn with replacement, on their own for each dataset unless they are ``paired``, and
    averaged; the tasks of one seed stay together. The probability says what seeds alone could change: not other tasks, and
    not other datasets of the same kind.

    Args:
        runs: the scores of each dataset, (S, T); the number of seeds may differ.
        rng: what seeds are drawn from.
        decimals: scores that are equal to so many decimals share a rank.
        resamples: how often.
        paired: whether a seed is the same for all datasets, such as a draw of training and test samples that all are scored
            by: what such a seed does to all of them alike changes no rank.

    Raises:
        TrainingError: fewer than two datasets, one with a single seed, tasks that differ, or of paired datasets the numbers
            of seeds.
    """
    scores = {name: np.atleast_2d(np.asarray(table, dtype=np.float64)) for name, table in runs.items()}
    _check(scores, paired=paired)
    seeds = len(next(iter(scores.values())))
    shared = rng.integers(seeds, size=(resamples, seeds)) if paired else None
    drawn_RDT = np.stack([_drawn(table, shared, rng=rng, resamples=resamples) for table in scores.values()], axis=1)
    ranks_RD = dense_ranks(np.round(drawn_RDT, decimals)).mean(axis=-1)
    above = (np.sign(ranks_RD[:, None, :] - ranks_RD[:, :, None]).mean(axis=0) + 1) / 2
    np.fill_diagonal(above, np.nan)
    best = np.isclose(ranks_RD, ranks_RD.min(axis=1, keepdims=True))
    low, high = np.quantile(ranks_RD, [0.025, 0.975], axis=0)
    rank = mean_dense_ranks({name: table.mean(axis=0).tolist() for name, table in scores.items()}, decimals=decimals)
    return Stability(
        names=tuple(scores),
        rank=np.array(list(rank.values())),
        low=low,
        high=high,
        above=above,
        first=(best / best.sum(axis=1, keepdims=True)).mean(axis=0),
    )


def _drawn(
    table_ST: np.ndarray, shared_RS: np.ndarray | None, *, rng: np.random.Generator, resamples: int
) -> np.ndarray:
    rows_RS = rng.integers(len(table_ST), size=(resamples, len(table_ST))) if shared_RS is None else shared_RS
    return np.asarray(table_ST[rows_RS].mean(axis=1))


def _check(scores: Mapping[str, np.ndarray], *, paired: bool) -> None:
    counts = {name: len(table) for name, table in scores.items()}
    if paired and len(set(counts.values())) > 1:
        raise TrainingError(f"paired seeds are the same of every dataset, and there are so many: {counts}")
    single = [name for name, table in scores.items() if len(table) < 2]
    if len(scores) < 2 or single:
        raise TrainingError(
            f"how stable ranks are needs two datasets and two seeds of each, and there are {len(scores)} datasets"
            + (f", with a single seed of {', '.join(single)}" if single else "")
        )
    widths = {name: table.shape[1] for name, table in scores.items()}
    if len(set(widths.values())) > 1:
        raise TrainingError(f"ranks need the same tasks of every dataset, and got so many: {widths}")
