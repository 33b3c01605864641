"""Ranks as the paper prints them, and how sure they are over seeds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from pwcat.errors import TrainingError
from training.correlation import mean_dense_ranks, rank_stability
from training.relating.ranks import dense_ranks

# FMoW accuracy, MOSAIKS R2, ForTy F1, GEO-Bench of the paper's main table: Kaur et al. (2026), arXiv:2604.21104
PAPER = {
    "Europe": (0.33, 0.23, 0.37, 0.51),
    "North America": (0.32, 0.22, 0.36, 0.49),
    "South America": (0.27, 0.20, 0.36, 0.49),
    "Asia": (0.27, 0.20, 0.35, 0.47),
    "Global": (0.23, 0.17, 0.35, 0.46),
    "Oceania": (0.23, 0.14, 0.33, 0.45),
    "Africa": (0.15, 0.08, 0.31, 0.41),
    "none": (0.12, 0.03, 0.30, 0.46),
}


def test_ranks_are_the_papers():
    ranks = mean_dense_ranks(PAPER)
    assert [ranks[name] for name in list(PAPER)[:-1]] == [0.0, 1.0, 1.5, 2.0, 2.75, 3.5, 4.5]
    assert [mean_dense_ranks({k: v for k, v in PAPER.items() if k != "none"})[name] for name in list(PAPER)[:-1]] == [
        0.0, 1.0, 1.5, 2.0, 2.75, 3.5, 4.5,
    ]  # fmt: skip


def test_the_papers_last_row_does_not_follow_from_its_cells():
    """It prints 5.25 for "none"; its cells give 4.75, and a GEO-Bench score of .41 in place of .46 would give 5.25."""
    assert mean_dense_ranks(PAPER)["none"] == 4.75
    other = mean_dense_ranks({**PAPER, "none": (0.12, 0.03, 0.30, 0.41)})
    assert other["none"] == 5.25
    assert other["Africa"] == 4.5


@given(arrays(float, st.tuples(st.integers(1, 6), st.integers(1, 3)), elements=st.integers(0, 4).map(float)))
def test_dense_ranks_are_scipys(scores):
    assert dense_ranks(scores) == pytest.approx(stats.rankdata(-scores, method="dense", axis=0) - 1)
    assert dense_ranks(scores[None])[0] == pytest.approx(dense_ranks(scores))


def test_scores_equal_as_printed_share_a_rank():
    assert mean_dense_ranks({"a": [0.501], "b": [0.499]}) == {"a": 0, "b": 0}
    assert mean_dense_ranks({"a": [0.501], "b": [0.499]}, decimals=3) == {"a": 0, "b": 1}


def test_how_probably_one_ranks_above_another():
    rng = np.random.default_rng(0)
    runs = {"far": rng.normal(0.9, 0.01, (5, 2)), "b": rng.normal(0.5, 0.1, (5, 2)), "c": rng.normal(0.5, 0.1, (9, 2))}
    found = rank_stability(runs, rng=rng)
    assert found.names == ("far", "b", "c")
    assert found.above[0, 1] == found.above[0, 2] == found.first[0] == 1
    assert 0 < found.above[1, 2] < 1
    assert found.above[1, 2] + found.above[2, 1] == pytest.approx(1)
    assert np.isnan(np.diag(found.above)).all()
    assert found.first.sum() == pytest.approx(1)
    assert (found.low <= found.rank).all()
    assert (found.rank <= found.high).all()


def test_equal_runs_are_a_toss():
    runs = {"a": np.full((3, 2), 0.4), "b": np.full((2, 2), 0.4)}
    found = rank_stability(runs, rng=np.random.default_rng(0))
    assert (found.above[0, 1], found.first.tolist()) == (0.5, [0.5, 0.5])
    assert found.rank.tolist() == [0, 0]


def test_how_probably_is_what_counting_every_draw_gives():
    """One task, two seeds each: all 16 draws of seeds by hand."""
    runs = {"a": np.array([[0.1], [0.5]]), "b": np.array([[0.2], [0.3]])}
    means = [[(t[i, 0] + t[j, 0]) / 2 for i in range(2) for j in range(2)] for t in runs.values()]
    wins = np.mean([1.0 if a > b + 1e-9 else 0.5 if abs(a - b) < 1e-9 else 0.0 for a in means[0] for b in means[1]])
    found = rank_stability(runs, rng=np.random.default_rng(0), resamples=20_000)
    assert found.above[0, 1] == pytest.approx(wins, abs=0.015)


def test_what_has_no_repeats_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(TrainingError, match=r"two seeds of each, and there are 2 datasets, with a single seed of b"):
        rank_stability({"a": np.ones((2, 1)), "b": np.ones((1, 1))}, rng=rng)
    with pytest.raises(TrainingError, match="there are 1 datasets"):
        rank_stability({"a": np.ones((2, 1))}, rng=rng)
    with pytest.raises(TrainingError, match="the same tasks of every dataset"):
        rank_stability({"a": np.ones((2, 1)), "b": np.ones((2, 3))}, rng=rng)


def test_what_a_draw_does_to_all_datasets_alike_changes_no_rank():
    draws = np.random.default_rng(1).normal(0.5, 0.1, size=(20, 1))
    runs = {"better": draws + 0.02, "a": draws, "same as a": draws}
    apart, paired = (rank_stability(runs, rng=np.random.default_rng(0), paired=p) for p in (False, True))
    assert apart.first[0] < 0.8
    assert paired.first.tolist() == [1, 0, 0]
    assert (paired.above[0, 1], paired.above[1, 2]) == (1, 0.5)
    assert paired.low.tolist() == paired.high.tolist() == [0, 1, 1]
    with pytest.raises(TrainingError, match="paired seeds are the same of every dataset"):
        rank_stability({"a": np.ones((2, 1)), "b": np.ones((3, 1))}, rng=np.random.default_rng(0), paired=True)
