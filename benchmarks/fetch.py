"""A published dataset from a Hub on loopback: what is fetched, and how fast, of one biome, and of all, in every way.

The Hub is the tests' own stand-in, which counts the bodies of its answers; it takes a share of the two cores. Clients are
processes of their own, with a cache of their own. `search` reads the items alone. Shares are of all bytes of the chips' files.

    python benchmarks/fetch.py [--samples 5000] [--size-px 96] [--out benchmarks/results/fetch.json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow.parquet as pq
from measured import RESULTS, keep
from publishable import make_collection
from rich.box import SIMPLE_HEAD
from rich.table import Table

TESTS = Path(__file__).parents[1] / "tests" / "publish"
REPO, BIOME = "bench/chips", "biome 3"
BEGIN = "import json, sys, time\nbiome, out = sys.argv[1:]\nstarted = time.perf_counter()\n"
END = "\nprint(json.dumps([rows, time.perf_counter() - started]))"
LOADED = f'from datasets import load_dataset\nstream = load_dataset("{REPO}", split="train", streaming=True'
WAYS = {
    "search": f'import pwcat\nrows = len(pwcat.open_catalog("hf://{REPO}").search(biome=biome))',
    "filters=": f'{LOADED}, filters=[("biome", "==", biome)])\nrows = sum(1 for _ in stream)',
    "open(), 8 chips": (
        f'import pwcat\nfound = pwcat.open_catalog("hf://{REPO}").search(biome=biome)\n'
        "rows = found.open().chips.isel(sample=slice(0, 8)).compute().sizes['sample']"
    ),
    "pull": f'import pwcat\nrows = sum(pwcat.pull("{REPO}", out + "/part", biome=biome).collections.values())',
    "stream all train": f"{LOADED})\nrows = sum(1 for _ in stream)",
    "pull all": f'import pwcat\nrows = sum(pwcat.pull("{REPO}", out + "/all").collections.values())',
}


@dataclass(frozen=True)
class Row:
    what: str
    rows: int
    megabytes: float
    share: float
    requests: int
    seconds: float
    pixels_mb_s: float


def measure(root: Path, *, samples: int, size_px: int) -> tuple[list[Row], dict[str, int]]:
    sys.path.append(str(TESTS))
    from loopback_hub import LoopbackHub

    source = make_collection(root / "catalog" / "made", chips=samples, size_px=size_px)
    with LoopbackHub(root / "hub") as hub:
        environment = {**os.environ, **hub.environment(root / "home")}
        command = [
            sys.executable,
            "-m",
            "pwcat",
            "publish",
            "dataset",
            str(source),
            "--repo",
            REPO,
            "--to",
            str(root / "built"),
        ]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        files = sorted((root / "built" / "data").iterdir())
        whole = sum(file.stat().st_size for file in files)
        facts = {
            "files": len(files),
            "row_groups": sum(pq.read_metadata(file).num_row_groups for file in files),
            "bytes": whole,
        }
        found = []
        for number, (what, code) in enumerate(WAYS.items()):
            sent, asked = hub.sent(), len(hub.calls("GET"))
            environment = {**os.environ, **hub.environment(root / f"home{number}")}
            done = subprocess.run(
                [sys.executable, "-c", BEGIN + code + END, BIOME, str(root)],
                env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                raise SystemExit(f"{what} failed:\n{done.stderr}")
            rows, seconds = json.loads(done.stdout.splitlines()[-1])
            came = hub.sent() - sent
            speed = rows * 24 * size_px**2 / seconds / 1e6
            found.append(Row(what, rows, came / 1e6, came / whole, len(hub.calls("GET")) - asked, seconds, speed))
            print(found[-1], file=sys.stderr)
    return found, facts


def table_of(rows: list[Row], facts: dict[str, int], samples: int, size_px: int) -> Table:
    size, groups, files = f"{facts['bytes'] / 1e6:,.0f} MB", facts["row_groups"], facts["files"]
    told = f"{samples:,} chips of {size_px} px: {size}, {groups} row groups, {files} files"
    table = Table(title=told, box=SIMPLE_HEAD)
    for place, name in enumerate(["Way", "Chips", "MB", "Share", "Requests", "s", "px MB/s"]):
        table.add_column(name, justify="left" if place == 0 else "right", no_wrap=True)
    for row in rows:
        speed = "" if row.what == "search" else f"{row.pixels_mb_s:,.0f}"
        numbers = (
            f"{row.rows:,}",
            f"{row.megabytes:,.1f}",
            f"{row.share:.1%}",
            f"{row.requests}",
            f"{row.seconds:.1f}",
        )
        table.add_row(row.what, *numbers, speed)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--size-px", type=int, default=96)
    parser.add_argument("--out", type=Path, default=RESULTS / "fetch.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows, facts = measure(Path(scratch), samples=args.samples, size_px=args.size_px)
    keep(
        args.out,
        [table_of(rows, facts, args.samples, args.size_px)],
        facts=facts,
        fetched=[asdict(row) for row in rows],
    )


if __name__ == "__main__":
    main()
