"""What comes after a build keeps reflectance and sensors apart: subsets, publications, training."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from catalog.query import open_catalog
from catalog.store import build
from publish.dataset import publish_dataset
from publish.decode import decode
from publish.verify import verify_folder
from pwcat.errors import CatalogError, TrainingError
from pwcat.plan import read_plan
from training.loader import band_indices, read_chips
from training.normalize import measure, unit_of

RADAR = {"scale": 0.001, "offset": -50.001, "unit": "dB", "transform": "decibel"}
SENSORS = {
    "s1": {"bands": ["VV"], "within_days": 15, "encode": {"VV": RADAR}},
    "dem": {"bands": ["elevation"], "encode": {"elevation": {"scale": 0.25, "offset": -1000.25, "unit": "m"}}},
}
OTHER = {**SENSORS, "s1": {**SENSORS["s1"], "encode": {"VV": {**RADAR, "scale": 0.002}}}}


@pytest.fixture(scope="module")
def catalog(world, tmp_path_factory):
    """Datasets with sensors, with the same but for a scale, and without. Do not change it."""
    home = tmp_path_factory.mktemp("uses")
    for name, sensors in {"with": SENSORS, "other": OTHER, "without": None}.items():
        build(world.recipe(home, name=name, sensors=sensors, num_samples=8), catalog=home / "catalog")
    return open_catalog(home / "catalog")


def test_a_collection_says_what_numbers_of_sensors_mean(catalog):
    document = json.loads((catalog.path / "with" / "collection.json").read_text())
    plain, _, radar, _ = document["summaries"]["bands"]
    assert plain == {"name": "B02"}
    assert radar == {
        "name": "VV",
        "description": "of the sensor s1",
        "raster:scale": 0.001,
        "raster:offset": -50.001,
        "unit": "dB",
        "nodata": 0,
    }
    recipe = read_plan(catalog.path / "with").recipe
    wanted = {recipe.source.name, *(sensor.source.name for sensor in recipe.sensors.values())}
    assert document["pwcat:sources"] == sorted(wanted)
    assert [name.rpartition("/")[2] for name in document["pwcat:sources"]] == ["dem", "s1", "s2"]
    assert document["assets"]["sensors"]["href"] == "./sensors.parquet"
    bare = json.loads((catalog.path / "without" / "collection.json").read_text())
    assert "sensors" not in bare["assets"]
    assert [band["raster:scale"] for band in bare["assets"]["cube"]["bands"]] == [0.0001, 0.0001]
    assert not any("raster:scale" in band for band in bare["summaries"]["bands"])


def test_bands_of_other_scales_are_not_read_together(catalog):
    both = catalog.search(collections=["other", "with"])
    with pytest.raises(
        CatalogError, match="bands of other, with have the same names and other scales, offsets or units"
    ):
        both.read(np.arange(2))


def test_a_publication_with_sensors_is_whole_and_each_row_says_what_its_bands_are(catalog, tmp_path):
    import datasets

    folder = tmp_path / "published"
    publish_dataset(catalog.search(collections=["with"]), to=folder)
    assert not verify_folder(folder).faults
    rows = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    (row, *_) = (row for split in rows.values() for row in split)
    assert row["bands"] == ["B02", "B08", "VV", "elevation"]
    assert row["sensors"] == ["", "", "s1", "dem"]
    assert row["scales"] == [0.0001, 0.0001, 0.001, 0.25]
    assert row["offsets"] == [0, 0, -50.001, -1000.25]
    assert row["units"] == ["1", "1", "dB", "m"]
    pixels = decode(row)
    heights = pixels[0, 3] * row["scales"][3] + row["offsets"][3]
    assert 200 < heights.mean() < 900
    card = (folder / "README.md").read_text()
    assert "| VV | s1 | pixel × 0.001 − 50.001 | dB | – |" in card
    assert "| B02 | 492.4 nm | 10 m |" in card
    assert "s1 (s1) gives VV, of the scene nearest to each date, at most 15 days away." in card
    stac = json.loads((folder / "stac" / "collection.json").read_text())
    assert stac["summaries"]["bands"][3]["unit"] == "m"
    croissant = json.loads((folder / "croissant.json").read_text())
    names = [field["name"] for field in croissant["recordSet"][0]["field"]]
    assert names[-4:] == ["sensors", "scales", "offsets", "units"]


def test_thumbnails_are_those_of_the_same_dataset_without_sensors(catalog, tmp_path):
    previews = []
    for name in ("with", "without"):
        publish_dataset(catalog.search(collections=[name]), to=tmp_path / name)
        table = pq.read_table(tmp_path / name / "preview" / "preview-00000-of-00001.parquet")
        previews.append([row["bytes"] for row in table["thumbnail"].to_pylist()])
    assert previews[0] == previews[1]
    assert "sensors" not in pq.read_schema(next((tmp_path / "without" / "data").iterdir())).names


def test_a_model_takes_the_bands_that_it_names(catalog):
    subset = catalog.search(collections=["with"])
    rows = np.arange(3)
    np.testing.assert_array_equal(read_chips(subset, rows, bands=["VV", "B02"]), subset.read(rows)[:, 0, [2, 0]])
    with pytest.raises(TrainingError, match="the data have B02, B08, VV, elevation: VH are missing"):
        band_indices(subset, ["VH"])


def test_the_unit_of_a_models_input_names_each_band_of_a_sensor(catalog):
    subset = catalog.search(collections=["with"])
    plain, radar = "DN, reflectance*10000", "VV: dB = DN*0.001-50.001"
    assert unit_of(subset, ["B02", "B08"]) == unit_of(catalog.search(collections=["without"])) == plain
    assert unit_of(subset, ["B02", "VV"]) == f"{plain}; {radar}"
    assert unit_of(subset) == f"{plain}; {radar}; elevation: m = DN*0.25-1000.25"
    found = measure(subset, bands=["VV", "B02"])
    assert found.unit == f"{plain}; {radar}"
    assert -20 < found.mean[0] * 0.001 - 50.001 < -5
    assert found.num_pixels[0] <= found.num_pixels[1] == 8 * 32 * 32
