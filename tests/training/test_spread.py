"""Intervals over datasets and seeds, and rows that are averaged: scipy's bootstrap and hand-made tables are the truth."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from training.correlation import correlate_table
from training.relating.estimates import coefficient
from training.relating.influence import leave_one_out
from training.relating.intervals import bca, datasets_and_seeds, fisher, percentile, resampled, spread_of_z
from training.relating.units import units_of

SCIPY = {"spearman": stats.spearmanr, "pearson": stats.pearsonr}


def pair(n, *, seed, slope=1.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return x, slope * x + rng.normal(size=n)


@pytest.mark.parametrize("method", ["spearman", "pearson"])
@pytest.mark.parametrize("kind", ["percentile", "BCa"])
def test_bootstrap_intervals_are_scipys(method, kind):
    """Another draw of 20,000 resamples: bounds agree to what the draw leaves open."""
    x, y = pair(15, seed=2)
    drawn = resampled(x, y, method=method, rng=np.random.default_rng(0), resamples=20_000)
    without = np.array([left.rho for left in leave_one_out(x, y, names=list(map(str, range(15))), method=method)])
    ours = (
        percentile(drawn)
        if kind == "percentile"
        else bca(drawn, estimate=coefficient(x, y, method=method), without_N=without)
    )
    theirs = stats.bootstrap(
        (x, y),
        lambda a, b: SCIPY[method](a, b).statistic,
        paired=True,
        vectorized=False,
        n_resamples=4_000,
        method=kind,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)
    assert (ours.resamples, ours.degenerate) == (20_000, 0)


def test_resampled_tau_is_that_of_each_resample():
    """Of the same multiplicities, written out as tables."""
    x, y = (np.round(side) for side in pair(8, seed=3))
    found = resampled(x, y, method="kendall", rng=np.random.default_rng(5), resamples=200)
    times = np.random.default_rng(5).multinomial(8, np.full(8, 1 / 8), size=200)
    rows = [np.repeat(np.arange(8), each) for each in times]
    oracle = [stats.kendalltau(x[row], y[row]).statistic for row in rows]
    assert found == pytest.approx(oracle, nan_ok=True)


def test_resamples_of_one_value_alone_are_counted():
    """Of three datasets a third of the resamples with one value twice leave one side constant: 1/9 hold but one dataset."""
    drawn = resampled(np.arange(3.0), np.array([0.0, 2, 1]), method="spearman", rng=np.random.default_rng(0))
    found = percentile(drawn)
    assert found.resamples + found.degenerate == 49_999
    assert found.degenerate / 49_999 == pytest.approx(1 / 9, abs=0.01)


def test_fishers_interval_by_hand():
    found = fisher(0.5, n=12, method="pearson")
    z = np.arctanh(0.5) + np.array([-1, 1]) * 1.959964 / 3
    assert (found.low, found.high) == pytest.approx(np.tanh(z), abs=1e-6)
    oracle = stats.pearsonr(*pair(12, seed=0))
    ours = fisher(oracle.statistic, n=12, method="pearson")
    assert (ours.low, ours.high) == pytest.approx(tuple(oracle.confidence_interval(0.95)))
    assert spread_of_z(0.5, n=12, method="spearman") == pytest.approx(np.sqrt(1.125 / 9))
    assert spread_of_z(0.5, n=12, method="kendall") == pytest.approx(np.sqrt(0.437 / 8))
    assert np.isnan(fisher(0.5, n=3, method="spearman").low)
    assert np.isnan(fisher(1.0, n=9, method="spearman").low)


@pytest.mark.parametrize(("n", "rho"), [(7, 0.0), (10, 0.4), (10, 0.8)])
def test_intervals_hold_the_truth_as_often_as_they_say(n, rho):
    """Of 200 tables from a normal relation; 95 % would be 190 of them, and 181 the binomial's lower 0.2 %."""
    rng, held = np.random.default_rng(n), dict.fromkeys(("bca", "percentile", "fisher"), 0)
    r = 2 * np.sin(np.pi * rho / 6)
    for _ in range(200):
        x = rng.normal(size=n)
        y = r * x + np.sqrt(1 - r * r) * rng.normal(size=n)
        drawn = resampled(x, y, method="spearman", rng=rng, resamples=500)
        estimate = coefficient(x, y, method="spearman")
        without = np.array(
            [coefficient(np.delete(x, i), np.delete(y, i), method="spearman") for i in range(n)],
        )
        found = {
            "bca": bca(drawn, estimate=estimate, without_N=without),
            "percentile": percentile(drawn),
            "fisher": fisher(estimate, n=n, method="spearman"),
        }
        for name, interval in found.items():
            held[name] += interval.low <= rho <= interval.high
    assert min(held.values()) >= 181


SEEDS = pd.DataFrame(
    {
        "dataset": ["b", "a", "b", "c", "a", "d", "d", "d", "e"],
        "x": [0.1, 2, 0.1, 3, 2, 5, 5, 5, 4],
        "score": [1, 4, 3, 5, 6, 10, 9, 8, 7.5],
        "where": ["n", "s", "n", "s", "s", "n", "n", "n", "s"],
    }
)


def test_rows_of_a_dataset_are_averaged_first():
    units = units_of(SEEDS)
    assert units.table.to_dict("index") == {
        "b": {"dataset": "b", "x": 0.1, "score": 2, "where": "n"},
        "a": {"dataset": "a", "x": 2, "score": 5, "where": "s"},
        "c": {"dataset": "c", "x": 3, "score": 5, "where": "s"},
        "d": {"dataset": "d", "x": 5, "score": 9, "where": "n"},
        "e": {"dataset": "e", "x": 4, "score": 7.5, "where": "s"},
    }
    assert units.repeated == 3
    (found,) = correlate_table(SEEDS, score="score", by=["x"], rng=np.random.default_rng(0))
    assert (found.n, found.rows, found.tied) == (5, 9, 2)
    assert found.rho == pytest.approx(stats.spearmanr([0.1, 2, 3, 5, 4], [2, 5, 5, 9, 7.5]).statistic)
    assert found.score_sd == pytest.approx((np.sqrt(2), np.sqrt(2), np.nan, 1, np.nan), nan_ok=True)
    assert found.intervals["seeds"].resamples > 49_500


def test_seeds_make_no_datasets_of_themselves():
    """Ten rows a dataset with the same score tell no more than one."""
    once = pd.DataFrame(
        {"dataset": list("abcdefg"), "x": [1, 3, 2, 5, 4, 7, 6], "score": [0.1, 0.2, 0.5, 0.3, 0.6, 0.4, 0.7]}
    )
    often = pd.concat([once] * 10, ignore_index=True)
    (one,) = correlate_table(once, score="score", by=["x"], rng=np.random.default_rng(0))
    (ten,) = correlate_table(often, score="score", by=["x"], rng=np.random.default_rng(0))
    assert (ten.n, ten.rho, ten.p, ten.intervals["bca"]) == (one.n, one.rho, one.p, one.intervals["bca"])
    seeds, alone = ten.intervals["seeds"], one.intervals["percentile"]
    assert "seeds" not in one.intervals
    assert (seeds.low, seeds.high) == pytest.approx((alone.low, alone.high), abs=0.03)


def test_the_interval_over_seeds_is_that_of_drawing_one_by_one():
    """Datasets, then rows within each, in plain loops."""
    rng, units, found = np.random.default_rng(0), units_of(SEEDS), []
    rows = [SEEDS.loc[SEEDS["dataset"] == name, ["x", "score"]].to_numpy() for name in "bacde"]
    for _ in range(4000):
        drawn = [rows[i] for i in rng.integers(5, size=5)]
        x, y = np.transpose([own[rng.integers(len(own), size=len(own))].mean(axis=0) for own in drawn])
        found.append(coefficient(np.round(x, 9), np.round(y, 9), method="pearson"))
    members, counts = units.members()
    ours = datasets_and_seeds(
        SEEDS["x"].to_numpy(float), SEEDS["score"].to_numpy(float), members_NS=members, counts_N=counts,
        method="pearson", rng=rng,
    )  # fmt: skip
    low, high = np.nanquantile(found, [0.025, 0.975])
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.05)
    assert ours.degenerate / 49_999 == pytest.approx(np.isnan(found).mean(), abs=0.004)


@settings(max_examples=25)
@given(st.integers(3, 6), st.integers(0, 1000), st.sampled_from(["spearman", "pearson"]))
def test_one_row_a_dataset_is_the_bootstrap_over_datasets(n, seed, method):
    x, y = pair(n, seed=seed)
    members = np.arange(n)[:, None]
    both = datasets_and_seeds(
        x,
        y,
        members_NS=members,
        counts_N=np.ones(n, int),
        method=method,
        rng=np.random.default_rng(seed),
        resamples=2_000,
    )
    alone = percentile(resampled(x, y, method=method, rng=np.random.default_rng(seed), resamples=2_000))
    assert (both.low, both.high, both.resamples, both.degenerate) == (
        alone.low,
        alone.high,
        alone.resamples,
        alone.degenerate,
    )


def test_leave_one_out_is_what_it_says():
    x, y = pair(9, seed=5)
    for left, name in zip(leave_one_out(x, y, names=list("abcdefghi"), method="pearson"), "abcdefghi", strict=True):
        kept = [i for i in range(9) if "abcdefghi"[i] != name]
        assert left.dataset == name
        assert left.rho == pytest.approx(stats.pearsonr(x[kept], y[kept]).statistic)
        assert left.moved == pytest.approx(left.rho - stats.pearsonr(x, y).statistic)
        assert left.by == "exact"
