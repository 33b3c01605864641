"""Choosing among scored candidates: the highest spectral entropy, or a distribution of it, and how far the scores are right."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pwcat.samplers.spectral import Target
from pwcat.samplers.strata import apportion
from pwcat.spectra.bins import bins_of

__all__ = ["Calibration", "calibrate", "choice_order"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How well the entropy of coarse pixels tells that of all pixels.

    Attributes:
        n: chips that were read both ways.
        rank_correlation: Spearman's, within [-1, 1]; NaN for fewer than four chips or no variation.
        ci_low: lower end of its 95 % interval, by Fisher's z with the variance of Fieller, Hartley and Pearson (1957).
        ci_high: upper end.
        slope: of full entropy over score, least squares; 1 where it cannot be told, or falls.
        intercept: of the same, nats.
    """

    n: int
    rank_correlation: float
    ci_low: float
    ci_high: float
    slope: float
    intercept: float

    def predict(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Spectral entropy of all pixels, as the scores tell it, nats."""
        return self.intercept + self.slope * scores

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it; NaN is ``None``."""
        return {name: None if np.isnan(value) else value for name, value in asdict(self).items()}


def calibrate(scores: NDArray[np.float64], full: NDArray[np.float64]) -> Calibration:
    """The calibration from chips read both ways; pairs with a NaN are left out."""
    known = ~(np.isnan(scores) | np.isnan(full))
    x, y = scores[known], full[known]
    if len(x) < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        shift = float((y - x).mean()) if len(x) else 0.0
        nan = float("nan")
        return Calibration(n=len(x), rank_correlation=nan, ci_low=nan, ci_high=nan, slope=1.0, intercept=shift)
    rho = float(stats.spearmanr(x, y).statistic)
    half = 1.96 * np.sqrt(1.06 / (len(x) - 3))
    z = np.arctanh(np.clip(rho, -0.999999, 0.999999))
    slope, intercept = (float(value) for value in np.polyfit(x, y, 1))
    if slope <= 0:
        log.warning("coarse scores of %d chips do not rise with full ones (rho %.2f): taken as they are", len(x), rho)
        slope, intercept = 1.0, float((y - x).mean())
    return Calibration(
        n=len(x),
        rank_correlation=rho,
        ci_low=min(rho, float(np.tanh(z - half))),
        ci_high=max(rho, float(np.tanh(z + half))),
        slope=slope,
        intercept=intercept,
    )


def choice_order(
    entropies: NDArray[np.float64], stratum: NDArray[np.int64], *, wanted: Sequence[int], target: Target | None
) -> NDArray[np.int64]:
    """Rows of the candidates in the order in which they should be taken; those without an entropy are left out.

    Args:
        entropies: ``(n,)`` as predicted, nats; NaN where unknown.
        stratum: ``(n,)``.
        wanted: sites of each stratum.
        target: the wanted distribution; the highest entropies first where ``None``.
    """
    known = np.flatnonzero(~np.isnan(entropies))
    if target is None:
        return known[np.argsort(-entropies[known], kind="stable")]
    bins = bins_of(entropies[known], target)
    late = np.zeros(len(known), dtype=np.float64)  # by how much a candidate oversteps its bin's quota
    for number, count in enumerate(wanted):
        for which, quota in enumerate(apportion(count, target.weights)):
            rows = np.flatnonzero((stratum[known] == number) & (bins == which))
            late[rows] = np.maximum(0, np.arange(len(rows)) - quota + 1)
    return known[np.argsort(late, kind="stable")]
