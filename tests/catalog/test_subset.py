from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.query import open_catalog
from catalog.spectral import spectral_entropy
from catalog.subset import Subset, load_subset
from pwcat.cube import open_cube
from pwcat.errors import CatalogError


@pytest.fixture(scope="module")
def both(tiny_catalog):
    """All samples of both collections: 32 of europe, then 48 of everywhere."""
    return open_catalog(tiny_catalog).search()


@pytest.fixture(scope="module")
def chips(tiny_catalog):
    """The pixels of those, read from the cubes."""
    cubes = [open_cube(tiny_catalog / name / "cube.zarr") for name in ("europe", "everywhere")]
    return np.concatenate([cube.read(np.arange(cube.num_samples)) for cube in cubes])


@settings(max_examples=20)
@given(rows=st.lists(st.integers(0, 79), max_size=12))
def test_reading_gives_the_cubes_pixels_in_the_order_asked(both, chips, rows):
    np.testing.assert_array_equal(both.read(np.array(rows, dtype=int)), chips[rows])


@settings(max_examples=20)
@given(mask=st.lists(st.booleans(), min_size=80, max_size=80))
def test_selections_keep_pixels_labels_and_statistics_together(both, chips, mask):
    mask = np.array(mask)
    some = both.select(mask)
    assert len(some) == mask.sum()
    if not len(some):
        return
    np.testing.assert_array_equal(some.read(np.arange(len(some))), chips[mask])
    assert some.column("id").tolist() == both.column("id")[mask].tolist()
    np.testing.assert_array_equal(some.lonlat, both.lonlat[mask])
    stats = some.stats()
    entropy = spectral_entropy(chips[mask])
    assert stats["spectral"]["mean"] == pytest.approx(entropy.mean())
    for layer in ("continent", "biome", "landcover"):
        values, counts = np.unique(both.column(f"div:{layer}")[mask].astype(str), return_counts=True)
        assert stats[layer]["counts"] == dict(zip(values.tolist(), counts.tolist(), strict=True))
        assert stats[layer]["num_samples"] == mask.sum()


def test_statistics_of_a_whole_collection_are_its_own(tiny_catalog):
    for name in ("europe", "everywhere"):
        written = json.loads((tiny_catalog / name / "stats.json").read_text())["statistics"]
        assert load_subset(tiny_catalog / name).stats() == written


def test_rows_are_selected_by_number_or_mask_and_splits_are_apart(both):
    mask = np.zeros(80, dtype=bool)
    mask[[3, 50, 7]] = True
    assert both.select(np.array([50, 3, 7])).hash == both.select(mask).hash
    train, val = both.split("train"), both.split("val")
    assert len(train) + len(val) == 80
    assert set(val.column("pwcat:split")) == {"val"}
    assert set(train.column("id")).isdisjoint(val.column("id"))


def test_a_row_is_in_a_selection_once_and_counts_from_the_end_too(both):
    names = both.column("id")
    assert both.select(np.array([7, 3, 3, -1])).column("id").tolist() == [names[3], names[7], names[-1]]
    with pytest.raises(IndexError, match="80"):
        both.select(np.array([80]))


def test_the_lazy_dataset_holds_what_reading_gives(both, chips):
    europe = both.select(np.arange(32))
    lazy = europe.open()
    assert lazy["chips"].dims == ("sample", "time", "band", "y", "x")
    np.testing.assert_array_equal(lazy["chips"].values, europe.read(np.arange(32)))
    some = both.select(np.arange(20, 60))
    lazy = some.open()
    np.testing.assert_array_equal(lazy["chips"].values, chips[20:60])
    assert lazy["id"].values.tolist() == some.column("id").tolist()
    for name in ("continent", "biome", "landcover"):
        assert lazy[name].values.tolist() == some.column(f"div:{name}").tolist()
    np.testing.assert_array_equal(lazy["spectral_entropy"].values, some.column("div:spectral_entropy"))
    assert lazy["band"].values.tolist() == list(both.bands)


def test_a_data_loader_takes_it_as_it_is(both, chips):
    from torch.utils.data import DataLoader

    batches = list(DataLoader(both.select(np.arange(5, 12)).dataset(), batch_size=4))
    assert [len(batch["id"]) for batch in batches] == [4, 3]
    got = np.concatenate([batch["chips"].numpy() for batch in batches])
    assert got.dtype == np.uint16
    np.testing.assert_array_equal(got, chips[5:12])
    assert batches[0]["continent"] == ["Europe"] * 4
    dataset = both.dataset()
    assert dataset[-1]["id"] == dataset[79]["id"] == both.column("id")[-1]
    with pytest.raises(IndexError, match="80"):
        dataset[80]


def test_the_hash_is_of_the_exact_samples(both):
    hashes = {both.select(np.delete(np.arange(80), row)).hash for row in range(80)}
    assert len(hashes | {both.hash}) == 81
    assert both.select(np.arange(80)).hash == both.hash


def test_a_saved_subset_comes_back_the_same_and_can_be_moved_with_its_catalog(both, tiny_catalog, tmp_path):
    shutil.copytree(tiny_catalog, tmp_path / "a" / "catalog")
    some = open_catalog(tmp_path / "a" / "catalog").search(continent="Europe", limit=30)
    some.save(tmp_path / "a" / "subsets" / "some.parquet")
    there = some.table  # columns are read when they are asked for
    (tmp_path / "a").rename(tmp_path / "b")
    again = load_subset(tmp_path / "b" / "subsets" / "some.parquet")
    assert isinstance(again, Subset)
    assert again.table.equals(there)
    assert again.hash == some.hash
    assert again.query == some.query
    np.testing.assert_array_equal(again.read(np.arange(3)), some_chips(both, some, 3))
    size = (tmp_path / "b" / "subsets" / "some.parquet").stat().st_size
    assert size < 40_000  # ids and statistics, and not their pixels


def some_chips(both, some, count):
    position = {name: row for row, name in enumerate(both.column("id"))}
    return both.read(np.array([position[name] for name in some.column("id")[:count]]))


def test_a_parent_that_changed_is_noticed(tiny_catalog, tmp_path):
    root = tmp_path / "catalog"
    shutil.copytree(tiny_catalog, root)
    path = open_catalog(root).search(collections="europe", limit=10).save(tmp_path / "some.parquet")
    load_subset(path)
    stats = json.loads((root / "europe" / "stats.json").read_text())
    (root / "europe" / "stats.json").write_text(json.dumps({**stats, "recipe_hash": "0" * 64}))
    with pytest.raises(CatalogError, match=r"collection 'europe' was made from another recipe since \(0{12}, not "):
        load_subset(path)
    (root / "europe" / "stats.json").write_text(json.dumps(stats))
    items = pq.read_table(root / "europe" / "items.parquet")
    saved = pq.read_table(path)["id"].to_pylist()
    gone = items.filter(pa.compute.not_equal(items["id"], saved[0]))
    pq.write_table(gone, root / "europe" / "items.parquet")
    with pytest.raises(CatalogError, match="10 samples were saved, 9 of them are there now"):
        load_subset(path)
    shutil.rmtree(root / "europe")
    with pytest.raises(CatalogError, match="no collection 'europe'; there are everywhere"):
        load_subset(path)


def test_items_in_another_order_are_found_again_by_their_ids(tiny_catalog, tmp_path, caplog):
    shutil.copytree(tiny_catalog, tmp_path / "catalog")
    some = open_catalog(tmp_path / "catalog").search(limit=20)
    path = some.with_split(np.array(["train", "val"] * 10, dtype=object)).save(tmp_path / "some.parquet")
    split = dict(zip(some.column("id"), ["train", "val"] * 10, strict=True))
    items = tmp_path / "catalog" / "europe" / "items.parquet"
    table = pq.read_table(items)
    pq.write_table(table.take(pa.array(range(len(table))[::-1])), items)
    again = load_subset(path)
    assert dict(zip(again.column("id"), again.column("pwcat:split"), strict=True)) == split
    assert "items of europe are in another order than when it was saved" in caplog.text
    caplog.clear()
    assert load_subset(again.save(tmp_path / "again.parquet")).hash == again.hash
    assert caplog.text == ""


def test_a_file_that_was_changed_is_refused(tiny_catalog, tmp_path):
    path = open_catalog(tiny_catalog).search(limit=20).save(tmp_path / "some.parquet")
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    with pytest.raises(CatalogError, match="its samples are not those that its hash was made of: the file was changed"):
        load_subset(path)


def test_no_file_but_a_subset_is_written_over(tiny_catalog, tmp_path):
    shutil.copytree(tiny_catalog / "europe", tmp_path / "europe")
    some = open_catalog(tmp_path).search(limit=5)
    items = (tmp_path / "europe" / "items.parquet").read_bytes()
    for name in ("europe/items.parquet", "europe/stats.json"):
        with pytest.raises(CatalogError, match=f"{name}: is there already and is no subset; take another name"):
            some.save(tmp_path / name)
    with pytest.raises(CatalogError, match="europe: is a folder; name a file in it"):
        some.save(tmp_path / "europe")
    assert (tmp_path / "europe" / "items.parquet").read_bytes() == items
    some.save(tmp_path / "some.parquet")
    some.only(np.arange(2)).save(tmp_path / "some.parquet")
    assert len(load_subset(tmp_path / "some.parquet")) == 2
    with pytest.raises(CatalogError, match=r"none\.parquet: there are no samples to save"):
        some.only(np.arange(0)).save(tmp_path / "none.parquet")


def test_what_is_no_subset_is_said(tmp_path):
    with pytest.raises(CatalogError, match=r"nowhere\.parquet: not a saved subset: there is no such file"):
        Subset.load(tmp_path / "nowhere.parquet")
    with pytest.raises(CatalogError, match="not a saved subset: there is no such file"):
        Subset.load(tmp_path)
    (tmp_path / "text.parquet").write_text("no Parquet")
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "other.parquet")
    for name in ("text.parquet", "other.parquet"):
        with pytest.raises(CatalogError, match=f"{name}: not a saved subset"):
            load_subset(tmp_path / name)


def test_an_empty_subset_has_statistics_and_no_pixels(both):
    nothing = both.select(np.array([], dtype=int))
    assert nothing.stats()["continent"]["shannon"] is None
    assert nothing.collections == []
    with pytest.raises(CatalogError, match="the subset is empty"):
        nothing.read(np.array([0]))
    with pytest.raises(CatalogError, match="the subset is empty"):
        nothing.open()
    with pytest.raises(CatalogError, match="no column 'colour'; there are id, collection"):
        both.column("colour")


def test_chips_of_other_shapes_are_not_mixed(tiny_catalog, tmp_path, archive_dir, write_recipe):
    from catalog.store import build

    shutil.copytree(tiny_catalog / "europe", tmp_path / "europe")
    build(write_recipe(tmp_path, name="small", num_samples=2, chip={"size_px": 16, "bands": ["B02"]}), catalog=tmp_path)
    mixed = open_catalog(tmp_path).search()
    assert len(mixed) == 34
    with pytest.raises(CatalogError, match=r"chips of these collections differ and cannot be read together: europe: "):
        mixed.read(np.array([0]))
    assert mixed.stats()["continent"]["num_samples"] == 34
