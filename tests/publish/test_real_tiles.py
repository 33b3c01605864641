"""The kit's real Sentinel-2 tiles on their way out and back: published, verified, loaded, pulled, each by its command."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from catalog.published.layout import ITEMS_PATH, PREVIEW_PATH
from catalog.query import open_catalog
from catalog.subset import load_subset
from publish.dataset import build_dataset_folder
from publish.shards import Layout

PROJECT = Path(__file__).parents[2]
RECIPE = PROJECT / "examples" / "real_kit.yaml"
NEEDED = ("TILES=", "ALIKE=", "pwcat archive add ", "pwcat build ")

pytestmark = pytest.mark.kit

# Publish, verify and pull, whole and in part; then what a reader who has none of it sees.
ROAD = """
import sys
from pwcat.cli import main

def pwcat(*words):
    sys.argv = ["pwcat", *words]
    main()

collection, out, biome = sys.argv[1:]
pwcat("publish", "dataset", collection, "--repo", "lab/real-kit", "--tag", "v1")
pwcat("verify", "lab/real-kit@v1")
pwcat("pull", "lab/real-kit@v1", "-o", out + "/whole")
pwcat("pull", "lab/real-kit@v1", "--where", f"biome = '{biome}'", "-o", out + "/biome")
"""
READ = """
import hashlib, json, sys
import numpy as np
from datasets import load_dataset
biome = sys.argv[1]
found = {}
for split in load_dataset("lab/real-kit", revision="v1").values():
    for row in split:
        pixels = np.frombuffer(row["pixels"], row["dtype"]).reshape(row["shape"])
        found[row["id"]] = [hashlib.sha256(pixels.tobytes()).hexdigest(), row["biome"], row["continent"]]
for row in load_dataset("lab/everything", split="train", streaming=True):
    pass
chosen = load_dataset("lab/one-biome", split="train", streaming=True, filters=[("biome", "==", biome)])
items = load_dataset("lab/items", "items", split="items", columns=["id", "bbox", "div:biome"])
images = load_dataset("lab/real-kit", "preview", split="preview")["thumbnail"]
print(json.dumps({
    "chips": found,
    "biome": [row["id"] for row in chosen],
    "items": len(items),
    "spread": [float(np.asarray(image).std()) for image in images],
}))
"""


@pytest.fixture(scope="module")
def real(kit, tmp_path_factory):
    """The collection of the example's recipe, by the commands of its header."""
    root = tmp_path_factory.mktemp("real")
    (root / "shared").mkdir()
    (root / "shared" / "kit").symlink_to(kit.resolve())
    (root / "main" / "examples").mkdir(parents=True)
    (root / "main" / "examples" / RECIPE.name).write_text(RECIPE.read_text())
    lines = [line.removeprefix("#   ").rstrip() for line in RECIPE.read_text().splitlines() if line.startswith("#   ")]
    script = "\n".join(["set -e", *(line for line in lines if line.startswith(NEEDED))])
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=root / "main", env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return load_subset(root / "main" / "pwcat-data" / "real-kit")


def digests(subset):
    """The SHA-256 of the pixels of each sample, by its id."""
    chips = subset.read(np.arange(len(subset))).astype("<u2")
    return {
        name: hashlib.sha256(chip.tobytes()).hexdigest()
        for name, chip in zip(subset.column("id").tolist(), chips, strict=True)
    }


def assert_equal(pulled, original):
    """Chips, items, statistics and hash are the same."""
    assert pulled.hash == original.hash
    assert digests(pulled) == digests(original)
    assert pulled.stats() == original.stats()
    there, here = original.table, pulled.table
    assert here.column_names == there.column_names
    for name in there.column_names:
        if name not in ("pwcat:index", "assets", "links"):  # which row it is, and where the files lie
            assert here[name].to_pylist() == there[name].to_pylist(), name


def test_real_tiles_come_back_from_the_hub_as_they_went(hub, fresh, real, tmp_path):
    biomes = real.split("train").column("div:biome").tolist()
    biome = next(name for name in biomes if name is not None)
    told = fresh(ROAD, real.collections[0].path, tmp_path, biome)
    assert [line[:9] for line in told.splitlines() if line.startswith("✓")] == [
        "✓ files  ", "✓ tables ", "✓ loading", "✓ catalog",
    ]  # fmt: skip
    assert_equal(open_catalog(tmp_path / "whole").search(), real)
    assert_equal(
        open_catalog(tmp_path / "biome").search(biome=biome),
        open_catalog(real.collections[0].path.parent).search(biome=biome),
    )

    # The same in files of few chips each, in three repositories, so that the bytes of each way can be told apart.
    layout = Layout(shard_bytes=2**21, row_group_bytes=2**20)
    folder = build_dataset_folder(real, tmp_path / "files", layout=layout)
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for name in ("everything", "one-biome", "items"):
        hub.add_repo("datasets", f"lab/{name}", files)
    found = json.loads(fresh(READ, biome).splitlines()[-1])

    pixels = digests(real)
    columns = {name: real.column(f"div:{name}").tolist() for name in ("biome", "continent")}
    labels = dict(zip(real.column("id").tolist(), zip(*columns.values(), strict=True), strict=True))
    assert found["chips"] == {name: [pixels[name], *labels[name]] for name in pixels}
    assert found["items"] == len(real)
    train = real.split("train").column("id").tolist()
    assert found["biome"] == [name for name in train if labels[name][0] == biome]

    everything, some = (hub.sent(f"lab/{name}/resolve") for name in ("everything", "one-biome"))
    wanted, footers = bytes_of(folder, biome)
    assert wanted <= some <= wanted + footers
    assert some < everything / 2
    assert hub.sent("lab/items/resolve") < len(files[ITEMS_PATH]) + 2 * 2**16 + len(files["README.md"])

    # Something is to be seen: real tiles are not of one colour.
    assert len(found["spread"]) == pq.read_metadata(folder / PREVIEW_PATH).num_rows
    assert np.median(found["spread"]) > 5


def bytes_of(folder, biome):
    """Bytes of the row groups of train that can hold a biome, by their statistics, and of what is read around them, at most."""
    wanted = around = 0
    for path in sorted((folder / "data").glob("train-*.parquet")):
        metadata = pq.read_metadata(path)
        column = metadata.schema.names.index("biome")
        around += 2 * 2**16  # its footer is read twice, 64 KiB at least
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            statistics = group.column(column).statistics
            if statistics.has_min_max and statistics.min <= biome <= statistics.max:
                wanted += sum(group.column(i).total_compressed_size for i in range(group.num_columns))
    return wanted, around + 2**18
