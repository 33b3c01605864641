"""Paired differences with intervals, against resampling one by one and the normal interval."""

from __future__ import annotations

import numpy as np
import pytest

from pwcat.errors import TrainingError
from training.scoring.pairs import paired_gap


def test_the_value_is_the_mean_difference():
    gap = paired_gap([[1.0, 2.0], [3.0, 4.0]], [[5.0, 5.0]], rng=np.random.default_rng(0))
    assert gap.value == 2.5
    assert gap.ci_low < gap.value < gap.ci_high


def test_one_seed_of_many_samples_has_the_normal_interval():
    rng = np.random.default_rng(1)
    errors, others = rng.normal(1, 1, 4000), rng.normal(1.5, 1, 4000)
    gap = paired_gap(errors, others, rng=rng)
    half = 1.96 * (others - errors).std() / np.sqrt(4000)
    assert gap.ci_low == pytest.approx(gap.value - half, abs=0.15 * half)
    assert gap.ci_high == pytest.approx(gap.value + half, abs=0.15 * half)


def test_bounds_are_those_of_resampling_one_by_one():
    rng = np.random.default_rng(2)
    errors, others, groups = rng.gamma(1, 1, (3, 12)), rng.gamma(1, 2, (3, 12)), np.repeat(list("abcd"), [2, 5, 1, 4])
    gap = paired_gap(errors, others, groups_N=groups, rng=rng, resamples=20000)
    members = {name: np.flatnonzero(groups == name) for name in "abcd"}
    drawn = []
    for _ in range(4000):
        rows = np.concatenate([members[name] for name in rng.choice(list("abcd"), 4)])
        drawn.append((others - errors)[rng.integers(3, size=3)][:, rows].mean())
    assert [gap.ci_low, gap.ci_high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.12)


def test_groups_that_are_alike_widen_the_interval():
    rng = np.random.default_rng(3)
    gaps = np.repeat(rng.normal(size=8), 20)
    alone = paired_gap(np.zeros(160), gaps, rng=rng)
    together = paired_gap(np.zeros(160), gaps, groups_N=np.repeat(np.arange(8), 20), rng=rng)
    assert together.ci_high - together.ci_low > 3 * (alone.ci_high - alone.ci_low)


def test_the_same_has_no_gap():
    gap = paired_gap([[1.0, 2.0]], [[1.0, 2.0]], rng=np.random.default_rng(0))
    assert (gap.value, gap.ci_low, gap.ci_high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("errors", "others", "groups"), [
    ([[1.0, 2.0]], [[1.0]], None), ([[1.0], [2.0]], [[1.0], [2.0], [3.0]], None), ([], [], None),
])  # fmt: skip
def test_what_are_no_pairs_is_refused(errors, others, groups):
    with pytest.raises(TrainingError, match="are no pairs"):
        paired_gap(errors, others, groups_N=groups, rng=np.random.default_rng(0))
    with pytest.raises(TrainingError, match="groups of 1 samples were given for 2"):
        paired_gap([1.0, 2.0], [1.0, 2.0], groups_N=["a"], rng=np.random.default_rng(0))
