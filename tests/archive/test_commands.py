"""``pwcat archive`` from the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

PWCAT = [sys.executable, "-c", "from pwcat.cli import main; main()", "archive"]


def pwcat(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PWCAT, *map(str, words)], capture_output=True, text=True, check=False)


def test_synth_shows_what_it_made_and_serve_serves_it(tmp_path: Path):
    small = ("--places", 1, "--test-places", 0, "--dates", 1, "--size-px", 96)
    table = pwcat("synth", tmp_path / "a", *small)
    assert table.returncode == 0, table.stderr
    assert "landcover-synthetic" in table.stdout
    assert f"Next: pwcat archive serve {tmp_path / 'a'}" in table.stdout
    assert table.stderr == ""
    shown = json.loads(pwcat("synth", tmp_path / "a", *small, "--json").stdout)
    assert [(row["collection"], row["items"]) for row in shown["collections"]] == [
        ("landcover-synthetic", 6),
        ("s2-l2a-synthetic", 6),
    ]
    other = pwcat("synth", tmp_path / "a", *small, "--seed", 3)
    assert other.returncode == 2
    assert "seed 0 (asked: 3)" in other.stderr
    assert len(other.stderr.splitlines()) == 1
    with subprocess.Popen([*PWCAT, "serve", str(tmp_path / "a")], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        with urllib.request.urlopen(f"{url}/collections") as answer:
            assert len(json.load(answer)["collections"]) == 2
        server.send_signal(signal.SIGINT)
    assert server.returncode in (0, 130)


def test_add_names_the_broken_file_and_exits_with_2(tmp_path: Path):
    (tmp_path / "bad.tif").write_text("no TIFF")
    with rasterio.open(
        tmp_path / "good.tif", "w", driver="GTiff", width=20, height=20, count=2, dtype="uint16", crs="EPSG:32633",
        transform=from_origin(300_000, 5_000_040, 10, 10),
    ) as raster:  # fmt: skip
        raster.write(np.ones((2, 20, 20), np.uint16))
    files = (tmp_path / "bad.tif", tmp_path / "good.tif")
    words = ("add", tmp_path / "a", *files, "--collection", "c", "--bands", "B02, B03", "--json")
    dateless = pwcat(*words)
    assert dateless.returncode == 2
    assert dateless.stderr.strip() == "pwcat: no date in good.tif: pass --datetime, as --datetime 2021-06-01"
    wrong = pwcat(*words, "--datetime", "soon")
    assert "'soon' is no date" in wrong.stderr
    ran = pwcat(*words, "--datetime", "2021-06-01")
    assert ran.returncode == 2
    assert "bad.tif: " in ran.stderr.splitlines()[0]
    assert ran.stderr.splitlines()[-1] == "pwcat: 1 of 2 files were not added; the rest is in the archive"
    assert json.loads(ran.stdout)["collections"][0]["items"] == 1
