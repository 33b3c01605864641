"""Real maps and images of the kit, by the commands that people type: built, searched, pretrained on, scored."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from catalog.query import open_catalog
from pwcat.cli import cli

pytestmark = pytest.mark.kit
BANEPA = "hotosm_oam_banepa/train"
FEATURES = f"{BANEPA}/osm/osm_features_ac7e343eb1faacd2.geojson"


NAIP = [f"16/{x}/{y}" for x in range(10484, 10488) for y in range(25360, 25364)]


def recipes(kit: Path) -> list[dict]:
    aerial = kit / "osm_aerial"
    split = {"val": 0.2, "test": 0.3}
    return [
        {
            "name": "banepa",
            "license": "ODbL-1.0",
            "map": {"path": str(aerial / FEATURES), "day": "2020-01-01", "leave": ["label"]},
            "images": {
                "files": str(aerial / BANEPA / "oam" / "*.tif"),
                "size_px": 64,
                "day": "2020-01-01",
                "attribution": "OpenAerialMap",
                "license": "CC-BY-4.0",
            },
            "tiles": {"zoom": 19, "group_zoom": 17},
            "split": split,
        },
        {
            "name": "monaco",
            "license": "ODbL-1.0",
            "map": {"path": str(aerial / "osm" / "monaco.osm.pbf")},
            "tiles": {"zoom": 16, "group_zoom": 15},
            "split": split,
        },
        {
            "name": "naip",
            "license": "CC-PDDC",
            "images": {
                "tiles": str(aerial / "geojepa_naip_z16"),
                "size_px": 64,
                "day": "2020-06-01",
                "attribution": "USDA",
                "license": "CC-PDDC",
            },
            "tiles": {"only": NAIP},
            "split": split,
        },
    ]


def pwcat(*words: object) -> str:
    result = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def catalog(kit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("maps")
    for recipe in recipes(kit):
        path = folder / f"{recipe['name']}.yaml"
        path.write_text(yaml.safe_dump({"kind": "map", "title": recipe["name"].title(), **recipe}))
        pwcat("build", path, "--catalog", folder / "catalog")
    return folder / "catalog"


@pytest.fixture(scope="module")
def run(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GeoJEPA of tags and images, seconds old."""
    folder = tmp_path_factory.mktemp("run") / "run"
    short = ("--set", "epochs=1", "--set", "optimizer.warmup_epochs=0")
    pwcat("pretrain", catalog / "banepa", "--recipe", "geojepa-ti-tiny", "--out", folder, *short)
    return folder


def error_of(folder: Path, data: Path, task: str, *, probe: str, run: str | Path = "none") -> float:
    """The mean absolute error on all test tiles."""
    table, control = folder / f"{task}-{probe}.csv", ["--control", "tagcount"] if run == "none" else []
    pwcat("evaluate", run, data, "--task", task, "--probe", probe, "--out", folder / "out", "--csv", table, *control)
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["group"] == "all" and row["metric"] == "mae"]
    return float(np.mean([float(row["value"]) for row in rows]))


def test_every_building_of_banepa_is_there_and_its_owners_are_named(kit: Path, catalog: Path):
    # the export gives every building a label, which is no tag, and would tell how many there are
    features = json.loads((kit / "osm_aerial" / FEATURES).read_text())["features"]
    table = pq.read_table(catalog / "banepa" / "entities.parquet", columns=["osm_type", "osm_id", "tags"])
    held = set(zip(table["osm_type"].to_pylist(), table["osm_id"].to_pylist(), strict=True))
    assert held == {(each["properties"]["osm_type"], each["properties"]["osm_id"]) for each in features}
    assert all("building" in dict(tags) for tags in table["tags"].to_pylist())
    said = json.loads((catalog / "banepa" / "collection.json").read_text())
    assert said["pwcat:attributions"] == {"© OpenStreetMap contributors": "ODbL-1.0", "OpenAerialMap": "CC-BY-4.0"}


def test_maps_without_images_and_images_without_maps_are_samples_too(catalog: Path):
    found = open_catalog(catalog)
    naip, monaco, banepa = (found.search(collections=[name]) for name in ("naip", "monaco", "banepa"))
    assert len(naip) == 16
    assert set(naip.column("map:entities")) == {0}
    assert set(monaco.column("div:valid_fraction")) == {0.0}
    assert (monaco.column("map:traffic_signals") > 0).sum() > 5
    assert (banepa.column("div:valid_fraction") > 0).sum() == 48
    few = found.search(collections=["banepa"], filter="map:building_count > 30")
    assert 0 < len(few) == (banepa.column("map:building_count") > 30).sum() < len(banepa)


def test_counts_of_tags_tell_buildings_where_they_leak_and_not_where_they_are_masked(catalog: Path, tmp_path: Path):
    constant = error_of(tmp_path, catalog / "banepa", "building-count", probe="dummy")
    leaky = error_of(tmp_path, catalog / "banepa", "building-count-leaky", probe="ridge")
    masked = error_of(tmp_path, catalog / "banepa", "building-count", probe="ridge")
    assert leaky < 0.5 * constant
    assert leaky < 0.5 * masked


def test_a_model_of_both_reads_real_maps_with_and_without_images(run: Path, catalog: Path, tmp_path: Path):
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["loss"]) for line in log if "loss" in line)
    assert any("loss" in line for line in log)
    for name in ("banepa", "monaco"):
        assert np.isfinite(error_of(tmp_path, catalog / name, "building-count", probe="ridge", run=run))
