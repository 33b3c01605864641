"""The miniatures that come with pwcat run whole, from the archive to the report."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from training.reporting import write_report
from training.study import run_study

COMPOSITIONS = {"Uniform", "Stratified continent", "Stratified biome", "Natural forest", "World cities", "none"}
CONTINENTS = {"Europe", "North America", "South America", "Asia", "Global", "Oceania", "Africa", "none"}


def finished(name: str, folder: Path) -> list[dict[str, str]]:
    """The rows of primary scores of a study that was run whole, with its report."""
    states = run_study(name, folder, mini=True, workers=1)
    assert {(each.state, each.why) for each in states} == {("done", "")}
    written = {path.relative_to(folder / "report").as_posix() for path in write_report(folder)}
    assert {"report.html", "report.md"} <= written
    assert any(path.endswith(".tex") for path in written)
    with (folder / "results.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["primary"] == "true"]


@pytest.mark.timeout(1800)
def test_pretrain_where_in_miniature(tmp_path: Path) -> None:
    rows = [row for row in finished("pretrain_where", tmp_path / "where") if not row.get("rung")]
    assert {row["dataset"] for row in rows} == CONTINENTS
    assert {row["task"] for row in rows} == {"landcover", "biome", "entropy", "landcover-map"}
    assert {row["probe"] for row in rows} >= {"knn-5", "knn-20", "linear", "finetune"}
    assert all(row["value"] for row in rows if row["group"] == "all")


@pytest.mark.timeout(1800)
def test_spatial_distribution_in_miniature(tmp_path: Path) -> None:
    rows = finished("spatial_distribution", tmp_path / "spatial")
    assert {(row["model"], row["task"]) for row in rows} == {("presto-tiny", "crop"), ("satclip-tiny", "biome")}
    assert {row["dataset"] for row in rows} == COMPOSITIONS
    assert {row["probe"] for row in rows} == {"mlp", "logistic", "forest", "knn-5", "knn-20"}
    assert {row["drawn"] for row in rows} >= {"continent=Africa", "continent=Europe", "continent=South America"}
    assert {row["metric"] for row in rows if row["task"] == "crop"} == {"f1"}
    assert all(0 <= float(row["value"]) <= 1 for row in rows if row["value"])
