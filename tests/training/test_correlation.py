from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pwcat.errors import TrainingError
from training.correlation import correlate, correlate_table, read_table, spearman

# Table digitised from the paper's figure: mean score and four diversities of ten datasets. Baselines B and C have one
# score, so how their diversities pair up changes no rank correlation; they stand as printed, left with left.
PAPER = Path(__file__).parent / "pretrain_where.csv"


@pytest.mark.parametrize(
    ("by", "rho", "p"),
    [("spectral", 0.845, 0.002), ("continent", 0.425, 0.221), ("biome", 0.432, 0.213), ("landcover", 0.298, 0.403)],
)
def test_the_papers_table_gives_the_papers_figures(by, rho, p):
    (found,) = correlate_table(read_table(PAPER), score="score", by=[by], rng=np.random.default_rng(0))
    assert round(found.rho, 3) == rho
    assert round(found.p, 3) == p
    assert (found.method, found.n) == ("t", 10)
    assert found.ci_low < found.rho < found.ci_high


@pytest.mark.parametrize("by", ["spectral", "continent", "biome", "landcover"])
def test_pairing_of_the_tied_baselines_changes_nothing(by):
    table = read_table(PAPER)
    swapped = table.copy()
    swapped.loc[[8, 9], by] = table.loc[[9, 8], by].to_numpy()
    assert spearman(swapped[by], swapped["score"]) == spearman(table[by], table["score"])


@pytest.mark.parametrize("n", [4, 6, 7])
def test_exact_p_is_scipys_permutation_test(n):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=n), rng.integers(4, size=n).astype(float)
    rho, p, method = spearman(x, y)
    oracle = stats.permutation_test(
        (x,), lambda a: stats.spearmanr(a, y).statistic, permutation_type="pairings", n_resamples=np.inf
    )
    assert method == "exact"
    assert rho == pytest.approx(stats.spearmanr(x, y).statistic)
    share = np.mean(np.abs(oracle.null_distribution) >= abs(rho) - 1e-9)
    assert p == pytest.approx(share)


def test_a_perfect_order_of_five_has_two_of_its_orders():
    rho, p, _ = spearman(np.arange(5.0), np.arange(5.0) ** 3)
    assert (rho, p) == (pytest.approx(1), pytest.approx(2 / 120))


def test_a_constant_side_has_no_correlation():
    found = correlate(np.zeros(6), np.arange(6.0), by="continent", rng=np.random.default_rng(0))
    assert np.isnan([found.rho, found.p, found.ci_low, found.ci_high]).all()
    assert found.resamples == 0


def test_datasets_without_a_value_are_left_out():
    table = pd.DataFrame({"score": [1, 2, 3, 4, None], "a": [1, 2, None, 4, 5]})
    (found,) = correlate_table(table, score="score", by=["a"], rng=np.random.default_rng(0))
    assert found.n == 3


def test_faults_of_a_table_are_all_listed(tmp_path):
    table = pd.DataFrame({"score": [1, 2, 3], "name": ["a", "b", "c"]})
    with pytest.raises(
        TrainingError, match=r"no column 'biome'; column 'name' holds text\. Its columns are score, name"
    ):
        correlate_table(table, score="score", by=["biome", "name"], rng=np.random.default_rng(0))
    with pytest.raises(TrainingError, match="at least three"):
        correlate(np.arange(2), np.arange(2), by="x", rng=np.random.default_rng(0))
    with pytest.raises(TrainingError, match="cannot be read as CSV"):
        read_table(tmp_path / "none.csv")
