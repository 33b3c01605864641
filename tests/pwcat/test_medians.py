"""Plans and cubes of medians and of seasons, over the synthetic archive."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import rasterio

from pwcat.building.ledger import read_ledger
from pwcat.costs.estimate import estimate_plan
from pwcat.costs.reads import estimate_reads
from pwcat.cube import open_cube
from pwcat.errors import RegionError
from pwcat.materialize import build_cube
from pwcat.plan import freeze_plan, make_plan, read_plan
from pwcat.providers.reuse import forget_address
from pwcat.recipe import Recipe

EVER = {"start": "2021-01-01", "end": "2024-12-31", "max_cloud_cover": 100}
UNCLEAR = (0, 1, 3, 8, 9, 10)  # of the scene classification: no data, saturated, shadow, clouds, cirrus
GSD = {"B02": 10, "B05": 20, "B01": 60, "SCL": 20}


def variant(recipe, **changes):
    return Recipe.model_validate({**recipe.model_dump(mode="json"), **changes})


@pytest.fixture(scope="module")
def median_recipe(recipe):
    return variant(recipe, name="medians", when=EVER | {"composite": "median"})


@pytest.fixture(scope="module")
def medians(tmp_path_factory, median_recipe, small, source):
    """A cube of medians. Do not change it."""
    folder = freeze_plan(
        median_recipe, catalog=tmp_path_factory.mktemp("medians"), base_dir=small.parent, source=source
    )
    forget_address(source.url)  # what earlier tests have read would not be asked for, and is compared with the estimate
    report = build_cube(folder, source=source)
    assert report.cost is not None
    return folder


def pixels_of(archive, scene, row, band, *, size=32):
    """The pixels under a chip's own, straight from the file."""
    with rasterio.open(archive / "s2-l2a-synthetic" / scene / f"{band}.tif") as raster:
        east = row["x0"] + (np.arange(size) + 0.5) * 10
        south = row["y0"] - (np.arange(size) + 0.5) * 10
        columns = np.floor((east - raster.transform.c) / GSD[band]).astype(int)
        rows = np.floor((raster.transform.f - south) / GSD[band]).astype(int)
        return raster.read(1)[np.ix_(rows, columns)].astype(np.int64)


def test_a_chip_is_the_median_of_its_scenes_clear_pixels_without_the_offset(medians, archive_dir, source):
    plan = read_plan(medians)
    chips = open_cube(medians / "cube.zarr").read(np.arange(len(plan)))
    scenes = {scene.id: scene.item["properties"] for scene in plan.scenes(source)}
    ledger = read_ledger(medians).to_pylist()
    several, hidden, offsets = 0, 0, set()
    for number, row in enumerate(plan.table.to_pylist()):
        ((first, *others),) = row["composite_ids"]
        assert [first] == row["scene_ids"]
        several += bool(others)
        added = {name: 1000 if scenes[name]["s2:processing_baseline"] >= "04.00" else 0 for name in (first, *others)}
        offsets |= set(added.values())
        assert ledger[number]["boa_offset"] == [added[first]]
        for band, name in enumerate(plan.recipe.chip.bands):
            layers = []
            for scene in (first, *others):
                dn = pixels_of(archive_dir, scene, row, name)
                unclear = np.isin(pixels_of(archive_dir, scene, row, "SCL"), UNCLEAR)
                hidden += int((unclear & (dn != 0)).sum())
                layers.append(np.ma.masked_array(dn - added[scene], (dn <= added[scene]) | unclear))
            true = np.floor(np.ma.median(np.ma.stack(layers), axis=0).filled(0) + 0.5)
            if ledger[number]["status"] == "written":
                np.testing.assert_array_equal(chips[number, 0, band], true)
            else:
                assert not chips[number].any()
    assert several > 8
    assert hidden > 0
    assert offsets == {0, 1000}


def test_medians_are_the_same_again(medians, median_recipe, small, source, tmp_path, bytes_of):
    again = freeze_plan(median_recipe, catalog=tmp_path, base_dir=small.parent, source=source)
    build_cube(again, source=source)
    assert bytes_of(again) == bytes_of(medians)
    assert (again / "plan.parquet").read_bytes() == (medians / "plan.parquet").read_bytes()


def test_a_plan_of_medians_names_every_scene_and_counts_it(medians, median_recipe, source):
    plan = read_plan(medians)
    named = {name for row in plan.table["composite_ids"].to_pylist() for date in row for name in date}
    scenes = plan.scenes(source)
    assert named == {scene.id for scene in scenes}
    assert estimate_plan(plan.recipe, plan.table, scenes).scenes == len(named)
    nearest = estimate_reads(plan.recipe, plan.table.drop_columns("composite_ids"), scenes)
    every = estimate_reads(plan.recipe, plan.table, scenes)
    assert every.requests > nearest.requests
    bands_alone = estimate_reads(variant(plan.recipe, when=EVER), plan.table, scenes)
    assert every.requests >= bands_alone.requests + 2 * len(named)  # the scene classification: its size, its header
    (run,) = json.loads((medians / "ledger" / "_costs.json").read_text())["runs"]
    assert run["estimate"]["requests"] == every.requests
    assert run["estimate"]["requests"] == pytest.approx(run["actual"]["requests"], rel=0.1)


def test_samples_that_no_scene_shows_clear_are_cloudy(median_recipe, small, source, tmp_path):
    strict = variant(
        median_recipe, name="clear", when=median_recipe.when.model_dump(mode="json") | {"max_chip_cloud": 0}
    )
    folder = freeze_plan(strict, catalog=tmp_path, base_dir=small.parent, source=source)
    build_cube(folder, source=source)
    chips = open_cube(folder / "cube.zarr").read(np.arange(16))
    statuses = read_ledger(folder)["status"].to_pylist()
    assert set(statuses) <= {"written", "cloudy"}
    assert "cloudy" in statuses
    for chip, status in zip(chips, statuses, strict=True):
        assert (chip != 0).all() == (status == "written")


def test_a_plan_by_phenology_takes_the_scene_nearest_to_each_sites_dates(recipe, source, small, tmp_path):
    plain = make_plan(variant(recipe, when=EVER), base_dir=small.parent, source=source)
    rows = plain.table.to_pylist()
    table = pd.DataFrame({"lon": [row["lon"] for row in rows], "lat": [row["lat"] for row in rows]})
    table["peak"] = [row["datetime"][0].date().isoformat() for row in rows]
    table.to_csv(tmp_path / "peaks.csv", index=False)
    asked = {"path": str(tmp_path / "peaks.csv"), "columns": ["peak"], "days": 1, "max_km": 0.01}
    points = {"strategy": "points", "path": str(tmp_path / "peaks.csv"), "order": "file"}
    plan = make_plan(
        variant(recipe, sampler=points, when=EVER | {"phenology": asked}), base_dir=small.parent, source=source
    )
    assert {(r["lon"], r["scene_ids"][0]) for r in plan.table.to_pylist()} == {
        (r["lon"], r["scene_ids"][0]) for r in rows
    }
    table.iloc[:3].to_csv(tmp_path / "few.csv", index=False)
    far = EVER | {"phenology": asked | {"path": str(tmp_path / "few.csv")}}
    with pytest.raises(
        RegionError, match=r"13 lay too far from any place of the table of dates.*raise `when.phenology.max_km`"
    ):
        make_plan(variant(recipe, sampler=points, when=far), base_dir=small.parent, source=source)
