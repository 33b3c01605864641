"""The miniatures that come with pwcat work: one way through each, from the archive to a score; the whole takes minutes."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from training.study import run_study

WAYS = {
    "pretrain_where": ["evaluate/satmae-tiny/Europe/s0/landcover/knn/*"],
    "spatial_distribution": [
        "evaluate/presto-tiny/Uniform/s0/crop/logistic/*",
        "evaluate/satclip-tiny/Uniform/s0/biome/logistic/*",
    ],
    "geojepa": ["evaluate/T/Towns/s0/building-count/linear/*", "evaluate/Constant/none/s0/building-count/dummy/*"],
}


@pytest.mark.parametrize("name", WAYS)
def test_a_miniature_comes_to_scores(name: str, tmp_path: Path) -> None:
    states = run_study(name, tmp_path / "out", mini=True, only=WAYS[name], workers=1)
    assert {(each.state, each.why) for each in states} == {("done", "")}
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["primary"] == "true"]
    assert len({(row["task"], row["probe"]) for row in rows}) == len(WAYS[name])
    if name == "geojepa":
        assert {row["metric"] for row in rows} == {"mae"}
        assert {row["group"] for row in rows} > {"all"}  # and each continent's towns apart
        return
    assert all(0 <= float(row["value"]) <= 1 for row in rows if row["value"])
    if name == "spatial_distribution":
        assert {row["drawn"] for row in rows} >= {"continent=Africa", "continent=Europe", "continent=South America"}
        assert {row["metric"] for row in rows if row["task"] == "crop"} == {"f1"}
