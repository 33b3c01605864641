from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from functools import partial

import pytest
import yaml
from huggingface_hub import ModelCard

from publish.models.evaluations import eval_results, merged, regions_of
from publish.models.links import links_of
from publish.weights import build_model_folder
from pwcat.errors import PublishError
from training.evaluate import load_scores
from training.run import load_run

# A run on pulled samples; the run of the whole collection's training split, by name; and datasets that are others.
LINK = """
import json, sys
from dataclasses import replace
from pathlib import Path
import publish.pull, pwcat
from catalog.subset import load_subset
from publish.models.links import link_to
from publish.weights import build_model_folder
from pwcat.errors import PublishError
from training.pretrain import pretrain
from training.recipe import load_train_recipe
from training.run import load_run
work, run_dir = Path(sys.argv[1]), sys.argv[2]
publish.pull.pull("lab/everywhere@v1", work / "pulled", split="val")
small = {"epochs": "1", "optimizer.warmup_epochs": "0", "model.image_size": "32", "model.patch_size": "8"}
pretrain(load_subset(work / "pulled"), load_train_recipe("satmae-tiny", overrides=small), work / "run", device="cpu")
build_model_folder(work / "run", work / "model", repo_id="lab/tiny")
build_model_folder(run_dir, work / "named", data="datasets/lab/everywhere@v1")
run = load_run(run_dir)
out = {}
odd = {"odd": "lab/everywhere@v1", "foreign": "lab/foreign", "none": "lab/none", "gone": "lab/everywhere@v9"}
for name, data in odd.items():
    try:
        link_to(data, replace(run, data={**run.data, "hash": "0" * 64}))
    except PublishError as exc:
        out[name] = str(exc)
print(json.dumps(out))
"""


@pytest.fixture
def valid_mlm(beside, kit):
    return partial(beside("mlm_schema").valid_mlm, kit=kit)


def front_of(card):
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card, flags=re.DOTALL)[1])


@pytest.mark.kit
def test_models_link_the_commit_of_the_samples_they_were_trained_on(
    hub, fresh, dataset_folder, run_dir, tmp_path, valid_mlm
):
    files = {path.relative_to(dataset_folder).as_posix(): path for path in dataset_folder.rglob("*") if path.is_file()}
    hub.add_repo("datasets", "lab/everywhere", {name: path.read_bytes() for name, path in files.items()}, tags=("v1",))
    hub.add_repo("datasets", "lab/foreign", {"data.csv": b"a\n1\n"})
    out = json.loads(fresh(LINK, tmp_path, run_dir))
    commit = hub.repos["datasets", "lab/everywhere"].head
    for folder, extent, tag in (("model", "samples pulled from it", "v1"), ("named", "exactly its split train", "v1")):
        card = (tmp_path / folder / "README.md").read_text()
        assert front_of(card)["datasets"] == ["lab/everywhere"]
        release = f", release `{tag}`" if tag else ""
        assert (
            f"| published as | [lab/everywhere](https://huggingface.co/datasets/lab/everywhere){release}, at commit "
            f"[`{commit[:12]}`](https://huggingface.co/datasets/lab/everywhere/tree/{commit}): {extent} |" in card
        )
        item = valid_mlm(tmp_path / folder)
        (link,) = item["links"]
        assert (link["rel"], link["type"]) == ("derived_from", "application/json")
        assert link["href"] == f"https://huggingface.co/datasets/lab/everywhere/resolve/{commit}/stac/collection.json"
        assert item["properties"]["mlm:pretrained_source"] == (
            f"https://huggingface.co/datasets/lab/everywhere/tree/{commit} ({extent})"
        )
        assert json.loads((tmp_path / folder / "MANIFEST.json").read_text())["data"] == [
            {"repo": "lab/everywhere", "commit": commit, "tag": tag, "extent": extent}
        ]
    pulled = json.loads((tmp_path / "run" / "run.json").read_text())["data"]
    assert pulled["origins"][0]["collections"] == ["everywhere"]
    assert "the run was trained on the samples 000000000000, and lab/everywhere@" in out["odd"]
    assert "does not have that set (all are " in out["odd"]
    assert re.search(r"train is [0-9a-f]{12}, val is [0-9a-f]{12}", out["odd"])
    assert "lab/foreign has no MANIFEST.json at " in out["foreign"]
    assert "could not find the dataset lab/none" in out["none"]
    assert "could not find the dataset lab/everywhere at revision v9" in out["gone"]


def test_a_run_that_names_no_commit_is_refused(run_dir):
    run = load_run(run_dir)
    told = {"repository": "lab/x", "revision": "main", "tag": None, "subset_hash": run.data["hash"]}
    with pytest.raises(
        PublishError, match=r"which is no repository and commit \('main' is no commit\): pull them again"
    ):
        links_of(replace(run, data={**run.data, "origins": [told]}))
    whole = replace(run, data={**run.data, "origins": [{**told, "revision": "a" * 40}]})
    assert [link.extent for link in links_of(whole)] == ["exactly these samples"]
    assert links_of(run) == ()  # runs of before


def test_a_model_without_a_record_cannot_name_its_data(run_dir, tmp_path):
    shutil.copytree(load_run(run_dir).checkpoint, tmp_path / "bare")
    with pytest.raises(PublishError, match="nothing says whether it was trained on lab/x: leave the dataset out"):
        build_model_folder(tmp_path / "bare", tmp_path / "m", data="lab/x")


def test_the_hub_indexes_the_headlines_of_all_tasks(run_dir, tmp_path):
    (scores,) = load_scores(run_dir)
    random = replace(scores, control=True)
    lost = replace(scores, task="lost", results=[replace(r, figures=[
        replace(f, values=[None] * len(f.values)) for f in r.figures]) for r in scores.results])  # fmt: skip
    folder = build_model_folder(run_dir, tmp_path / "m", repo_id="lab/tiny", scores=[scores, random, lost])
    card = ModelCard.load(folder / "README.md")  # the Hub client's own reader
    assert card.data.library_name == "pwcat"
    assert card.data.metrics == ["accuracy"]
    told = {result.metric_args["probe"]: result for result in card.data.eval_results}
    assert set(told) == {"knn-5", "knn-20"}
    measure = scores.summary("knn-5").measure
    assert told["knn-5"].metric_value == round(measure.mean, 6)
    assert told["knn-5"].metric_args["ci_low"] == round(measure.ci_low, 6)
    assert told["knn-5"].metric_args["test_samples"] == scores.num_test
    assert (told["knn-5"].task_type, told["knn-5"].dataset_revision) == ("image-classification", scores.task_hash)
    assert front_of((folder / "README.md").read_text())["model-index"][0]["name"] == "tiny"
    assert eval_results([random, lost]) == []


def test_scores_by_region_are_in_the_card(run_dir, tmp_path):
    (scores,) = load_scores(run_dir)
    tables = {table.label: table for table in regions_of(scores)}
    assert "land cover" not in tables  # what the task asks for
    assert tables["continent"].probes == ("knn-5", "knn-20")
    card = (build_model_folder(run_dir, tmp_path / "m") / "README.md").read_text()
    assert "| continent: accuracy | test samples | knn-5 | knn-20 |" in card
    for row in tables["continent"].rows:
        measure = scores.summary("knn-5", group=f"continent={row.name}").measure
        cell = f"{measure.mean:.3f} ({measure.ci_low:.3f} to {measure.ci_high:.3f})"
        assert f"| {row.name} | {row.num_test:.0f} | {cell} |" in card
    assert "<details><summary>By biome: accuracy</summary>" in card
    assert card.count("<details>") == card.count("</details>") == 2


def test_the_card_tells_hours_machine_and_weights(run_dir, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    run = json.loads((copy / "run.json").read_text())
    card = (build_model_folder(copy, tmp_path / "cpu") / "README.md").read_text()
    assert re.search(r"\| GPU hours \| none: it was trained without a GPU, for [\d.]+ (seconds|minutes) \|", card)
    assert f"{run['hardware']['cores']} cores" in card
    manifest = json.loads((tmp_path / "cpu" / "MANIFEST.json").read_text())
    assert f"SHA-256 `{manifest['files']['model.safetensors']['sha256']}`" in card
    gpus = {"gpu_hours": 12.5, "world_size": 8, "device": "NVIDIA H200"}
    hardware = {"processor": "x", "cores": 64, "memory_gb": 1000.0, "gpus": ["NVIDIA H200"] * 8}
    (copy / "run.json").write_text(json.dumps({**run, **gpus, "hardware": hardware}))
    card = (build_model_folder(copy, tmp_path / "gpu") / "README.md").read_text()
    assert "| GPU hours | 12.5 (8 of NVIDIA H200) |" in card
    assert "| machine | 8 × NVIDIA H200, x, 64 cores, 1000 GB of memory |" in card
    (copy / "run.json").write_text(json.dumps({**run, "hardware": {}}))
    assert "| machine |" not in (build_model_folder(copy, tmp_path / "none") / "README.md").read_text()


def test_probes_that_were_scored_apart_share_a_table(run_dir):
    (scores,) = load_scores(run_dir)
    apart = [replace(scores, results=[result]) for result in scores.results]
    assert merged(apart) == [scores]
    assert merged([*apart, apart[0]]) == [scores]
    assert len(merged([*apart, replace(apart[0], num_samples=1)])) == 2
