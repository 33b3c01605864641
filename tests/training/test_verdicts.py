"""Planted relations are found and null ones are not, as often as stated; power is what simulation gives."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from training.correlation import RULE, correlate, correlate_table
from training.relating.estimates import coefficients
from training.relating.intervals import bca
from training.relating.orders import exact_p, smallest_p_of
from training.relating.power import critical, detectable
from training.relating.verdict import number, signed, signless

TABLES = 100  # of each simulation; bounds are the binomial distribution's, at its outer 1 %


def planted(rng, *, n, rho):
    """Datasets whose score goes with the first of four measures by this Spearman correlation, and with no other."""
    x = rng.normal(size=(n, 4))
    r = 2 * np.sin(np.pi * rho / 6)
    return pd.DataFrame(x, columns=list("abcd")).assign(score=r * x[:, 0] + np.sqrt(1 - r * r) * rng.normal(size=n))


def words(rng, *, n, rho, tables=TABLES, **options):
    """The verdicts on the planted measure and on the others, of so many studies."""
    first, others, p = [], [], []
    for _ in range(tables):
        table = planted(rng, n=n, rho=rho)
        found = correlate_table(table, score="score", by=list("abcd"), rng=rng, resamples=20, **options)
        first.append(found[0].verdict.word)
        others.append([c.verdict.word for c in found[1:]])
        p.append([c.p for c in found])
    return np.array(first), np.array(others), np.array(p)


def test_null_relations_are_not_shown():
    """Four measures and no relation: one is called shown in at most 5 % of studies, and p is at most .05 in 5 % of cases."""
    first, others, p = words(np.random.default_rng(7), n=7, rho=0.0)
    shown = ((others == "shown").any(axis=1) | (first == "shown")).sum()
    assert shown <= stats.binom.isf(0.01, TABLES, 0.05)
    assert (p <= 0.05).sum() <= stats.binom.isf(0.01, 4 * TABLES, 0.05)
    assert (p <= 0.05).sum() >= stats.binom.isf(0.99, 4 * TABLES, 0.035)  # ranks of few datasets are coarse: below .05


def test_planted_relations_are_found_and_their_neighbours_are_not():
    first, others, _ = words(np.random.default_rng(1), n=7, rho=0.98, tables=40)
    assert (first == "shown").sum() >= 28
    assert (others == "shown").any(axis=1).sum() <= stats.binom.isf(0.01, 40, 0.05)


@pytest.mark.parametrize("method", ["spearman", "pearson", "kendall"])
@pytest.mark.parametrize(("n", "tables"), [(6, 1500), (9, 400)])
def test_p_keeps_its_level(method, n, tables):
    """Under no relation p is at most alpha in at most alpha of tables: .05 and .2, within the binomial's outer 1 %."""
    rng = np.random.default_rng(n)
    p = np.array([exact_p(*rng.normal(size=(2, n)), method=method) for _ in range(tables)])
    for alpha in (0.05, 0.2):
        assert (p <= alpha + 1e-12).sum() <= stats.binom.isf(0.01, tables, alpha)
    assert (p <= 0.2).mean() > 0.12


@pytest.mark.parametrize(
    ("n", "alpha", "method"),
    [
        (6, 0.05, "spearman"),
        (8, 0.05, "spearman"),
        (10, 0.05, "spearman"),
        (10, 0.0125, "spearman"),
        (30, 0.05, "spearman"),
        (10, 0.05, "pearson"),
        (10, 0.05, "kendall"),
        (30, 0.05, "kendall"),
        (80, 0.05, "spearman"),
        (80, 0.05, "pearson"),
        (80, 0.05, "kendall"),
    ],
)
def test_power_is_what_simulation_gives(n, alpha, method):
    """Of 4,000 other tables with the relation called detectable 80 % reach the critical coefficient, within 2.5 %."""
    least, rng = detectable(n, method=method, alpha=alpha), np.random.default_rng(1)
    r = {"spearman": 2 * np.sin(np.pi * least / 6), "pearson": least, "kendall": np.sin(np.pi * least / 2)}[method]
    x, noise = rng.normal(size=(2, 4000, n))
    found = np.abs(coefficients(x, r * x + np.sqrt(1 - r * r) * noise, method=method))
    assert (found >= critical(n, method=method, alpha=alpha) - 1e-9).mean() == pytest.approx(0.8, abs=0.025)


def test_power_at_its_ends():
    assert np.isnan(detectable(4, method="spearman", alpha=0.05))  # 2 of 24 orders are .083
    assert detectable(5, method="spearman", alpha=0.05) > 0.99
    assert np.isnan(detectable(5, method="spearman", alpha=0.0125))
    steps = [detectable(n, method="spearman", alpha=0.05) for n in range(5, 12)]
    assert steps == sorted(steps, reverse=True)


def one(x, y, **options):
    return correlate(
        np.array(x, float), np.array(y, float), by="x", rng=np.random.default_rng(0), resamples=200, **options
    )


def test_one_dataset_that_makes_the_relation_keeps_it_from_being_shown():
    x, y = [1, 2, 3, 4, 5, 6, 7, 20], [2, 5, 1, 7, 3, 6, 4, 40]
    found = one(x, y, method="pearson", names=list("abcdefgh"))
    assert found.p <= 0.05
    assert found.verdict.word == "suggestive"
    assert "without h" in found.verdict.why


def test_too_few_datasets_can_show_nothing():
    found = one([1, 2, 3, 4], [1, 2, 3, 4])
    assert (found.p, found.verdict.word) == (pytest.approx(2 / 24), "not shown")
    assert "Nothing could be shown: the smallest p of 4 datasets is .083." in found.verdict.why


def test_a_relation_that_one_dataset_makes_has_no_interval():
    """Six continents have a diversity of 0 each: what Global scores is one order among seven, whatever is drawn."""
    score = [0.36, 0.3475, 0.33, 0.3225, 0.40, 0.2875, 0.2375]
    found = one([0, 0, 0, 0, 1.79, 0, 0], score, names=["EU", "NA", "SA", "AS", "Global", "OC", "AF"])
    assert (found.p, found.verdict.word) == (pytest.approx(2 / 7), "not shown")
    assert "the smallest p of 7 datasets with these ties is .286." in found.verdict.why
    assert "All datasets but Global are the same on one side, so that there is no interval." in found.verdict.why
    assert "hide here" not in found.verdict.why
    assert np.isnan([found.ci_low, found.verdict.hidden_low, found.intervals["percentile"].high]).all()


def test_bounds_at_one_value_are_no_interval():
    found = bca(np.repeat([0.6, 0.7], [2, 998]), estimate=0.6, without_N=np.array([0.5, 0.55, 0.61, 0.62]))
    assert np.isnan([found.low, found.high]).all()


@pytest.mark.parametrize("method", ["spearman", "pearson", "kendall"])
def test_no_order_of_tied_values_has_a_smaller_p(method):
    x, y = np.array([0.0, 0, 0, 1, 1, 2]), np.array([3.0, 1, 1, 2, 5, 9])
    least = min(exact_p(x, y[list(order)], method=method) for order in set(permutations(range(6))))
    assert smallest_p_of(x, y, method=method) == pytest.approx(least)


def test_several_metrics_are_paid_for():
    """One p of .033 is suggestive alone and after Holm over five, where it is .17; the reason says which."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"score": [1.0, 2, 3, 4, 5, 6, 7], "a": [2.0, 1, 4, 3, 7, 5, 6]})
    table = table.assign(**{name: rng.permutation(7) for name in "bcde"})
    found = correlate_table(table, score="score", by=list("abcde"), rng=rng, resamples=200)[0]
    assert found.p <= 0.05 < found.p_holm
    assert found.verdict.word == "suggestive"
    assert f"{number(found.p_holm)} after Holm over 5 metrics" in found.verdict.why


def test_the_rule_is_the_one_that_is_told():
    assert RULE.startswith("shown: p after Holm is at most alpha, and so is p whichever single dataset is left out")


@settings(max_examples=30)
@given(st.permutations(range(6)), st.sampled_from(["spearman", "kendall"]), st.floats(0.01, 0.2))
def test_a_verdict_keeps_to_its_rule(order, method, alpha):
    found = one(range(6), order, method=method, alpha=alpha)
    without = max(left.p for left in found.leave_one_out)
    shown, some = found.p <= alpha and without <= alpha, found.p <= alpha
    assert found.verdict.word == ("shown" if shown else "suggestive" if some else "not shown")
    assert np.isnan(found.verdict.hidden_low) == (found.verdict.word != "not shown" or np.isnan(found.ci_low))
    mirrored = one(range(6), order[::-1], method=method, alpha=alpha)
    assert (mirrored.p, mirrored.verdict.word) == (pytest.approx(found.p), found.verdict.word)


def test_numbers_are_written_as_papers_do():
    assert [number(p) for p in (1, 0.99951, 0.5, 0.05, 0.0096, 0.0021, 0.00003, np.nan)] == [
        "1", "1", ".500", ".050", ".010", ".0021", "<.0001", "–",
    ]  # fmt: skip
    assert [signed(r) for r in (0.845, -0.3, 1.0, -1.0, 0.0, np.nan)] == ["+.84", "-.30", "+1.00", "-1.00", "+.00", "–"]
    assert signless(-0.31) == ".31"
