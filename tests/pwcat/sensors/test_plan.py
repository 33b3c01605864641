"""Plans of recipes that ask for sensors: which items, in what is written, and what people and programs are told."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import rasterio
import yaml
from click.testing import CliRunner
from rasterio.transform import from_origin

from pwcat.archive import add_scenes
from pwcat.commands import plan as plan_command
from pwcat.doctor import examine
from pwcat.errors import SourceError
from pwcat.plan import freeze_plan, make_plan, read_plan
from pwcat.providers import open_source
from pwcat.recipe import load_recipe
from pwcat.sensors.frozen import EVERY_DATE, read_sensors

YEAR = {"when": {"start": "2021-01-01", "end": "2021-12-31", "months": "all"}}


def freeze(path: Path, catalog: Path) -> Path:
    recipe = load_recipe(path)
    with open_source(recipe.source, base_dir=path.parent) as source:
        return freeze_plan(recipe, catalog=catalog, base_dir=path.parent, source=source)


def changed(path: Path, sensor: str, **changes) -> Path:
    """The recipe with that sensor alone, otherwise than it was."""
    document = yaml.safe_load(path.read_text())
    document["sensors"] = {sensor: {**document["sensors"][sensor], **changes}}
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def year(world, tmp_path_factory) -> Path:
    """The folder of a plan of twelve months and a reserve, beside its recipe."""
    folder = tmp_path_factory.mktemp("year")
    return freeze(world.recipe(folder, constraints={"reserve_fraction": 0.25}, **YEAR), folder / "catalog")


def test_every_date_of_every_sample_and_of_the_reserve_is_in_the_plan(year):
    plan, sensors = read_plan(year), read_sensors(year)
    ids = [*plan.table["id"].to_pylist(), *plan.reserve["id"].to_pylist()]
    assert len(ids) == 20
    frozen = pq.read_table(year / "sensors.parquet")
    assert pc.unique(frozen["id"]).to_pylist() == ids
    assert len(frozen) == 20 * (12 + 1 + 12)
    assert sensors.sensors == ["s1", "dem", "era5"]
    named = sensors.names_of(ids)
    radar = [[] if month == 3 else [f"S1_{month:02d}"] for month in range(1, 13)]
    for name in ids:
        assert [named[name, "s1", time] for time in range(12)] == radar
        assert [named[name, "era5", time] for time in range(12)] == [[f"ERA5_{month:02d}"] for month in range(1, 13)]
        assert set(named[name, "dem", EVERY_DATE]) <= {"DEM_E", "DEM_W"}
    borders = [named[name, "dem", EVERY_DATE] for name in ids]
    assert ["DEM_E", "DEM_W"] in borders  # the tiles meet in the middle of the place
    assert ["DEM_E"] in borders or ["DEM_W"] in borders


def test_people_and_programs_are_told_what_each_sensor_has(world, year):
    recipe = year.parents[1] / "four.yaml"
    shown = CliRunner().invoke(plan_command, [str(recipe), "--catalog", str(year.parent)], catch_exceptions=False)
    said = " ".join(shown.output.split())
    assert "Sensor s1 176 of 192 dates whole, 0 in part, 16 not at all; 11 items" in said
    assert "Sensor dem 16 of 16 samples whole, 0 in part, 0 not at all; 2 items" in said
    assert "Sensor era5 192 of 192 dates whole, 0 in part, 0 not at all; 12 items" in said
    assert "Not counted what reading the sensors takes: requests, bytes and time below are of the source alone" in said
    words = [str(recipe), "--catalog", str(year.parent), "--json"]
    told = json.loads(CliRunner().invoke(plan_command, words, catch_exceptions=False).output)
    assert told["sensors"]["s1"] == {"dates": 192, "whole": 176, "part": 0, "items": 11}
    assert told["cube_bytes"] == 16 * 12 * (2 + 2 + 2 + 2) * 32 * 32 * 2


def test_planned_twice_it_is_the_same_bytes(year, tmp_path):
    again = freeze(year.parents[1] / "four.yaml", tmp_path)
    for name in (
        "plan.parquet",
        "sensors.parquet",
        "sensors/s1.parquet",
        "sensors/dem.parquet",
        "sensors/era5.parquet",
    ):
        assert (again / name).read_bytes() == (year / name).read_bytes()


def test_a_recipe_without_sensors_has_the_plan_that_it_had(world, year, tmp_path):
    plain = freeze(
        world.recipe(tmp_path, sensors=None, constraints={"reserve_fraction": 0.25}, **YEAR), tmp_path / "catalog"
    )
    assert sorted(path.name for path in plain.iterdir() if not path.name.startswith("_")) == [
        "ledger",
        "plan.parquet",
        "recipe.yaml",
        "reserve.parquet",
        "scenes.parquet",
    ]
    with_sensors, without = pq.read_table(year / "plan.parquet"), pq.read_table(plain / "plan.parquet")
    assert without.drop_columns("shard").equals(with_sensors.drop_columns("shard"))
    assert b"pwcat:sensors" not in without.schema.metadata


def test_a_place_is_of_the_recipe_not_of_the_current_folder(world, tmp_path):
    path = world.recipe(tmp_path)
    (tmp_path / "own").symlink_to(world.path)
    changed(path, "dem", source={"provider": "archive", "path": "own", "collection": "dem"})
    assert make_plan(path).sensors.tallies["dem"].whole == 16


FAULTS = {
    "a folder that is none": (
        "s1", {"source": {"provider": "archive", "path": "nowhere", "collection": "s1"}},
        r"nowhere: no archive there; make one",
    ),
    "a collection that is none": (
        "s1", {"source": {"collection": "s1-rtc"}}, r"the archive has no collection 's1-rtc': did you mean 's1'\?",
    ),
    "a band that is none": (
        "s1", {"bands": ["VX"], "encode": {}},
        r"sensors\.s1: none of the 1 items of s1 can serve; 1: no asset for band 'VX' .*; there are VH, VV",
    ),
    "a slope without heights": (
        "s1", {"bands": ["slope"], "encode": {}}, r"sensors\.s1: none of .* no asset for band 'elevation'",
    ),
    "decimals without an encoding": (
        "s1", {"encode": {}},
        r"sensors\.s1: the cube holds whole numbers from 0 to 65535; say `sensors\.s1\.encode\.VV: .*for its numbers are "
        r"float32; say `sensors\.s1\.encode\.VH",
    ),
    "nothing near any date": (
        "s1", {"within_days": 1},
        r"sensors\.s1: s1 of archive has nothing for any of the samples within 1 day of any of their dates "
        r"\(0 items found\): widen",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_what_only_the_source_knows_is_told_when_it_is_planned(world, tmp_path, case):
    sensor, changes, told = FAULTS[case]
    path = world.recipe(tmp_path)
    own = yaml.safe_load(path.read_text())["sensors"][sensor]["source"]
    if "path" not in changes.get("source", {"path": ""}):
        changes = {**changes, "source": {**own, **changes["source"]}}
    with pytest.raises(SourceError, match=told):
        freeze(changed(path, sensor, **changes), tmp_path / "catalog")
    assert not (tmp_path / "catalog" / "four" / "plan.parquet").exists()


def test_sensors_of_another_place_serve_no_sample(world, tmp_path):
    path, when = world.recipe(tmp_path), datetime(2015, 1, 1, tzinfo=UTC)
    add_scenes(tmp_path / "rome", [heights_of_rome(tmp_path)], collection="dem", bands=["elevation"], when=when)
    changed(path, "dem", source={"provider": "archive", "path": "rome", "collection": "dem"})
    with pytest.raises(
        SourceError, match=r"sensors\.dem: dem of archive has nothing for any of the samples \(0 items found\): take"
    ):
        make_plan(path)


def heights_of_rome(folder: Path) -> Path:
    path = folder / "rome.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=20, height=20, count=1, dtype="float32", crs="EPSG:4326",
        transform=from_origin(12, 42, 1 / 3600, 1 / 3600),
    ) as raster:  # fmt: skip
        raster.write(np.ones((1, 20, 20), np.float32))
    return path


def test_doctor_tells_of_a_lost_file(year, tmp_path):
    folder = Path(shutil.copytree(year, tmp_path / "four"))
    assert "sensors" not in {finding.kind for finding in examine(folder).findings}
    (folder / "sensors" / "dem.parquet").unlink()
    (finding,) = [finding for finding in examine(folder).findings if finding.kind == "sensors"]
    assert "dem.parquet: not there, though the plan was written with it" in finding.what
    assert "plan.parquet" in finding.mend
