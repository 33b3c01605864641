"""A published dataset as users meet it: in a process of their own, with the public library alone.

Functions above the tests are run in that process, by their source; each gives what JSON can hold.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from publish.commands.publish import publish
from publish.dataset import build_dataset_folder
from publish.shards import Layout

# --- functions of the fresh process ----------------------------------------------------------------------------------


def sha256(pixels):
    import hashlib

    return hashlib.sha256(bytes(pixels)).hexdigest()


def run_card(repo):
    """The blocks of a repository's card, run as they stand; the pixels that each way gives, decoded by the card's line."""
    import ast
    import re
    from pathlib import Path

    from huggingface_hub import hf_hub_download

    card = Path(hf_hub_download(repo, "README.md", repo_type="dataset")).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    names, ways, decode = {}, [], None
    for statement in ast.parse("\n".join(blocks)).body:
        code = compile(ast.Module([statement], []), "card", "exec")
        exec(code, names)
        target = statement.targets[0].id if isinstance(statement, ast.Assign) else ""
        if target == "chips":
            ways.append(names["chips"])
        if target == "pixels":
            decode = code

    def decoded(row):
        exec(decode, names := {**globals_of_card, "row": row})
        return sha256(names["pixels"].tobytes())

    globals_of_card = dict(names)
    found = [{row["id"]: decoded(row) for row in rows} for rows in ways]
    cube = names["cube"]
    chips = cube["chips"].values
    found.append({str(i): sha256(chip.tobytes()) for i, chip in zip(cube["id"].values, chips, strict=True)})
    return {"blocks": len(blocks), "ways": found, "decoded again": sha256(names["pixels"].tobytes())}


def query(repo):
    """Filters, columns, configs, revisions."""
    import pyarrow.compute as pc
    from datasets import get_dataset_config_names, load_dataset

    def ids(*config, **options):
        return [row["id"] for row in load_dataset(repo, *config, **options)]

    train, items = {"split": "train"}, {"split": "items"}
    east = {"filters": [("lon", ">", 100.0)]}
    box = {"filters": (pc.field("bbox", "xmin") > 100) & (pc.field("bbox", "ymax") < 0)}
    preview = load_dataset(repo, "preview", split="preview")
    return {
        "configs": get_dataset_config_names(repo),
        "east": ids(**train, **east),
        "east, streaming": ids(**train, streaming=True, **east),
        "columns": load_dataset(repo, **train, columns=["id", "biome"]).column_names,
        "columns, streaming": sorted(
            next(iter(load_dataset(repo, **train, streaming=True, columns=["id", "lon", "lat"])))
        ),
        "box": ids("items", **items, **box),
        "box, streaming": ids("items", **items, streaming=True, **box),
        "preview": [len(preview), list(preview[0]["thumbnail"].size), preview[0]["thumbnail"].mode],
        "v1": len(ids("items", **items, revision="v1")),
    }


def workers(repo):
    """Who gets which samples, where several read."""
    import torch
    from datasets import load_dataset
    from datasets.distributed import split_dataset_by_node
    from torchdata.stateful_dataloader import StatefulDataLoader

    import pwcat

    def stream():
        return load_dataset(repo, split="train", streaming=True)

    def collate(rows):
        return [row["id"] for row in rows], torch.stack([torch.from_numpy(pwcat.decode(row)) for row in rows])

    def ids(batches):
        return [name for names, _ in batches for name in names]

    def resumed(make, count):
        first = make()
        seen = [row for _, row in zip(range(count), first, strict=False)]
        again = make()
        again.load_state_dict(first.state_dict())
        return seen + list(again)

    batches = list(torch.utils.data.DataLoader(stream(), batch_size=4, num_workers=2, collate_fn=collate))
    loader = {"batch_size": 4, "num_workers": 2, "collate_fn": collate}
    nodes = [[row["id"] for row in split_dataset_by_node(stream(), rank, 2)] for rank in (0, 1)]
    return {
        "files": stream().num_shards,
        "plain": [row["id"] for row in stream()],
        "workers": ids(batches),
        "batch": [list(batches[0][1].shape), str(batches[0][1].dtype)],
        "nodes": nodes,
        "resumed": [row["id"] for row in resumed(stream, 7)],
        "resumed workers": ids(resumed(lambda: StatefulDataLoader(stream(), **loader), 3)),
    }


def private(repo):
    """Without a token, then with that of the environment."""
    from datasets import load_dataset

    def count(**options):
        try:
            return sum(1 for _ in load_dataset(repo, split="train", streaming=True, **options))
        except Exception as exc:
            return f"{type(exc).__name__}: {exc}"

    return {"without": count(token=False), "with": count()}


def run_page(page):
    """Every Python block of a page of the documentation, one after the other."""
    import re
    from pathlib import Path

    names = {}
    for block in re.findall(r"```python\n(.*?)```", Path(page).read_text(encoding="utf-8"), flags=re.DOTALL):
        exec(block, names)
    return {
        "deserts": len({row["biome"] for row in names["deserts"]}),
        "found": names["cube"].sizes["sample"],
        "red": list(names["red"].shape),
        "southeast": len(names["southeast"]),
        "items": names["items"].column_names,
        "light": sorted(next(iter(names["light"]))),
        "batch": list(names["chips"].shape),
        "mine": sum(1 for _ in names["mine"]),
        "after the first batch": sum(len(biomes) for _, biomes in names["loader"]),
        "pinned": len(names["pinned"]),
    }


def map_tiles(repo):
    from datasets import load_dataset

    entities, tags = (load_dataset(repo, name, split=name).to_list() for name in ("entities", "tags"))
    preview = load_dataset(repo, "preview", split="preview")
    return {
        "ids": sorted({row["id"] for row in entities}),
        "tag": {"key": "building", "value": "café"} in [tag for row in entities for tag in row["tags"]],
        "xy": {len(row["xy"]) for row in entities} != {0},
        "counts": [tags[0][name] for name in ("key", "value", "count")],
        "preview": preview[0]["thumbnail"].mode,
    }


PAGE = Path(__file__).parents[2] / "docs" / "loading.md"
RUN = """
import json, os, sys, tempfile
os.chdir(tempfile.mkdtemp())
print(json.dumps({name: globals()[name](repo) for name, repo in map(lambda a: a.split("="), sys.argv[1:])}))
"""
PUBLISH = """
import sys
from pwcat.cli import main
sys.argv = ["pwcat", "publish", "dataset", sys.argv[1], "--repo", "lab/tiny", "--tag", "v1"]
main()
main()
"""


def asked(fresh, **repos):
    """What functions give of repositories, in one process."""
    functions = [sha256, run_card, run_page, query, workers, private, map_tiles]
    source = "\n".join([*map(inspect.getsource, functions), RUN])
    return json.loads(fresh(source, *(f"{name}={repo}" for name, repo in repos.items())).splitlines()[-1])


def contents(folder):
    """A folder's files, as a repository of the Hub has them."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def in_files(everywhere, tmp_path_factory):
    """The same samples in several files and more row groups."""
    chip_bytes = 2 * int(np.prod(everywhere.chip_shape))
    layout = Layout(shard_bytes=6 * chip_bytes, row_group_bytes=3 * chip_bytes)
    return build_dataset_folder(everywhere, tmp_path_factory.mktemp("published") / "in-files", layout=layout)


@pytest.fixture(scope="module")
def hamlet(map_catalog, tmp_path_factory):
    """Published tiles of a map."""
    from catalog.subset import load_subset

    return build_dataset_folder(load_subset(map_catalog / "hamlet"), tmp_path_factory.mktemp("published") / "hamlet")


@pytest.fixture(scope="module")
def digests(everywhere):
    """The SHA-256 of the cube's pixels of each sample, by its id."""
    chips = everywhere.read(np.arange(len(everywhere))).astype("<u2")
    ids = everywhere.table["id"].to_pylist()
    return {name: hashlib.sha256(chip.tobytes()).hexdigest() for name, chip in zip(ids, chips, strict=True)}


def test_published_by_the_command_its_card_runs_and_every_way_gives_the_pixels_of_the_cube(
    hub, everywhere, tiny_catalog, fresh, digests
):
    first, second = fresh(PUBLISH, tiny_catalog / "everywhere").split("load it with:")[:2]
    assert re.search(rf"{hub.url}/datasets/lab/tiny sent \d+ files", first)
    assert "already had exactly this: nothing was sent" in second
    assert re.search(r'load_dataset\("lab/tiny", split="train"', second)
    assert list(hub.repos["datasets", "lab/tiny"].tags) == ["v1"]

    out = asked(fresh, run_card="lab/tiny", query="lab/tiny")
    train = everywhere.split("train")
    biomes = dict(zip(everywhere.table["id"].to_pylist(), everywhere.table["div:biome"].to_pylist(), strict=True))
    names = sorted(train.table["id"].to_pylist(), key=lambda name: (biomes[name] is None, biomes[name]))  # as they lie
    plain, stream, biome, cube = out["run_card"]["ways"]
    assert list(plain) == list(stream) == names
    assert len({biomes[name] for name in biome}) == 1
    assert list(biome) == [name for name in names if biomes[name] == biomes[next(iter(biome))]]
    assert set(cube) >= set(biome)  # of all splits
    assert {biomes[name] for name in cube} == {biomes[next(iter(biome))]}
    for way in (plain, stream, biome, cube):
        assert way == {name: digests[name] for name in way}

    found, lonlat = out["query"], dict(zip(train.table["id"].to_pylist(), train.lonlat, strict=True))
    east = [name for name in names if lonlat[name][0] > 100]
    assert found["east"] == found["east, streaming"] == east != []
    assert found["columns"] == ["id", "biome"]
    assert found["columns, streaming"] == ["id", "lat", "lon"]
    boxes = dict(zip(everywhere.table["id"].to_pylist(), everywhere.table["bbox"].to_pylist(), strict=True))
    inside = [name for name, box in boxes.items() if box["xmin"] > 100 and box["ymax"] < 0]
    assert found["box"] == found["box, streaming"] == inside != []
    assert found["configs"] == ["chips", "items", "preview"]
    assert found["preview"] == [48, [32, 32], "RGB"]
    assert found["v1"] == 48


def test_workers_share_it_a_run_resumes_a_private_one_asks_for_a_token_maps_come_along_and_the_page_runs(
    hub, everywhere, fresh, in_files, hamlet
):
    hub.add_repo("datasets", "lab/files", contents(in_files))
    hub.add_repo("datasets", "lab/secret", contents(in_files), private=True)
    hub.add_repo("datasets", "lab/hamlet", contents(hamlet))
    hub.add_repo("datasets", "my-lab/chips", contents(in_files), tags=("v1",))
    out = asked(fresh, workers="lab/files", private="lab/secret", map_tiles="lab/hamlet", run_page=PAGE)
    files = sorted((in_files / "data").glob("train-*"))
    names, found = (
        [name for path in files for name in pq.read_table(path, columns=["id"])["id"].to_pylist()],
        out["workers"],
    )
    assert sorted(names) == sorted(everywhere.split("train").table["id"].to_pylist())
    assert found["files"] == 8
    assert found["plain"] == names
    assert sorted(found["workers"]) == sorted(names)
    assert found["batch"] == [[4, *everywhere.chip_shape], "torch.uint16"]
    assert sorted(name for part in found["nodes"] for name in part) == sorted(names)
    assert min(map(len, found["nodes"])) >= len(names) // 4  # whole files each
    assert found["resumed"] == names
    assert sorted(found["resumed workers"]) == sorted(names)

    assert out["private"]["with"] == len(names)
    assert out["private"]["without"].startswith(
        "DatasetNotFoundError: Dataset 'lab/secret' doesn't exist on the Hub or"
    )

    found = out["map_tiles"]
    assert len(found["ids"]) == 3
    assert found["tag"]
    assert found["xy"]
    assert found["counts"] == ["building", "yes", 2]
    assert found["preview"] == "RGB"

    page, dates = out["run_page"], everywhere.chip_shape[0]
    assert (page["deserts"], page["red"], page["pinned"]) == (1, [32, 32], len(names))
    assert page["found"] == list(everywhere.table["div:biome"].to_pylist()).count("Deserts & Xeric Shrublands") > 0
    assert page["southeast"] > 0
    assert page["items"] == ["id", "bbox", "div:biome", "pwcat:shard"]
    assert page["light"] == ["id", "lat", "lon", "valid_fraction"]
    assert page["batch"][1:] == [dates, 12, 32, 32]
    assert 0 < page["mine"] < len(names)
    assert page["after the first batch"] == len(names) - 8


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
