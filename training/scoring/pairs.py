"""How much better one set of predictions is than another of the same samples, with an interval.

Shapes: S seeds, N samples, G groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pwcat.errors import TrainingError

__all__ = ["Gap", "paired_gap"]

LEVEL = 0.95


@dataclass(frozen=True)
class Gap:
    """A mean difference with the bounds of its 95 % interval."""

    value: float
    ci_low: float
    ci_high: float


def paired_gap(
    errors_SN: ArrayLike,
    others_SN: ArrayLike,
    *,
    rng: np.random.Generator,
    groups_N: ArrayLike | None = None,
    resamples: int = 2000,
) -> Gap:
    """The mean of ``others - errors``: above 0 where the first errs less; percentile bootstrap over seeds and samples.

    Both are resampled with replacement, and the differences of a sample stay together. Samples of one group, such as tiles of
    one town, are alike: groups are drawn whole where they are given.

    Args:
        errors_SN: what is lost on each sample with each seed, such as absolute errors.
        others_SN: likewise, of the same samples and seeds in the same order; one row for all seeds, where it has none.
        rng: where the resamples are drawn from.
        groups_N: of the samples.
        resamples: of the bootstrap.

    Raises:
        TrainingError: shapes do not fit, or there is nothing to compare.
    """
    errors, others = np.atleast_2d(np.asarray(errors_SN, float)), np.atleast_2d(np.asarray(others_SN, float))
    if errors.size == 0 or others.shape not in {errors.shape, (1, errors.shape[1])}:
        raise TrainingError(
            f"errors {errors.shape} and others {others.shape} are no pairs: the same samples with the same seeds are needed"
        )
    gaps_SN = others - errors
    seeds, samples = gaps_SN.shape
    codes_N = np.arange(samples) if groups_N is None else _codes(groups_N, samples)
    counts_G = np.bincount(codes_N).astype(float)
    sums_SG = np.stack([np.bincount(codes_N, weights=row) for row in gaps_SN])
    times_RS = _times(rng, resamples, seeds)
    times_RG = _times(rng, resamples, len(counts_G))
    means_R = np.einsum("rs,sg,rg->r", times_RS, sums_SG, times_RG, optimize=True) / (seeds * (times_RG @ counts_G))
    low, high = np.quantile(means_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Gap(float(gaps_SN.mean()), float(low), float(high))


def _times(rng: np.random.Generator, resamples: int, things: int) -> NDArray[np.float64]:
    """How often each thing is in each resample, (R, things)."""
    return rng.multinomial(things, np.full(things, 1 / things), size=resamples).astype(np.float64)


def _codes(groups_N: ArrayLike, samples: int) -> NDArray[np.int64]:
    named = [str(each) for each in np.asarray(groups_N, dtype=object)]
    if len(named) != samples:
        raise TrainingError(f"groups of {len(named)} samples were given for {samples}")
    return np.unique(named, return_inverse=True)[1].reshape(-1).astype(np.int64)
