"""An added dataset is a collection like any other: labelled by the same layers, searched, described, read and trained from."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from catalog.commands.add import add as add_command
from catalog.importers import IMPORTERS
from catalog.importers.adding import NothingAdded
from catalog.measures.codebook import read_codebook
from catalog.measures.tally import Tally
from catalog.query import open_catalog
from catalog.stac.merging import merge_catalogs
from catalog.stac.validation import validate_catalog
from catalog.subset import Subset
from pwcat.doctor.examination import examine
from pwcat.errors import CatalogError, PwcatError
from pwcat.layers import RegionLayers
from pwcat.regions.opening import open_regions


def test_labels_are_those_of_the_plan_where_layers_are_the_recipes(tiny_catalog, archive_dir, add, make, tmp_path):
    """Chips of a build, written as GeoTIFFs and added with the recipe's layers, have the labels of the build."""
    parent = open_catalog(tiny_catalog).search(collections=["everywhere"], limit=12)
    folder = tmp_path / "chips"
    folder.mkdir()
    rows = []
    for number, item in enumerate(parent.table.to_pylist()):
        chip = parent.read(np.array([number]))[0, 0]
        x0, y0 = item["proj:transform"][2], item["proj:transform"][5]
        epsg = int(item["proj:code"].removeprefix("EPSG:"))
        (folder / f"{item['id']}.tif").write_bytes(make.tif(chip, (epsg, x0, y0)))
        place = item["proj:centroid"]
        rows.append({"file": f"{item['id']}.tif", "date": item["datetime"].isoformat(), **place})
    make.write_csv(folder / "chips.csv", rows)
    layers = {
        "continent": {"path": "continent.fgb", "field": "continent"},
        "biome": {"path": "biome.fgb", "field": "biome"},
    }
    regions = open_regions(RegionLayers.model_validate(layers), base_dir=archive_dir / "regions", source=None)
    assert add(folder, "geotiff", regions=regions).losses.total == 0
    subset = open_catalog(tmp_path / "catalog").search()
    labels = [dict(zip(s.column("id"), zip(s.column("div:continent"), s.column("div:biome"), strict=True), strict=True))
              for s in (parent, subset)]  # fmt: skip
    assert labels[0] == labels[1]
    assert None not in {biome for _, biome in labels[1].values()}
    entropies = [dict(zip(s.column("id"), s.column("div:spectral_entropy"), strict=True)) for s in (parent, subset)]
    assert entropies[1] == pytest.approx(entropies[0], rel=1e-9)
    assert subset.stats()["biome"]["layer"] == "biome.fgb"


def test_land_cover_is_a_share_of_the_chip(geotiffs, add, make, tmp_path):
    """A raster of two classes, whose border runs through the middle of the first chip."""
    import rasterio
    from rasterio.transform import from_origin

    lon, lat = 3.002, 44.2525  # near the middle of the chips in France
    classes = np.full((1, 400, 400), 10, np.uint8)
    classes[:, :, 200:] = 20
    with rasterio.open(
        tmp_path / "cover.tif", "w", driver="GTiff", dtype="uint8", count=1, height=400, width=400, crs="EPSG:4326",
        transform=from_origin(lon - 200e-5, lat + 200e-5, 1e-5, 1e-5),
    ) as target:  # fmt: skip
        target.write(classes)
    layers = {"landcover": {"path": "cover.tif", "classes": {10: "trees", 20: "grass"}}}
    regions = open_regions(RegionLayers.model_validate(layers), base_dir=tmp_path, source=None)
    add(geotiffs, "geotiff", regions=regions)
    items = pq.read_table(tmp_path / "catalog" / "it" / "items.parquet").to_pylist()
    first = next(row for row in items if row["id"] == "images_patch_0")
    shares = {one["name"]: one["fraction"] for one in first["div:landcover_fractions"]}
    assert set(shares) == {"trees", "grass"}
    assert sum(shares.values()) == pytest.approx(1)
    assert first["div:landcover_share"] == max(shares.values())
    assert first["div:landcover"] == max(shares, key=lambda name: shares[name])


def test_the_collection_has_what_a_collection_has(ssl4eo, add, tmp_path):
    added = add(ssl4eo, "ssl4eo-s12", title="Four seasons")
    names = {path.name for path in added.folder.iterdir()}
    assert names == {"items.parquet", "stats.json", "tally.json", "collection.json", "import.json", "pixels.parquet",
                     "codebook.parquet"}  # fmt: skip
    assert not [path for path in (tmp_path / "catalog").iterdir() if path.name.startswith(".")]
    document = json.loads((added.folder / "collection.json").read_text())
    assert (document["title"], document["license"]) == ("Four seasons", "CC-BY-4.0")
    assert "An offset of 1000 is removed from all samples" in document["description"]
    assert [band["name"] for band in document["summaries"]["bands"]][-2:] == ["B11", "B12"]
    blue = next(band for band in document["assets"]["pixels"]["bands"] if band["name"] == "B02")
    assert 700 < blue["statistics"]["mean"] < 1500
    assert document["pwcat:chip"] == {"shape": [4, 12, 32, 32], "resolution_m": 10.0}
    children = json.loads((tmp_path / "catalog" / "catalog.json").read_text())["links"]
    assert "./it/collection.json" in {link["href"] for link in children}
    tally = Tally.from_json(json.loads((added.folder / "tally.json").read_text())["tally"])
    assert tally.num_samples == 3
    masked = 12 * 32  # of the first sample of each store
    pixels = 3 * 4 * 12 * 32 * 32 - 2 * masked
    assert sum(int(band.counts_K.sum()) for band in tally.bands.values()) == pixels
    hrefs = pq.read_table(added.folder / "items.parquet")["assets"].to_pylist()
    assert all((added.folder / one["chips"]["href"]).is_file() for one in hrefs)


def test_a_subset_of_two_foreign_datasets_is_saved_and_read(ssl4eo, add, tmp_path):
    add(ssl4eo, "ssl4eo-s12", val_fraction=0.5)
    add(ssl4eo / "val", "ssl4eo-s12", name="other")
    subset = open_catalog(tmp_path / "catalog").search()
    assert Counter(subset.column("collection")) == {"it": 3, "other": 1}
    again = Subset.load(subset.save(tmp_path / "subset.parquet"))
    assert again.hash == subset.hash
    np.testing.assert_array_equal(again.read(np.arange(4)), subset.read(np.arange(4)))
    assert again.dataset()[2]["chips"].shape == (4, 12, 32, 32)


@pytest.mark.parametrize("memory_budget_mb", [2048, 0.01])
def test_batches_of_a_foreign_dataset_are_its_pixels_in_memory_or_streamed(geotiffs, add, tmp_path, memory_budget_mb):
    from training.loader import Loader

    add(geotiffs, "geotiff")
    subset = open_catalog(tmp_path / "catalog").search()
    loader = Loader(subset, bands=["B04", "B08"], batch_size=2, seed=0, memory_budget_mb=memory_budget_mb)
    batches = list(loader.epoch(0))
    rows = np.concatenate([batch.rows for batch in batches])
    assert sorted(rows) == [0, 1, 2]
    pixels = np.concatenate([batch.chips.numpy() for batch in batches])
    np.testing.assert_array_equal(pixels, subset.read(rows)[:, :1, [3, 7]])


def test_the_doctor_says_who_looks_at_it(geotiffs, add):
    folder = add(geotiffs, "geotiff").folder
    with pytest.raises(PwcatError, match=r"was added from elsewhere, not built; `pwcat catalog validate"):
        examine(folder)


def test_linked_into_another_catalog_its_pixels_are_found(geotiffs, add, tmp_path):
    add(geotiffs, "geotiff")
    (tmp_path / "far" / "away").mkdir(parents=True)
    merge_catalogs([tmp_path / "catalog"], to=tmp_path / "far" / "away" / "merged")
    subset = open_catalog(tmp_path / "far" / "away" / "merged").search()
    assert subset.read(np.arange(3)).shape == (3, 1, 12, 32, 32)


def test_documents_are_valid_stac(ssl4eo, add, tmp_path):
    add(ssl4eo, "ssl4eo-s12")
    found = validate_catalog(tmp_path / "catalog")
    assert (found.faults, found.documents, found.items) == ([], 5, 3)


def test_it_is_not_published_for_it_has_no_recipe(geotiffs, add, tmp_path):
    from publish.dataset import build_dataset_folder

    add(geotiffs, "geotiff")
    with pytest.raises(CatalogError, match="was added from elsewhere, so that there is no recipe"):
        build_dataset_folder(open_catalog(tmp_path / "catalog").search(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_dataset_without_splits_gets_blocks_or_trains_with_all(geotiffs, add, tmp_path):
    add(geotiffs, "geotiff")
    assert set(open_catalog(tmp_path / "catalog").search().column("pwcat:split")) == {"train"}
    add(geotiffs, "geotiff", val_fraction=0.3, replace=True)
    splits = open_catalog(tmp_path / "catalog").search().column("pwcat:split")
    assert Counter(splits) == {"train": 2, "val": 1}


def test_entropies_over_another_collections_codebook_compare(geotiffs, major_tom, add):
    first = add(geotiffs, "geotiff")
    book = read_codebook(first.folder / "codebook.parquet")
    second = add(major_tom, "major-tom", name="second", codebook=book)
    assert read_codebook(second.folder / "codebook.parquet").hash == book.hash


def test_nothing_is_written_where_nothing_can_be_read_or_the_name_is_taken(geotiffs, tiny_catalog, add, make, tmp_path):
    for file in (geotiffs / "images").iterdir():
        file.write_bytes(b"")
    with pytest.raises(CatalogError, match=r"none of the files that index.csv lists can be read"):
        add(geotiffs, "geotiff")
    with pytest.raises(NothingAdded, match=r"no sample can be read: 3 of 3 cannot be read.*nothing is written"):
        add(geotiffs, "geotiff", bands=("B02",))
    assert not list((tmp_path / "catalog").iterdir())
    with pytest.raises(CatalogError, match="'My data' is no name of a collection"):
        add(geotiffs, "geotiff", name="My data")
    shutil.copytree(tiny_catalog / "europe", tmp_path / "catalog" / "europe")
    with pytest.raises(CatalogError, match="was not added from elsewhere; choose another name"):
        add(geotiffs, "geotiff", name="europe", replace=True)


@pytest.mark.parametrize("scale", ["nan", "inf", "-1", "0"])
def test_options_that_make_no_sense_are_told_at_once_and_together(geotiffs, tmp_path, scale):
    told = CliRunner().invoke(
        add_command, [str(geotiffs), "--catalog", str(tmp_path / "new"), "--scale", scale, "--date", "July"]
    )
    assert isinstance(told.exception, CatalogError)
    assert str(told.exception).startswith(f"--scale {scale}: give a number above 0")
    assert "; --date 'July': give it as ISO 8601 has it, 2021-07-01 or" in str(told.exception)
    assert not (tmp_path / "new").exists()


def test_interrupted_it_leaves_what_was_there(geotiffs, add, tmp_path):
    folder = add(geotiffs, "geotiff").folder
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add(geotiffs, "geotiff", replace=True, progress=stop)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert {path.name for path in (tmp_path / "catalog").iterdir()} == {"it", "catalog.json"}


def test_the_same_files_give_the_same_bytes(major_tom, add):
    first = {path.name: path.read_bytes() for path in add(major_tom, "major-tom").folder.iterdir()}
    again = {path.name: path.read_bytes() for path in add(major_tom, "major-tom", replace=True).folder.iterdir()}
    assert again == first


def test_what_has_moved_or_changed_since_is_told_when_it_is_read(geotiffs, add, make, tmp_path):
    add(geotiffs, "geotiff")
    with pytest.raises(CatalogError, match="is there already; --replace describes the dataset anew"):
        add(geotiffs, "geotiff")
    (geotiffs / "images" / "patch_1.tif").write_bytes(make.tif(make.chip(12, 16), make.FRANCE))
    catalog = open_catalog(tmp_path / "catalog")
    with pytest.raises(CatalogError, match=r"patch_1.tif: has \(1, 12, 16, 16\).*the files have changed"):
        catalog.search().read(np.arange(3))
    (geotiffs / "images" / "patch_1.tif").unlink()
    with pytest.raises(CatalogError, match=r"patch_1.tif cannot be read.*was readable when the dataset was added"):
        catalog.search().read(np.arange(3))
    geotiffs.rename(tmp_path / "elsewhere")
    with pytest.raises(CatalogError, match="the dataset's own files are not at"):
        open_catalog(tmp_path / "catalog").search().read(np.arange(3))


def test_a_catalog_and_its_datasets_can_be_moved_together(geotiffs, add, tmp_path):
    add(geotiffs, "geotiff")
    (tmp_path / "moved").mkdir()
    for name in ("tiles", "catalog"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    subset = open_catalog(tmp_path / "moved" / "catalog").search()
    assert subset.read(np.arange(3)).any(axis=(1, 2, 3, 4)).all()


class TestCommand:
    def run(self, *arguments):
        return CliRunner().invoke(add_command, [str(argument) for argument in arguments])

    def test_it_tells_what_was_added_and_what_was_not(self, fmow, tmp_path):
        done = self.run(fmow, "--catalog", tmp_path / "catalog", "--name", "fmow")
        assert done.exit_code == 1
        assert "2 samples added, read in place (fmow-sentinel)" in done.output
        assert "chips differ in size (1 of 40 x 40 px, 1 of 48 x 48 px)" in done.output
        assert "1 not read: is listed in train.csv, and its file is not there; such as airport_0_3" in done.output
        assert "2 of 4 samples could not be read" in done.output

    def test_as_json_with_layers_of_a_recipe(self, geotiffs, archive_dir, tmp_path):
        layers = {"continent": {"path": str(archive_dir / "regions" / "continent.fgb"), "field": "continent"}}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"name": "of another", "regions": layers}))
        done = self.run(geotiffs, "--catalog", tmp_path / "catalog", "--regions", tmp_path / "recipe.yaml", "--json")
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert (told["samples"], told["lost"], told["size_px"], told["format"]) == (3, [], 32, "geotiff")
        stats = open_catalog(tmp_path / "catalog").collection("tiles").stats["statistics"]
        assert stats["continent"]["num_labelled"] == 3

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--column", "file"], r"--column file: give it as NAME=VALUE"),
            (["--column", "colour=fn"], r"unknown role 'colour'; roles are file, id, lon"),
            (["--layer", "biome=resolve"], r"biome: unknown dataset 'resolve': did you mean 'resolve-2017'"),
            (["--layer", "soil=resolve-2017"], r"soil"),
            (["--table", "none.csv"], r"there is no table none\.csv"),
        ],
    )
    def test_what_makes_no_sense_is_refused_in_a_line(self, geotiffs, tmp_path, arguments, message):
        done = self.run(geotiffs, "--catalog", tmp_path / "catalog", *arguments)
        assert isinstance(done.exception, Exception)
        with pytest.raises(Exception, match=message):
            raise done.exception
        assert not (tmp_path / "catalog").exists()

    def test_its_help_names_every_format(self):
        text = self.run("--help").output
        assert all(name in text for name in IMPORTERS)


@pytest.mark.kit
def test_the_tiles_of_s2_100k(kit, add, tmp_path):
    """Twelve real tiles with their table: places, continents and land cover are the table's; offsets are known, and seen."""
    layers = {
        "continent": {"path": "vectors/natural_earth/ne_continents.fgb", "field": "continent"},
        "landcover": {"path": "biomes_landcover/MCD12C1.A2019001.006.IGBP.tif", "classes": "igbp"},
    }
    regions = open_regions(RegionLayers.model_validate(layers), base_dir=kit, source=None)
    columns = {"offset": "boa_offset_guess"}
    added = add(kit / "s2_satclip", "geotiff", date="2022-07-01", columns=columns, regions=regions)
    assert (added.samples, added.losses.total, added.suspects) == (12, 0, [])
    subset = open_catalog(tmp_path / "catalog").search()
    table = pd.read_csv(kit / "s2_satclip" / "tiles_summary.csv", keep_default_na=False)
    table = table.set_index(table["file"].str.removesuffix(".tif")).loc[list(subset.column("id"))]
    assert list(subset.column("div:continent")) == [name or None for name in table["continent"]]
    assert list(subset.column("div:landcover")) == list(table["igbp_mcd12c1_2019"])
    np.testing.assert_allclose(subset.lonlat, table[["lon", "lat"]], atol=1e-5)
    assert (subset.chip_shape, subset.bands[-1]) == ((1, 12, 256, 256), "B12")
    told = pq.read_table(added.folder / "pixels.parquet").to_pylist()
    assert {row["path"] for row in told if row["offset"]} == {
        "ssl4eo__example__images__patch_57755.tif", "ssl4eo__example__images__patch_766272.tif"
    }  # fmt: skip
    without = add(kit / "s2_satclip", "geotiff", date="2022-07-01", offset=0, name="without")
    assert {name.rpartition("_")[2] for name, _ in without.suspects} <= {"57755", "766272"}
    assert without.suspects
