"""Seconds, chips a second and peak memory of each stage of the demo, at 1, 4 and 16 times its size.

Each stage runs as its own `pwcat` process, as a user would run it, so that its peak memory is its own. A stage's growth is
its time at a size over its time at the size before, over the growth of the work: 1 is linear, less is better than linear.

    python benchmarks/road.py [--sizes 1 4 16] [--out benchmarks/results/road.json]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from publish.demo_recipes import DATASETS, HELD_OUT, DemoOptions, held_out_places, write_recipes

PWCAT = [sys.executable, "-m", "pwcat"]
TRAINED_ON = "europe"
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    stage: str
    size: int
    chips: int
    seconds: float
    peak_mb: float

    @property
    def chips_per_second(self) -> float:
        return self.chips / self.seconds


# A process starts with the peak memory of the one that made it, so a small one stands between this one and the command.
LAUNCHER = """
import json, os, sys, time
started = time.monotonic()
_, status, usage = os.wait4(os.posix_spawn(sys.executable, sys.argv[1:], os.environ), 0)
print(json.dumps([os.waitstatus_to_exitcode(status), time.monotonic() - started, usage.ru_maxrss / 1024]))
"""


def run(*command: str | Path) -> tuple[float, float]:
    """Seconds and peak resident megabytes of one command."""
    launch = [sys.executable, "-S", "-c", LAUNCHER, *PWCAT, *map(str, command)]
    done = subprocess.run(launch, capture_output=True, text=True, check=True)
    status, seconds, peak_mb = json.loads(done.stdout.splitlines()[-1])
    if status:
        raise SystemExit(f"{command} failed:\n{done.stderr}")
    return seconds, peak_mb


def measure(size: int, root: Path) -> list[Row]:
    """Rows of all stages at one size: chips, and the area of the archive, are multiplied by it.

    The archive grows by places up to four times, and then by the side of its scenes.
    """
    base = DemoOptions()
    more_places = min(size, 4)
    options = DemoOptions(chips=base.chips * size, test_chips=base.test_chips * size, places=base.places * more_places)
    side = round(512 * math.sqrt(size / more_places))
    archive, catalog, runs = root / "archive", root / "catalog", root / "runs"
    recipes = write_recipes(root / "recipes", archive="../archive", options=options)
    everything = options.chips * len(DATASETS) + options.test_chips
    rows: list[Row] = []

    def note(stage: str, chips: int, results: list[tuple[float, float]]) -> None:
        seconds, peaks = zip(*results, strict=True)
        rows.append(Row(stage, size, chips, sum(seconds), max(peaks)))
        print(f"{size:>3}x {stage:<10} {sum(seconds):8.1f} s {max(peaks):7.0f} MB", file=sys.stderr)

    synth = ["archive", "synth", archive, "--places", options.places, "--test-places", held_out_places(options)]
    synth += ["--size-px", side]
    note("archive", everything, [run(*map(str, synth))])
    note("plan", everything, [run("plan", path, "--catalog", catalog) for path in recipes.values()])
    note("build", everything, [run("build", path, "--catalog", catalog) for path in recipes.values()])
    note("search", everything, [run("search", catalog, "--landcover", "tree_cover")])
    pretraining = run("pretrain", catalog / TRAINED_ON, "--recipe", "satmae-tiny", "--out", runs / TRAINED_ON)
    note("pretrain", options.chips, [pretraining])
    note("evaluate", options.test_chips, [run("evaluate", runs / TRAINED_ON, catalog / HELD_OUT)])
    folder = root / "published"
    note("publish", options.chips, [run("publish", "dataset", catalog / TRAINED_ON, "--to", folder)])
    return rows


def growth(rows: list[Row], row: Row) -> float | None:
    """How a stage's time grew from the size before, over the growth of the work."""
    before = [r for r in rows if r.stage == row.stage and r.size < row.size]
    if not before:
        return None
    last = max(before, key=lambda r: r.size)
    return (row.seconds / last.seconds) / (row.chips / last.chips)


def show(rows: list[Row]) -> Table:
    table = Table(title="The road of the demo at several sizes", box=SIMPLE_HEAD)
    for name in ("Stage", "Size", "Chips", "Seconds", "Chips/s", "Growth", "Peak MB"):
        table.add_column(name, justify="left" if name == "Stage" else "right")
    for row in sorted(rows, key=lambda r: ([s.stage for s in rows].index(r.stage), r.size)):
        grown = growth(rows, row)
        table.add_row(
            row.stage, f"{row.size}x", f"{row.chips:,}", f"{row.seconds:.1f}", f"{row.chips_per_second:,.0f}",
            "" if grown is None else f"{grown:.2f}", f"{row.peak_mb:,.0f}",
        )  # fmt: skip
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--out", type=Path, default=RESULTS / "road.json")
    args = parser.parse_args()
    rows: list[Row] = []
    for size in args.sizes:
        with tempfile.TemporaryDirectory(prefix="pwcat-road-") as root:
            rows += measure(size, Path(root))
    console = Console(record=True, width=80)
    console.print(show(rows))
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "machine": platform.machine()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=2) + "\n")
    args.out.with_suffix(".txt").write_text(console.export_text())


if __name__ == "__main__":
    main()
