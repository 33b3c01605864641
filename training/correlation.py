"""Does diversity go with scores? Correlations over datasets, with all that a reviewer would ask about so few of them.

The parts are in :mod:`training.relating`, one concept a module; this is their public face.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd

from pwcat.errors import TrainingError
from training.relating.estimates import METHODS, Method, coefficient
from training.relating.influence import LeftOut, leave_one_out
from training.relating.intervals import RESAMPLES, Interval, bca, datasets_and_seeds, fisher, percentile, resampled
from training.relating.orders import smallest_p, smallest_p_of
from training.relating.partial import Partial, partial
from training.relating.power import detectable
from training.relating.ranks import Stability, mean_dense_ranks, rank_stability
from training.relating.several import benjamini_hochberg, holm
from training.relating.significance import PMethod, significance
from training.relating.units import Units, units_of
from training.relating.verdict import RULE, Evidence, Verdict, verdict

__all__ = [
    "LEAST",
    "METHODS",
    "RULE",
    "Correlation",
    "Interval",
    "LeftOut",
    "Method",
    "Partial",
    "Stability",
    "Verdict",
    "correlate",
    "correlate_table",
    "mean_dense_ranks",
    "rank_stability",
    "read_table",
]

ALPHA = 0.05
LEAST = 3  # datasets


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """How one measure goes with the score over datasets.

    Attributes:
        by: the measure.
        score: what it is related to.
        method: "spearman", "pearson" or "kendall".
        datasets: the datasets, in the order of the table.
        without_value: datasets left out because they have no value of the measure or the score.
        n: datasets.
        rows: rows they are the means of; as many as datasets where there is one seed.
        values: the measure of each dataset, averaged over its rows.
        scores: the score, likewise.
        score_sd: its standard deviation over the rows (n - 1); NaN of a single one.
        tied: datasets whose score another one has too. Which of them has which value of the measure changes no rank, so that
            rho and p stand where that is not known.
        rho: the coefficient (Spearman's rho, Pearson's r or Kendall's tau-b), within -1..1; NaN where a side is constant.
        p: two-sided probability of a coefficient at least as large without any relation, by ``p_by``.
        p_by: "exact" or "monte-carlo"; see :class:`training.relating.significance.Significance`.
        p_low: lower 99 % bound of a drawn p; p itself where exact.
        p_high: upper bound.
        p_values: p by each method, by its name: "exact" or "monte-carlo", and "t" or "normal" beside it.
        p_holm: p corrected over the metrics asked for, by Holm's steps.
        p_bh: likewise by Benjamini and Hochberg's, which hold the share of false findings instead.
        family: metrics corrected for.
        intervals: 95 % intervals: "bca" and "percentile" over datasets, "fisher" by formula, and "seeds" (percentile, over
            datasets and seeds) where datasets have several rows.
        leave_one_out: what becomes of rho and p without each dataset.
        partial: the relation given covariates, where asked for.
        alpha: the level of the verdict.
        detectable: smallest true |rho| found with 80 % power at alpha by so many datasets; NaN where none can be.
        detectable_family: likewise at alpha over the number of metrics, which the smallest p has to pass by Holm.
        verdict: "shown", "suggestive" or "not shown", and why; see :data:`RULE`.
    """

    by: str
    score: str
    method: Method
    datasets: tuple[str, ...]
    without_value: tuple[str, ...]
    n: int
    rows: int
    values: tuple[float, ...]
    scores: tuple[float, ...]
    score_sd: tuple[float, ...]
    tied: int
    rho: float
    p: float
    p_by: PMethod
    p_low: float
    p_high: float
    p_values: dict[str, float]
    p_holm: float
    p_bh: float
    family: int
    intervals: dict[str, Interval]
    leave_one_out: tuple[LeftOut, ...]
    partial: Partial | None
    alpha: float
    detectable: float
    detectable_family: float
    verdict: Verdict

    @property
    def ci_low(self) -> float:
        """Lower bound of the BCa interval over datasets, the one to show."""
        return self.intervals["bca"].low

    @property
    def ci_high(self) -> float:
        """Upper bound of that interval."""
        return self.intervals["bca"].high

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON has it: ``None`` for NaN."""
        return _finite({**asdict(self), "ci_low": self.ci_low, "ci_high": self.ci_high})  # type: ignore[no-any-return]


def correlate(
    x_N: np.ndarray,
    y_N: np.ndarray,
    *,
    by: str,
    rng: np.random.Generator,
    score: str = "score",
    method: Method = "spearman",
    names: Sequence[str] | None = None,
    alpha: float = ALPHA,
    resamples: int = RESAMPLES,
) -> Correlation:
    """How one measure goes with a score over datasets.

    Args:
        x_N: the measure, a value for each dataset.
        y_N: the score of each.
        by: name of the measure.
        rng: what bootstrap resamples, and orders beyond what can be counted, are drawn from.
        score: name of the score.
        method: which coefficient.
        names: of the datasets; "row 1" and so on by default.
        alpha: the level of the verdict.
        resamples: bootstrap resamples.

    Raises:
        TrainingError: fewer than three datasets.
    """
    table = pd.DataFrame({by: np.asarray(x_N, np.float64), score: np.asarray(y_N, np.float64)})
    if names is not None:
        table.index = pd.Index(names)
    units = Units(table=table, rows=table, of_row=np.arange(len(table))) if names is not None else units_of(table)
    question = _Question(score=score, given=(), method=method, alpha=alpha, resamples=resamples)
    (found,) = _related(units, [by], question, rng=rng)
    return found


def correlate_table(
    table: pd.DataFrame,
    *,
    score: str,
    by: Sequence[str],
    rng: np.random.Generator,
    given: Sequence[str] = (),
    unit: str | None = None,
    method: Method = "spearman",
    alpha: float = ALPHA,
    resamples: int = RESAMPLES,
) -> list[Correlation]:
    """How each column ``by`` goes with the column ``score``, corrected for their number; see :class:`Correlation`.

    Rows of one dataset are averaged first: datasets are the unit, however many seeds each was run with. Datasets without a
    value are left out of that column, and named.

    Args:
        table: a row a dataset, or several.
        score: column of the score.
        by: columns of the measures.
        rng: what bootstrap resamples, and orders beyond what can be counted, are drawn from.
        given: columns of covariates for partial correlations: numbers, or words.
        unit: column that names datasets; "dataset" by default where there is one, and otherwise each row is a dataset.
        method: which coefficient.
        alpha: the level of the verdict.
        resamples: bootstrap resamples.

    Raises:
        TrainingError: columns are missing or hold no numbers (all are listed), fewer than three datasets, or too few or
            unfit ones for partial correlations.
    """
    by, given = list(dict.fromkeys(by)), list(dict.fromkeys(given))
    if not by:
        raise TrainingError(
            f"no column to relate to {score!r} was named: name one or more of {', '.join(map(str, table))}"
        )
    _check_columns(table, numbers=[score, *by], others=given)
    units = units_of(table, unit=unit)
    question = _Question(score=score, given=given, method=method, alpha=alpha, resamples=resamples)
    return _related(units, by, question, rng=rng)


def read_table(path: str | Path) -> pd.DataFrame:
    """A CSV of one dataset a row, or several.

    Raises:
        TrainingError: the file is missing or no CSV.
    """
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as exc:
        raise TrainingError(f"{path} cannot be read as CSV: {exc}") from exc


@dataclass(frozen=True, kw_only=True)
class _Question:
    """What is asked of every measure; see :func:`correlate_table`."""

    score: str
    given: Sequence[str]
    method: Method
    alpha: float
    resamples: int


def _related(units: Units, by: Sequence[str], question: _Question, *, rng: np.random.Generator) -> list[Correlation]:
    root = int(rng.integers(2**32))
    # What is drawn for one measure hangs on no other.
    found = [_one(units, name, question, rng=np.random.default_rng([root, crc32(name.encode())])) for name in by]
    p, partial_p = [c.p for c in found], [c.partial.p if c.partial else np.nan for c in found]
    corrected = zip(found, holm(p), benjamini_hochberg(p), holm(partial_p), strict=True)
    return [_judged(c, p_holm=a, p_bh=b, partial_holm=d, family=len(by)) for c, a, b, d in corrected]


def _one(units: Units, by: str, question: _Question, *, rng: np.random.Generator) -> Correlation:
    score, method = question.score, question.method
    held = units.with_values([by, score, *question.given])
    x_N, y_N = (held.table[column].to_numpy(np.float64) for column in (by, score))
    if len(x_N) < LEAST:
        raise TrainingError(
            f"{len(x_N)} datasets cannot be correlated: at least three with both {by} and a score are needed"
        )
    names = tuple(map(str, held.table.index))
    rho, chance = coefficient(x_N, y_N, method=method), significance(x_N, y_N, method=method, rng=rng)
    without = leave_one_out(x_N, y_N, names=names, method=method)
    least = detectable(len(x_N), method=method, alpha=question.alpha)
    return Correlation(
        by=by,
        score=score,
        method=method,
        datasets=names,
        without_value=tuple(str(name) for name in units.table.index if str(name) not in names),
        n=len(x_N),
        rows=len(held.rows),
        values=tuple(x_N.tolist()),
        scores=tuple(y_N.tolist()),
        score_sd=held.deviations(score),
        tied=int(sum(count for count in np.unique(y_N, return_counts=True)[1] if count > 1)),
        rho=rho,
        p=chance.p,
        p_by=chance.by,
        p_low=chance.low,
        p_high=chance.high,
        p_values=chance.values,
        p_holm=chance.p,
        p_bh=chance.p,
        family=1,
        intervals=_intervals(held, by, question, without=without, rng=rng),
        leave_one_out=without,
        partial=_partial(held, by, question, rng=rng),
        alpha=question.alpha,
        detectable=least,
        detectable_family=least,
        verdict=Verdict(word="not shown", why=""),
    )


def _intervals(
    units: Units, by: str, question: _Question, *, without: Sequence[LeftOut], rng: np.random.Generator
) -> dict[str, Interval]:
    method, resamples = question.method, question.resamples
    x_N, y_N = (units.table[column].to_numpy(np.float64) for column in (by, question.score))
    rho = coefficient(x_N, y_N, method=method)
    drawn = resampled(x_N, y_N, method=method, rng=rng, resamples=resamples)
    found = {
        "bca": bca(drawn, estimate=rho, without_N=np.array([left.rho for left in without])),
        "percentile": percentile(drawn),
        "fisher": fisher(rho, n=len(x_N), method=method),
    }
    if units.repeated:
        members_NS, counts_N = units.members()
        x_M, y_M = (units.rows[column].to_numpy(np.float64) for column in (by, question.score))
        found["seeds"] = datasets_and_seeds(
            x_M, y_M, members_NS=members_NS, counts_N=counts_N, method=method, rng=rng, resamples=resamples
        )
    if any(np.isnan(left.rho) for left in without):  # one dataset makes the coefficient: see `bca`
        found |= {k: replace(i, low=np.nan, high=np.nan) for k, i in found.items() if k != "fisher"}
    return found


def _partial(units: Units, by: str, question: _Question, *, rng: np.random.Generator) -> Partial | None:
    given, score = question.given, question.score
    x_N, y_N = (units.table[column].to_numpy(np.float64) for column in (by, score))
    if not given or np.ptp(x_N) == 0 or np.ptp(y_N) == 0:
        return None
    if differing := units.differing(given):
        told = "; ".join(f"{column!r} within {', '.join(names)}" for column, names in differing.items())
        raise TrainingError(f"covariates must be the same in all rows of a dataset, and words differ: {told}")
    try:
        return partial(x_N, y_N, given=units.table[list(given)], method=question.method, rng=rng)
    except TrainingError as exc:
        raise TrainingError(f"{by} with {score}: {exc}") from exc


def _judged(found: Correlation, *, p_holm: float, p_bh: float, partial_holm: float, family: int) -> Correlation:
    """With what depends on the other metrics: corrected p, the power that is left, and the verdict."""
    found = replace(
        found,
        p_holm=float(p_holm),
        p_bh=float(p_bh),
        family=family,
        detectable_family=detectable(found.n, method=found.method, alpha=found.alpha / family),
        partial=replace(found.partial, p_holm=float(partial_holm)) if found.partial else None,
    )
    evidence = Evidence(
        method=found.method,
        n=found.n,
        alpha=found.alpha,
        rho=found.rho,
        p=found.p,
        p_holm=found.p_holm,
        family=family,
        interval=found.intervals["bca"],
        detectable=found.detectable,
        least_p=_least_p(found),
        leave_one_out=found.leave_one_out,
        partial=found.partial,
    )
    return replace(found, verdict=verdict(evidence))


def _least_p(found: Correlation) -> float:
    """The smallest p that these values could have had; only told of a p above alpha, and not looked for below."""
    if found.p <= found.alpha or np.isnan(found.p):
        return smallest_p(found.n, method=found.method)
    return smallest_p_of(np.array(found.values), np.array(found.scores), method=found.method)


def _check_columns(table: pd.DataFrame, *, numbers: Sequence[str], others: Sequence[str]) -> None:
    missing = [name for name in [*numbers, *others] if name not in table]
    texts = [name for name in numbers if name in table and not pd.api.types.is_numeric_dtype(table[name])]
    if missing or texts:
        faults = [f"no column {name!r}" for name in missing] + [f"column {name!r} holds text" for name in texts]
        raise TrainingError(
            f"the table cannot be correlated: {'; '.join(faults)}. Its columns are {', '.join(map(str, table.columns))}"
        )


def _finite(value: Any) -> Any:
    """The same with ``None`` for NaN and infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _finite(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(held) for held in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
