"""The demo, small: every stage leaves what the last screen says, and a second run finds it all done."""

from __future__ import annotations

import csv
import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from publish.demo_recipes import DATASETS

SMALL = ["--chips", "24", "--test-chips", "192", "--places", "1", "--epochs", "1"]


def play(out: Path) -> str:
    command = [sys.executable, "-m", "pwcat", "demo", "--out", str(out), *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("demo") / "out"
    return out, play(out)


def test_demo_leaves_what_it_says(played: tuple[Path, str]) -> None:
    out, said = played
    page = (out / "report.html").read_text()
    assert "Pretrain where?" in page
    assert "<script src=" not in page, "the page needs nothing beside it"
    assert "24 rows by load_dataset" in said
    assert "Try next (after `source .venv/bin/activate`):" in said
    with (out / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["dataset"] for row in rows] == list(DATASETS)
    assert float(rows[-1]["continent"]) > float(rows[0]["continent"]) == 0.0


def require_served(command: str) -> None:
    """The command serves until it is interrupted, and answers meanwhile."""
    words = shlex.split(command, comments=True)
    with subprocess.Popen(
        [sys.executable, "-m", *words, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            assert requests.get(f"{address}/collections", timeout=30).json()["numberMatched"] == 8
        finally:
            server.send_signal(signal.SIGINT)


def test_the_commands_it_names_work(played: tuple[Path, str]) -> None:
    _, said = played
    commands = [line.strip() for line in said.splitlines() if line.startswith("  pwcat ")]
    served = [command for command in commands if command.startswith("pwcat serve ")]
    assert (len(commands), len(served)) == (4, 1), said
    require_served(served[0])
    for command in commands:
        if command in served:
            continue
        done = subprocess.run(
            f"{sys.executable} -m {command}", shell=True, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, (command, done.stderr)


def test_a_second_demo_repeats_nothing(played: tuple[Path, str]) -> None:
    out, _ = played
    runs = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("model.safetensors")}
    shards = {path: path.stat().st_mtime_ns for path in (out / "catalog").rglob("c/*/0/0/0/0")}
    published = json.loads((out / "published" / "europe" / "MANIFEST.json").read_text())
    play(out)
    assert {path: path.stat().st_mtime_ns for path in runs} == runs
    assert {path: path.stat().st_mtime_ns for path in shards} == shards
    assert json.loads((out / "published" / "europe" / "MANIFEST.json").read_text()) == published


def test_a_folder_with_another_demo_or_other_files_is_left_alone(played: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = played
    (tmp_path / "mine.txt").write_text("mine")
    for folder, why in ((out, "another version"), (tmp_path, "other files")):
        command = [sys.executable, "-m", "pwcat", "demo", "--out", str(folder), "--chips", "32"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert why in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
