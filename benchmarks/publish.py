"""Publishing a dataset: its folder built beside bare pyarrow, its memory, what a release of 1 % more sends, and the codec.

`speed`: the folder of a collection (read, compressed, hashed, described) and only its shards, beside pyarrow writing the same
rows from memory with the same options, each in a process of its own; MB are of pixels, per second of CPU (a core) and by the
clock. `memory`: peak of a build, and how much more that is than of the smallest one. `growth`: 1 % more samples, over all the
globe or in one box of ten degrees: new bytes as hf_xet itself counts them against a store on disk, and whole files that are
new, as LFS would send them; for shards cut at borders of cells, and cut into equal numbers of rows, pages after each chip and
as the Hub's own client makes them. `codec`: real tiles of the kit, in pages of one chip, by one thread.

    python benchmarks/publish.py [--small 32] [--large 256] [--samples 10000 100000] [--out benchmarks/results/publish.json]
"""

from __future__ import annotations

import sys

sys.path.append(sys.path.pop(0))  # this file has the name of the package that it measures

import argparse
import io
import json
import math
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measured import RESULTS, keep, run_python
from numpy.typing import NDArray
from publishable import _tiles, make_collection
from rich.box import SIMPLE_HEAD
from rich.table import Table

from catalog.subset import Subset, load_subset
from publish import shards as publish_shards
from publish.dataset import build_dataset_folder
from publish.shards import DEFAULT_LAYOUT, Layout, plan_shards, write_shards

LARGE_CHIPS, SPEED_BYTES = 600, 2.4e9
BASE = 600  # samples of the build of small chips whose memory is taken off; of large ones, a tenth
FILES = 32  # that a growing dataset is cut into, about


@dataclass(frozen=True)
class Row:
    what: str
    size_px: int
    samples: int
    megabytes: float
    cpu_seconds: float
    seconds: float
    peak_mb: float


@dataclass(frozen=True)
class Growth:
    size_px: int
    samples: int
    where: str
    cut: str
    pages: str
    xet: float
    lfs: float


@dataclass(frozen=True)
class Codec:
    name: str
    kept: float
    write_mb_s: float
    read_mb_s: float


def bytes_of(subset: Subset) -> int:
    return 2 * math.prod(subset.chip_shape) * len(subset)


# --- one step, in this process


def folder(source: Path, out: Path) -> None:
    build_dataset_folder(load_subset(source), out)


def shards(source: Path, out: Path) -> tuple[float, float]:
    """Seconds of CPU and of the clock, without what is loaded once."""
    subset = load_subset(source)
    for samples, to in ((subset.only(np.arange(BASE)), out / "before"), (subset, out / "all")):
        to.mkdir(parents=True)
        started = now()
        write_shards(samples, to, plan_shards(samples, layout=DEFAULT_LAYOUT), advance=lambda written: None)
    return since(started)


def bare(source: Path, out: Path) -> tuple[float, float]:
    """Seconds of CPU and of the clock to write what was read before, row group by row group."""
    subset = load_subset(source)
    made = publish_shards._Source(subset=subset, schema=publish_shards.chip_schema(subset))
    planned = plan_shards(subset, layout=DEFAULT_LAYOUT)
    tables = [list(made.tables(shard)) for shard in planned]
    out.mkdir()
    started = now()
    leaves = publish_shards._leaves(made.schema)
    for shard, groups in zip(planned, tables, strict=True):
        options = {
            **publish_shards.COMPRESSION,
            "use_dictionary": leaves,
            "write_statistics": leaves,
            "write_page_index": True,
            "use_content_defined_chunking": publish_shards._chunking(2 * math.prod(subset.chip_shape)),
        }
        with pq.ParquetWriter(out / Path(shard.path).name, made.schema, **options) as writer:
            for table in groups:
                writer.write_table(table, row_group_size=len(table))
    return since(started)


STEPS: dict[str, Callable[[Path, Path], Any]] = {"folder": folder, "shards": shards, "bare pyarrow": bare}


def now() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def since(started: tuple[float, float]) -> tuple[float, float]:
    return time.process_time() - started[0], time.perf_counter() - started[1]


def in_child(step: str, source: Path, out: Path) -> None:
    started = now()
    own = STEPS[step](source, out)
    print(json.dumps(own or since(started)))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def measure(step: str, source: Path, *, size_px: int, samples: int) -> Row:
    with tempfile.TemporaryDirectory(dir=source.parents[1]) as scratch:
        ran = run_python(__file__, "--step", step, "--source", source, "--to", Path(scratch) / "out")
    (cpu, seconds) = json.loads(ran.lines[-2])
    megabytes = bytes_of(load_subset(source)) / 1e6
    row = Row(step, size_px, samples, megabytes, cpu, seconds, ran.peak_mb)
    print(
        f"{step:<13} {samples:>7,} of {size_px} px {megabytes / cpu:6.0f} MB/s a core {ran.peak_mb:6.0f} MB",
        file=sys.stderr,
    )
    return row


# --- speed and memory


def speeds(root: Path, sizes: dict[int, int]) -> list[Row]:
    rows = []
    for size_px, samples in sizes.items():
        source = make_collection(root / f"speed-{size_px}" / "made", chips=samples, size_px=size_px)
        rows += [
            measure(step, source, size_px=size_px, samples=samples) for step in ("bare pyarrow", "shards", "folder")
        ]
        shutil.rmtree(source)
    return rows


def memories(root: Path, cases: list[tuple[int, int]]) -> list[Row]:
    rows = []
    for size_px, samples in cases:
        source = make_collection(root / f"memory-{size_px}-{samples}" / "made", chips=samples, size_px=size_px)
        rows.append(measure("folder", source, size_px=size_px, samples=samples))
        shutil.rmtree(source)
    return rows


# --- growth


@contextmanager
def instead(**changes: Any) -> Iterator[None]:
    """Some names of the module that writes shards, changed for the length of a block."""
    before = {name: getattr(publish_shards, name) for name in changes}
    for name, value in changes.items():
        setattr(publish_shards, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(publish_shards, name, value)


def equal_rows(keys: NDArray[np.uint32], times: int) -> list[tuple[int, int]]:
    ends = np.linspace(0, len(keys), 2**times + 1).round().astype(int).tolist()
    return list(pairwise(ends))


def rows_in_a_row(keys: NDArray[np.uint32], most: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + most, len(keys))) for start in range(0, len(keys), most))


HUBS = {"min_chunk_size": 256 * 2**10, "max_chunk_size": 2**20, "norm_level": 0}
CUTS: dict[str, dict[str, Any]] = {
    "cells": {},
    "equal rows": {"halves": equal_rows, "class_runs": lambda classes, keys, most: rows_in_a_row(keys, most)},
}
PAGES: dict[str, dict[str, Any]] = {"a chip": {}, "256 KiB-1 MiB": {"_chunking": lambda chip_bytes: HUBS}}

WAYS = (("cells", "a chip"), ("cells", "256 KiB-1 MiB"), ("equal rows", "a chip"))


def growths(root: Path, sizes: dict[int, int]) -> list[Growth]:
    found = []
    for size_px, samples in sizes.items():
        collections = {
            "base": {}, "globe": {"more": samples // 100}, "one box": {"more": samples // 100, "crowded": True},
        }  # fmt: skip
        subsets = {
            name: load_subset(
                make_collection(root / f"{size_px} {name}" / "made", chips=samples, size_px=size_px, **how)
            )
            for name, how in collections.items()
        }
        for cut, pages in WAYS:
            with instead(**CUTS[cut], **PAGES[pages]):
                found += grown(root / "grown", subsets, size_px=size_px, cut=cut, pages=pages)
        for name in collections:
            shutil.rmtree(root / f"{size_px} {name}")
    return found


def grown(root: Path, subsets: dict[str, Subset], *, size_px: int, cut: str, pages: str) -> list[Growth]:
    layout = Layout(shard_bytes=bytes_of(subsets["base"]) // FILES)
    records = {
        name: write_shards(subset, root / name, plan_shards(subset, layout=layout), advance=lambda written: None)
        for name, subset in subsets.items()
    }
    known, found = {record.sha256 for record in records["base"].values()}, []
    base = [root / "base" / path for path in records["base"]]
    for name in list(records)[1:]:
        new = sum(record.bytes for record in records[name].values() if record.sha256 not in known)
        whole = sum(record.bytes for record in records[name].values())
        sent = sent_by_xet(root / "cas", base, [root / name / path for path in records[name]])
        row = Growth(size_px, len(subsets["base"]), name, cut, pages, sent / whole, new / whole)
        print(f"{size_px} px {name} {cut} {pages}: xet {row.xet:.3f} lfs {row.lfs:.3f}", file=sys.stderr)
        found.append(row)
    shutil.rmtree(root)
    return found


def sent_by_xet(store: Path, first: list[Path], then: list[Path]) -> int:
    """Bytes that hf_xet sends for some files where others were sent before, to a store on disk."""
    import hf_xet

    session = hf_xet.XetSession()
    store.mkdir(parents=True)
    for files in (first, then):
        commit = session.new_upload_commit(endpoint=f"local://{store}")
        for file in files:
            commit.start_upload_file(str(file))
        metrics = commit.wait_to_finish().dedup_metrics
    shutil.rmtree(store)
    return int(metrics.total_bytes_uploaded)


# --- codec


def codecs() -> list[Codec]:
    tiles = _tiles()
    planes = tiles.reshape(len(tiles), -1).view(np.uint8).reshape(len(tiles), -1, 2).transpose(0, 2, 1)
    deltas = tiles.copy()
    deltas[..., 1:] -= tiles[..., :-1]
    delta_planes = deltas.reshape(len(tiles), -1).view(np.uint8).reshape(len(tiles), -1, 2).transpose(0, 2, 1)
    kinds: list[tuple[str, int | None]] = [
        ("none", None), ("snappy", None), ("lz4", None), ("zstd", 1), ("zstd", 3), ("zstd", 6),
    ]  # fmt: skip
    forms = {"raw": tiles, "bytes split": planes, "deltas, bytes split": delta_planes}
    found = []
    for form, values in forms.items():
        column = publish_shards._binary_column(np.ascontiguousarray(values).reshape(len(values), -1))
        table = pa.table({"pixels": column})
        found += [
            codec(f"{form}, {name}{'' if level is None else f' {level}'}", table, name, level) for name, level in kinds
        ]
    found.append(lists("list of uint16, byte-stream split, zstd 1", tiles))
    return found


def codec(name: str, table: pa.Table, compression: str, level: int | None, *, as_bytes: bool = True) -> Codec:
    size = _tiles().nbytes
    options: dict[str, Any] = {
        "use_dictionary": False,
        "write_statistics": False,
        "use_byte_stream_split": not as_bytes,
    }
    if as_bytes:
        options["use_content_defined_chunking"] = publish_shards._chunking(size // len(table))
    written, read = [], []
    for _ in range(3):
        sink, started = io.BytesIO(), now()
        with pq.ParquetWriter(
            sink, table.schema, compression=compression, compression_level=level, **options
        ) as writer:
            writer.write_table(table)
        written.append(since(started)[0])
        started = now()
        pq.read_table(io.BytesIO(sink.getvalue()), use_threads=False)
        read.append(since(started)[0])
    row = Codec(name, len(sink.getvalue()) / size, size / min(written) / 1e6, size / min(read) / 1e6)
    print(row, file=sys.stderr)
    return row


def lists(name: str, tiles: NDArray[np.uint16]) -> Codec:
    """What another type of column would give: its values are split by Parquet itself."""
    flat = pa.array(tiles.reshape(-1).astype(np.int32))  # Parquet has no shorter integers, and splits these into four
    offsets = np.arange(len(tiles) + 1, dtype=np.int32) * (tiles.size // len(tiles))
    return codec(name, pa.table({"pixels": pa.ListArray.from_arrays(offsets, flat)}), "zstd", 1, as_bytes=False)


# --- tables


def table_of(title: str, names: list[str], rows: list[list[str]]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD)
    for place, name in enumerate(names):
        table.add_column(name, justify="left" if place == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def speed_table(rows: list[Row]) -> Table:
    bare_cpu = {row.size_px: row.megabytes / row.cpu_seconds for row in rows if row.what == "bare pyarrow"}
    shown = [
        [
            row.what, f"{row.samples:,}", f"{row.size_px}", f"{row.megabytes:,.0f}",
            f"{row.megabytes / row.cpu_seconds:,.0f}", f"{row.megabytes / row.seconds:,.0f}",
            f"{row.megabytes / row.cpu_seconds / bare_cpu[row.size_px]:.2f}",
        ]
        for row in rows
    ]  # fmt: skip
    return table_of("Speed", ["What", "Chips", "px", "MB", "MB/s a core", "MB/s", "of bare"], shown)


def memory_table(rows: list[Row]) -> Table:
    base = {row.size_px: row.peak_mb for row in reversed(rows)}
    shown = [
        [
            f"{row.samples:,}",
            f"{row.size_px}",
            f"{row.megabytes:,.0f}",
            f"{row.peak_mb:,.0f}",
            f"{row.peak_mb - base[row.size_px]:,.0f}",
        ]
        for row in rows
    ]
    return table_of("Memory of a build", ["Chips", "px", "MB", "Peak MB", "more MB"], shown)


def growth_table(rows: list[Growth]) -> Table:
    shown = [
        [f"{row.size_px}", f"{row.samples:,}", row.where, row.cut, row.pages, f"{row.xet:.1%}", f"{row.lfs:.0%}"]
        for row in rows
    ]
    return table_of("1 % more samples: sent", ["px", "Chips", "Where", "Files cut at", "Pages", "Xet", "LFS"], shown)


def codec_table(rows: list[Codec]) -> Table:
    shown = [[row.name, f"{row.kept:.3f}", f"{row.write_mb_s:,.0f}", f"{row.read_mb_s:,.0f}"] for row in rows]
    return table_of("Real tiles, one thread", ["Pixels", "Kept", "Write MB/s", "Read MB/s"], shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=32)
    parser.add_argument("--large", type=int, default=256)
    parser.add_argument("--samples", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--out", type=Path, default=RESULTS / "publish.json")
    parser.add_argument("--step", choices=STEPS)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--to", type=Path)
    args = parser.parse_args()
    if args.step:
        in_child(args.step, args.source, args.to)
        return
    of = {size: int(SPEED_BYTES // (24 * size**2)) for size in (args.small, args.large)}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        kinds = codecs()
        fast = speeds(root, of)
        cases = [
            (16, BASE),
            *((16, samples) for samples in args.samples),
            (args.large, BASE // 10),
            (args.large, LARGE_CHIPS),
        ]
        held = memories(root, cases)
        more = growths(root, {args.small: 10_000, 64: 3_000, args.large: 600})
    shown = [codec_table(kinds), speed_table(fast), memory_table(held), growth_table(more)]
    numbers = {"codecs": kinds, "speed": fast, "memory": held, "growth": more}
    keep(args.out, shown, **{name: [asdict(row) for row in rows] for name, rows in numbers.items()})


if __name__ == "__main__":
    main()
