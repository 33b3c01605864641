"""Near duplicates and "more like this" among 100,000 embeddings of 768 numbers, and 700,000; the memory that they take.

Embeddings are made up, with a spectrum that falls as models' do (`spectral`), or with none (`even`); one in a hundred is a near
duplicate of another. All pairs above .99 are found by `pairs_above`, and by a plain FAISS index of inner products, exact too,
on as many threads: of some thousand queries, extrapolated to all. Then a catalog of so many made-up items is given a column of
them from a file, as `pwcat embed` does, and asked by `nearest` and `near_duplicates`. Each step is a process; its memory what
it allocated at the most (RssAnon), beside which the kernel keeps pages of files.

    python benchmarks/similar.py [--large] [--out benchmarks/results/similar.json]

Of 100,000 it takes two minutes on two cores; ``--large`` asks for 700,000 too, which takes ten more, 6 GB of disk and 3 GB of
memory.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from measured import RESULTS, keep, run_python
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table

WIDTH, ABOVE, PLANTED = 768, 0.99, 100
FEW, MANY = 100_000, 700_000
BLOCK = 16_384
QUERIES = 10_000  # that FAISS is asked
SPECTRA = {"spectral": 0.7, "even": 0.0}  # powers by which singular values fall


def write_embeddings(path: Path, n: int, spectrum: str) -> None:
    """Embeddings (n, 768) float32 as a file, some at a time; the last hundredth are nearly those of the first."""
    rng = np.random.default_rng(0)
    falls = (np.arange(1, WIDTH + 1.0) ** -SPECTRA[spectrum]).astype(np.float32)
    whole = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, WIDTH))
    for start in range(0, n, BLOCK):
        part = whole[start : start + BLOCK]
        part[:] = rng.standard_normal(part.shape, dtype=np.float32) * falls
    few = n // PLANTED
    whole[n - few :] = whole[:few] * (1 + 0.03 * rng.standard_normal((few, WIDTH), dtype=np.float32))
    whole.flush()


def read_units(path: Path) -> NDArray[np.float32]:
    """The embeddings at length 1."""
    from catalog.cosine import to_units

    kept = np.load(path, mmap_mode="r")
    units = np.empty(kept.shape, dtype=np.float32)
    for start in range(0, len(kept), BLOCK):
        units[start : start + BLOCK] = to_units(kept[start : start + BLOCK])
    return units


@contextmanager
def watched(told: dict[str, Any]) -> Iterator[None]:
    """Seconds that the block takes, and MB that this process had allocated at the most."""
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            lines = Path("/proc/self/status").read_text().splitlines()
            peak[0] = max(peak[0], *(int(line.split()[1]) / 1000 for line in lines if line.startswith("RssAnon")))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    started = time.perf_counter()
    try:
        yield
    finally:
        told["seconds"] = time.perf_counter() - started
        done.set()
        thread.join()
        told["mb"] = peak[0]


def step(name: str, root: Path, n: int, spectrum: str) -> dict[str, Any]:
    """One step in this process."""
    from catalog.columns import add_column
    from catalog.cosine import pairs_above
    from catalog.query import open_catalog
    from catalog.similar import near_duplicates, nearest

    told: dict[str, Any] = {"step": name, "items": n, "spectrum": spectrum}
    file = root / f"{n}-{spectrum}.npy"
    if name == "make":
        write_embeddings(file, n, spectrum)
        return told
    if name in {"pairs", "faiss"}:
        units = read_units(file)
        with watched(told):
            if name == "pairs":
                told["found"] = len(pairs_above(units, above=ABOVE))
            else:
                told["found"], told["asked"] = ask_faiss(units)
        return told
    found = open_catalog(root / str(n)).search()
    with watched(told):
        if name == "column":
            made = {"weights_hash": "made up"}
            add_column(found, "emb:x", np.load(file, mmap_mode="r"), meaning="made up", made=made, overwrite=True)
        elif name == "nearest":
            told["found"] = len(nearest(found, "emb:x", found.only(np.array([5])), limit=10))
        else:
            told["found"] = len(near_duplicates(found, "emb:x", above=ABOVE))
    return told


def steps(items: list[int]) -> Iterator[tuple[str, int, str]]:
    """What is measured: name, items and spectrum; beside FAISS of the fewer ones."""
    for n in sorted(items):
        for spectrum in SPECTRA if n <= FEW else ("spectral",):
            names = ["pairs", "faiss"] if n <= FEW else []
            for name in [*names, *(["column", "nearest", "duplicates"] if spectrum == "spectral" else [])]:
                yield name, n, spectrum


def ask_faiss(units: NDArray[np.float32]) -> tuple[int, int]:
    """Pairs that a flat index finds of some queries, and how many queries."""
    import faiss

    index = faiss.IndexFlatIP(units.shape[1])
    index.add(units)
    limits, _, _ = index.range_search(units[:QUERIES], ABOVE)
    return int(limits[-1]), min(QUERIES, len(units))


def tables(rows: list[dict[str, Any]]) -> list[Table | str]:
    """What is shown."""
    table = Table(title=f"Of {WIDTH} numbers each, above {ABOVE}", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("Items", "Embeddings", "What", "Found", "Seconds", "MB"):
        table.add_column(heading, justify="left" if heading in {"Embeddings", "What"} else "right")
    names = {"pairs": "all pairs", "faiss": "all pairs, FAISS flat", "column": "written as a column",
             "nearest": "10 like one", "duplicates": "near duplicates of the column"}  # fmt: skip
    for row in rows:
        seconds = row["seconds"] * row["items"] / row.get("asked", row["items"])
        extrapolated = "*" if row.get("asked", row["items"]) < row["items"] else ""
        found = f"{row['found']:,}" if "found" in row and not extrapolated else ""
        table.add_row(f"{row['items']:,}", row["spectrum"], names[row["step"]], found, f"{seconds:,.1f}{extrapolated}",
                      f"{row['mb']:,.0f}")  # fmt: skip
    return [table, f"* of {QUERIES:,} queries, extrapolated to all; FAISS compares each pair twice"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", action="store_true", help="700,000 embeddings, too")
    parser.add_argument("--out", type=Path, default=RESULTS / "similar.json")
    parser.add_argument(
        "--root", type=Path, help="where items and figures are made, and kept; a rerun goes on from there"
    )
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        name, n, spectrum = options.step
        print(json.dumps(step(name, options.root, int(n), spectrum)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        root = options.root or Path(temporary)
        done = root / "rows.jsonl"
        rows = [json.loads(line) for line in done.read_text().splitlines()] if done.is_file() else []
        for name, n, spectrum in steps([FEW, MANY] if options.large else [FEW]):
            if any((row["step"], row["items"], row["spectrum"]) == (name, n, spectrum) for row in rows):
                continue
            if not (root / str(n) / "global" / "collection.json").is_file():
                run_python(Path(__file__).with_name("query.py"), "--make", n, "--root", root)
            if not (root / f"{n}-{spectrum}.npy").is_file():
                run_python(__file__, "--root", root, "--step", "make", n, spectrum)
            rows.append(json.loads(run_python(__file__, "--root", root, "--step", name, n, spectrum).lines[-1]))
            done.write_text("".join(json.dumps(row) + "\n" for row in rows))
        keep(options.out, tables(rows), rows=rows)


if __name__ == "__main__":
    main()
