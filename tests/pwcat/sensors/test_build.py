"""Cubes with sensors, from a recipe to what a reader finds: pixels, coordinates, ledger, reruns, what fails and what lacks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import zarr
from rasterio.enums import Resampling

from catalog.store import build
from pwcat.building.ledger import read_ledger
from pwcat.cube import open_cube
from pwcat.doctor import examine
from pwcat.materialize import build_cube
from pwcat.plan import freeze_plan, read_plan
from pwcat.providers import OpenSource
from pwcat.recipe import load_recipe
from pwcat.sensors.document import encoding_of
from pwcat.sensors.encoding import encode
from pwcat.sensors.grids import PixelGrid
from pwcat.sensors.opening import open_sensors
from pwcat.sensors.warping import warp

MAIN = ["B02", "B08"]
ALL = [*MAIN, "VV", "VH", "elevation", "slope", "temperature_2m", "total_precipitation"]


@pytest.fixture(scope="module")
def four(world, tmp_path_factory) -> Path:
    """The folder of a cube of four instruments. Do not change it."""
    folder = tmp_path_factory.mktemp("four")
    return build(world.recipe(folder), catalog=folder / "catalog").folder


@pytest.fixture(scope="module")
def alone(world, tmp_path_factory) -> Path:
    """The same without sensors."""
    folder = tmp_path_factory.mktemp("alone")
    return build(world.recipe(folder, sensors=None), catalog=folder / "catalog").folder


def shards_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("cube.zarr/**/*"))
        if path.is_file()
    }


def onto(world, collection: str, item: str, band: str, sample: dict, *, size=32) -> np.ndarray:
    """A file on a sample's grid."""
    grid = PixelGrid(epsg=sample["epsg"], left=sample["x0"], top=sample["y0"], gsd=10, width=size, height=size)
    with rasterio.open(world.file(collection, item, band)) as raster:
        return warp(raster, 1, grid, nodata=None, resampling=Resampling.bilinear)


def test_bands_of_sensors_stand_behind_those_of_the_source(four):
    cube = open_cube(four / "cube.zarr")
    assert list(cube.bands) == ALL
    assert cube.sensors == ("", "", "s1", "s1", "dem", "dem", "era5", "era5")
    assert cube.main == slice(2)
    data = cube.to_xarray()
    assert data["unit"].values.tolist() == ["1", "1", "dB", "dB", "m", "degree", "K", "m"]
    np.testing.assert_allclose(data["scale"], [1e-4, 1e-4, 0.001, 0.001, 0.25, 0.002, 0.01, 0.00005])
    np.testing.assert_allclose(data["offset"], [0, 0, -50.001, -50.001, -1000.25, -0.002, 150, 0])
    assert cube.attrs["scale"] == 0.0001
    assert np.isnan(data["wavelength_nm"].values[2:]).all()


def test_every_pixel_is_the_files_on_the_chips_grid(world, four):
    plan, chips = read_plan(four), open_cube(four / "cube.zarr").read(np.arange(16))
    files = {
        ("s1", "VV"): ["S1_06"],
        ("s1", "VH"): ["S1_06"],
        ("dem", "elevation"): ["DEM_E", "DEM_W"],
        ("era5", "temperature_2m"): ["ERA5_06"],
        ("era5", "total_precipitation"): ["ERA5_06"],
    }
    crossed = 0
    for row, sample in enumerate(plan.table.to_pylist()):
        for (sensor, band), items in files.items():
            parts = [onto(world, sensor, item, band, sample) for item in items]
            if sensor == "dem":  # in the order of their ids
                crossed += all(np.isfinite(part).any() for part in parts)
                parts = [np.where(np.isnan(parts[0]), parts[1], parts[0])]
            expected = encode(parts[0], encoding_of(plan.recipe.sensors[sensor], band))
            np.testing.assert_array_equal(chips[row, 0, ALL.index(band)], expected)
        steep = chips[row, 0, ALL.index("slope")] * 0.002 - 0.002
        assert abs(np.median(steep) - np.degrees(np.arctan(np.hypot(0.05, -0.12)))) < 0.02
    assert crossed >= 1


def test_a_source_is_the_same_with_and_without_sensors(four, alone):
    with_them, without = open_cube(four / "cube.zarr"), open_cube(alone / "cube.zarr")
    rows = np.arange(16)
    assert read_plan(four).table.equals(read_plan(alone).table)
    np.testing.assert_array_equal(with_them.read(rows)[:, :, :2], without.read(rows))
    assert not {"sensor", "scale", "offset", "unit"} & {path.name for path in (alone / "cube.zarr").iterdir()}
    assert without.sensors == ("", "")
    stats = [json.loads((folder / "stats.json").read_text())["statistics"] for folder in (four, alone)]
    assert stats[0] == stats[1]
    columns = ["div:spectral_entropy", "pwcat:split"]
    items = [pq.read_table(folder / "items.parquet", columns=columns) for folder in (four, alone)]
    assert items[0].equals(items[1])
    valid = [zarr.open_array(folder / "cube.zarr" / "valid_fraction", mode="r")[...] for folder in (four, alone)]
    np.testing.assert_array_equal(*valid)


def test_the_same_recipe_gives_the_same_bytes_and_a_rerun_reads_nothing(world, four, tmp_path):
    again = build(world.recipe(tmp_path), catalog=tmp_path / "catalog")
    assert shards_of(again.folder) == shards_of(four)
    assert again.report.lacks == {"s1": 0, "dem": 0, "era5": 0}
    rerun = build(tmp_path / "four.yaml", catalog=tmp_path / "catalog")
    assert (rerun.report.shards_built, rerun.report.cost) == (0, None)


def test_a_cluster_gives_the_same_bytes(world, four, tmp_path):
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=":0") as cluster:
        built = build(world.recipe(tmp_path), catalog=tmp_path / "catalog", scheduler=cluster.scheduler_address)
    assert shards_of(built.folder) == shards_of(four)


def test_what_reading_took_is_in_the_ledger(four):
    ledger = read_ledger(four)
    assert ledger["status"].to_pylist() == ["written"] * 16
    assert min(ledger["attempts"].to_pylist()) == 4  # a scene, and three sensors
    assert not any(ledger["without"].to_pylist())


def test_a_sensor_that_has_nothing_leaves_its_bands_empty_and_the_ledger_says_so(world, tmp_path):
    sensors = {"s1": {"bands": ["VV", "VH"], "within_days": 5, "encode": world_encodings()}}
    path = world.recipe(tmp_path, sensors=sensors, when=TWO_DATES, num_samples=4)
    built = build(path, catalog=tmp_path / "catalog")
    chips = open_cube(built.folder / "cube.zarr").read(np.arange(4))
    assert (chips[:, :, :2] > 0).all()
    assert (chips[:, 0, 2:] > 0).any()
    assert (chips[:, 1, 2:] == 0).all()
    lacks = read_ledger(built.folder)["without"].to_pylist()
    assert lacks == [[{"sensor": "s1", "time": 1, "why": "no scene"}]] * 4
    assert built.report.lacks == {"s1": 4}
    assert built.report.counts == {"written": 4}


# The radar has nothing near the second
TWO_DATES = {"start": "2021-02-01", "end": "2021-03-31", "dates_per_site": 2}


def world_encodings(**more):
    decibel = {"scale": 0.001, "offset": -50.001, "unit": "dB", "transform": "decibel"}
    return {"VV": decibel, "VH": decibel, **more}


def test_a_sample_without_a_sensor_that_it_needs_is_empty_and_says_which_and_when(world, tmp_path):
    sensors = {"s1": {"bands": ["VV"], "within_days": 5, "required": True, "encode": {"VV": world_encodings()["VV"]}}}
    path = world.recipe(tmp_path, sensors=sensors, when=TWO_DATES)
    folder = plan_of(path, tmp_path)
    with opened(path) as (source, others):
        report = build_cube(folder, source=source, sensors=others)
    assert report.counts == {"empty": 16}
    (loss,) = report.losses
    assert loss.cause == "no data"
    reasons = set(read_ledger(folder)["reason"].to_pylist())
    assert reasons == {"s1: no scene within 5 days of 2021-03-15"}
    assert report.cost is None or report.cost.actual.requests == 0


def plan_of(path: Path, tmp_path: Path) -> Path:
    with opened(path) as (source, _):
        return freeze_plan(load_recipe(path), catalog=tmp_path / "catalog", base_dir=path.parent, source=source)


def opened(path: Path, *, url: str | None = None):
    """Source and sensors of a recipe; all at another address where one is given."""
    from contextlib import contextmanager

    from pwcat.providers import open_source

    @contextmanager
    def both():
        recipe = load_recipe(path)
        with (
            open_source(recipe.source, base_dir=path.parent) as source,
            open_sensors(recipe.sensors, base_dir=path.parent) as sensors,
        ):
            if url is None:
                yield source, sensors
            else:
                yield (
                    OpenSource(provider="archive", url=url, collection=source.collection),
                    {n: OpenSource(provider="archive", url=url, collection=s.collection) for n, s in sensors.items()},
                )

    return both()


def test_a_chip_all_without_data_ends_a_sample_only_where_the_sensor_is_required(world, tmp_path):
    for required in (False, True):
        sensors = {
            "blind": {"bands": ["VV", "VH"], "within_days": 15, "required": required, "encode": world_encodings()}
        }
        home = tmp_path / str(required)
        home.mkdir()
        path = world.recipe(home, sensors=sensors, num_samples=4)
        folder = plan_of(path, home)
        with opened(path) as (source, others):
            report = build_cube(folder, source=source, sensors=others)
        ledger = read_ledger(folder)
        if required:
            assert report.counts == {"empty": 4}
            assert set(ledger["reason"].to_pylist()) == {"blind: no data within 15 days of 2021-06-15"}
            assert (open_cube(folder / "cube.zarr").read(np.arange(4)) == 0).all()
        else:
            assert report.counts == {"written": 4}
            assert ledger["without"].to_pylist() == [[{"sensor": "blind", "time": 0, "why": "no data"}]] * 4


def test_the_reserve_replaces_samples_that_a_required_sensor_does_not_see(world, tmp_path):
    """Heights of the western tile alone: samples of the east are replaced by sites of the west."""
    sensors = {
        "half": {"bands": ["elevation"], "required": True, "encode": {"elevation": {"scale": 0.25, "offset": -1000.25}}}
    }
    path = world.recipe(tmp_path, sensors=sensors, num_samples=8, constraints={"reserve_fraction": 1})
    built = build(path, catalog=tmp_path / "catalog")
    assert built.report.counts.get("written", 0) >= 6
    assert built.report.replaced >= 1
    chips = open_cube(built.folder / "cube.zarr").read(np.arange(8))
    written = [status == "written" for status in read_ledger(built.folder)["status"].to_pylist()]
    assert (chips[written][:, 0, 2].max(axis=(1, 2)) > 0).all()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("rule", [{"status": 404}, {"status": 500}, {"short": 0.5}, {"status": 403}], ids=str)
def test_a_file_of_a_sensor_that_cannot_be_read_fails_samples_and_a_rerun_mends_them(
    world, four, faulty, tmp_path, rule
):
    path = world.recipe(tmp_path)
    folder = plan_of(path, tmp_path)
    bad, good = faulty({"path": "S1_06/VV", **rule}), faulty()
    with opened(path, url=bad.url) as (source, others):
        report = build_cube(folder, source=source, sensors=others)
    assert set(report.counts) == {"failed"}
    assert all(loss.cause != "other" for loss in report.losses)
    assert all("s1: archive:s1/S1_06/VV.tif" in reason for reason in read_ledger(folder)["reason"].to_pylist())
    findings = examine(folder).findings
    assert any(finding.kind == "failed" for finding in findings)
    with opened(path, url=good.url) as (source, others):
        assert build_cube(folder, source=source, sensors=others).counts == {"written": 16}
    mine, theirs = shards_of(folder), shards_of(four)
    assert mine == theirs


def test_a_killed_build_goes_on_to_the_same_bytes(world, four, tmp_path):
    path = world.recipe(tmp_path)
    plan_of(path, tmp_path)
    command = [str(Path(sys.executable).with_name("pwcat")), "build", str(path), "--catalog", str(tmp_path / "catalog")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    shards = tmp_path / "catalog" / "four" / "cube.zarr" / "chips" / "c"
    while process.poll() is None and len(list(shards.glob("*/0/0/0/0"))) < 2:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    built = build(path, catalog=tmp_path / "catalog")
    assert shards_of(built.folder) == shards_of(four)
    findings = examine(built.folder, recipe=path).findings
    assert [finding.kind for finding in findings] == []


def test_pixel_series_of_twelve_months(world, tmp_path):
    """What Presto reads: a pixel, twelve months, four instruments."""
    path = world.recipe(
        tmp_path,
        chip={"size_px": 1, "bands": MAIN, "harmonise": False},
        when={"start": "2021-01-01", "end": "2021-12-31", "months": "all"},
        num_samples=8,
    )
    built = build(path, catalog=tmp_path / "catalog")
    cube = open_cube(built.folder / "cube.zarr")
    chips = cube.read(np.arange(8))
    assert chips.shape == (8, 12, 8, 1, 1)
    assert (chips[:, :, [0, 1, 4, 5, 6, 7]] > 0).all()
    assert (chips[:, :, 4:6] == chips[:, :1, 4:6]).all()  # what does not change with time is repeated
    recipe = load_recipe(path)
    for row, sample in enumerate(read_plan(built.folder).table.slice(0, 4).to_pylist()):
        for month in range(1, 13):
            values = onto(world, "era5", f"ERA5_{month:02d}", "temperature_2m", sample, size=1)
            assert chips[row, month - 1, 6] == encode(values, encoding_of(recipe.sensors["era5"], "temperature_2m"))
            if month not in (2, 3, 4):  # of those, the nearest scene is another's
                values = onto(world, "s1", f"S1_{month:02d}", "VV", sample, size=1)
                assert chips[row, month - 1, 2] == encode(values, encoding_of(recipe.sensors["s1"], "VV"))


def test_without_the_sensors_files_a_build_says_what_to_do(world, tmp_path):
    from pwcat.errors import PwcatError

    path = world.recipe(tmp_path, num_samples=4)
    folder = plan_of(path, tmp_path)
    (folder / "sensors" / "s1.parquet").unlink()
    with opened(path) as (source, others), pytest.raises(PwcatError, match=r"s1\.parquet: not there"):
        build_cube(folder, source=source, sensors=others)
    with (
        opened(path) as (source, others),
        pytest.raises(PwcatError, match=r"sensors whose sources are not open: dem, era5"),
    ):
        build_cube(folder, source=source, sensors={"s1": others["s1"]})
