"""A smaller study beside the study itself: how each scores the datasets, by one rule, and how alike the two orders are."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np
import pandas as pd

from training.correlation import LEAST, Correlation, correlate_table
from training.relating.studies import LESS_IS_BETTER, UNIT, long_rows, mean_scores

__all__ = ["Beside", "beside"]


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Scores of the datasets that both have.

    Attributes:
        pairs: columns ``dataset``, ``rung`` and ``study``.
        found: Spearman's of the two; ``None`` of fewer than three datasets.
        less: whether they are errors.
    """

    pairs: pd.DataFrame
    found: Correlation | None
    less: bool

    @property
    def same_best(self) -> bool | None:
        """Whether both have the same dataset first; ``None`` without any."""
        if self.pairs.empty:
            return None
        best = (pd.Series.idxmin if self.less else pd.Series.idxmax)(self.pairs["rung"])
        first = (pd.Series.idxmin if self.less else pd.Series.idxmax)(self.pairs["study"])
        return bool(best == first)


def beside(study: pd.DataFrame, rung: pd.DataFrame, *, name: str) -> Beside:
    """Compare a rung with the study by the scores of one model and probe, the control left out.

    Both are scored by what both have: the same tasks, weighed as :func:`training.relating.studies.study_table` weighs them,
    the same places, and the same number of training samples (all, or else the largest).

    Args:
        study: rows of the study's scores in long form, of one model and probe, and of one task where that alone is meant.
        rung: likewise, of the rung.
        name: what fixes the resamples of the interval: the same name and scores give the same.
    """
    sides = _shared_size(*_shared_places(long_rows(study), long_rows(rung)))
    units = [pd.MultiIndex.from_frame(side[UNIT]) for side in sides]
    sides = (sides[0][units[0].isin(units[1])], sides[1][units[1].isin(units[0])])
    less = bool(len(sides[0])) and bool(sides[0]["metric"].isin(LESS_IS_BETTER).all())
    if not less:  # their mean with errors would mean nothing
        sides = (_without_errors(sides[0]), _without_errors(sides[1]))
    of_study, of_rung = (mean_scores(side) for side in sides)
    rows = [(n, of_rung[n], value) for n, value in of_study.items() if n in of_rung]
    pairs = pd.DataFrame(rows, columns=["dataset", "rung", "study"]).dropna(ignore_index=True)
    rng = np.random.default_rng(crc32(name.encode()))
    found = correlate_table(pairs, score="study", by=["rung"], rng=rng)[0] if len(pairs) >= LEAST else None
    return Beside(pairs=pairs, found=found, less=less)


Sides = tuple[pd.DataFrame, pd.DataFrame]


def _shared_places(study: pd.DataFrame, rung: pd.DataFrame) -> Sides:
    """Scores over all test samples where both have them, else those of draws within places."""
    everywhere = [(side["group"] == "all") & (side["drawn"] == "") for side in (study, rung)]
    if everywhere[0].any() and everywhere[1].any():
        return study[everywhere[0]], rung[everywhere[1]]
    return tuple(side[(side["drawn"] != "") & (side["drawn"] == side["group"])] for side in (study, rung))  # type: ignore[return-value]


def _shared_size(study: pd.DataFrame, rung: pd.DataFrame) -> Sides:
    if study["size"].isna().any() and rung["size"].isna().any():
        return study[study["size"].isna()], rung[rung["size"].isna()]
    shared = set(study["size"].dropna()) & set(rung["size"].dropna())
    largest = max(shared, default=-1.0)
    return study[study["size"] == largest], rung[rung["size"] == largest]


def _without_errors(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[~rows["metric"].isin(LESS_IS_BETTER)]
