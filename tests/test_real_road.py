"""The road of ``examples/real_kit.yaml``, by the very commands of its header, held against the files themselves."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import torch

import pwcat
from catalog.query import open_catalog
from pwcat.cube import open_cube
from pwcat.landcover import LEGENDS

PROJECT = Path(__file__).parents[1]
RECIPE = PROJECT / "examples" / "real_kit.yaml"
BANDS = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
OFFSET = ("57755", "766272")
ICE, SEA = "25630", "752389"

pytestmark = pytest.mark.kit


def commands():
    """The shell lines of the example's header."""
    lines = [line.removeprefix("#   ").rstrip() for line in RECIPE.read_text().splitlines() if line.startswith("#   ")]
    return [line for line in lines if line.startswith(("pwcat ", "TILES=", "ALIKE="))]


@pytest.fixture(scope="module")
def project(kit, tmp_path_factory):
    """A project's folder with the kit beside it, in which the header's commands were run, each once."""
    root = tmp_path_factory.mktemp("real")
    (root / "shared").mkdir()
    (root / "shared" / "kit").symlink_to(kit.resolve())
    (root / "main" / "examples").mkdir(parents=True)
    (root / "main" / "examples" / RECIPE.name).write_text(RECIPE.read_text())
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = "\n".join(["set -e", *commands()])
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=root / "main",
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # nothing but how far a build is, where a part of it takes longer than five seconds, and how far a publication
    told = ("plan: ", "build: ", "describe: ", "building: ")
    others = [line for line in done.stderr.splitlines() if not line.startswith(told)]
    assert not others
    return root / "main"


@pytest.fixture(scope="module")
def tiles(kit):
    """Rows of the kit's table by the number of the tile, of the tiles that are there."""
    with (kit / "s2_satclip" / "tiles_summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {
        Path(row["file"]).stem.rpartition("_")[2]: row for row in rows if (kit / "s2_satclip" / row["file"]).exists()
    }


@pytest.fixture(scope="module")
def samples(project):
    """Rows of the plan, each with the number of its tile."""
    rows = pq.read_table(project / "pwcat-data" / "real-kit" / "plan.parquet").to_pylist()
    return [row | {"tile": row["scene_ids"][0].rpartition("_")[2]} for row in rows]


def test_the_header_has_every_command_of_the_road():
    stages = ["archive add", "archive add", "build", "stats", "search", "pretrain", "publish dataset", "publish model"]
    assert [line for line in commands() if line.startswith("pwcat ")] == [
        line for stage, line in zip(stages, commands()[2:], strict=True) if line.startswith(f"pwcat {stage}")
    ]


def test_every_tile_is_cut_and_its_pixels_are_those_of_the_file(project, samples, tiles, kit):
    assert {row["tile"] for row in samples} == set(tiles)
    chips = open_cube(project / "pwcat-data" / "real-kit" / "cube.zarr").read(np.arange(len(samples)))
    for chip, row in zip(chips, samples, strict=True):
        with rasterio.open(kit / "s2_satclip" / tiles[row["tile"]]["file"]) as raster:
            column, line = (row["x0"] - raster.transform.c) / 10, (raster.transform.f - row["y0"]) / 10
            assert column == int(column)
            assert line == int(line)
            window = rasterio.windows.Window(int(column), int(line), 96, 96)
            raw = raster.read(window=window).astype(np.int64)
        assert raw.shape == (12, 96, 96)
        expected = np.clip(raw - 1000, 0, None) if row["tile"] in OFFSET else raw
        np.testing.assert_array_equal(chip[0], expected, err_msg=row["tile"])


def test_labels_are_those_of_the_kits_table(samples, tiles, kit):
    with rasterio.open(kit / "biomes_landcover" / "MCD12C1.A2019001.006.IGBP.tif") as raster:
        classes = raster.read(1)
    agreed = 0
    for row in samples:
        table = tiles[row["tile"]]
        assert (row["continent"] or "") == table["continent"]
        # 96 px are far smaller than a pixel of the layer: where a chip lies in one of them, that is its class
        here = LEGENDS["igbp"][int(classes[int((90 - row["lat"]) / 0.05), int((row["lon"] + 180) / 0.05)])]
        shares = {share["name"]: share["fraction"] for share in row["landcover_fractions"]}
        assert here in shares
        assert shares == {here: 1.0} or len(shares) > 1
        agreed += row["landcover"] == table["igbp_mcd12c1_2019"]
    assert agreed >= 0.8 * len(
        samples
    )  # the table is of the tile's centre, and a tile may lie across pixels of the layer


def test_ice_and_open_sea_get_what_the_example_says(samples):
    def labels(tile):
        return {(row["continent"], row["biome"], row["landcover"]) for row in samples if row["tile"] == tile}

    assert labels(ICE) == {("North America", None, "snow_ice")}
    assert labels(SEA) == {(None, None, "water")}
    assert all(row["biome"] for row in samples if row["tile"] not in (ICE, SEA))


def test_what_has_no_class_is_counted_as_a_sample_and_in_no_class(project, samples):
    found = open_catalog(project / "pwcat-data").search()
    stats = found.stats()
    for layer in ("continent", "biome"):
        without = sum(row[layer] is None for row in samples)
        assert without > 0
        assert stats[layer]["num_samples"] == len(samples) == 64
        assert stats[layer]["num_labelled"] == len(samples) - without == sum(stats[layer]["counts"].values())
    assert len(open_catalog(project / "pwcat-data").search(filter="biome IS NULL")) == sum(
        row["tile"] in (ICE, SEA) for row in samples
    )
    ice = open_catalog(project / "pwcat-data").search(landcover="snow_ice")
    assert {name[0].rpartition("_")[2] for name in ice.column("pwcat:scene_ids")} == {ICE}


@pytest.fixture
def hub(tmp_path):
    """The loopback Hub of the tests of publishing."""
    spec = importlib.util.spec_from_file_location("loopback_hub", PROJECT / "tests" / "publish" / "loopback_hub.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["loopback_hub"] = module
    spec.loader.exec_module(module)
    with module.LoopbackHub(tmp_path / "hub") as hub:
        yield hub


PUBLISH = """
import sys
from pwcat.cli import main
sys.argv = ["pwcat", *sys.argv[1:]]
main()
"""

LOAD = """
import json, hashlib, sys
import numpy as np, torch
from datasets import load_dataset
import pwcat
rows = [row for split in load_dataset("lab/real-kit").values() for row in split]
model = pwcat.load_model("lab/real-kit-satmae")
chips = np.stack([pwcat.decode(row) for row in rows])
with torch.inference_mode():
    bands = [sys.argv[1].split(",").index(band) for band in model.bands]
    embeddings = model.embed(torch.from_numpy(chips[:8, 0][:, bands]))
print(json.dumps({
    "ids": [row["id"] for row in rows],
    "biomes": [row["biome"] for row in rows],
    "pixels": [hashlib.sha256(chip.astype("<u2").tobytes()).hexdigest() for chip in chips],
    "embeddings": embeddings.tolist(),
}))
"""


def test_published_to_the_hub_data_and_model_load_back_in_a_fresh_process(project, samples, hub, tmp_path):
    keep = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
    env = {**keep, "OMP_NUM_THREADS": "1", **hub.environment(tmp_path / "home")}

    def fresh(source, *arguments):
        command = [sys.executable, "-c", source, *arguments]
        done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    fresh(PUBLISH, "publish", "dataset", "pwcat-data/real-kit", "--repo", "lab/real-kit")
    fresh(PUBLISH, "publish", "model", "runs/real-kit", "--repo", "lab/real-kit-satmae")
    back = json.loads(fresh(LOAD, ",".join(BANDS)).splitlines()[-1])

    order = {row["id"]: number for number, row in enumerate(samples)}
    assert sorted(back["ids"]) == sorted(order)
    assert back["biomes"] == [samples[order[name]]["biome"] for name in back["ids"]]
    chips = open_cube(project / "pwcat-data" / "real-kit" / "cube.zarr").read(np.array([order[n] for n in back["ids"]]))
    assert back["pixels"] == [sha256(chip.tobytes()).hexdigest() for chip in chips]
    with torch.inference_mode():
        model = pwcat.load_model(project / "runs" / "real-kit")
        bands = [BANDS.index(band) for band in model.bands]
        here = model.embed(torch.from_numpy(chips[:8, 0][:, bands]))
    assert np.isfinite(here.numpy()).all()
    np.testing.assert_allclose(back["embeddings"], here.numpy(), rtol=1e-5, atol=1e-6)
    rows = [json.loads(line) for line in (project / "runs" / "real-kit" / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) >= 2
    assert all(np.isfinite(row["loss"]) for row in rows)
