"""The miniatures that come with pwcat work: one way through each, from the archive to a score; the whole takes minutes."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml

from training.study import run_study
from training.studying.shelf import study_text

WAYS = {
    "pretrain_where": ["evaluate/satmae-tiny/Europe/s0/landcover/knn/*"],
    "spatial_distribution": [
        "evaluate/presto-tiny/Uniform/s0/crop/logistic/*",
        "evaluate/satclip-tiny/Uniform/s0/biome/logistic/*",
    ],
    "geojepa": ["evaluate/T/Towns/s0/building-count/linear/*", "evaluate/Constant/none/s0/building-count/dummy/*"],
}


def smaller(name: str, folder: Path) -> Path:
    """The same road on less land: towns of a tile, an epoch."""
    document = yaml.safe_load(study_text(f"{name}.mini"))
    document["towns"] = {"towns": 12, "across": 1}
    for model in document["models"]:
        if "set" in model:
            model["set"] |= {"epochs": 1, "optimizer.warmup_epochs": 0, "batch_size": 4}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


@pytest.mark.parametrize("name", WAYS)
def test_a_miniature_comes_to_scores(name: str, tmp_path: Path) -> None:
    if name == "geojepa":
        states = run_study(smaller(name, tmp_path), tmp_path / "out", only=WAYS[name], workers=1)
    else:
        states = run_study(name, tmp_path / "out", mini=True, only=WAYS[name], workers=1)
    assert {(each.state, each.why) for each in states} == {("done", "")}
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["primary"] == "true"]
    assert {(row["task"], row["probe"].partition("-")[0]) for row in rows} == {
        tuple(way.split("/")[4:6]) for way in WAYS[name]
    }
    if name == "geojepa":
        assert {row["metric"] for row in rows} == {"mae"}
        assert {row["group"] for row in rows} > {"all"}  # and each continent's towns apart
        return
    assert all(0 <= float(row["value"]) <= 1 for row in rows if row["value"])
    if name == "spatial_distribution":
        assert {row["drawn"] for row in rows} >= {"continent=Africa", "continent=Europe", "continent=South America"}
        assert {row["metric"] for row in rows if row["task"] == "crop"} == {"f1"}
