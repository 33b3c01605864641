"""Builds from a recipe's file, whose source loses files on the way."""

from __future__ import annotations

import json
import os
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from catalog.store import NothingWritten, build
from pwcat.building.ledger import read_ledger
from pwcat.cli import cli
from pwcat.cube import open_cube
from pwcat.errors import RecipeError

SMALL = {"name": "small", "num_samples": 8, "chip": {"size_px": 16, "bands": ["B02"]}}


@pytest.fixture
def archive(archive_dir, tmp_path):
    """An archive of its own, of hard links."""
    return shutil.copytree(archive_dir, tmp_path / "archive", copy_function=os.link)


@pytest.fixture
def recipe(write_recipe, archive, archive_dir, tmp_path):
    """Write a recipe over that archive, by a relative path, with more said of its source."""

    def write(**source):
        (tmp_path / "recipes").mkdir(exist_ok=True)
        asked = {"provider": "archive", "path": "../archive", "collection": "s2-l2a-synthetic", **source}
        return write_recipe(tmp_path / "recipes", **SMALL, source=asked)

    return write


def planned_scenes(folder):
    return [scenes[0] for scenes in pq.read_table(folder / "plan.parquet")["scene_ids"].to_pylist()]


def test_a_source_to_fall_back_on_is_added_after_a_failure(recipe, archive, archive_dir, tmp_path):
    catalog = tmp_path / "catalog"
    whole = build(recipe(), catalog=tmp_path / "whole").folder
    lost = planned_scenes(whole)[0]
    (archive / "s2-l2a-synthetic" / lost / "B02.tif").unlink()
    first = build(recipe(), catalog=catalog)
    assert set(first.report.counts) == {"written", "failed"}
    before, plan = (
        open_cube(first.folder / "cube.zarr").read(np.arange(8)),
        (first.folder / "plan.parquet").read_bytes(),
    )
    had = np.array(read_ledger(first.folder)["status"].to_pylist()) == "written"
    other = {"provider": "archive", "path": str(archive_dir), "collection": "s2-l2a-synthetic"}
    second = build(recipe(fallback=[other], requests_per_s=1000), catalog=catalog)
    assert second.report.counts == {"written": 8}
    pixels = open_cube(second.folder / "cube.zarr").read(np.arange(8))
    np.testing.assert_array_equal(pixels[had], before[had])
    np.testing.assert_array_equal(pixels, open_cube(whole / "cube.zarr").read(np.arange(8)))
    assert (second.folder / "plan.parquet").read_bytes() == plan
    assert yaml.safe_load((second.folder / "recipe.yaml").read_text())["source"]["fallback"] == []
    with pytest.raises(RecipeError, match=r"they differ in source\.collection\. Remove the folder, or give"):
        build(recipe(collection="other"), catalog=catalog)


def test_a_build_in_which_nothing_could_be_read_is_counted_and_told(recipe, archive, tmp_path):
    path = recipe()
    build(path, catalog=tmp_path / "whole")  # plans are alike
    for file in (archive / "s2-l2a-synthetic").glob("*/B02.tif"):
        file.unlink()
    shutil.copytree(tmp_path / "whole", tmp_path / "catalog")
    for part in ("cube.zarr", "ledger"):
        shutil.rmtree(tmp_path / "catalog" / "small" / part)
    for file in ("items.parquet", "stats.json", "collection.json"):
        (tmp_path / "catalog" / "small" / file).unlink()
    command = ["build", str(path), "--catalog", str(tmp_path / "catalog")]
    told = CliRunner().invoke(cli, command)
    folder = tmp_path / "catalog" / "small"
    assert isinstance(told.exception, NothingWritten)
    assert str(told.exception) == (
        f"{folder}: no sample has pixels, so that there is no dataset; `pwcat doctor {folder}` says what to do"
    )
    first, *_, last = told.stdout.splitlines()
    assert first.startswith(f"{folder}: 8 failed; ")
    assert re.search(r"^  8 failed, not found: .*B02\.tif", told.stdout, re.MULTILINE)
    assert last == f"Next: pwcat doctor {folder}"
    told = CliRunner().invoke(cli, [*command, "--json"])
    assert isinstance(told.exception, NothingWritten)
    document = json.loads(told.stdout)
    assert (document["counts"], document["missing"], document["losses"][0]["cause"]) == ({"failed": 8}, 8, "not found")
