"""Several processes through torchrun, over gloo: the losses of one process on the same global batch, and one end for all."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import pwcat
from catalog.subset import load_subset
from pwcat.osm.schema import ENTITY_SCHEMA, TAG_SCHEMA
from training.checkpoint import load_model_folder
from training.looping.distributed import gather_with_grad, global_sum, own_rows, rank, world_size
from training.pretrain import pretrain
from training.recipe import load_train_recipe
from training.run import load_run

ROOT = Path(pwcat.__file__).parents[1]
# float32 sums in another order: of samples within a rank first, then of ranks
TOLERANCE = 2e-6

SHORT = {"epochs": "2", "optimizer.warmup_epochs": "0.5", "batch_size": "9"}
TOWER = {
    f"model.tower.config.{key}": value for key, value in (("image_size", "32"), ("dim", "48"), ("group_dim", "16"))
}

BANDS = "[B04, B03, B02]"
ENCODER = f"image_size: 16, patch_size: 8, bands: {BANDS}, groups: [{BANDS}], dim: 8, depth: 1, heads: 2, group_dim: 4"
STUDENT = {  # without dropout, in which ranks differ
    "model.dim": "16",
    "model.depth": "1",
    "model.dropout": "0.0",
    "model.tags": "{dim: 32, least_count: 1}",
    "model.image": f"{{config: {{{ENCODER}}}}}",
    "optimizer.warmup_epochs": "0.5",
    "optimizer.clip_norm": "1.0",
}

TOGETHER = """
import json, sys
from pathlib import Path
import torch
from torch.nn import functional
from catalog.subset import load_subset
from training.looping.distributed import gather_with_grad, global_sum, joined, own_rows, rank, sum_with_grad, world_size
from training.pretrain import pretrain
from training.recipe import parse_train_recipe

def gather():
    torch.manual_seed(0)
    x, weights = torch.randn(7, 3), torch.randn(3, 4, requires_grad=True)
    own = own_rows(7)
    assert world_size() == 2 and own == (slice(0, 3), slice(3, 7))[rank()]
    for total in (7, None):
        weights.grad = None
        every = gather_with_grad(x[own] @ weights, total=total)
        assert torch.equal(every, x @ weights)
        wanted = torch.arange(7)[own]
        loss = functional.cross_entropy(x[own] @ weights @ every.T, wanted, reduction="sum") / 7 * world_size()
        loss.backward()
        alone = weights.detach().clone().requires_grad_()
        whole = functional.cross_entropy(x @ alone @ (x @ alone).T, torch.arange(7))
        whole.backward()
        torch.testing.assert_close(global_sum(loss) / world_size(), whole.detach())
        torch.testing.assert_close(global_sum(weights.grad) / world_size(), alone.grad)
    weights.grad = None
    total = sum_with_grad((x[own] @ weights).sum(dim=0))
    total.square().sum().backward()
    alone = weights.detach().clone().requires_grad_()
    whole = (x @ alone).sum(dim=0)
    whole.square().sum().backward()
    torch.testing.assert_close(total, whole)
    torch.testing.assert_close(global_sum(weights.grad) / world_size(), alone.grad)

torch.set_num_threads(1)
data, maps, recipes, out = sys.argv[1:]
with joined("cpu"):
    gather()
    for name, document in json.loads(Path(recipes).read_text()).items():
        subset = load_subset(maps if document["architecture"] == "geojepa" else data)
        pretrain(subset, parse_train_recipe(document), Path(out) / name, device="cpu")
"""

FAIL = """
import sys, time
from pwcat.errors import TrainingError
from training.looping.distributed import RankEndedError, barrier, joined, rank

try:
    with joined("cpu"):
        if rank() == 1:
            raise TrainingError("the second rank fails alone")
        barrier()
except TrainingError as exc:
    sys.exit(f"said by {rank()}: {exc}")
except RankEndedError:
    sys.exit(2)
"""


@contextmanager
def torchrun(*args, log: Path, ranks=2):
    """Processes that train together; what they say goes to a file."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (
        log.open("w") as file,
        subprocess.Popen(
            [*command, *map(str, args)], stdout=file, stderr=file, env=environment, cwd=log.parent
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()  # torchrun ends its processes


def as_map(collection, folder):
    """The same collection with points on its tiles, on one in three none."""
    shutil.copytree(collection, folder)
    rows, rng = [], np.random.default_rng(0)
    for tile in (tile for tile in range(48) if tile % 3):
        for number in range(int(rng.integers(1, 9))):
            xy = rng.random(2, dtype=np.float32).tolist()
            tags = [("building", ("yes", "house")[number % 2])]
            rows.append(
                {"index": tile, "tile": f"16/{tile}/0", "osm_type": "node", "osm_id": 100 * tile + number, "part": 0,
                 "kind": "point", "cut": False, "tags": tags, "geometry": b"", "xy": xy, "rings": [1], "box": xy * 4}
            )  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, ENTITY_SCHEMA), folder / "entities.parquet")
    tags = [{"key": "building", "value": value, "count": 1, "tiles": 1} for value in ("house", "yes")]
    pq.write_table(pa.Table.from_pylist(tags, TAG_SCHEMA), folder / "tags.parquet")
    return folder


def script(folder, text):
    path = folder / "script.py"
    path.write_text(text)
    return path


def log_of(run, *keys):
    return np.array([[row[key] for key in keys] for row in run.metrics])


def test_one_process_is_a_world_of_its_own():
    values = torch.ones(3, requires_grad=True)
    assert (world_size(), rank(), own_rows(10)) == (1, 0, slice(0, 10))
    assert gather_with_grad(values) is values
    assert not global_sum(values).requires_grad


def test_two_processes_train_as_one_and_gather_with_gradient(subset, tiny_catalog, make_recipe, tmp_path):
    recipes = {
        "whole batches": make_recipe(epochs="2"),
        "an odd last batch": make_recipe(epochs="2", batch_size="9"),  # 5 of 9, and one of 3
        "accumulated": make_recipe(epochs="2", batch_size="10", accumulate="2", optimizer__ema_decay="0.9"),
        "series of pixels": load_train_recipe("presto-tiny", overrides=SHORT),
        "places against images": load_train_recipe("satclip-tiny", overrides={**SHORT, **TOWER}),
        "clipped": make_recipe(epochs="2", augment__crop="resized", optimizer__clip_norm="0.1"),
        "student and teacher": load_train_recipe("geojepa-ti-tiny", overrides={**SHORT, **STUDENT}),
    }
    maps = as_map(tiny_catalog / "everywhere", tmp_path / "maps")
    documents = {name: recipe.model_dump(mode="json") for name, recipe in recipes.items()}
    (tmp_path / "recipes.json").write_text(json.dumps(documents))
    data = tiny_catalog / "everywhere"
    arguments = [script(tmp_path, TOGETHER), data, maps, tmp_path / "recipes.json", tmp_path / "two"]
    with torchrun(*arguments, log=tmp_path / "log") as process:
        alone = {
            name: pretrain(
                load_subset(maps) if recipe.architecture == "geojepa" else subset,
                recipe,
                tmp_path / "one" / name,
                device="cpu",
            )
            for name, recipe in recipes.items()
        }
        assert process.wait(timeout=120) == 0, (tmp_path / "log").read_text()
    for name, one in alone.items():
        two = load_run(tmp_path / "two" / name)
        assert (two.finished, two.world_size, two.steps) == (True, 2, one.steps)
        assert (log_of(two, "step", "epoch", "lr") == log_of(one, "step", "epoch", "lr")).all()
        np.testing.assert_allclose(log_of(two, "loss"), log_of(one, "loss"), rtol=TOLERANCE, err_msg=name)
        np.testing.assert_allclose(log_of(two, "grad_norm"), log_of(one, "grad_norm"), rtol=1e-4, err_msg=name)
        assert two.normalization == one.normalization
        # as a whole: where a gradient is nought but for rounding (biases of keys), Adam makes steps of the rounding
        ours, theirs = (torch.nn.utils.parameters_to_vector(load_model_folder(r.path).parameters()) for r in (two, one))
        assert (ours - theirs).norm() < 1e-3 * theirs.norm(), name


def test_a_rank_that_fails_ends_all_with_its_line(tmp_path):
    with torchrun(script(tmp_path, FAIL), log=tmp_path / "log") as process:
        assert process.wait(timeout=120) == 1
    said = (tmp_path / "log").read_text()
    assert said.count("said by 1: the second rank fails alone") == 1
    assert "said by 0" not in said


def test_the_command_stops_with_a_checkpoint_and_goes_on_alone(subset, tiny_catalog, make_recipe, tmp_path):
    recipe = make_recipe(epochs="400")
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe.model_dump(mode="json")))
    command = ["-m", "pwcat", "pretrain", tiny_catalog / "everywhere", "--device", "cpu"]
    out = tmp_path / "run"
    with torchrun(*command, "--recipe", tmp_path / "recipe.yaml", "--out", out, log=tmp_path / "log") as process:
        deadline = time.monotonic() + 120
        while not ((out / "metrics.jsonl").is_file() and len((out / "metrics.jsonl").read_text().splitlines()) > 4):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)
    said = (tmp_path / "log").read_text()
    assert said.count("pwcat: interrupted; nothing half-written is left") == 1, said
    run = load_run(out)
    assert not run.finished
    assert run.checkpoint.name == f"step-{run.steps:08d}"
    assert [row["step"] for row in run.metrics] == list(range(1, run.steps + 1))
    more = pretrain(subset, recipe, out, device="cpu", stop_after_steps=run.steps + 2)
    assert (more.steps, more.world_size) == (run.steps + 2, 1)
