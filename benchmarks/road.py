"""Seconds, chips a second and peak memory of each stage of the demo, at 1, 4 and 16 times its size.

Each stage runs as its own `pwcat` process, as a user would run it, so that its peak memory is its own. A stage's growth is
its time at a size over its time at the size before, over the growth of the work: 1 is linear, less is better than linear.

    python benchmarks/road.py [--sizes 1 4 16] [--out benchmarks/results/road.json]
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from measured import RESULTS, keep, run_python
from rich.box import SIMPLE_HEAD
from rich.table import Table

from publish.demo_recipes import DATASETS, HELD_OUT, DemoOptions, held_out_places, write_recipes

TRAINED_ON = "europe"


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


def run(*command: str | Path) -> tuple[float, float]:
    """Seconds and peak resident megabytes of one command."""
    ran = run_python("-m", "pwcat", *command)
    return ran.seconds, ran.peak_mb


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
    keep(args.out, [show(rows)], rows=[asdict(row) for row in rows])


if __name__ == "__main__":
    main()
