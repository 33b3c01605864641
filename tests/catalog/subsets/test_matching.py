from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.commands.diff import diff
from catalog.commands.subset import subset
from catalog.query import open_catalog
from catalog.subset import load_subset
from catalog.subsets.comparing import compare, jensen_shannon, total_variation
from catalog.subsets.drawing import fair_quotas
from catalog.subsets.factors import factor
from catalog.subsets.matching import match, nest
from pwcat.errors import CatalogError
from pwcat.geo.geodesy import geodesic_km


@pytest.fixture(scope="module")
def both(tiny_catalog):
    return open_catalog(tiny_catalog).search()


def classes(subset, name):
    found = factor(subset, name)
    return Counter(found.names[code] for code in found.codes if code >= 0)


@pytest.mark.parametrize(
    "agree", [["season"], ["cloud"], ["landcover"], ["season", "valid"], ["latitude"], ["year"], []]
)
def test_matched_subsets_differ_in_one_factor_and_agree_in_the_others(both, agree):
    found = match(both, vary=["collection"], agree=agree)
    europe, everywhere = found.subsets["europe"], found.subsets["everywhere"]
    assert len(europe) == len(everywhere) == found.most == sum(found.agree.values()) > 0
    assert set(europe.column("collection")) == {"europe"}
    for name in agree:
        assert classes(europe, name) == classes(everywhere, name)
    # No more can be had: in each class, one of the two is used up.
    crossed = [tuple(factor(both, name).codes.tolist()) for name in agree] or [tuple(0 for _ in range(80))]
    strata = list(zip(*crossed, strict=True))
    owners = both.column("collection").tolist()
    most = sum(
        min(Counter(zip(owners, strata, strict=True))[owner, stratum] for owner in ("europe", "everywhere"))
        for stratum in set(strata)
    )
    assert found.most == most


def test_a_factorial_design_has_a_subset_for_each_combination(both):
    found = match(both, vary=["split", "entropy:2"], n=2)
    assert len(found.subsets) == 4
    assert {len(part) for part in found.subsets.values()} == {2}
    for name, part in found.subsets.items():
        assert set(part.column("pwcat:split")) == {name.partition(", ")[0]}
    keys = [key for part in found.subsets.values() for key in part.column("id").tolist()]
    assert len(keys) == len(set(keys)) == 8
    again = match(both, vary=["split", "entropy:2"], n=2)
    assert [part.hash for part in found.subsets.values()] == [part.hash for part in again.subsets.values()]


def test_levels_are_those_that_samples_have(both):
    some = both.only(np.isin(factor(both, "month").codes, np.unique(factor(both, "month").codes)[:2]))
    assert set(match(some, vary=["month"]).subsets) == set(classes(some, "month"))
    assert len(classes(some, "month")) == 2


@pytest.mark.parametrize("scenes", [True, False])
def test_clouds_of_samples_without_scenes_are_not_known(tiny_catalog, tmp_path, scenes):
    shutil.copytree(tiny_catalog / "europe", tmp_path / "europe", ignore=shutil.ignore_patterns("cube.zarr"))
    path = tmp_path / "europe" / "items.parquet"
    table = pq.read_table(path)
    number = table.schema.get_field_index("pwcat:scene_ids")
    held = table["pwcat:scene_ids"].to_pylist()
    lists = pa.array([[], None, *held[2:]], table["pwcat:scene_ids"].type)
    pq.write_table(table.set_column(number, "pwcat:scene_ids", lists), path)
    found = open_catalog(tmp_path).search()
    if scenes:
        codes = factor(found, "cloud").codes
        assert codes[:2].tolist() == [-1, -1]
        assert (codes[2:] >= 0).all()
        return
    (tmp_path / "europe" / "scenes.parquet").unlink()
    with pytest.raises(CatalogError, match=r"cloud cover is not known, for there is no scenes\.parquet"):
        factor(found, "cloud")


@pytest.mark.parametrize(
    ("design", "message"),
    [
        ({"vary": ["colour"]}, "unknown factor 'colour'; there are continent, biome"),
        ({"vary": ["entropy:x"]}, "entropy:x: a number of equal parts from 2 to 100 is wanted"),
        ({"vary": ["collection"], "levels": ["europe"]}, "collection has europe here: at least two levels are needed"),
        (
            {"vary": ["collection"], "levels": ["mars"]},
            "collection has no level 'mars' here; there are europe, everywhere",
        ),
        ({"vary": ["collection"], "n": 0}, "n is at least 1, got 0"),
        (
            {"vary": ["collection"], "n": 60},
            "60 samples of each level were asked for, 32 can be had; of all samples, europe",
        ),
        ({"vary": ["continent"], "agree": ["id"]}, "unknown factor 'id'"),
        (
            {"vary": ["continent"], "agree": ["season", "landcover", "cloud"]},
            "no samples of every level with equal season, landcover, cloud are there; of all samples, Africa has",
        ),
    ],
)
def test_a_design_that_cannot_be_is_refused_with_what_stands_in_the_way(both, design, message):
    with pytest.raises(CatalogError, match=message):
        match(both, **design)


@settings(max_examples=20)
@given(sizes=st.lists(st.integers(1, 80), min_size=1, max_size=4, unique=True), by=st.sampled_from([None, "continent"]))
def test_nested_subsets_lie_in_one_another_and_keep_shares(both, sizes, by):
    found = nest(both, sizes, by=by)
    assert [len(part) for part in found] == sorted(sizes)
    for small, large in pairwise(found):
        assert len(small - large) == 0
    if by:
        whole = classes(both, by)
        for part in found:
            for name, count in classes(part, by).items():
                assert abs(count - whole[name] * len(part) / 80) <= 1


@pytest.mark.parametrize("sizes", [[], [0], [5, 5], [81]])
def test_sizes_that_cannot_be_are_refused(both, sizes):
    with pytest.raises(
        CatalogError, match=r"sizes are different numbers of at least 1|81 samples were asked for, there are 80"
    ):
        nest(both, sizes)


@given(counts=st.lists(st.integers(0, 50), min_size=1, max_size=6), total=st.integers(0, 200))
def test_quotas_are_fair(counts, total):
    quotas = fair_quotas(np.array(counts), total)
    assert quotas.sum() == min(total, sum(counts))
    assert all(0 <= quota <= count for quota, count in zip(quotas, counts, strict=True))
    left = [quota for quota, count in zip(quotas, counts, strict=True) if quota < count]
    assert not left or max(quotas) <= min(left) + 1


@pytest.mark.parametrize(
    ("p", "q", "variation", "divergence"),
    [([1, 0], [0, 1], 1, math.log(2)), ([0.5, 0.5], [0.5, 0.5], 0, 0), ([1, 0], [0.5, 0.5], 0.5, 0.2157615543)],
)
def test_distances_of_classes_in_closed_form(p, q, variation, divergence):
    assert total_variation(np.array(p, float), np.array(q, float)) == pytest.approx(variation)
    assert jensen_shannon(np.array(p, float), np.array(q, float)) == pytest.approx(divergence)


def test_two_collections_side_by_side(both):
    a, b = both.select(np.arange(32)), both.select(np.arange(20, 80))
    told = compare(a, b)
    assert told["samples"] == {"a": 32, "b": 60, "shared": 12, "only_a": 20, "only_b": 48}
    assert told["continent"]["a"] == a.stats()["continent"]
    pairs = np.array([[geodesic_km(one[None], other[None])[0] for other in b.lonlat] for one in a.lonlat])
    nearest = pairs.min(axis=1)
    far = told["distance_km"]["from_a_to_b"]
    assert far["p50"] == pytest.approx(np.median(nearest), rel=2e-3, abs=1e-6)
    assert far["mean"] == pytest.approx(nearest.mean(), rel=2e-3)
    assert far["share_nearer_than_10_km"] == pytest.approx((nearest < 10).mean())
    same = compare(a, a)
    assert same["landcover"]["jensen_shannon"] == 0
    assert same["samples"]["shared"] == 32
    assert json.dumps(told)


def test_the_commands_say_the_same(tiny_catalog, both, tmp_path):
    def pwcat(command, *arguments):
        return CliRunner().invoke(command, [*map(str, arguments)], catch_exceptions=False).output

    told = json.loads(
        pwcat(
            subset, "match", tiny_catalog, "--vary", "collection", "--match", "season,cloud", "-o", tmp_path, "--json"
        )
    )
    expected = match(both, vary=["collection"], agree=["season", "cloud"])
    assert told["most"] == expected.most
    for name, part in expected.subsets.items():
        assert load_subset(tmp_path / f"{name}.parquet").hash == part.hash == told["subsets"][name]["hash"]
    europe, everywhere, union = (tmp_path / f"{name}.parquet" for name in ("europe", "everywhere", "union"))
    found = json.loads(pwcat(subset, "union", europe, everywhere, "-o", union, "--json"))["subsets"]["union"]
    assert found["hash"] == (expected.subsets["europe"] | expected.subsets["everywhere"]).hash
    out = pwcat(diff, europe, union)
    assert f"Shared: {expected.most} samples; 0 of A alone, {expected.most} of B alone" in out
    assert json.loads(pwcat(diff, europe, union, "--json"))["samples"]["shared"] == expected.most
    for name, arguments in (
        ("nested", ["nest", tiny_catalog, "--sizes", "5,10", "--by", "continent", "-o", tmp_path / "nested"]),
        ("split", ["split", union, "--block-km", 300, "-o", tmp_path / "split.parquet"]),
        ("show", ["show", union]),
        ("save", ["save", tiny_catalog, "--near", "10,50", "--within", "1500", "-o", tmp_path / "near.parquet"]),
        ("save", ["save", tiny_catalog, "--near", europe, "--within", "5", "-o", tmp_path / "near.parquet"]),
        ("subtract", ["subtract", union, europe, "-o", tmp_path / "rest.parquet"]),
    ):
        assert pwcat(subset, *arguments), name
    assert load_subset(tmp_path / "rest.parquet").hash == expected.subsets["everywhere"].hash
    assert len(load_subset(tmp_path / "nested" / "5.parquet") - load_subset(tmp_path / "nested" / "10.parquet")) == 0
    with pytest.raises(CatalogError, match=r"the answer holds no samples, and nothing is saved to .*none\.parquet"):
        pwcat(subset, "intersect", europe, everywhere, "-o", tmp_path / "none.parquet")
    assert not (tmp_path / "none.parquet").exists()
    with pytest.raises(CatalogError, match=r"--sizes five: whole numbers are wanted, as in 1000,3000,10000"):
        pwcat(subset, "nest", union, "--sizes", "five", "-o", tmp_path / "nested")
    with pytest.raises(CatalogError, match=r"two subsets or more are wanted, got "):
        pwcat(subset, "union", europe, "-o", tmp_path / "none.parquet")
