"""A published dataset as users meet it: in a process of their own, with the public library alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from publish.commands.publish import publish

# What the card says, and the trap it warns of.
READ_FOLDER = """
import json, sys
import numpy as np
import pyarrow.parquet as pq
from datasets import Features, get_dataset_config_names, load_dataset
folder = sys.argv[1]
out = {"configs": get_dataset_config_names(folder)}
chips = load_dataset(folder)
out["splits"] = {split: len(rows) for split, rows in chips.items()}
plain = next(iter(chips["train"]))
pixels = np.frombuffer(plain["pixels"], plain["dtype"]).reshape(plain["shape"])
out["sum"], out["shape"], out["id"] = int(pixels.sum()), list(pixels.shape), plain["id"]
schema = pq.read_schema(folder + "/data/train-00000-of-00001.parquet")
out["features_match"] = chips["train"].features == Features.from_arrow_schema(schema)
stream = load_dataset(folder, split="train", streaming=True)
out["streamed"] = [row["id"] for row in stream] == chips["train"]["id"][:]
biome = sys.argv[2]
wanted = [row["id"] for row in chips["train"] if row["biome"] == biome]
for streaming in (False, True):
    some = load_dataset(folder, split="train", filters=[("biome", "==", biome)], streaming=streaming)
    out[f"filtered_{streaming}"] = [row["id"] for row in some] == wanted
items = load_dataset(folder, "items", split="items")
out["items"] = [len(items), items[0]["pwcat:shard"], sorted(items[0]["bbox"])]
preview = load_dataset(folder, "preview", split="preview")
out["preview"] = [len(preview), list(preview[0]["thumbnail"].size), preview[0]["thumbnail"].mode]

# Why the card warns: a chip that ends in zeros, as stored, against what the numpy format gives.
ends = chips["train"].map(lambda row: {"pixels": row["pixels"][:-4] + bytes(4)})
short = ends.with_format("numpy")[0]["pixels"]
out["numpy_lost_bytes"] = len(ends[0]["pixels"]) - len(bytes(short))
from publish.decode import decode
from pwcat.errors import PublishError
try:
    decode(ends.with_format("numpy")[0])
except PublishError as exc:
    out["decode_says"] = str(exc)
print(json.dumps(out))
"""

PUBLISH = """
import sys
from pwcat.cli import main
sys.argv = ["pwcat", "publish", "dataset", sys.argv[1], "--repo", "lab/tiny", "--tag", "v1"]
main()
main()
"""

LOAD_FROM_HUB = """
import json, sys
from datasets import load_dataset
import pwcat
biome = sys.argv[1]
plain = load_dataset("lab/tiny", split="train")
stream = list(load_dataset("lab/tiny", split="train", streaming=True))
some = list(load_dataset("lab/tiny", split="train", streaming=True, filters=[("biome", "==", biome)]))
tagged = load_dataset("lab/tiny", "items", split="items", revision="v1")
print(json.dumps({
    "plain": [int(pwcat.decode(row).sum()) for row in plain],
    "stream": [int(pwcat.decode(row).sum()) for row in stream],
    "some": sorted({row["biome"] for row in some}),
    "tagged": len(tagged),
}))
"""


@pytest.fixture(scope="module")
def biome(everywhere):
    """The most common biome of the training samples."""
    return everywhere.split("train").table["div:biome"].to_pandas().mode()[0]


def test_the_folder_loads_as_its_card_says_and_the_trap_it_warns_of_is_there(everywhere, dataset_folder, fresh, biome):
    out = json.loads(fresh(READ_FOLDER, dataset_folder, biome))
    train = everywhere.split("train")
    assert out["configs"] == ["chips", "items", "preview"]
    assert out["splits"] == {"train": len(train), "val": len(everywhere) - len(train)}
    first = train.read(np.array([0]))[0]
    assert out["id"] == train.table["id"][0].as_py()
    assert (out["sum"], out["shape"]) == (int(first.sum()), list(first.shape))
    assert out["features_match"]
    assert out["streamed"]
    assert out["filtered_False"]
    assert out["filtered_True"]
    assert out["items"][:2] in ([48, "data/train-00000-of-00001.parquet"], [48, "data/val-00000-of-00001.parquet"])
    assert out["items"][2] == ["xmax", "xmin", "ymax", "ymin"]
    assert out["preview"] == [48, [32, 32], "RGB"]
    # Should the numpy format ever lose no bytes, the warning in the card can go.
    assert out["numpy_lost_bytes"] >= 4
    assert "read the rows without with_format" in out["decode_says"]


def test_published_by_the_command_it_loads_from_the_hub_and_a_second_push_sends_nothing(
    hub, everywhere, tiny_catalog, fresh, biome
):
    printed = fresh(PUBLISH, tiny_catalog / "everywhere")
    first, second = printed.split("load it with:")[:2]
    assert f"{hub.url}/datasets/lab/tiny sent 12 files" in first
    assert "already had exactly this: nothing was sent" in second
    assert 'load_dataset("lab/tiny", split="train")' in second
    assert len(hub.repos["datasets", "lab/tiny"].history) == 2
    assert list(hub.repos["datasets", "lab/tiny"].tags) == ["v1"]
    train = everywhere.split("train")
    out = json.loads(fresh(LOAD_FROM_HUB, biome))
    sums = [int(chip.sum()) for chip in train.read(np.arange(len(train)))]
    assert out == {"plain": sums, "stream": sums, "some": [biome], "tagged": 48}


def test_the_command_says_where_to_is_missing():
    result = CliRunner().invoke(publish, ["dataset", "."])
    assert result.exit_code == 2
    assert "say where to: --repo ORG/NAME for the Hub, --to FOLDER for a folder, or both" in result.output


def test_the_command_prints_json_for_programs(tiny_catalog, tmp_path):
    result = CliRunner().invoke(
        publish, ["dataset", str(tiny_catalog / "everywhere"), "--to", str(tmp_path / "out"), "--json"]
    )
    values = json.loads(result.stdout)
    assert values["folder"] == str(tmp_path / "out")
    assert values["push"] is None
    assert values["files"] == len([path for path in (tmp_path / "out").rglob("*") if path.is_file()])
