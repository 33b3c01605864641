"""Collections described shard by shard: what is kept, what is made again, what adds up, and what is refused."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pystac
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pystac.extensions.scientific import ScientificExtension
from pystac.extensions.table import TableExtension

from catalog.items import ITEM_SCHEMA
from catalog.measures.codebook import read_codebook, write_codebook
from catalog.measures.tally import Tally, sum_tallies
from catalog.spectral import measure
from catalog.stac.collection import CollectionFacts
from catalog.stac.describing import PARTS, part_tally, write_part
from catalog.stac.mirror import open_items, read_items, sorted_items, write_items
from catalog.stac.validation import read_tally
from catalog.store import describe, write_collection
from pwcat.building.ledger import read_one, write_ledger
from pwcat.cube import open_cube
from pwcat.errors import CatalogError, CubeError
from pwcat.sites.columns import hilbert_order

FACTS = CollectionFacts(name="some", title="Some", description="Some.", license="CC0-1.0", recipe_hash="0" * 64)


@pytest.fixture
def folder(tiny_catalog, tmp_path):
    """A copy of a collection of 48 samples."""
    return shutil.copytree(tiny_catalog / "everywhere", tmp_path / "everywhere")


def bytes_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fail_one(folder):
    """The first sample of the first shard has no pixels after all; returns the shard's ledger."""
    ledger = min((folder / "ledger").glob("*.parquet"))
    rows = read_one(ledger).to_pylist()
    write_ledger(ledger, [rows[0] | {"status": "failed"}, *rows[1:]], plan_hash="", shard=b"")
    return ledger


def test_parts_add_up_to_the_collection(tiny_catalog):
    folder = tiny_catalog / "everywhere"
    parts = sorted((folder / PARTS).glob("*.parquet"))
    whole = read_tally(folder)
    assert sum_tallies(part_tally(part) for part in parts) == whole
    items = read_items(folder / "items.parquet")
    assert sorted(pa.concat_tables([pq.read_table(part) for part in parts])["id"].to_pylist()) == sorted(
        items["id"].to_pylist()
    )
    chips = open_cube(folder / "cube.zarr").read(items["pwcat:index"].to_numpy())
    codebook = read_codebook(folder / "codebook.parquet")
    found = measure(chips, codebook=codebook, bands=codebook.bands)
    assert Tally.of(items, found) == whole
    np.testing.assert_array_equal(items["div:spectral_entropy_codebook"].to_numpy(), found.codebook)
    np.testing.assert_array_equal(items["div:spectral_entropy_covariance"].to_numpy(), found.covariance)


def test_statistics_of_bands_are_those_of_the_pixels(tiny_catalog):
    folder = tiny_catalog / "everywhere"
    chips = open_cube(folder / "cube.zarr").read(np.arange(48)).astype(np.float64)
    document = json.loads((folder / "collection.json").read_text())
    for k, band in enumerate(document["assets"]["cube"]["bands"]):
        pixels = chips[:, :, k]
        pixels = pixels[pixels > 0]
        assert band["statistics"]["mean"] == pytest.approx(pixels.mean())
        assert band["statistics"]["stddev"] == pytest.approx(pixels.std())
        assert band["statistics"]["valid_percent"] == pytest.approx(100 * len(pixels) / chips[:, :, k].size)
        assert band["data_type"] == "uint16"
    assert document["assets"]["cube"]["bands"][1]["eo:center_wavelength"] == 0.4924


def test_the_document_says_who_made_it_from_what_and_how_to_cite_it(tiny_catalog):
    """Read by pystac's own classes of the extensions."""
    path = tiny_catalog / "everywhere" / "collection.json"
    collection = pystac.Collection.from_file(str(path))
    assert "recipe" in ScientificExtension.ext(collection).citation
    mirror = collection.assets["items"]
    assert mirror.roles == ["collection-mirror"]
    table = TableExtension.ext(mirror)
    assert (table.row_count, table.primary_geometry) == (48, "geometry")
    named = pq.read_schema(path.with_name("items.parquet")).names
    assert [column.name for column in table.columns] == named == ITEM_SCHEMA.names
    document = json.loads(path.read_text())
    (processor,) = [one for one in document["providers"] if one["roles"] == ["processor"]]
    assert document["pwcat:recipe_hash"] in processor["processing:lineage"]
    cube = document["assets"]["cube"]
    assert list(cube["cube:dimensions"]) == cube["cube:variables"]["chips"]["dimensions"]
    assert (cube["zarr:zarr_format"], cube["type"]) == (3, "application/vnd.zarr; version=3")
    assert document["summaries"]["div:continent"] == sorted(document["div:statistics"]["continent"]["counts"])


def test_only_shards_that_changed_are_described_again(folder):
    describe(folder)
    before = bytes_of(folder)
    stamps = {path: path.stat().st_mtime_ns for path in (folder / PARTS).iterdir()}
    describe(folder)
    assert bytes_of(folder) == before
    assert {path: path.stat().st_mtime_ns for path in (folder / PARTS).iterdir()} == stamps
    fail_one(folder)
    # fitted to other chips, it would be another, and all be described again
    write_codebook(folder / "codebook.parquet", read_codebook(folder / "codebook.parquet"))
    described = []
    describe(folder, progress=lambda done, total: described.append((done, total)))
    changed = {path.name for path in (folder / PARTS).iterdir() if stamps.get(path) != path.stat().st_mtime_ns}
    assert changed == {"000000.parquet"}
    assert described[0] == (len(stamps) - 1, len(stamps))
    assert read_tally(folder).num_samples == 47


def test_a_finished_collection_has_one_codebook_in_however_many_goes_it_was_built(folder):
    (folder / "codebook.parquet").unlink()
    at_once = shutil.copytree(folder, folder.parent / "at-once" / "everywhere")
    describe(at_once)
    ledger = fail_one(folder)
    describe(folder)
    first = read_codebook(folder / "codebook.parquet")
    shutil.copyfile(at_once / "ledger" / ledger.name, ledger)
    describe(folder)
    assert first != read_codebook(folder / "codebook.parquet")
    assert bytes_of(folder) == bytes_of(at_once)


def test_a_codebook_that_was_given_stays(folder):
    given = read_codebook(folder / "codebook.parquet")
    fail_one(folder)
    describe(folder)
    assert read_codebook(folder / "codebook.parquet") != given
    describe(folder, codebook=given)
    describe(folder)
    assert read_codebook(folder / "codebook.parquet") == given


def test_a_described_part_that_is_damaged_is_made_again(folder):
    before = bytes_of(folder)
    part = folder / PARTS / "000001.parquet"
    part.write_bytes(part.read_bytes()[:-10])
    (folder / PARTS / "000077.parquet").write_bytes(b"of a shard that is not there")
    describe(folder)
    assert bytes_of(folder) == before


def test_a_cube_of_another_dataset_is_refused_and_nothing_written(tiny_catalog, folder):
    shutil.rmtree(folder / "cube.zarr")
    shutil.copytree(tiny_catalog / "europe" / "cube.zarr", folder / "cube.zarr")
    before = bytes_of(folder)
    with pytest.raises(CubeError, match="holds a cube of another plan"):
        describe(folder)
    assert bytes_of(folder) == before


def test_items_that_were_not_counted_are_refused_and_nothing_written(tiny_catalog, tmp_path):
    items = read_items(tiny_catalog / "everywhere" / "items.parquet")
    with pytest.raises(CatalogError, match="48 items, and a tally of 47"):
        write_collection(tmp_path / "some", items=items, tally=Tally.of(items.slice(1)), metadata=FACTS)
    with pytest.raises(CatalogError, match="no samples, so that there is no dataset"):
        write_collection(tmp_path / "some", items=items.slice(0, 0), tally=Tally(), metadata=FACTS)
    missing = tmp_path / "missing.parquet"
    with pytest.raises(CatalogError, match=r"missing\.parquet: cannot be read"):
        write_collection(tmp_path / "some", items=[missing], tally=Tally(), metadata=FACTS)
    assert not (tmp_path / "some").exists()


@pytest.fixture(scope="module")
def rows(tiny_catalog):
    """Items without what is the same for all."""
    alike = ["type", "stac_version", "stac_extensions", "links", "assets", "collection"]
    return read_items(tiny_catalog / "everywhere" / "items.parquet").drop_columns(alike).replace_schema_metadata(None)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(48)), cuts=st.sets(st.integers(1, 47), max_size=6))
def test_parts_in_any_order_and_number_make_the_same_collection(rows, tmp_path_factory, order, cuts):
    root = tmp_path_factory.mktemp("parts")
    bounds = [0, *sorted(cuts), 48]
    paths = []
    for number, (start, stop) in enumerate(pairwise(bounds)):
        part = rows.take(pa.array(order[start:stop]))
        write_part(path := root / f"{number}.parquet", part, Tally.of(part))
        paths.append(path)
    tally = sum_tallies(part_tally(path) for path in paths)
    write_collection(root / "some", items=paths, tally=tally, metadata=FACTS)
    write_collection(root / "at-once" / "some", items=rows, tally=Tally.of(rows), metadata=FACTS)
    assert read_tally(root / "some") == read_tally(root / "at-once" / "some")
    for file in ("items.parquet", "stats.json", "collection.json"):
        assert (root / "some" / file).read_bytes() == (root / "at-once" / "some" / file).read_bytes()


def test_items_lie_in_hilbert_order_in_groups_that_boxes_can_skip(rows, tmp_path, monkeypatch):
    monkeypatch.setattr("catalog.stac.mirror.ROW_GROUP_ROWS", 10)
    shuffled = rows.take(pa.array(np.random.default_rng(0).permutation(48)))
    write_items(tmp_path / "items.parquet", sorted_items(shuffled), collection="some")
    with open_items(tmp_path / "items.parquet") as file:
        assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)] == [10, 10, 10, 10, 8]
        names = [file.metadata.row_group(0).column(k).path_in_schema for k in range(file.metadata.num_columns)]
        assert file.metadata.row_group(0).column(names.index("bbox.xmin")).is_stats_set
        items = file.read()
        about = json.loads(file.schema_arrow.metadata[b"geo"])
    sites = items["proj:centroid"].combine_chunks()
    lonlat = np.column_stack([sites.field("lon").to_numpy(), sites.field("lat").to_numpy()])
    assert (hilbert_order(lonlat) == np.arange(48)).all()
    assert set(items["collection"].to_pylist()) == {"some"}
    kinds = {shapely.from_wkb(one).geom_type for one in items["geometry"].to_pylist()}
    assert about["columns"]["geometry"]["geometry_types"] == sorted(kinds)
    assert sorted_items(rows) is rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), r"items\.parquet: no items there; describe the dataset again with `pwcat catalog"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), r"items\.parquet: cut short or no Parquet"),
        (lambda path: path.write_bytes(b""), r"items\.parquet: cut short or no Parquet"),
        (lambda path: pq.write_table(pa.table({"id": ["a"]}), path), r"no items: it has no column bbox, collection"),
    ],
)
def test_items_that_are_missing_or_cut_short_are_told_in_a_line(folder, change, message):
    change(folder / "items.parquet")
    with pytest.raises(CatalogError, match=message) as told:
        open_items(folder / "items.parquet")
    assert "\n" not in str(told.value)
