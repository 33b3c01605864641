from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.diversity import describe_classes
from catalog.extension import CLASS_LAYERS, statistics_of
from catalog.spectral import describe_spectral, from_sums


def test_a_layer_is_described_with_its_interval_and_what_has_no_class():
    described = describe_classes({"b": 30, "a": 10}, num_samples=50, layer="layer.fgb")
    assert list(described["counts"]) == ["a", "b"]
    assert (described["num_samples"], described["num_labelled"], described["num_classes"]) == (50, 40, 2)
    assert described["ci_low"] < described["shannon"] < described["ci_high"] <= math.log(2)
    assert described == describe_classes({"a": 10, "b": 30}, num_samples=50, layer="layer.fgb")
    nothing = describe_classes({}, num_samples=3, layer=None)
    assert [nothing[key] for key in ("shannon", "ci_low", "hill_0", "evenness")] == [None] * 4
    assert nothing["num_labelled"] == 0


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    truth = -(shares * np.log(shares)).sum()
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        drawn = dict(zip("abcd", rng.multinomial(500, shares).tolist(), strict=True))
        described = describe_classes(drawn, num_samples=500, layer=None)
        held += described["ci_low"] <= truth <= described["ci_high"]
    assert 88 <= held <= 100


@given(st.lists(st.floats(0, math.log(256)), min_size=2, max_size=40), st.integers(1, 39))
def test_sums_of_parts_add_to_those_of_the_whole(values, cut):
    parts = [describe_spectral(values[:cut]), describe_spectral(values[cut:])]
    merged = from_sums({key: parts[0][key] + parts[1][key] for key in ("count", "sum", "sum_of_squares")})
    whole = describe_spectral(values)
    assert merged["count"] == whole["count"] == len(values)
    for key in ("mean", "sum", "sum_of_squares"):
        assert merged[key] == pytest.approx(whole[key])
    assert whole["mean"] == pytest.approx(np.mean(values))
    assert whole["standard_deviation"] == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    half = 1.96 * np.std(values, ddof=1) / math.sqrt(len(values))
    assert whole["ci_high"] - whole["mean"] == pytest.approx(half, abs=1e-6)


def test_one_sample_has_a_mean_and_no_interval_and_none_has_nothing():
    one = describe_spectral([2.5])
    assert (one["mean"], one["ci_low"], one["ci_high"]) == (2.5, None, None)
    assert describe_spectral([math.nan])["mean"] is None
    assert describe_spectral([])["count"] == 0


def items(continent, entropy):
    table = {f"div:{name}": pa.array(continent, pa.string()) for name in CLASS_LAYERS}
    return pa.table(table | {"div:spectral_entropy": pa.array(entropy, pa.float64())})


@given(
    rows=st.lists(st.tuples(st.sampled_from(["Asia", "Africa", "Europe", None]), st.floats(0, 5)), max_size=40),
    cut=st.integers(0, 40),
)
def test_counts_of_parts_add_to_those_of_the_whole(rows, cut):
    whole, first, second = (
        statistics_of(items([c for c, _ in part], [e for _, e in part]), layers={})
        for part in (rows, rows[:cut], rows[cut:])
    )
    for name in CLASS_LAYERS:
        added = dict(first[name]["counts"])
        for value, count in second[name]["counts"].items():
            added[value] = added.get(value, 0) + count
        assert added == whole[name]["counts"]
        assert describe_classes(added, num_samples=len(rows), layer=None) == whole[name]
