from __future__ import annotations

import csv
import json

import pytest
import yaml
from click.testing import CliRunner

from publish.commands.publish import publish
from publish.studies.collections import CollectionEntry, check_collection, parse_entry, publish_collection
from publish.studies.studied import read_study
from publish.studies.study import publish_study
from pwcat.errors import PublishError
from training.study import load_study, run_study

SMALL = {
    "model.image_size": 16, "model.patch_size": 8, "model.dim": 32, "model.depth": 1, "model.heads": 2, "model.group_dim": 16,
    "model.decoder_dim": 32, "model.decoder_heads": 2, "model.decoder_group_dim": 16, "epochs": 1, "batch_size": 16,
    "optimizer.warmup_epochs": 0,
}  # fmt: skip

PUBLISH = """
import sys
from pwcat.cli import main
sys.argv = ["pwcat", "publish", "study", sys.argv[1], "--owner", "lab", "--public", "--tag", "v1", "--license", "MIT"]
main()
"""
# Twice; then what is published is loaded, and the collection is asked for in other ways.
AGAIN = """
import json, sys
from dataclasses import asdict
from datasets import load_dataset
from huggingface_hub import HfApi
import pwcat
from publish.studies.collections import CollectionEntry, parse_entry, publish_collection
from publish.studies.study import publish_study
from pwcat.errors import PublishError
def publish():
    done = publish_study(sys.argv[1], owner="lab", public=True, tag="v1", license="MIT")
    return {"sent": [push.files_sent for push in done.pushes], "collection": asdict(done.collection), "names": done.names}
out = {"first": publish(), "second": publish()}
out["rows"] = len(load_dataset("lab/small", "results", split="train", revision="v1"))
out["dim"] = pwcat.load_model("lab/small-tiny-here-s1", revision="v1").embedding_dim
entries = [parse_entry(text) for text in ("papers/2604.21104", "lab/small-tiny-here-s1", "datasets/lab/small-here")]
noted = [*entries[:2], CollectionEntry(kind="dataset", id="lab/small-here", note="Samples: café")]
def collect(**options):
    done = publish_collection("Ours", owner="lab", **options)
    return [done.created, list(done.added), done.changed]
out["made"] = collect(entries=noted[:1] + noted[2:], description="Things")
out["more"] = collect(entries=noted)
out["same"] = collect(entries=noted, description="Things")
out["turned"] = collect(entries=noted[::-1])
out["closed"] = [asdict(publish_collection("Secret", owner="lab", entries=entries, private=True))["created"]]
for name, ask in {
    "open": lambda: publish_collection("Ours", owner="lab", entries=entries, private=True),
    "gone": lambda: publish_collection("New", owner="lab", entries=[*entries, parse_entry("lab/none")]),
}.items():
    try:
        ask()
    except PublishError as exc:
        out[name] = str(exc)
print(json.dumps(out))
"""


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def study(tiny_catalog, tmp_path_factory):
    """A finished study: one dataset, two pretrainings, one task."""
    work = tmp_path_factory.mktemp("study")
    document = {
        "name": "small",
        "title": "A small study of what is everywhere, and of a title that is much too long for the Hub",
        "notes": ["After nobody, arXiv 2604.21104."],
        "datasets": [{"name": "here", "data": str(tiny_catalog / "everywhere")}],
        "labelled": [{"name": "labelled", "data": str(tiny_catalog)}],
        "models": [{"name": "tiny", "recipe": "satmae-tiny", "set": SMALL, "seeds": [0, 1]}],
        "tasks": [{"task": "landcover", "data": "labelled", "min_samples": 5}],
        "probes": ["knn"],
        "samplings": [{"name": "blocks", "kind": "resampling", "split": "blocks", "seeds": 1}],
        "control": False,
        "threads": 1,
    }
    (work / "study.yaml").write_text(yaml.safe_dump(document))
    states = run_study(work / "study.yaml", work / "done")
    assert {state.state for state in states} == {"done"}
    return work / "done"


def test_a_study_is_published_though_it_is_killed_halfway(hub, fresh, study):
    hub.fail("POST:/api/models/lab/small-tiny-here-s1/commit:stall:1")
    process = fresh(PUBLISH, study, wait=False)
    assert hub.stalled.wait(120)
    process.kill()
    process.communicate()
    hub.resume()
    models = {name: len(hub.files(kind, name)) for kind, name in hub.repos if kind == "models"}
    assert models == {"lab/small-tiny-here-s0": 9, "lab/small-tiny-here-s1": 1}  # .gitattributes alone
    assert not hub.collections

    out = json.loads(fresh(AGAIN, study))
    names = ["small-here", "small-tiny-here-s0", "small-tiny-here-s1", "small"]
    assert out["first"]["names"] == names
    assert [sent > 0 for sent in out["first"]["sent"]] == [False, False, True, True]
    assert out["second"]["sent"] == [0, 0, 0, 0]
    assert (out["second"]["collection"]["created"], out["second"]["collection"]["changed"]) == (False, False)
    assert all(not repo.private and "v1" in repo.tags for repo in hub.repos.values())

    shown = next(each for each in hub.collections.values() if each.title.startswith("A small study"))
    assert shown.title == "A small study of what is everywhere, and of a title that…"
    assert [(item["type"], item["id"]) for item in shown.items] == [
        ("dataset", "lab/small"), ("paper", "2604.21104"), ("dataset", "lab/small-here"),
        ("model", "lab/small-tiny-here-s0"), ("model", "lab/small-tiny-here-s1"),
    ]  # fmt: skip
    commit = hub.repos["datasets", "lab/small-here"].head
    for seed in (0, 1):
        card = hub.read("models", f"lab/small-tiny-here-s{seed}", "README.md").decode()
        assert f"release `v1`, at commit [`{commit[:12]}`]" in card
        assert f"by seed {seed}, one of 2 pretrainings of it, in the study [A small study" in card
        assert "whose tables have it beside the others.\n" in card  # without the control there are no random weights
        assert "| knn-5 |" in card
    tables = hub.read("datasets", "lab/small", "README.md").decode()
    assert hub.repos["models", "lab/small-tiny-here-s1"].head in tables
    assert out["rows"] == len(rows_of(study / "results.csv"))
    assert out["dim"] == 32

    assert out["made"] == [True, ["papers/2604.21104", "datasets/lab/small-here"], False]
    assert out["more"] == [False, ["models/lab/small-tiny-here-s1"], True]
    assert out["same"] == [False, [], False]
    assert out["turned"] == [False, [], True]
    ours = next(each for each in hub.collections.values() if each.title == "Ours")
    assert [item["type"] for item in ours.items] == ["dataset", "model", "paper"]
    assert ours.items[0]["note"]["text"] == "Samples: café"
    assert ours.description == "Things"
    assert [each.private for each in hub.collections.values()] == [False, False, True]
    assert "the collection 'Ours' of lab exists and is public, but a private one was asked for" in out["open"]
    assert "could not find models/lab/none, which the collection 'New' is to list" in out["gone"]
    assert "New" not in {each.title for each in hub.collections.values()}


def test_a_study_as_folders_names_no_place_of_this_computer(study, tmp_path):
    said = []
    done = publish_study(study, to=tmp_path / "out", models="best", tell=said.append)
    assert (done.pushes, done.collection) == ((), None)
    assert said == [f"built {name}" for name in done.names]
    best = next(name for name in done.names if "-tiny-" in name)
    results = [row for row in rows_of(study / "results.csv") if row["group"] == "all"]
    figures = {}
    for row in (row for row in results if row["primary"] == "true"):
        figures.setdefault(row["pretrain_seed"], []).append(float(row["value"]))
    assert best == f"small-tiny-here-s{max('01', key=lambda seed: (sum(figures[seed]), -int(seed)))}"
    card = (tmp_path / "out" / "models" / best / "README.md").read_text()
    assert f"\n# {best}\n" in card
    assert "It was chosen by the very scores that are shown below" in card
    assert "published as" not in card
    tables = tmp_path / "out" / "tables"
    assert "path" not in rows_of(tables / "datasets.csv")[0]
    home = str(study.parent.parent)
    named = [path for path in tables.rglob("*") if path.is_file() and home in path.read_text(errors="replace")]
    assert named == []
    assert load_study(tables / "study.yaml").document.name == "small"


def test_what_would_be_published_is_said(study):
    result = CliRunner().invoke(publish, ["study", str(study), "--owner", "lab", "--dry-run", "--models", "none"])
    assert result.output.splitlines() == [
        "would publish 1 datasets of 48 samples in all, 0 models, the tables:",
        "  dataset lab/small-here",
        "  tables  lab/small",
        "  collection 'A small study of what is everywhere, and of a title that is much too long for the Hub' of lab, "
        "the paper 2604.21104",
        "nothing was made",
    ]
    told = json.loads(CliRunner().invoke(publish, ["study", str(study), "--to", "x", "--dry-run", "--json"]).output)
    assert told["models"] == ["small-tiny-here-s0", "small-tiny-here-s1"]
    assert "say where to" in CliRunner().invoke(publish, ["study", str(study)]).output


def test_an_unfinished_study_is_not_published(study, tmp_path):
    (tmp_path / "study.yaml").write_bytes((study / "study.yaml").read_bytes())
    with pytest.raises(
        PublishError, match=r"is not finished: \d+ of \d+ jobs are not done \(dataset/here, .*, …\); `pwcat"
    ):
        read_study(tmp_path)
    with pytest.raises(PublishError, match="private, public and tags are for repositories, and no owner is given"):
        publish_study(study, to=tmp_path / "x", tag="v1")
    with pytest.raises(PublishError, match="private and public exclude each other"):
        publish_study(study, owner="lab", private=True, public=True)
    with pytest.raises(PublishError, match="'la b/name' is no name for a repository"):
        publish_study(study, owner="la b")


def test_entries_of_a_collection_are_read_as_they_are_written():
    assert parse_entry("datasets/lab/x") == CollectionEntry(kind="dataset", id="lab/x")
    assert parse_entry("lab/x") == parse_entry("models/lab/x") == CollectionEntry(kind="model", id="lab/x")
    assert parse_entry("papers/2604.21104").label == "papers/2604.21104"
    for wrong in ("x", "papers/x", "datasets/x", "a/b/c", "spaces/lab/x"):
        with pytest.raises(PublishError, match=f"'{wrong}' is nothing that a collection lists: give datasets/ORG/NAME"):
            parse_entry(wrong)
    entry = CollectionEntry(kind="model", id="lab/x", note="n" * 501)
    with pytest.raises(
        PublishError,
        match=r"title has 61 characters.*description has 151.*note of models/lab/x has 501.*models/lab/x is named twice",
    ):
        check_collection("t" * 61, entries=[entry, parse_entry("lab/x")], description="d" * 151)
    result = CliRunner().invoke(publish, ["collection", "lab/x", "--owner", "lab", "--title", "T", "--note", "lab/y=z"])
    assert "--note is of an item that is named: lab/y is none of lab/x" in str(result.exception)
    result = CliRunner().invoke(publish, ["collection", "lab/x", "--owner", "lab", "--title", "T", "--note", "lab/x"])
    assert "--note is ITEM=TEXT, as in org/name='What it is', and 'lab/x' has no text" in str(result.exception)
    with pytest.raises(PublishError, match="its title has 0 characters"):
        check_collection("  ", entries=[entry], description="")
    with pytest.raises(PublishError, match="'la b/name' is no name for a repository"):
        publish_collection("T", owner="la b", entries=[])
