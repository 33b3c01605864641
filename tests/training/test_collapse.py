"""The effective rank: closed forms, and the definition itself as the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import entropy

from training.collapse import effective_rank, spread_of


def test_of_equal_orthogonal_directions_it_is_their_number_and_of_unequal_ones_the_entropys() -> None:
    assert effective_rank(np.eye(7, 12)) == pytest.approx(7)
    assert effective_rank(np.diag([3.0, 1.0, 0.0])) == pytest.approx(np.exp(entropy([0.75, 0.25])))
    assert effective_rank(np.diag([1e8, 1.0])) == pytest.approx(np.exp(entropy([1e8, 1.0])), rel=1e-12)


@pytest.mark.parametrize("shape", [(40, 64), (5000, 64)])
def test_it_is_that_of_the_singular_values_whatever_the_number_of_rows(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape) * np.geomspace(1, 1e-6, shape[1]) + 3.0
    values = np.linalg.svd(x, compute_uv=False)
    assert effective_rank(x) == pytest.approx(np.exp(entropy(values)))
    about = np.linalg.svd(x - x.mean(axis=0), compute_uv=False)
    assert effective_rank(x, centred=True) == pytest.approx(np.exp(entropy(about)))
    assert effective_rank(x * 1e-3) == pytest.approx(effective_rank(x))


def test_a_collapse_is_seen_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    same = np.repeat(rng.normal(size=(1, 32)), 500, axis=0)
    assert effective_rank(same) == pytest.approx(1)
    noise = rng.normal(size=(5000, 32))
    assert effective_rank(noise) > 31.9
    shifted = noise + 100
    assert effective_rank(shifted) < 2 < 31.9 < effective_rank(shifted, centred=True)


def test_rows_without_a_value_are_left_out_and_without_any_there_is_no_rank() -> None:
    x = np.random.default_rng(1).normal(size=(30, 8)).astype(np.float16)
    broken = np.insert(x, 3, np.nan, axis=0)
    assert effective_rank(broken) == pytest.approx(effective_rank(x))
    assert spread_of(broken).samples == 30
    for nothing in (np.zeros((3, 4)), np.empty((0, 4)), np.full((2, 4), np.nan)):
        assert np.isnan(effective_rank(nothing))
        assert spread_of(nothing).to_json()["effective_rank"] is None
        assert str(spread_of(nothing)).startswith("no effective rank")
    with pytest.raises(ValueError, match="are \\(N, D\\), not \\(3,\\)"):
        effective_rank(np.zeros(3))


def test_what_is_told_says_the_most_there_can_be() -> None:
    few = spread_of(np.eye(5, 12))
    assert str(few) == "effective rank 5.0, 4.0 about their mean, of at most 5; 5 samples cannot show more"
    assert few.to_json() == {"effective_rank": 5.0, "effective_rank_centred": 4.0, "most": 5, "samples": 5}
    many = spread_of(np.tile(np.eye(3, dtype=np.float32), (9000, 1)))
    assert many.samples == 16_384
    assert str(many) == "effective rank 3.0, 2.0 about their mean, of at most 3"
