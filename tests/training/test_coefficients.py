"""Coefficients and their p: scipy and every order gone through one by one are the truth."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from training.relating.estimates import METHODS, coefficient, coefficients
from training.relating.orders import (
    exact_p,
    exact_within,
    kendall_critical,
    smallest_p,
    spearman_critical,
)
from training.relating.several import benjamini_hochberg, holm
from training.relating.significance import drawn_bounds, significance, student_p

SCIPY = {"spearman": stats.spearmanr, "pearson": stats.pearsonr, "kendall": stats.kendalltau}


def pair(n, *, seed, ties=False):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    y = 0.5 * x + rng.normal(size=n)
    return (np.round(x), np.round(y)) if ties else (x, y)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ties", [False, True])
def test_coefficients_are_scipys(method, ties):
    x, y = np.transpose([pair(9, seed=seed, ties=ties) for seed in range(20)], (1, 0, 2))
    found = coefficients(x, y, method=method)
    assert found == pytest.approx([SCIPY[method](a, b).statistic for a, b in zip(x, y, strict=True)], abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_side_has_no_coefficient_whatever_rounding_makes_of_its_mean(method):
    x, y = np.full((1, 7), 0.1), np.arange(7.0)[None]
    assert np.isnan(coefficients(x, y, method=method)).all()
    assert np.isnan(coefficients(y, x, method=method)).all()
    assert np.isnan(exact_p(x[0], y[0], method=method))


def every_order(x, y, method):
    """The share of orders with a coefficient at least as large, one by one."""
    observed = abs(SCIPY[method](x, y).statistic)
    found = np.array([abs(SCIPY[method](x, order).statistic) for order in permutations(y)])
    return np.mean(found >= observed - 1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "ties"), [(3, False), (4, True), (5, False), (6, True), (6, False)])
def test_exact_p_is_the_share_of_all_orders(method, n, ties):
    x, y = pair(n, seed=n, ties=ties)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        x[0] += 1
        y[-1] += 1
    assert exact_p(x, y, method=method) == pytest.approx(every_order(x, y, method))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ties", [False, True])
def test_exact_p_of_eight_is_the_share_of_all_40320_orders(method, ties):
    x, y = pair(8, seed=3, ties=ties)
    orders = np.array(list(permutations(range(8))))
    found = np.abs(coefficients(x[None], y[orders], method=method))
    assert exact_p(x, y, method=method) == pytest.approx(np.mean(found >= abs(coefficient(x, y, method=method)) - 1e-9))


# How many of all 3,628,800 orders are at least as extreme, counted once by going through every one of them.
COUNTED = {
    "spectral": (11_908, 49_176, 11_132),
    "continent": (799_200, 869_040, 789_120),
    "biome": (771_328, 676_576, 907_772),
    "landcover": (1_450_340, 1_083_938, 1_557_120),
}


@pytest.mark.parametrize("by", COUNTED)
def test_exact_p_of_the_papers_ten_datasets(by):
    table = pd.read_csv(Path(__file__).parent / "pretrain_where.csv")
    x, y = table[by].to_numpy(float), table["score"].to_numpy(float)
    found = [round(exact_p(x, y, method=method) * 3_628_800, 6) for method in ("spearman", "pearson", "kendall")]
    assert found == list(COUNTED[by])


def test_exact_p_of_all_3628800_orders_of_ten():
    ten = np.arange(10.0)
    for method in METHODS:
        assert exact_p(ten, ten, method=method) == pytest.approx(2 / 3_628_800)
        assert exact_p(ten, -ten, method=method) == pytest.approx(2 / 3_628_800)
    # scipy's exact p of Kendall's tau counts inversions, in another way
    x, y = pair(10, seed=1)
    assert exact_p(x, y, method="kendall") == pytest.approx(stats.kendalltau(x, y, method="exact").pvalue)
    # the published critical values of Spearman's rho for n = 10 (Zar, 1972): .648 at .05, .794 at .01, two-sided
    assert round(spearman_critical(10, 0.05), 3) == 0.648
    assert round(spearman_critical(10, 0.01), 3) == 0.794


@pytest.mark.parametrize(
    ("n", "at_05", "at_01"), [(5, 1.0, np.inf), (6, 0.886, 1.0), (7, 0.786, 0.929), (8, 0.738, 0.881)]
)
def test_critical_rho_is_zars_table(n, at_05, at_01):
    assert spearman_critical(n, 0.05) == pytest.approx(at_05, abs=6e-4)
    assert spearman_critical(n, 0.01) == pytest.approx(at_01, abs=6e-4)


@pytest.mark.parametrize("n", [5, 8, 20])
def test_critical_tau_is_the_smallest_that_scipy_finds(n):
    least = kendall_critical(n, 0.05)
    pairs = n * (n - 1) // 2
    assert kendall_p_of(least, n) <= 0.05 < kendall_p_of(least - 2 / pairs, n)


def kendall_p_of(tau, n):
    """The exact p, by scipy, of an order with this tau: bubbles swap neighbours until it is reached."""
    order, swaps = list(range(n)), round((1 - tau) * n * (n - 1) / 4)
    while swaps:
        i = next(i for i in range(n - 1) if order[i] < order[i + 1])
        order[i], order[i + 1] = order[i + 1], order[i]
        swaps -= 1
    return stats.kendalltau(range(n), order, method="exact").pvalue


def test_where_p_is_exact():
    long, tied = np.arange(13.0), np.r_[0.0, np.arange(10.0)]
    assert exact_within(long[:12], long[:12], method="spearman")
    assert not exact_within(long, long, method="spearman")
    assert exact_within(long, long, method="kendall")
    assert not exact_within(tied, tied, method="kendall")


def test_drawn_p_holds_the_exact_one_in_its_bounds():
    x, y = pair(11, seed=7, ties=True)
    drawn = significance(x, y, method="kendall", rng=np.random.default_rng(0))
    assert (drawn.by, drawn.draws) == ("monte-carlo", 99_999)
    assert drawn.low < exact_p(x, y, method="kendall") < drawn.high
    assert drawn.high - drawn.low < 0.01
    exact = significance(x[:10], y[:10], method="kendall", rng=np.random.default_rng(0))
    assert (exact.by, exact.draws, exact.low, exact.high) == ("exact", 0, exact.p, exact.p)


@pytest.mark.parametrize("method", ["spearman", "pearson"])
def test_drawn_p_is_scipys(method):
    x, y = pair(13, seed=7)
    drawn = significance(x, y, method=method, rng=np.random.default_rng(0))
    sides = [stats.rankdata(side) for side in (x, y)] if method == "spearman" else [x, y]
    a, b = (side - side.mean() for side in sides)
    oracle = stats.permutation_test(
        (a, b), lambda a, b, axis: (a * b).sum(axis=axis), permutation_type="pairings", n_resamples=9_999,
        vectorized=True, rng=np.random.default_rng(1),
    )  # fmt: skip
    share = np.mean(np.abs(oracle.null_distribution) >= abs(oracle.statistic) - 1e-9)
    assert drawn.by == "monte-carlo"
    assert drawn.low - 0.01 < share < drawn.high + 0.01


def test_a_drawn_p_is_never_zero_and_its_bounds_are_clopper_and_pearsons():
    p, low, high = drawn_bounds(0, 999)
    assert (p, low) == (0.001, 0)
    assert high == pytest.approx(1 - 0.005 ** (1 / 999))
    p, low, high = drawn_bounds(30, 999)
    assert p == 0.031
    assert low == pytest.approx(stats.beta.ppf(0.005, 30, 970))
    assert high == pytest.approx(stats.beta.ppf(0.995, 31, 969))


@pytest.mark.parametrize("n", [5, 10, 40])
def test_approximate_p_are_scipys(n):
    x, y = pair(n, seed=n)
    rng = np.random.default_rng(0)
    for method in ("spearman", "pearson"):
        assert significance(x, y, method=method, rng=rng).values["t"] == pytest.approx(SCIPY[method](x, y).pvalue)
    normal = significance(x, y, method="kendall", rng=rng).values["normal"]
    assert normal == pytest.approx(stats.kendalltau(x, y, method="asymptotic").pvalue)


def test_students_p_at_its_ends():
    assert student_p(1.0, freedom=8) == 0
    assert np.isnan(student_p(0.5, freedom=0))
    assert student_p(0.0, freedom=3) == pytest.approx(1)


numbers = st.integers(-4, 4).map(float)
pairs = st.integers(4, 7).flatmap(
    lambda n: st.tuples(arrays(float, n, elements=numbers), arrays(float, n, elements=numbers))
)


@settings(max_examples=50)
@given(pairs, st.sampled_from(METHODS), st.randoms(use_true_random=False))
def test_the_order_of_datasets_their_sign_and_which_side_is_which_change_nothing(sides, method, random):
    x, y = sides
    order = list(range(len(x)))
    random.shuffle(order)
    rho, p = coefficient(x, y, method=method), exact_p(x, y, method=method)
    assert np.isnan(rho) == (np.ptp(x) == 0 or np.ptp(y) == 0) == np.isnan(p)
    for a, b, sign in ((x[order], y[order], 1), (y, x, 1), (-x, y, -1), (3 * x + 1, 0.5 * y - 2, 1)):
        assert coefficient(a, b, method=method) == pytest.approx(sign * rho, abs=1e-12, nan_ok=True)
        assert exact_p(a, b, method=method) == pytest.approx(p, abs=1e-12, nan_ok=True)
    if not np.isnan(p):
        assert smallest_p(len(x), method=method) - 1e-12 <= p <= 1
        assert -1 <= rho <= 1


@settings(max_examples=50)
@given(pairs, st.sampled_from(["spearman", "kendall"]))
def test_ranks_know_only_order(sides, method):
    x, y = sides
    moved = np.exp(x / 2), y**3
    assert coefficient(*moved, method=method) == pytest.approx(coefficient(x, y, method=method), abs=1e-12, nan_ok=True)
    assert exact_p(*moved, method=method) == pytest.approx(exact_p(x, y, method=method), abs=1e-12, nan_ok=True)


def test_corrections_by_hand():
    """Holm's and Benjamini and Hochberg's, with the four p of the paper."""
    p = [0.0021, 0.221, 0.213, 0.403]
    assert holm(p) == pytest.approx([0.0084, 0.639, 0.639, 0.639])
    assert benjamini_hochberg(p) == pytest.approx([0.0084, 0.221 * 4 / 3, 0.221 * 4 / 3, 0.403])
    assert np.isnan(holm([0.01, np.nan, 0.04])).tolist() == [False, True, False]
    assert holm([0.01, np.nan, 0.04])[[0, 2]] == pytest.approx([0.02, 0.04])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_benjamini_hochberg_is_scipys_and_holm_no_smaller(p, random):
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p))
    stricter = holm(p)
    assert (stricter >= benjamini_hochberg(p) - 1e-12).all()
    assert (stricter <= np.minimum(1, np.array(p) * len(p)) + 1e-12).all()
    order = list(range(len(p)))
    random.shuffle(order)
    assert holm([p[i] for i in order]) == pytest.approx(stricter[order])
