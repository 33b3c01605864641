from __future__ import annotations

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.query import open_catalog
from catalog.subset import load_subset
from pwcat.errors import CatalogError

masks = st.lists(st.booleans(), min_size=80, max_size=80).map(np.array)


@pytest.fixture(scope="module")
def both(tiny_catalog):
    return open_catalog(tiny_catalog).search()


def keys(subset):
    return list(zip(subset.column("collection").tolist(), subset.column("id").tolist(), strict=True))


@settings(max_examples=30)
@given(a=masks, b=masks)
def test_operations_are_those_of_sets_in_the_order_of_the_catalog(both, a, b):
    one, other, order = both.select(a), both.select(b), keys(both)
    for found, mask in ((one | other, a | b), (one & other, a & b), (one - other, a & ~b)):
        assert keys(found) == [key for key, here in zip(order, mask, strict=True) if here]
        assert found.hash == both.select(mask).hash
        np.testing.assert_array_equal(found.lonlat, both.lonlat[mask])


def test_subsets_of_other_searches_and_of_single_collections_join(tiny_catalog, both):
    europe, everywhere = (open_catalog(tiny_catalog / name).search() for name in ("europe", "everywhere"))
    assert (everywhere | europe).hash == both.hash
    assert (both - europe).hash == everywhere.hash
    assert len(europe & everywhere) == 0
    np.testing.assert_array_equal((everywhere | europe).read(np.array([0, 79])), both.read(np.array([0, 79])))


def test_collections_of_one_name_that_differ_are_not_mixed(tiny_catalog, tmp_path, both):
    import pyarrow.parquet as pq

    shutil.copytree(tiny_catalog / "europe", tmp_path / "europe", ignore=shutil.ignore_patterns("cube.zarr"))
    copied = open_catalog(tmp_path).search()
    assert len(copied & both) == 32  # a copy has the same samples
    table = pq.read_table(tmp_path / "europe" / "items.parquet")
    pq.write_table(table.slice(0, 30), tmp_path / "europe" / "items.parquet")
    with pytest.raises(CatalogError, match="both have a collection 'europe', and these differ"):
        _ = open_catalog(tmp_path).search() | both


def test_a_split_of_its_own_is_kept_hashed_saved_and_joined(both, tmp_path):
    from catalog.subsets.matching import block_split

    again = block_split(both, val_fraction=0.4, block_km=300, seed=3)
    train, val = again.split("train"), again.split("val")
    assert len(train) + len(val) == 80
    assert len(val)
    assert again.hash != both.hash
    again.save(tmp_path / "again.parquet")
    loaded = load_subset(tmp_path / "again.parquet")
    assert loaded.hash == again.hash
    assert loaded.column("pwcat:split").tolist() == again.column("pwcat:split").tolist()
    assert loaded.table["pwcat:split"].to_pylist() == again.column("pwcat:split").tolist()
    assert (train | val).hash == again.hash
    assert set((again - train).column("pwcat:split")) == {"val"}
    cells = (
        np.floor(np.deg2rad(again.lonlat[:, 0]) * 6371.0088 / 300),
        np.floor(np.sin(np.deg2rad(again.lonlat[:, 1])) * 6371.0088 / 300),
    )
    sides = {}
    for *cell, side in zip(*cells, again.column("pwcat:split"), strict=True):
        sides.setdefault(tuple(cell), set()).add(side)
    assert all(len(found) == 1 for found in sides.values())  # no block on both sides


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"val_fraction": 0, "block_km": 50}, "val_fraction lies between 0 and 1, got 0"),
        ({"val_fraction": float("nan"), "block_km": 50}, "val_fraction lies between 0 and 1, got nan"),
        ({"val_fraction": 0.2, "block_km": -1}, "block_km is a length above 0 km, got -1"),
    ],
)
def test_a_split_that_makes_no_sense_is_refused(both, numbers, message):
    from catalog.subsets.matching import block_split

    with pytest.raises(
        CatalogError, match="1 samples cannot be split: blocks of 50 km leave one side empty; take smaller"
    ):
        block_split(both.sample(1), val_fraction=0.2, block_km=50)
    with pytest.raises(CatalogError, match=message):
        block_split(both, **numbers)


@settings(max_examples=25)
@given(
    small=st.integers(1, 80),
    large=st.integers(1, 80),
    seed=st.integers(0, 3),
    by=st.sampled_from([None, "biome", "split"]),
)
def test_larger_limits_hold_smaller_ones_and_classes_share_them_fairly(both, small, large, seed, by):
    few, many = sorted((small, large))
    a, b = both.sample(few, by=by, seed=seed), both.sample(many, by=by, seed=seed)
    assert set(keys(a)) <= set(keys(b))
    assert len(b) == many
    if by:
        column = {"biome": "div:biome", "split": "pwcat:split"}[by]
        taken = {name: (b.column(column) == name).sum() for name in set(both.column(column))}
        full = {name for name, count in taken.items() if count == (both.column(column) == name).sum()}
        left = [count for name, count in taken.items() if name not in full]
        assert not left or max(left) - min(left) <= 1
        assert all(taken[name] <= max(left, default=80) for name in full)


def test_another_seed_draws_others(both):
    assert both.sample(20, seed=1).hash != both.sample(20, seed=2).hash
    assert both.sample(20, seed=1).hash == both.sample(20, seed=1).hash
    with pytest.raises(CatalogError, match="limit_by says how a limit is shared out, and needs one"):
        both.sample(None, by="biome")
    with pytest.raises(CatalogError, match="classes of 'colour' are unknown; there are continent, biome"):
        both.sample(3, by="colour")
