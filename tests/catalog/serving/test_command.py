"""``pwcat serve`` as a process of its own."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

COMMAND = [sys.executable, "-c", "from pwcat.cli import main; main()", "serve", "--port", "0"]


def test_it_tells_its_address_answers_and_ends_on_ctrl_c(root: Path):
    with subprocess.Popen(
        [*COMMAND, str(root), "--max-page", "7"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        address = process.stdout.readline().strip()
        with urllib.request.urlopen(f"{address}/search?limit=100") as answer:
            assert json.load(answer)["numberReturned"] == 7
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert err.splitlines() == ["2 collections, read-only; Ctrl-C ends it"]


def test_a_catalog_far_away_is_given_by_its_address(root: Path, running, tmp_path):
    shutil.copytree(root, tmp_path / "far")
    links = [{"rel": "child", "href": f"./{name}/collection.json"} for name in ("alpha", "beta")]
    (tmp_path / "far" / "catalog.json").write_text(json.dumps({"type": "Catalog", "id": "far", "links": links}))
    with (
        running(Starlette(routes=[Mount("/", StaticFiles(directory=tmp_path / "far"))])) as there,
        subprocess.Popen([*COMMAND, there], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
    ):
        address = process.stdout.readline().strip()
        with urllib.request.urlopen(f"{address}/search") as answer:
            assert json.load(answer)["numberMatched"] == 100
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
