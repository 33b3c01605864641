"""How fast entities of maps come in batches: tiles a second, in order and shuffled, with memory for all and for few.

The map is made: tiles of a town, 70 entities each: houses of 4 to 12 vertices, streets, points, one in 200 a shape of 100
vertices; 2.5 tags an entity, of 100,000 that differ, as frequent as words are. A chip is read with none of them. Every row is a
process of its own, so that its peak memory is its own; `kept` is what decoded row groups may take, `CPU tiles/s` tiles a second
of one core's work, whatever else is done on the machine.

    python benchmarks/entities.py [--tiles 20000] [--out benchmarks/results/entities.json]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from made_collection import write_collection
from measured import RESULTS, keep, run_python
from rich.box import SIMPLE_HEAD
from rich.table import Table

from pwcat.osm.schema import ENTITY_SCHEMA, TAG_SCHEMA

ENTITIES = 70  # a tile
PAIRS = 100_000
GROUP = 16_384  # rows
BATCH = 256
# What is done, bytes that decoded row groups may take, and tiles that are shuffled together.
WAYS = (
    ("in order", 64, 32_768),
    ("shuffled, first epoch", 4096, 32_768),
    ("shuffled, second epoch", 4096, 32_768),
    ("shuffled, second epoch", 64, 1_024),
)


@dataclass(frozen=True)
class Row:
    way: str
    kept_mb: int
    window: int
    tiles: int
    tiles_a_second: float
    cpu_tiles_a_second: float
    entities_a_second: float
    peak_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=RESULTS / "entities.json")
    parser.add_argument("--read", nargs=4, metavar=("FOLDER", "WAY", "KEPT_MB", "WINDOW"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        read(Path(options.read[0]), options.read[1], *map(int, options.read[2:]))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "town"
        write_collection(folder, chips=options.tiles, size_px=1, bands=("red",))
        write_map(folder, options.tiles)
        size = (folder / "entities.parquet").stat().st_size / 1e6
        loads, rows = f"{os.getloadavg()[0]:.1f}", []
        for way, kept, window in WAYS:
            done = run_python(__file__, "--read", folder, way, kept, window)
            told = json.loads(done.lines[-1])
            rows.append(Row(way=way, kept_mb=kept, window=window, tiles=options.tiles, peak_mb=done.peak_mb, **told))
    title = f"Batches of {BATCH} of {options.tiles:,} tiles, {ENTITIES} entities each; {size:,.0f} MB"
    load = f"Other work on the machine before, as its load on {os.cpu_count()} cores: {loads}."
    keep(options.out, [load, table(title, rows)], load=loads, stored_mb=size, rows=[asdict(row) for row in rows])


def table(title: str, rows: list[Row]) -> Table:
    shown = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    shown.add_column("way")
    for name in ("MB kept", "window", "tiles/s", "CPU tiles/s", "entities/s", "peak MB"):
        shown.add_column(name, justify="right")
    for row in rows:
        numbers = (
            row.kept_mb,
            row.window,
            row.tiles_a_second,
            row.cpu_tiles_a_second,
            row.entities_a_second,
            row.peak_mb,
        )
        shown.add_row(row.way, *(f"{number:,.0f}" for number in numbers))
    return shown


def read(folder: Path, way: str, kept_mb: int, window: int) -> None:
    """Read a map, and print how fast."""
    import training.osm.reading as reading
    from catalog.subset import load_subset
    from training.loader import Loader, in_order

    reading.KEPT_BYTES, reading.KEPT_SHARE = kept_mb * 10**6, 1.0
    subset = load_subset(folder)
    list(in_order(subset.only(np.arange(2)), bands=(), entities=True))  # compiled code is read from its cache
    loader = Loader(subset, bands=(), batch_size=BATCH, seed=0, entities=True, window_chips=window)
    if way.endswith("second epoch"):
        sum(1 for _ in loader.epoch(0))
    began, used = time.perf_counter(), time.process_time()
    batches = in_order(subset, bands=(), entities=True, block=BATCH) if way == "in order" else loader.epoch(1)
    tiles, entities = np.sum([(len(batch), len(batch.entities)) for batch in batches], axis=0)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    told = {"tiles_a_second": tiles / seconds, "cpu_tiles_a_second": tiles / cpu}
    print(json.dumps({**told, "entities_a_second": entities / seconds}))


def write_map(folder: Path, tiles: int) -> None:
    """Entities and tags of a made town."""
    rng = np.random.default_rng(0)
    counts = np.zeros(PAIRS, dtype=np.int64)
    keys = pa.array([f"key{number % 97}" for number in range(PAIRS)])
    values = pa.array([f"value{number}" for number in range(PAIRS)])
    rows = tiles * ENTITIES
    with pq.ParquetWriter(folder / "entities.parquet", ENTITY_SCHEMA, compression="zstd") as writer:
        for start in range(0, rows, GROUP):
            group, tags = _group(rng, np.arange(start, min(start + GROUP, rows)), keys, values)
            counts += np.bincount(tags, minlength=PAIRS)
            writer.write_table(group)
    listed = pa.table({"key": keys, "value": values, "count": counts, "tiles": counts}, schema=TAG_SCHEMA)
    pq.write_table(listed, folder / "tags.parquet")


def _group(rng: np.random.Generator, rows: np.ndarray, keys: pa.Array, values: pa.Array) -> tuple[pa.Table, np.ndarray]:
    n = len(rows)
    kind = rng.choice(3, n, p=[0.15, 0.25, 0.6])
    length = np.where(kind == 0, 1, rng.integers(4, 13, n))
    length = np.where((kind == 2) & (rng.random(n) < 0.005), 100, length)
    place = np.repeat(np.cumsum(length) - length, length)
    angle = 2 * np.pi * (np.arange(length.sum()) - place) / np.repeat(length, length)
    middle, radius = np.repeat(rng.random((n, 2)), length, axis=0), 0.01 * (1 + rng.random(length.sum()))
    xy = (middle + radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])).astype(np.float32)
    each = rng.integers(1, 5, n)
    tags = np.minimum(rng.zipf(1.4, each.sum()) - 1, PAIRS - 1)
    box = rng.random((n, 8), dtype=np.float32)
    offsets = pa.array(np.concatenate([[0], np.cumsum(each)]), pa.int32())
    wkb = rng.bytes(64)
    columns = {
        "index": rows // ENTITIES,
        "tile": pa.array([f"16/{row // ENTITIES}/0" for row in rows.tolist()]),
        "osm_type": pa.array(["way"] * n),
        "osm_id": rows,
        "part": pa.array(np.zeros(n), pa.int32()),
        "kind": pa.array(["point", "line", "polygon"]).take(pa.array(kind)),
        "cut": pa.array([False] * n),
        "tags": pa.MapArray.from_arrays(offsets, keys.take(pa.array(tags)), values.take(pa.array(tags))),
        "geometry": pa.array([wkb] * n, pa.binary()),
        "xy": pa.ListArray.from_arrays(np.concatenate([[0], 2 * np.cumsum(length)]).astype(np.int32), xy.ravel()),
        "rings": pa.ListArray.from_arrays(np.arange(n + 1, dtype=np.int32), length.astype(np.int32)),
        "box": pa.FixedSizeListArray.from_arrays(box.ravel(), 8),
    }
    return pa.table(columns, schema=ENTITY_SCHEMA), tags


if __name__ == "__main__":
    sys.exit(main())
