"""``pwcat serve`` as a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path


def test_it_tells_its_address_answers_and_ends_on_ctrl_c(root: Path):
    command = [
        sys.executable,
        "-c",
        "from pwcat.cli import main; main()",
        "serve",
        str(root),
        "--port",
        "0",
        "--max-page",
        "7",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().strip()
        with urllib.request.urlopen(f"{address}/search?limit=100") as answer:
            assert json.load(answer)["numberReturned"] == 7
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert err.splitlines() == ["2 collections, read-only; Ctrl-C ends it"]
