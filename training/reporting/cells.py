"""Scores as one dense array, and what is said of a mean of some of them: deviation over seeds, and a 95 % interval.

Shapes: D datasets, U units (a task, within a group of places), R replicates (a pretraining seed and a seed of the draw).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

__all__ = ["INTERVAL", "Grid", "Score", "difference", "grid_of"]

LEVEL = 0.95
Z = float(stats.norm.ppf((1 + LEVEL) / 2))
INTERVAL = (
    "The interval holds what another run of the same study could give: seeds (Student's t over the draws of training "
    "samples, or over pretraining seeds where there are several) and test samples (the bootstrap of each score), as "
    "independent parts: half its width is the root of the sum of their squares. It does not hold other tasks, other "
    "datasets of the same kind, or, where there is one pretraining seed, another pretraining. It is "
    "symmetric, so that with few seeds it may pass what a score can be."
)


@dataclass(frozen=True, kw_only=True)
class Score:
    """A mean over units.

    Attributes:
        mean: over replicates within each unit, then over units; NaN where a unit has none.
        sd: standard deviation (n - 1) over replicates of the mean over units; NaN of a single one.
        low: lower bound of the 95 % interval of the mean; NaN where nothing was repeated or resampled.
        high: upper bound.
        replicates: the mean over units of each replicate, (R,).
        pretrain_seeds: of each replicate, (R,).
        seeds: of each replicate's draw, (R,).
        held: units that have a score.
        units: units that should have.
    """

    mean: float
    sd: float
    low: float
    high: float
    replicates: np.ndarray
    pretrain_seeds: np.ndarray
    seeds: np.ndarray
    held: int
    units: int

    @property
    def complete(self) -> bool:
        """Whether every unit has a score."""
        return 0 < self.units == self.held

    @property
    def standard_error(self) -> tuple[float, float]:
        """Of the mean, over seeds, and the degrees of freedom it rests on; NaN and 0 of a single replicate."""
        return _standard_error(self.replicates, self.pretrain_seeds)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Scores of one model and probe at one size.

    Attributes:
        datasets: names, D.
        units: task and group of each, U.
        replicates: pretraining seed and seed of each, (R, 2).
        values_DUR: the scores, NaN where there is none.
        half_DUR: half the width of the 95 % bootstrap interval over test samples; NaN where unknown.
        tests_DU: test samples; NaN where unknown.
    """

    datasets: tuple[str, ...]
    units: tuple[tuple[str, str], ...]
    replicates: np.ndarray
    values_DUR: np.ndarray
    half_DUR: np.ndarray
    tests_DU: np.ndarray

    def score(self, dataset: str, units: Sequence[tuple[str, str]]) -> Score:
        """The mean of a dataset over units; those that the grid does not have count as missing."""
        places = [self.units.index(unit) for unit in units if unit in self.units]
        if dataset not in self.datasets or not places:
            return _missing(held=0, units=len(units))
        row = self.datasets.index(dataset)
        values_UR, half_UR = self.values_DUR[row, places], self.half_DUR[row, places]
        held = int((~np.isnan(values_UR)).any(axis=1).sum())
        if held < len(units):
            return _missing(held=held, units=len(units))
        aligned_UR, which = _aligned(values_UR)
        return _score(values_UR, half_UR, aligned_UR.mean(axis=0), self.replicates[which])


def grid_of(rows: pd.DataFrame) -> Grid:
    """The scores of rows of one model, probe and size as an array; groups are whatever is in their column ``group``."""
    datasets, names = pd.factorize(rows["dataset"])
    units, unit_names = pd.factorize(pd.MultiIndex.from_frame(rows[["task", "group"]]))
    replicates, replicate_names = pd.factorize(pd.MultiIndex.from_frame(rows[["pretrain_seed", "seed"]]), sort=True)
    shape = (len(names), len(unit_names), len(replicate_names))
    values, half, tests = (np.full(shape, np.nan) for _ in range(3))
    at = (datasets, units, replicates)
    values[at] = rows["value"]
    half[at] = (rows["ci_high"] - rows["ci_low"]) / 2
    tests[at] = rows["num_test"]
    known = np.isfinite(tests)
    tests_DU = np.where(known, tests, -np.inf).max(axis=2) if tests.size else np.empty(shape[:2])
    return Grid(
        datasets=tuple(map(str, names)),
        units=tuple((str(task), str(group)) for task, group in unit_names),
        replicates=np.array([list(pair) for pair in replicate_names], dtype=np.int64).reshape(-1, 2),
        values_DUR=values,
        half_DUR=half,
        tests_DU=np.where(known.any(axis=2), tests_DU, np.nan),
    )


def difference(one: Score, other: Score) -> tuple[float, float, float]:
    """One less the other with the bounds of its 95 % interval over seeds; NaN bounds where nothing was repeated.

    Draws of the same seed have the same training and test samples, so that differences are taken draw by draw, and the
    interval is Student's t of them. Where either was pretrained several times, pretrainings are what differs, and
    their means are compared as independent (Welch, 1947). Test samples are not resampled: both have the same ones.
    """
    gap = one.mean - other.mean
    if len(np.unique(one.pretrain_seeds)) > 1 or len(np.unique(other.pretrain_seeds)) > 1:
        (first, freedom), (second, freedom_other) = one.standard_error, other.standard_error
        error = float(np.sqrt(np.nansum([first**2, second**2])))
        parts = [part**4 / df for part, df in ((first, freedom), (second, freedom_other)) if df > 0 and part > 0]
        welch = error**4 / sum(parts) if parts else 0.0
        return _around(gap, error, welch)
    shared, left, right = np.intersect1d(one.seeds, other.seeds, return_indices=True)
    gaps = one.replicates[left] - other.replicates[right]
    if len(shared) < 2:
        return gap, np.nan, np.nan
    return _around(gap, float(gaps.std(ddof=1) / np.sqrt(len(gaps))), len(gaps) - 1)


def _around(middle: float, error: float, freedom: float) -> tuple[float, float, float]:
    if not np.isfinite(error) or freedom <= 0:
        return middle, np.nan, np.nan
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    return middle, middle - half, middle + half


def _score(values_UR: np.ndarray, half_UR: np.ndarray, means_R: np.ndarray, replicates_R2: np.ndarray) -> Score:
    mean = float(np.nanmean(values_UR, axis=1).mean())
    error, freedom = _standard_error(means_R, replicates_R2[:, 0])
    over_seeds = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error if freedom > 0 else np.nan
    over_tests = _over_tests(half_UR)
    parts = [part for part in (over_seeds, over_tests) if np.isfinite(part)]
    half = float(np.sqrt(np.square(parts).sum())) if parts else np.nan
    return Score(
        mean=mean,
        sd=float(means_R.std(ddof=1)) if len(means_R) > 1 else np.nan,
        low=mean - half,
        high=mean + half,
        replicates=means_R,
        pretrain_seeds=replicates_R2[:, 0],
        seeds=replicates_R2[:, 1],
        held=len(values_UR),
        units=len(values_UR),
    )


def _over_tests(half_UR: np.ndarray) -> float:
    """Half the width over test samples of the mean over units, whose samples are independent of one another's."""
    known = np.isfinite(half_UR)
    if not known.any(axis=1).all():
        return float("nan")
    half_U = np.where(known, half_UR, 0).sum(axis=1) / known.sum(axis=1)
    return float(np.sqrt((half_U**2).sum()) / len(half_U))


def _standard_error(means_R: np.ndarray, pretrain_seeds_R: np.ndarray) -> tuple[float, float]:
    """Over pretraining seeds, each averaged over its draws, where there are several; else over draws."""
    seeds, of = np.unique(pretrain_seeds_R, return_inverse=True)
    parts = np.bincount(of, weights=means_R) / np.bincount(of) if len(seeds) > 1 else means_R
    if len(parts) < 2:
        return float("nan"), 0
    return float(parts.std(ddof=1) / np.sqrt(len(parts))), len(parts) - 1


def _aligned(values_UR: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Replicates that all units have, and which they are; a unit with one alone has it in all of them.

    Units whose seeds differ have their replicates paired in order: they are independent anyway.
    """
    held_UR = ~np.isnan(values_UR)
    counts = held_UR.sum(axis=1)
    filled = np.where(held_UR | (counts > 1)[:, None], values_UR, np.nanmax(values_UR, axis=1, keepdims=True))
    if counts.max() == 1:  # nothing was repeated
        return filled[:, :1], np.flatnonzero(held_UR[0])[:1]
    shared = np.flatnonzero(~np.isnan(filled).any(axis=0))
    if len(shared) > 1:
        return filled[:, shared], shared
    least = counts[counts > 1].min()
    rows = [row[~np.isnan(row)][:least] for row in filled]
    return np.stack(rows), np.flatnonzero(held_UR[counts.argmax()])[:least]


def _missing(*, held: int, units: int) -> Score:
    nan, none = float("nan"), np.empty(0)
    return Score(
        mean=nan, sd=nan, low=nan, high=nan, replicates=none, pretrain_seeds=none, seeds=none, held=held, units=units
    )  # fmt: skip
