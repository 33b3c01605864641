"""Chips a second of a training loader: batches of 256 in random order, pwcat beside memmap and other stores, in one run.

Chips are synthetic land of 13 bands and 96 x 96 px of uint16, which compress as real ones of one resolution do; 3,072 of
them, in the page cache. All ways take turns in each round; medians over rounds are told as
ratios to numpy's memmap, `chips[rows]`, which makes new memory for each batch as most readers do; into the same memory it is
faster, and so are ours. Every batch of a first round is compared with what was written, pixel by pixel. A peer that is not
installed is a row that says so (`make bench` installs them).

Then the memory of a process that trains on data sets of 1, 4 and 16 times the size (hard links to the same shards); and the
time from the start of a process to its first batch, of a million samples: all items written, shards hard links to a few.

    python benchmarks/loader.py [--chips 3072] [--rounds 5] [--samples 1000000] [--parts speed memory first] [--out ...]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from loader_peers import (
    BATCH,
    Rows,
    Way,
    by_index,
    datasets_way,
    litdata_way,
    memmap_ways,
    size_of,
    tensorstore_way,
    webdataset_way,
    zarr_ways,
)
from measured import RESULTS, keep, run_python
from rich.box import SIMPLE_HEAD
from rich.table import Table

BANDS = tuple(f"B{number:02}" for number in range(1, 14))
TEN = BANDS[1:8] + BANDS[10:]
SIZE_PX = 96
SHARD = 256
TARGETS = {("pwcat Loader", "blosc-lz4"): 0.64, ("pwcat Loader", "none"): 0.95}
GROWN = (1, 4, 16)
PARTS = ("speed", "memory", "first")
FIRST_BATCH_S = 2.0
CODECS = {"blosc-lz4": "lz4, bit shuffle", "none": "none"}


def write_cube(path: Path, chips: np.ndarray, codec: str) -> None:
    """The chips as a cube, by its own writer; with another codec than ours, where asked."""
    from cube import Layout

    from pwcat.cube import create_cube, encode_shard, write_shard

    spec = Layout(
        num_samples=len(chips), num_times=1, bands=BANDS, size_px=SIZE_PX, shard_size=SHARD, codec=CODECS[codec]
    )
    create_cube(path, spec, attributes={})
    for shard in range(spec.num_shards):
        write_shard(path, shard, encode_shard(spec, shard, np.asarray(chips[shard * SHARD : (shard + 1) * SHARD])))


def write_catalog(root: Path, cube: Path, count: int) -> Path:
    """A catalog of one collection of so many samples, whose shards are links to those of a smaller cube."""
    import items

    from pwcat.cube import CubeSpec, create_cube, shard_path

    root.mkdir(parents=True)
    items.make_plan(count, root / "plan.parquet")
    folder = root / "bench"
    folder.mkdir()
    items.columns_and_file(root).rename(folder / "items.parquet")
    (root / "plan.parquet").unlink()
    stats = {"recipe_hash": "0" * 64, "num_samples": count, "statistics": {}}
    (folder / "stats.json").write_text(json.dumps(stats))
    document = {"type": "Collection", "id": "bench", "stac_version": "1.1.0", "stac_extensions": []}
    (folder / "collection.json").write_text(json.dumps(document))
    spec = CubeSpec(num_samples=count, num_times=1, bands=BANDS, size_px=SIZE_PX, shard_size=SHARD)
    create_cube(folder / "cube.zarr", spec, attributes={})
    there = sum(1 for _ in (cube / "chips" / "c").iterdir())
    for shard in range(spec.num_shards):
        target = shard_path(folder / "cube.zarr", shard)
        target.parent.mkdir(parents=True)
        os.link(shard_path(cube, shard % there), target)
    metadata = (cube / "chips" / "zarr.json").read_text()  # its codec; the shape is this one's
    document = json.loads(metadata)
    document["shape"][0] = count
    (folder / "cube.zarr" / "chips" / "zarr.json").write_text(json.dumps(document))
    return root


def loader_of(root: Path, *, placement: str, bands: tuple[str, ...] = BANDS) -> Any:
    from catalog.query import open_catalog
    from training.loader import Loader

    subset = open_catalog(root).search()
    return Loader(subset, bands=bands, batch_size=BATCH, seed=0, placement=placement)


def loader_way(root: Path, codec: str, *, placement: str, bands: tuple[str, ...] = BANDS) -> Way:
    loader = loader_of(root, placement=placement, bands=bands)
    index = loader.subset.index

    def epoch(number: int) -> Iterator[tuple[Rows, Any]]:
        for batch in loader.epoch(number):
            yield index[batch.rows], batch.chips

    name = "pwcat Loader" + (", streaming" if placement == "stream" else "")
    if bands != BANDS:
        name += f", {len(bands)} of {len(BANDS)} bands"
    return Way(name=name, stored=codec, epoch=epoch, bytes=size_of(root / "bench" / "cube.zarr"))


def reader_ways(path: Path, codec: str) -> list[Way]:
    from pwcat.cube import open_cube

    cube = open_cube(path)
    out = np.empty((BATCH, *cube.chip_shape), dtype=np.uint16)

    def read(rows: Rows) -> np.ndarray:
        cube.reader.read_into(out[: len(rows)], rows)
        return out[: len(rows)]

    ways: dict[str, Callable[[Rows], np.ndarray]] = {
        "pwcat ChipReader": read,
        "pwcat Cube.read, new memory": cube.read,
    }
    return [
        Way(name=name, stored=codec, epoch=by_index(cube.num_samples, way), bytes=size_of(path))
        for name, way in ways.items()
    ]


def prepare(root: Path, count: int) -> tuple[list[Way], dict[str, str], np.ndarray]:
    """All ways to be measured, those that are missing with the reason, and the chips."""
    from diversity import write_chips

    chips = write_chips(root / "chips.npy", count)
    ways = memmap_ways(root / "chips.npy")
    missing: dict[str, str] = {}
    for codec in CODECS:
        path = root / f"{codec}.zarr"
        write_cube(path, chips, codec)
        ways.append(loader_way(write_catalog(root / codec, path, count), codec, placement="cache"))
        ways += reader_ways(path, codec)
    # Where memory is short, streaming tells the system to forget what it has read: it has files of its own.
    write_cube(root / "own.zarr", chips, "blosc-lz4")
    ways.append(loader_way(write_catalog(root / "own", root / "own.zarr", count), "blosc-lz4", placement="stream"))
    ways.append(loader_way(root / "blosc-lz4", "blosc-lz4", placement="cache", bands=TEN))
    peers: dict[str, Callable[[], Way]] = {
        "tensorstore, blosc-lz4": lambda: tensorstore_way(root / "blosc-lz4.zarr", "blosc-lz4"),
        "tensorstore": lambda: tensorstore_way(root / "none.zarr", "none"),
        "datasets": lambda: datasets_way(root / "datasets", chips),
        "WebDataset, blosc-lz4": lambda: webdataset_way(root / "wds-lz4", chips, codec="blosc-lz4"),
        "WebDataset": lambda: webdataset_way(root / "wds", chips, codec="none"),
        "LitData, zstd": lambda: litdata_way(root / "lit-zstd", root / "chips.npy", count, compression="zstd"),
        "LitData": lambda: litdata_way(root / "lit", root / "chips.npy", count, compression=None),
    }
    for name, make in peers.items():
        try:
            ways.append(make())
        except ImportError as exc:
            missing[name] = f"not installed ({exc})"
    ways += zarr_ways(root / "blosc-lz4.zarr", "blosc-lz4")
    return ways, missing, chips


def verify(way: Way, chips: np.ndarray) -> None:
    """Every chip of an epoch is what was written, and comes once."""
    seen: list[Rows] = []
    bands = [BANDS.index(band) for band in TEN] if "of 13" in way.name else slice(None)
    for number, (rows, found) in enumerate(way.epoch(0)):
        wanted = chips[rows][:, :, bands]
        assert np.array_equal(np.asarray(found).reshape(wanted.shape), wanted), f"{way.name}: other pixels"
        seen.append(np.asarray(rows))
        if number + 1 == way.most:
            return
    assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(len(chips))), f"{way.name}: not every sample once"


def turn(way: Way, number: int) -> float:
    """Chips a second of one epoch, or of as many batches as are worth the wait."""
    read, batches, started = 0, 0, time.perf_counter()
    for rows, _ in way.epoch(number):
        read, batches = read + len(rows), batches + 1
        if batches == way.most:
            break
    return read / (time.perf_counter() - started)


def measure_speed(count: int, rounds: int) -> tuple[list[dict[str, Any]], dict[str, str]]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("PWCAT_BENCH_DIR")) as folder:
        ways, missing, chips = prepare(Path(folder), count)
        figures: list[list[float]] = [[] for _ in ways]
        for way in ways:
            verify(way, chips)
            print(f"{way.name}, {way.stored}: verified", file=sys.stderr)
        for number in range(1, rounds + 1):
            for way, found in zip(ways, figures, strict=True):
                found.append(turn(way, number))
        raw = chips.nbytes
    speeds = [statistics.median(found) for found in figures]
    return [
        {
            "way": way.name, "stored": way.stored, "chips_per_second": speed, "of_memmap": speed / speeds[0],
            "of_memmap_into_the_same_memory": speed / speeds[1], "bytes": way.bytes / raw, "rounds": found,
        }
        for way, speed, found in zip(ways, speeds, figures, strict=True)
    ], missing  # fmt: skip


def rss_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def memory_case(root: Path, placement: str) -> None:
    """Print the memory of this process after four batches of an epoch, and at its end."""
    early = 0.0
    loader = loader_of(root, placement=placement)
    for number, _ in enumerate(loader.epoch(0)):
        if number == 3:
            early = rss_mb()
    print(json.dumps({"early_mb": early, "late_mb": rss_mb(), "batches": loader.num_batches}))


def small_cube(root: Path) -> Path:
    from diversity import write_chips

    write_cube(root / "small.zarr", write_chips(root / "small.npy", 4 * SHARD), "blosc-lz4")
    return root / "small.zarr"


def measure_memory(count: int) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("PWCAT_BENCH_DIR")) as folder:
        cube = small_cube(Path(folder))
        for times in GROWN:
            root = write_catalog(Path(folder) / str(times), cube, times * count)
            for placement in ("stream", "cache"):
                ran = run_python(__file__, "--memory", root, "--placement", placement)
                found = json.loads(ran.lines[-1])
                rows.append({"samples": times * count, "placement": placement, "peak_mb": ran.peak_mb, **found})
    return rows


def measure_first(samples: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("PWCAT_BENCH_DIR")) as folder:
        root = write_catalog(Path(folder) / "million", small_cube(Path(folder)), samples)
        runs = []
        for _ in range(rounds + 1):
            ran = run_python(Path(__file__).with_name("first_batch.py"), root, repr(time.time()))
            runs.append(json.loads(ran.lines[-1]))
    steps = {step: statistics.median(run[step] for run in runs[1:]) for step in runs[0]}
    return {"samples": samples, "steps": steps, "shards": -(-samples // SHARD)}


def speed_table(rows: list[dict[str, Any]], missing: dict[str, str], chips: int) -> Table:
    title = f"Batches of {BATCH} of {chips:,} chips, {len(BANDS)} x {SIZE_PX} x {SIZE_PX} uint16, random order"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("way", "codec", "chips/s", "of memmap", "size", "target"):
        table.add_column(heading, justify="left" if heading in ("way", "codec") else "right")
    for row in rows:
        target = TARGETS.get((row["way"], row["stored"]))
        told = (f"{row['chips_per_second']:,.0f}", f"{row['of_memmap']:.2f}", f"{row['bytes']:.2f}")
        table.add_row(row["way"], row["stored"], *told, f"{target:.2f}" if target else "")
    for name, reason in missing.items():
        table.add_row(name, "", reason)
    return table


def memory_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Memory of a process that reads an epoch", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("placement", "samples", "batches", "MB after 4", "MB at the end", "peak MB"):
        table.add_column(heading, justify="left" if heading == "placement" else "right")
    for row in sorted(rows, key=lambda row: row["placement"]):
        numbers = (row["early_mb"], row["late_mb"], row["peak_mb"])
        table.add_row(
            row["placement"], f"{row['samples']:,}", str(row["batches"]), *(f"{number:,.0f}" for number in numbers)
        )
    return table


def first_table(first: dict[str, Any]) -> Table:
    title = f"A new process to its first batch, {first['samples']:,} samples in {first['shards']:,} shards"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("after", "s since the start", "s"):
        table.add_column(heading, justify="left" if heading == "after" else "right")
    before = 0.0
    for step, seconds in first["steps"].items():
        table.add_row(step, f"{seconds:.2f}", f"{seconds - before:.2f}")
        before = seconds
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", type=int, default=3072)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=RESULTS / "loader.json")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure; the rest stays as it was"
    )
    parser.add_argument("--memory", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--placement", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        memory_case(options.memory, options.placement)
        return
    found = json.loads(options.out.read_text()) if options.out.is_file() else {}
    load = os.getloadavg()[0]
    if "speed" in options.parts:
        speeds, missing = measure_speed(options.chips, options.rounds)
        found |= {"chips": options.chips, "speeds": speeds, "missing": missing}
    if "memory" in options.parts:
        found["memory"] = measure_memory(options.chips)
    if "first" in options.parts:
        found["first_batch"] = measure_first(options.samples, options.rounds)
    found["load"] = found.get("load", {}) | dict.fromkeys(options.parts, load)
    found.pop("machine", None)
    keep(options.out, shown(found), **found)


def shown(found: dict[str, Any]) -> list[Table | str]:
    load = ", ".join(f"{part} {value:.1f}" for part, value in found["load"].items())
    parts: list[Table | str] = [
        f"Other work on the machine before each part, as its load on {os.cpu_count()} cores: {load}."
    ]
    if speeds := found.get("speeds"):
        ours = next(row for row in speeds if (row["way"], row["stored"]) == ("pwcat Loader", "blosc-lz4"))
        parts += [
            speed_table(speeds, found["missing"], found["chips"]),
            f"Into the same memory, memmap reads {speeds[1]['of_memmap']:.2f} times what it does into new memory; to that, "
            f"the Loader is {ours['of_memmap_into_the_same_memory']:.2f} with blosc-lz4.",
        ]
    if memory := found.get("memory"):
        parts.append(memory_table(memory))
    if first := found.get("first_batch"):
        parts += [
            first_table(first),
            f"First batch: {first['steps']['first batch']:.2f} s, target {FIRST_BATCH_S:g} s.",
        ]
    return parts


if __name__ == "__main__":
    main()
