"""What the benchmarks share: a process whose peak memory is its own, and results as a table and as numbers."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

KIT = Path(os.environ.get("PWCAT_KIT", Path(__file__).parents[2] / "shared" / "kit"))
RESULTS = Path(__file__).parent / "results"

# A process starts with the peak memory of the one that made it, so a small one stands between this one and the command.
LAUNCHER = """
import json, os, sys, time
started = time.monotonic()
_, status, usage = os.wait4(os.posix_spawn(sys.executable, sys.argv[1:], os.environ), 0)
print(json.dumps([os.waitstatus_to_exitcode(status), time.monotonic() - started, usage.ru_maxrss / 1024]))
"""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a command took, process start included, and the lines it printed."""

    seconds: float
    peak_mb: float
    lines: list[str]


def run_python(*arguments: str | Path | int) -> Ran:
    """Run this Python with these arguments, in a process of its own; end with its message if it fails."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run([sys.executable, "-S", "-c", LAUNCHER, *command], capture_output=True, text=True, check=True)
    *lines, last = done.stdout.splitlines()
    status, seconds, peak_mb = json.loads(last)
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return Ran(seconds=seconds, peak_mb=peak_mb, lines=lines)


def keep(out: Path, shown: Sequence[Table | str], **numbers: Any) -> None:
    """Print what is shown, and keep it beside the numbers and the machine they are of."""
    console = Console(record=True, width=80)
    for part in shown:
        console.print(part, highlight=False)
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "machine": platform.machine()}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"machine": machine, **numbers}, indent=2) + "\n")
    out.with_suffix(".txt").write_text(console.export_text())
