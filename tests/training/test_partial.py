"""Partial correlation: regressions by hand, the closed formula and every order are the truth; refusals are plain."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from pwcat.errors import TrainingError
from training.correlation import correlate_table
from training.relating.orders import exact_p
from training.relating.partial import partial


def drawn(n, *, seed):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    return z + rng.normal(size=n), z + rng.normal(size=n), z


def closed(x, y, z):
    """The partial correlation of one covariate from the three of each two."""
    xy, xz, yz = (np.corrcoef(a, b)[0, 1] for a, b in ((x, y), (x, z), (y, z)))
    return (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))


@settings(max_examples=20)
@given(st.integers(6, 8), st.integers(0, 10_000), st.sampled_from(["spearman", "pearson"]))
def test_one_covariate_gives_the_closed_formula(n, seed, method):
    x, y, z = drawn(n, seed=seed)
    sides = [stats.rankdata(side) for side in (x, y, z)] if method == "spearman" else (x, y, z)
    assume(max(abs(np.corrcoef(sides[2], side)[0, 1]) for side in sides[:2]) < 0.999)  # else nothing is left: refused
    found = partial(x, y, given=pd.DataFrame({"z": z}), method=method, rng=np.random.default_rng(0))
    assert found.rho == pytest.approx(closed(*sides), abs=1e-9)
    t = abs(found.rho) * np.sqrt((n - 3) / (1 - found.rho**2))
    assert (found.freedom, found.values["t"]) == (n - 3, pytest.approx(2 * stats.t.sf(t, n - 3)))


def test_several_covariates_are_regressed_out():
    rng = np.random.default_rng(1)
    x, y, cloud = rng.normal(size=(3, 12))
    place = rng.choice(["Africa", "Asia", "Europe"], size=12)
    given_ = pd.DataFrame({"cloud": cloud, "place": place})
    design = np.column_stack([np.ones(12), cloud, place == "Asia", place == "Europe"])
    left = [side - design @ np.linalg.lstsq(design, side, rcond=None)[0] for side in (x, y)]
    found = partial(x, y, given=given_, method="pearson", rng=rng)
    assert found.rho == pytest.approx(np.corrcoef(*left)[0, 1])
    assert (found.given, found.freedom, found.draws) == (("cloud", "place"), 7, 99_999)
    assert found.low < found.p < found.high


def test_p_is_freedman_and_lanes_over_every_order():
    """Each order by hand: permute what is left of y, put it back on the fit, and regress again."""
    x, y, z = drawn(7, seed=3)
    design = np.column_stack([np.ones(7), z])

    def left(side):
        return side - design @ np.linalg.lstsq(design, side, rcond=None)[0]

    fit, rest = y - left(y), left(y)
    observed = abs(np.corrcoef(left(x), rest)[0, 1])
    found = [abs(np.corrcoef(left(x), left(fit + np.array(order)))[0, 1]) for order in permutations(rest)]
    ours = partial(x, y, given=pd.DataFrame({"z": z}), method="pearson", rng=np.random.default_rng(0))
    assert ours.draws == 0
    assert ours.p == pytest.approx(np.mean(np.array(found) >= observed - 1e-9))


def test_a_covariate_apart_from_both_sides_leaves_the_exact_p():
    x, y = np.array([1.0, 2, 3, 3, 2, 1, -4, -8]), np.array([2.0, 1, 3, 3, 1, 2, -5, -7])
    z = np.array([1.0, 1, 1, -1, -1, -1, 0, 0])
    found = partial(x, y, given=pd.DataFrame({"z": z}), method="pearson", rng=np.random.default_rng(0))
    assert found.rho == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert found.p == pytest.approx(exact_p(x, y, method="pearson"), abs=0.02)


def test_its_level_holds_and_it_finds_what_is_there():
    """Of 300 tables of seven datasets whose sides share nothing but a covariate, 5 % are 15, and 25 the upper 1 %."""
    found, there = 0, 0
    for seed in range(300):
        x, y, z = drawn(7, seed=seed)
        if 1 in {abs(stats.spearmanr(side, z).statistic) for side in (x, y)}:
            continue  # ranks that leave nothing are refused: a table in which nothing is found
        given_, rng = pd.DataFrame({"z": z}), np.random.default_rng(0)
        found += partial(x, y, given=given_, method="spearman", rng=rng).p <= 0.05
        if seed < 60:
            there += partial(x, x + 0.05 * y, given=given_, method="spearman", rng=rng).p <= 0.05
    assert found <= 25
    assert there >= 48


def test_a_confounded_relation_is_suggestive_at_most():
    """Both sides follow the number of samples alone: strong together, nothing given it."""
    rng = np.random.default_rng(4)
    n = np.arange(12.0)
    table = pd.DataFrame({"n": n, "x": n + 0.8 * rng.normal(size=12), "score": n + 0.8 * rng.normal(size=12)})
    (bare,) = correlate_table(table, score="score", by=["x"], rng=rng)
    (given_,) = correlate_table(table, score="score", by=["x"], given=["n"], rng=rng)
    assert (bare.verdict.word, given_.verdict.word) == ("shown", "suggestive")
    assert "given n" in given_.verdict.why


@pytest.mark.parametrize(
    ("given_", "method", "message"),
    [
        (
            {"a": [1, 5, 2, 4, 3, 6], "b": [2, 1, 3, 6, 5, 4]},
            "spearman",
            r"x with score: 6 datasets are too few for a partial correlation given a, b: 2 covariates \(a, b\) leave "
            r"6 - 2 - 2 = 2 degrees of freedom, and 3 are needed\. Give fewer covariates, or add datasets",
        ),
        ({"where": list("abcdef")}, "spearman", r"5 covariates \(where = b, where = c.*leave 6 - 2 - 5 = -1 degrees"),
        (
            {"a": [1] * 6},
            "spearman",
            "'a' is the same for all 6 datasets and explains nothing: leave it out of --given",
        ),
        ({"a": [1, 2, 3, 5, 4, 6]}, "kendall", "no partial correlation by Kendall's tau here"),
        ({"a": [4, 2, 6, 10, 8, 12]}, "spearman", "a wholly give the measure or the score of these 6 datasets"),
    ],
)
def test_what_leaves_too_little_is_refused(given_, method, message):
    table = pd.DataFrame({"x": [2, 1, 3, 5, 4, 6], "score": [1, 3, 2, 4, 6, 5], **given_})
    with pytest.raises(TrainingError, match=message):
        correlate_table(table, score="score", by=["x"], given=list(given_), method=method, rng=np.random.default_rng(0))


def test_words_that_differ_within_a_dataset_are_refused():
    table = pd.DataFrame({"dataset": list("aabcdefgh"), "x": range(9), "score": [2, 1, 3, 5, 4, 7, 6, 9, 8]})
    table["where"] = ["n", "s", "n", "s", "n", "s", "n", "s", "n"]
    with pytest.raises(TrainingError, match=r"the same in all rows of a dataset, and words differ: 'where' within a$"):
        correlate_table(table, score="score", by=["x"], given=["where"], rng=np.random.default_rng(0))


def test_covariates_that_say_the_same_are_refused():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(9, 3)), columns=["x", "score", "a"]).assign(b=lambda t: 2 * t["a"])
    with pytest.raises(TrainingError, match=r"the covariates a, b give one another .* only 1 of 2 are independent"):
        correlate_table(table, score="score", by=["x"], given=["a", "b"], rng=rng)
