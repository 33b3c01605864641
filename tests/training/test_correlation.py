import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import stats

from pwcat.errors import TrainingError
from training.commands import correlate as correlate_command
from training.correlation import correlate, correlate_table, read_table, spearman

# Table digitised from the paper's figure: mean score and four diversities of ten datasets. Baselines B and C have one
# score, so how their diversities pair up changes no rank correlation; they stand as printed, left with left.
PAPER = Path(__file__).parent / "pretrain_where.csv"
MEASURES = ("continent", "biome", "landcover", "spectral")

# The same points, written down anew: read off the figure on diversity and mean performance of Kaur et al. (2026),
# Pretrain Where?, arXiv:2604.21104; the mean performance equals the mean of the paper's four task scores. The paper
# prints rho.
DIGITISED = [
    ("Europe", 0.3600, 0, 1.470, 1.671, 2.461),
    ("North America", 0.3475, 0, 1.343, 1.931, 1.788),
    ("South America", 0.3300, 0, 1.633, 1.526, 2.420),
    ("Asia", 0.3225, 0, 1.938, 1.793, 2.297),
    ("Global", 0.3025, 1.791, 2.202, 1.861, 2.119),
    ("Oceania", 0.2875, 0, 1.475, 1.427, 2.133),
    ("Africa", 0.2375, 0, 1.249, 1.604, 1.611),
    ("baseline A", 0.3750, 1.582, 2.027, 1.838, 2.907),
    ("baseline B", 0.3650, 1.540, 1.902, 1.575, 2.478),
    ("baseline C", 0.3650, 1.623, 2.256, 1.796, 3.174),
]


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


@pytest.mark.parametrize("swapped", [names for k in range(5) for names in combinations(MEASURES, k)])
def test_every_pairing_of_the_tied_baselines_gives_the_papers_figures(swapped, tmp_path):
    table = tmp_path / "table.csv"
    rows = [dict(zip(("dataset", "score", *MEASURES), row, strict=True)) for row in DIGITISED]
    for name in swapped:
        rows[8][name], rows[9][name] = rows[9][name], rows[8][name]
    pd.DataFrame(rows).to_csv(table, index=False)
    args = [str(table), "--score", "score", "--by", "continent,biome,landcover,spectral", "--json"]
    told = json.loads(CliRunner().invoke(correlate_command, args, catch_exceptions=False).stdout)
    assert {t["by"]: (round(t["rho"], 3), float(f"{t['p']:.3g}")) for t in told} == {
        "continent": (0.425, 0.221),
        "biome": (0.432, 0.213),
        "landcover": (0.298, 0.403),
        "spectral": (0.845, 0.00209),
    }
    assert {(t["n"], t["tied"]) for t in told} == {(10, 2)}


def test_the_note_on_ties_is_for_people_too():
    text = CliRunner().invoke(correlate_command, [str(PAPER)], catch_exceptions=False).stdout
    assert "2 datasets share their score with another: which of them has which diversity changes no rho" in text


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
