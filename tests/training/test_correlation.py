import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from pwcat.errors import TrainingError
from training.commands.correlate import correlate as correlate_command
from training.correlation import correlate, correlate_table, read_table
from training.figures import relations_figure

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


@pytest.fixture(scope="module")
def papers():
    """The four correlations of the paper's ten datasets, by measure."""
    found = correlate_table(read_table(PAPER), score="score", by=MEASURES, rng=np.random.default_rng(0))
    return {c.by: c for c in found}


def say(*args):
    return CliRunner().invoke(correlate_command, [str(arg) for arg in args], catch_exceptions=False)


@pytest.mark.parametrize(
    ("by", "rho", "t", "exact"),
    [
        ("spectral", 0.845, 0.0021, 0.0033),
        ("continent", 0.425, 0.221, 0.220),
        ("biome", 0.432, 0.213, 0.213),
        ("landcover", 0.298, 0.403, 0.400),
    ],
)
def test_the_papers_table_gives_the_papers_figures(papers, by, rho, t, exact):
    """Its p are Student's t; over all 3,628,800 orders spectral's is half as large again."""
    found = papers[by]
    assert round(found.rho, 3) == rho
    assert float(f"{found.p_values['t']:.{2 if t < 0.01 else 3}g}") == t
    assert float(f"{found.p_values['exact']:.{2 if t < 0.01 else 3}g}") == exact
    assert (found.p_by, found.p, found.n, found.rows, found.tied) == ("exact", found.p_values["exact"], 10, 10, 2)
    assert found.ci_low < found.rho < found.ci_high


def test_what_leaving_one_of_the_papers_datasets_out_does(papers):
    """The farthest moves; and spectral stays, whoever leaves."""
    moves = {by: max(c.leave_one_out, key=lambda left: abs(left.moved)) for by, c in papers.items()}
    told = {by: (left.dataset, round(left.rho, 3), round(left.p, 3)) for by, left in moves.items()}
    assert told == {
        "spectral": ("North America", 0.954, 0.0),
        "continent": ("Global", 0.805, 0.014),
        "biome": ("Africa", 0.218, 0.572),
        "landcover": ("Oceania", 0.084, 0.834),
    }
    spectral = papers["spectral"].leave_one_out
    assert [left.dataset for left in spectral] == [row[0] for row in DIGITISED]
    assert (round(min(left.rho for left in spectral), 3), round(max(left.p for left in spectral), 4)) == (0.787, 0.0156)
    assert {left.by for left in spectral} == {"exact"}


def test_one_of_the_papers_four_relations_is_shown(papers):
    assert {by: c.verdict.word for by, c in papers.items()} == {
        "spectral": "shown",
        "continent": "not shown",
        "biome": "not shown",
        "landcover": "not shown",
    }
    assert papers["spectral"].verdict.why == (
        "p .0033, .013 after Holm over 4; at most .016 whichever dataset is left out (Europe)."
    )
    hidden = papers["continent"].verdict
    assert (hidden.hidden_low, hidden.hidden_high) == (papers["continent"].ci_low, papers["continent"].ci_high)
    assert "Leaving out Global makes it +.81, p .014." in hidden.why
    assert hidden.hidden_high > 0.8
    assert (round(papers["biome"].detectable, 2), round(papers["biome"].detectable_family, 2)) == (0.81, 0.89)


@pytest.mark.parametrize("swapped", [names for k in range(5) for names in combinations(MEASURES, k)])
def test_every_pairing_of_the_tied_baselines_gives_the_papers_figures(swapped):
    rows = [dict(zip(("dataset", "score", *MEASURES), row, strict=True)) for row in DIGITISED]
    for name in swapped:
        rows[8][name], rows[9][name] = rows[9][name], rows[8][name]
    table, rng = pd.DataFrame(rows), np.random.default_rng(0)
    told = correlate_table(table, score="score", by=MEASURES, rng=rng, resamples=20)
    assert {c.by: (round(c.rho, 3), float(f"{c.p_values['t']:.3g}"), round(c.p * 3_628_800)) for c in told} == {
        "continent": (0.425, 0.221, 799_200),
        "biome": (0.432, 0.213, 771_328),
        "landcover": (0.298, 0.403, 1_450_340),
        "spectral": (0.845, 0.00209, 11_908),
    }
    assert {c.verdict.word for c in told if c.by != "spectral"} == {"not shown"}
    assert next(c for c in told if c.by == "spectral").verdict.word == "shown"


def test_the_table_for_people_fits_80_columns():
    text = say(PAPER).stdout
    assert max(map(len, text.splitlines())) <= 80
    assert "spectral: shown. p .0033" in text
    assert "2 datasets share their score with another: which of them has which diversity" in " ".join(text.split())
    assert "Africa" in text
    assert "Power: 10 datasets find a true |rho| of .81" in text


def test_json_holds_everything():
    (told,) = json.loads(say(PAPER, "--by", "spectral", "--given", "continent", "--json").stdout)
    assert told["p_values"].keys() == {"exact", "t"}
    assert told["intervals"].keys() == {"bca", "percentile", "fisher"}
    assert len(told["leave_one_out"]) == len(told["datasets"]) == len(told["values"]) == len(told["scores"]) == 10
    assert told["score_sd"] == [None] * 10
    assert told["partial"]["given"] == ["continent"]
    assert told["partial"]["freedom"] == 7
    assert told["verdict"]["word"] == "shown"


@pytest.mark.parametrize("method", ["pearson", "kendall"])
def test_other_coefficients_are_told_by_their_names(method):
    text = say(PAPER, "--method", method).stdout
    assert {"pearson": "Pearson's r with score", "kendall": "Kendall's tau-b with score"}[method] in text
    assert {"pearson": "Student’s t", "kendall": "the normal approximation"}[method] in text


def test_covariates_are_told(tmp_path):
    text = say(PAPER, "--by", "spectral,biome", "--given", "continent").stdout
    assert "Given continent" in text
    assert "7 df" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_plot_is_written(tmp_path, papers):
    say(PAPER, "--plot", tmp_path / "found.png")
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
    figure = relations_figure(list(papers.values()))
    assert len(figure.axes) == 5
    assert "Spearman 0.84, p = 0.003   (n = 10)" in {axes.get_title(loc="left") for axes in figure.axes}
    with pytest.raises(TrainingError, match=r"the figure cannot be written to .*found\.nonsense"):
        say(PAPER, "--plot", tmp_path / "found.nonsense")


def test_a_constant_side_has_no_correlation():
    found = correlate(np.zeros(6), np.arange(6.0), by="continent", rng=np.random.default_rng(0))
    assert np.isnan([found.rho, found.p, found.p_holm, found.ci_low, found.ci_high]).all()
    assert (found.intervals["bca"].resamples, found.intervals["bca"].degenerate) == (0, 49_999)
    assert (found.verdict.word, found.verdict.why[:11]) == ("not shown", "one side is")


def test_a_constant_side_can_be_told(tmp_path):
    pd.DataFrame({"score": range(5), "a": [1] * 5, "b": [3, 1, 2, 5, 4]}).to_csv(tmp_path / "t.csv", index=False)
    text = say(tmp_path / "t.csv", "--by", "a,b").stdout
    assert "a: not shown. One side is the same for all datasets" in text
    assert "none" in text
    a, b = json.loads(say(tmp_path / "t.csv", "--by", "a,b", "--json").stdout)
    assert (a["rho"], a["p_holm"]) == (None, None)
    assert b["p_holm"] == b["p"]


def test_a_perfect_order_has_no_bootstrap_interval_but_a_verdict():
    found = correlate(np.arange(6.0), np.arange(6.0) ** 3, by="x", rng=np.random.default_rng(0))
    assert (found.rho, found.p) == (1, pytest.approx(2 / 720))
    assert np.isnan([found.ci_low, found.intervals["fisher"].low]).all()
    assert found.verdict.word == "shown"


def test_datasets_without_a_value_are_left_out_and_named(tmp_path):
    table = pd.DataFrame({"dataset": list("abcde"), "score": [1, 2, 3, 4, None], "x": [1, 3, None, 4, 5]})
    (found,) = correlate_table(table, score="score", by=["x"], rng=np.random.default_rng(0))
    assert (found.n, found.datasets, found.without_value) == (3, ("a", "b", "d"), ("c", "e"))
    table.to_csv(tmp_path / "t.csv", index=False)
    text = say(tmp_path / "t.csv", "--by", "x").stdout
    assert "Left out of x for want of a value: c, e." in text
    assert "Nothing could be shown: the smallest p of 3 datasets is .333." in " ".join(text.split())


def test_what_else_is_asked_changes_nothing_but_the_correction(papers):
    (alone,) = correlate_table(read_table(PAPER), score="score", by=["biome"], rng=np.random.default_rng(0))
    assert (alone.intervals, alone.leave_one_out) == (papers["biome"].intervals, papers["biome"].leave_one_out)
    assert (alone.p, alone.p_holm) == (papers["biome"].p, alone.p)


def test_the_same_seed_gives_the_same():
    table = read_table(PAPER)
    runs = [correlate_table(table, score="score", by=["biome"], rng=np.random.default_rng(s)) for s in (0, 0, 1)]
    assert runs[0][0].to_json() == runs[1][0].to_json()
    assert runs[0][0].intervals["bca"] != runs[2][0].intervals["bca"]
    assert runs[0][0].p == runs[2][0].p


def test_many_datasets_have_drawn_orders_with_bounds(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=30)
    table = pd.DataFrame({"dataset": [f"set {i}" for i in range(30)], "x": x, "score": x + rng.normal(size=30)})
    table.to_csv(tmp_path / "t.csv", index=False)
    text = say(tmp_path / "t.csv", "--by", "x").stdout
    assert "99,999 drawn orders (99 % bounds: x" in text
    (found,) = correlate_table(table, score="score", by=["x"], rng=rng)
    assert found.p_low < found.p < found.p_high
    assert {left.by for left in found.leave_one_out} == {"t"}


def test_faults_of_a_table_are_all_listed(tmp_path):
    table = pd.DataFrame({"score": [1, 2, 3], "name": ["a", "b", "c"]})
    with pytest.raises(
        TrainingError,
        match=r"no column 'biome'; no column 'cloud'; column 'name' holds text\. Its columns are score, name",
    ):
        correlate_table(table, score="score", by=["biome", "name"], given=["cloud"], rng=np.random.default_rng(0))
    with pytest.raises(TrainingError, match="at least three"):
        correlate(np.arange(2), np.arange(2), by="x", rng=np.random.default_rng(0))
    with pytest.raises(TrainingError, match="cannot be read as CSV"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(TrainingError, match="no column 'site' that would name the datasets"):
        correlate_table(table, score="score", by=["score"], unit="site", rng=np.random.default_rng(0))
    with pytest.raises(
        TrainingError, match=r"no column to relate to 'score' was named: name one or more of score, name"
    ):
        correlate_table(table, score="score", by=[], rng=np.random.default_rng(0))
    nameless = table.assign(dataset=["a", None, "c"])
    with pytest.raises(TrainingError, match="rows 2 have no name in the column 'dataset'"):
        correlate_table(nameless, score="score", by=["score"], rng=np.random.default_rng(0))
