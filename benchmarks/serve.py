"""Requests to `pwcat serve` over 10^6 items: time of an answer, beside the rows alone by SQL written by hand.

The server is a process of its own, asked over loopback by one client that keeps its connection; warm, p50 of the repeats. By
hand is what a server without our paging would do: one query of the same file for the rows of the page, all columns, and one
for their number, to Arrow; no JSON, no HTTP. Both are asked in turn. Eight clients at once ask for items by id.

    python benchmarks/serve.py [--items 1000000] [--repeats 15] [--out benchmarks/results/serve.json]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import requests
from measured import RESULTS, keep
from query import BIOME, CQL2, LANDCOVER, make_items
from rich.box import SIMPLE_HEAD
from rich.table import Table

WHERE = f"\"div:biome\" = '{BIOME}' AND \"div:landcover\" = '{LANDCOVER}'"
NEAR = "bbox.xmin <= {2} AND bbox.xmax >= {0} AND bbox.ymin <= {3} AND bbox.ymax >= {1}"
SMALL, LARGE = (5, 47, 6, 48), (0, 40, 20, 60)
# Name: parameters of the request, condition and order by hand, items of the page.
PAGES: dict[str, tuple[dict[str, Any], str, str, int]] = {
    "first page": ({}, "TRUE", "id", 1000),
    "1 degree box": ({"bbox": SMALL}, NEAR.format(*SMALL), "id", 100),
    "20 degree box": ({"bbox": LARGE}, NEAR.format(*LARGE), "id", 1000),
    "biome + land cover": ({"filter": CQL2.partition(" AND spectral")[0]}, WHERE, "id", 1000),
    "CQL2": ({"filter": CQL2}, f'{WHERE} AND "div:spectral_entropy" > 3.5 AND "div:landcover_share" < 0.8', "id", 1000),
    "sorted by entropy": ({"sortby": "-spectral_entropy"}, "TRUE", '"div:spectral_entropy" DESC NULLS LAST, id', 1000),
}


@contextmanager
def serving(root: Path) -> Iterator[tuple[str, int]]:
    """The address of `pwcat serve` and its process."""
    command = [sys.executable, "-c", "from pwcat.cli import main; main()", "serve", str(root), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.terminate()


def by_hand(path: Path, where: str, order: str, limit: int) -> Callable[[], int]:
    connection = duckdb.connect()
    source = f"FROM read_parquet('{path}') WHERE {where}"

    def ask() -> int:
        connection.sql(f"SELECT count(*) {source}").fetchall()
        return len(connection.sql(f"SELECT * {source} ORDER BY {order} LIMIT {limit}").to_arrow_table())

    return ask


def by_request(session: requests.Session, url: str, asked: dict[str, Any], limit: int) -> Callable[[], int]:
    told = {name: ",".join(map(str, value)) if isinstance(value, tuple) else value for name, value in asked.items()}

    def ask() -> int:
        answer = session.get(f"{url}/search", params={**told, "limit": limit})
        answer.raise_for_status()
        return int(answer.json()["numberReturned"])

    return ask


def p50(ways: dict[str, Callable[[], int]], repeats: int) -> tuple[dict[str, float], dict[str, int]]:
    """Milliseconds of each way, in turn, so that what disturbs one disturbs all; and what each found."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    found = {}
    for number in range(repeats + 2):
        for name, ask in ways.items():
            start = time.perf_counter()
            found[name] = ask()
            if number >= 2:
                took[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(times) for name, times in took.items()}, found


def by_id(session: requests.Session, url: str, item: str) -> int:
    session.get(f"{url}/collections/global/items/{item}").raise_for_status()
    return 1


def crowd(url: str, n: int, clients: int = 8, each: int = 25) -> float:
    """Items by id that so many clients get in a second."""

    def ask(number: int) -> None:
        with requests.Session() as session:
            for k in range(each):
                by_id(session, url, f"global-{(number * 7919 + k * 104729) % n:08d}")

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(ask, range(clients)))
    return clients * each / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=RESULTS / "serve.json")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "global"
        make_items(folder, args.items)
        with serving(Path(scratch)) as (url, pid), requests.Session() as session:
            took, _ = p50({"served": lambda: by_id(session, url, f"global-{args.items // 2:08d}")}, args.repeats)
            rows.append({"page": "by id", "rows": 1, "served_ms": took["served"], "hand_ms": None})
            for name, (asked, where, order, limit) in PAGES.items():
                ways = {
                    "served": by_request(session, url, asked, limit),
                    "hand": by_hand(folder / "items.parquet", where, order, limit),
                }
                took, found = p50(ways, args.repeats)
                assert found["served"] == found["hand"], (name, found)
                rows.append({"page": name, "rows": found["hand"], "served_ms": took["served"], "hand_ms": took["hand"]})
            rate = crowd(url, args.items)
            peak = next(
                line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")
            )
    peak_mb = int(peak.split()[1]) / 1024
    table = Table(title=f"pwcat serve, {args.items:,} items, p50 ms", title_justify="left", box=SIMPLE_HEAD)
    for name, justify in (
        ("page", "left"),
        ("items", "right"),
        ("served", "right"),
        ("rows by hand", "right"),
        ("ratio", "right"),
    ):
        table.add_column(name, justify=justify)
    for row in rows:
        hand = row["hand_ms"]
        ratio = f"{row['served_ms'] / hand:.2f}" if hand else ""
        table.add_row(row["page"], f"{row['rows']:,}", f"{row['served_ms']:.0f}", f"{hand:.0f}" if hand else "", ratio)
    crowded = f"8 clients at once: {rate:.0f} items by id a second. Peak memory of the server: {peak_mb:.0f} MB."
    keep(args.out, [table, crowded], items=args.items, rows=rows, by_id_per_second=rate, peak_mb=peak_mb)


if __name__ == "__main__":
    main()
