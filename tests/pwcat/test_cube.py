from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

from pwcat.building.ledger import damaged_shards
from pwcat.cube import DIMS, CubeSpec, create_cube, encode_shard, open_cube, shard_path, write_shard
from pwcat.errors import CubeError
from pwcat.materialize import build_cube
from pwcat.plan import Plan, read_plan, write_plan
from pwcat.recipe import Recipe

GSD = {"B02": 10, "B05": 20, "B01": 60}


def expected_chip(archive, row, band, *, size=32):
    """The pixels under a chip's own, straight from the file, harmonised by the rule of ESA; and the baseline."""
    (scene_id,) = row["scene_ids"]
    home = archive / "s2-l2a-synthetic" / scene_id
    with rasterio.open(home / f"{band}.tif") as raster:
        assert raster.res == (GSD[band], GSD[band])
        east = row["x0"] + (np.arange(size) + 0.5) * 10
        south = row["y0"] - (np.arange(size) + 0.5) * 10
        columns = np.floor((east - raster.transform.c) / GSD[band]).astype(int)
        rows = np.floor((raster.transform.f - south) / GSD[band]).astype(int)
        return raster.read(1)[np.ix_(rows, columns)]


def baseline_of(scenes, row):
    return scenes[row["scene_ids"][0]].item["properties"]["s2:processing_baseline"]


def test_chips_are_the_pixels_of_the_files_band_by_band(built, archive_dir, source):
    plan = read_plan(built)
    scenes = {scene.id: scene for scene in plan.scenes(source)}
    chips = open_cube(built / "cube.zarr").read(np.arange(16))
    baselines = set()
    for chip, row in zip(chips, plan.table.to_pylist(), strict=True):
        baseline = baseline_of(scenes, row)
        offset = 1000 if baseline == "05.10" else 0
        for number, band in enumerate(("B02", "B05", "B01")):
            raw = expected_chip(archive_dir, row, band).astype(np.int64)
            np.testing.assert_array_equal(
                chip[0, number], np.clip(raw - offset, 0, None), err_msg=f"{row['id']} {band}"
            )
        baselines.add(baseline)
    assert baselines == {"02.14", "05.10"}  # else one half of the rule went untested


def test_a_recipe_may_keep_the_offset(frozen, recipe, source, archive_dir, tmp_path):
    document = recipe.model_dump(mode="json")
    raw = Recipe.model_validate({**document, "chip": {**document["chip"], "harmonise": False}})
    plan = read_plan(frozen)
    write_plan(
        Plan(recipe=raw, table=plan.table, reserve=plan.reserve, scenes=plan.scenes(source), layers={}),
        tmp_path / "raw",
    )
    build_cube(tmp_path / "raw", source=source)
    cube = open_cube(tmp_path / "raw" / "cube.zarr")
    assert cube.attrs["harmonised"] is False
    for chip, row in zip(cube.read(np.arange(16)), plan.table.to_pylist(), strict=True):
        np.testing.assert_array_equal(chip[0, 0], expected_chip(archive_dir, row, "B02"))


def test_a_cube_opens_with_plain_xarray_without_a_warning_and_explains_itself(built, recipe):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = xr.open_zarr(built / "cube.zarr")
        chips = dataset["chips"].load()
    plan = read_plan(built).table
    assert chips.dims == DIMS == ("sample", "time", "band", "y", "x")
    assert chips.dtype == np.uint16
    assert dataset["band"].values.tolist() == ["B02", "B05", "B01"]
    assert dataset["gsd_m"].values.tolist() == [10, 20, 60]
    assert dataset["wavelength_nm"].values.tolist() == [492.4, 704.1, 442.7]
    for name in ("id", "lon", "lat", "epsg", "x0", "y0"):
        assert dataset[name].values.tolist() == plan[name].to_pylist()
    assert dataset["scene_id"].values.tolist() == plan["scene_ids"].to_pylist()
    times = dataset["datetime"].values.astype("datetime64[s]").astype(int).ravel().tolist()
    assert times == [round(times[0].timestamp()) for times in plan["datetime"].to_pylist()]
    assert set(dataset["boa_offset"].values.ravel().tolist()) == {0, 1000}
    assert dataset["valid_fraction"].values.tolist() == [1.0] * 16
    attributes = dataset.attrs
    assert {key: attributes[key] for key in ("scale", "offset", "nodata", "recipe_hash", "license", "harmonised")} == {
        "scale": 0.0001, "offset": 0.0, "nodata": 0, "recipe_hash": recipe.hash, "license": "CC0-1.0", "harmonised": True,
    }  # fmt: skip


def test_one_chip_is_one_chunk_and_a_shard_one_file(built):
    array = zarr.open_array(built / "cube.zarr" / "chips", mode="r")
    assert (array.chunks, array.shards) == ((1, 1, 3, 32, 32), (2, 1, 3, 32, 32))
    files = [path for path in (built / "cube.zarr" / "chips").rglob("*") if path.is_file() and path.name != "zarr.json"]
    assert sorted(files) == sorted(shard_path(built / "cube.zarr", shard) for shard in range(8))


def test_reading_ways_agree(built):
    cube = open_cube(built / "cube.zarr")
    whole = zarr.open_array(built / "cube.zarr" / "chips", mode="r")[...]
    order = np.array([15, 0, 7, 7, 3])
    np.testing.assert_array_equal(cube.read(order), whole[order])
    np.testing.assert_array_equal(cube.read_shard(3), whole[6:8])
    lazy = cube.to_xarray()
    assert lazy["chips"].chunksizes["sample"] == (2,) * 8
    np.testing.assert_array_equal(lazy["chips"].isel(sample=order).values, whole[order])
    assert set(lazy.coords) >= {"id", "lon", "lat", "epsg", "datetime"}
    assert cube.read(np.array([], dtype=int)).shape == (0, 1, 3, 32, 32)
    assert (cube.num_samples, cube.num_times, cube.size_px, cube.shard_size) == (16, 1, 32, 2)
    with pytest.raises(CubeError, match="samples are 0 to 15, asked for -1 to 16"):
        cube.read(np.array([-1, 16]))


def test_no_cube_and_a_strange_one_are_said(tmp_path):
    with pytest.raises(CubeError, match=r"no cube there \(looked for chips/zarr\.json\)"):
        open_cube(tmp_path)
    zarr.create_array(
        store=tmp_path / "odd.zarr", name="chips", shape=(1, 1, 1, 1, 1), dtype="u2", dimension_names=tuple("abcde")
    )
    with pytest.raises(CubeError, match=r"chips has the dimensions \('a', 'b', 'c', 'd', 'e'\), not"):
        _ = open_cube(tmp_path / "odd.zarr").num_samples


@given(
    num_samples=st.integers(1, 9), shard_size=st.sampled_from([1, 2, 4, 8]), size_px=st.integers(1, 5),
    times=st.integers(1, 2), seed=st.integers(0, 99),
)  # fmt: skip
def test_shards_written_one_by_one_are_the_array(tmp_path_factory, num_samples, shard_size, size_px, times, seed):
    spec = CubeSpec(num_samples=num_samples, num_times=times, bands=("a", "b"), size_px=size_px, shard_size=shard_size)
    chips = np.random.default_rng(seed).integers(0, 2**16, (num_samples, *spec.chip_shape), dtype=np.uint16)
    chips[: num_samples // 2] = 0  # chunks of nothing but nodata are there, too
    path = tmp_path_factory.mktemp("cube") / "cube.zarr"
    create_cube(path, spec, attributes={})
    for shard in reversed(range(spec.num_shards)):
        part = chips[shard * shard_size : (shard + 1) * shard_size]
        payload = encode_shard(spec, shard, part)
        assert payload == encode_shard(spec, shard, part)
        write_shard(path, shard, payload)
    np.testing.assert_array_equal(zarr.open_array(path / "chips", mode="r")[...], chips)
    np.testing.assert_array_equal(open_cube(path).read(np.arange(num_samples)), chips)


def test_chips_of_another_shape_never_reach_a_shard():
    spec = CubeSpec(num_samples=3, num_times=1, bands=("a",), size_px=4, shard_size=2)
    with pytest.raises(CubeError, match=r"shard 1 holds uint16 \(1, 1, 1, 4, 4\), got uint16 \(2, 1, 1, 4, 4\)"):
        encode_shard(spec, 1, np.zeros((2, 1, 1, 4, 4), dtype=np.uint16))
    with pytest.raises(CubeError, match=r"got float64"):
        encode_shard(spec, 1, np.zeros((1, 1, 1, 4, 4)))


def test_a_missing_or_damaged_shard_is_an_error_and_never_zeros(built, tmp_path):
    folder = shutil.copytree(built, tmp_path / "small")
    assert damaged_shards(folder) == []
    path = shard_path(folder / "cube.zarr", 3)
    whole = path.read_bytes()
    path.write_bytes(bytes(len(whole)))
    cube = open_cube(folder / "cube.zarr")
    with pytest.raises(CubeError, match="shard 3 is damaged"):
        cube.read_shard(3)
    assert damaged_shards(folder) == [path]
    path.unlink()
    with pytest.raises(CubeError, match="shard 3 is missing"):
        cube.read(np.array([0, 3 * cube.shard_size]))
    assert damaged_shards(folder) == [path]


def test_a_cube_whose_metadata_is_garbled_is_named(built, tmp_path):
    folder = shutil.copytree(built, tmp_path / "small")
    (folder / "cube.zarr" / "chips" / "zarr.json").write_bytes(b"\xff\x00 no json")
    with pytest.raises(CubeError, match="its metadata cannot be read"):
        open_cube(folder / "cube.zarr")


def test_a_cube_that_is_cut_off_while_it_is_created_is_no_cube_or_a_right_one(tmp_path, monkeypatch):
    """Whichever file is the last to appear; over a cube that is there, too, as every further build creates it."""
    spec = CubeSpec(num_samples=4, num_times=1, bands=("B02", "B8A"), size_px=8, shard_size=2)
    rename, left = Path.replace, [0]

    def cut(self, target):
        if not left[0]:
            raise OSError("cut off")
        left[0] -= 1
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", cut)
    cuts = 0
    for path in (tmp_path / "new", tmp_path / "there"):
        left[0] = 1000
        create_cube(tmp_path / "there", spec, attributes={})
        for number in range(1000):
            left[0] = number
            try:
                create_cube(path, spec, attributes={})
                break
            except OSError:
                cuts += 1
            if (path / "chips" / "zarr.json").is_file():
                assert open_cube(path).bands == ("B02", "B8A")
            elif path.name == "new":
                shutil.rmtree(path, ignore_errors=True)
        assert open_cube(path).bands == ("B02", "B8A")
    assert cuts > 10


def test_what_zarr_left_half_written_is_removed_when_the_cube_is_created_again(tmp_path):
    spec = CubeSpec(num_samples=4, num_times=1, bands=("B02",), size_px=4, shard_size=2)
    create_cube(tmp_path / "cube.zarr", spec, attributes={})
    before = {path for path in (tmp_path / "cube.zarr").rglob("*") if path.is_file()}
    for name in ("zarr.json", "chips/zarr.json"):
        (tmp_path / "cube.zarr" / name).with_suffix(f".{'0af1' * 8}.partial").write_bytes(b"half")
    (tmp_path / "cube.zarr" / "mine.partial").touch()  # nobody knows whose that is
    create_cube(tmp_path / "cube.zarr", spec, attributes={})
    after = {path for path in (tmp_path / "cube.zarr").rglob("*") if path.is_file()}
    assert after - before == {tmp_path / "cube.zarr" / "mine.partial"}
