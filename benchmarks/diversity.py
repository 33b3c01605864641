"""Chips a second of spectral entropy: pwcat beside SciPy band by band, NumPy, and the time to read the same chips.

Chips are synthetic reflectance of 13 bands and 96 x 96 pixels, in the page cache, read in random order: from a file
mapped to memory, 512 at a time, as a shard is read to be measured, which takes new memory from the system; 64 at a
time, as a loader reads, where the allocator has memory left from the batch before; and so from a cube of pwcat's. All
ways are measured in one process, in turns, and the best turn of each counts; that the entropies are equal is
asserted. Then what is made of items: tallies merged, and the statistics of up to five million samples, dispersion
included, each in a process of its own.

    python benchmarks/diversity.py [--chips 2048] [--turns 5] [--samples 100000 1000000 5000000] [--out ...]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from measured import RESULTS, keep, run_python
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table
from scipy.stats import entropy

from catalog.measures.codebook import fit_codebook
from catalog.measures.statistics import statistics_of
from catalog.measures.tally import Tally, sum_tallies
from catalog.spectral import measure, spectral_entropy
from pwcat import entropy as in_numpy
from pwcat.cube import Cube, CubeSpec, create_cube, encode_shard, open_cube, write_coordinates, write_shard

BANDS, SIZE = 13, 96
LOOP = "SciPy, a band and a chip at a time"
READ = "read from memmap, 512 at random"
COPY = "read from memmap, 64 at random"
CUBE = "read from a cube, 64 at random"
BATCH = 64
SHARD = 256

# Chips that a slow way is given: its speed is a chip's.
FEW = 64

TARGETS = {LOOP: 15.0, READ: 1.0}
PEERS = (LOOP, READ, COPY, CUBE)


def write_chips(path: Path, count: int) -> NDArray[np.uint16]:
    """Chips like land: smooth fields of reflectance with texture, each band on a level of its own."""
    rng = np.random.default_rng(0)
    chips = np.lib.format.open_memmap(path, "w+", np.uint16, (count, 1, BANDS, SIZE, SIZE))
    for number in range(count):
        level, spread = rng.gamma(3, 500, (BANDS, 1, 1)), rng.uniform(30, 400)
        field = np.repeat(np.repeat(rng.normal(0, spread, (BANDS, 12, 12)), 8, axis=1), 8, axis=2)
        chips[number, 0] = np.clip(level + field + rng.normal(0, spread / 4, field.shape), 1, 14_000)
    chips.flush()
    return np.load(path, mmap_mode="r")


def by_scipy(chips: NDArray[np.uint16]) -> NDArray[np.float64]:
    found = np.empty((len(chips), BANDS))
    for i, chip in enumerate(chips):
        for b in range(BANDS):
            counts, _ = np.histogram(np.minimum(chip[0, b], 9999), bins=256, range=(0, 10_000))
            found[i, b] = entropy(counts)
    return found.mean(axis=1)


def read_mapped(path: Path, batch: int) -> None:
    chips = np.load(path, mmap_mode="r")
    order = np.random.default_rng(1).permutation(len(chips))
    for start in range(0, len(chips), batch):
        chips[order[start : start + batch]]


def write_cube(path: Path, chips: NDArray[np.uint16]) -> Cube:
    """A cube of the chips, shard by shard."""
    bands = tuple(f"B{number}" for number in range(BANDS))
    spec = CubeSpec(num_samples=len(chips), num_times=1, bands=bands, size_px=SIZE, shard_size=SHARD)
    create_cube(path, spec, attributes={})
    for shard in range(spec.num_shards):
        write_shard(path, shard, encode_shard(spec, shard, chips[shard * SHARD : (shard + 1) * SHARD]))
    write_coordinates(path, {"lon": np.zeros(len(chips))})
    return open_cube(path)


def read_cube(cube: Cube) -> None:
    order = np.random.default_rng(1).permutation(cube.num_samples)
    for start in range(0, len(order), BATCH):
        cube.read(order[start : start + BATCH])


def measure_speed(count: int, turns: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chips.npy"
        mapped = write_chips(path, count)
        chips = np.array(mapped)
        codebook = fit_codebook([chips[::8]], bands=[str(b) for b in range(BANDS)], rng=np.random.default_rng(0))
        few = chips[:FEW]
        np.testing.assert_allclose(spectral_entropy(chips)[:FEW], by_scipy(few), atol=1e-9)
        cube = write_cube(Path(folder) / "cube.zarr", chips[: 2 * SHARD])
        ways: dict[str, tuple[int, Callable[[], Any]]] = {
            LOOP: (FEW, lambda: by_scipy(few)),
            "NumPy (the planner's)": (FEW, lambda: in_numpy.spectral_entropy(few)),
            READ: (count, lambda: read_mapped(path, 512)),
            CUBE: (cube.num_samples, lambda: read_cube(cube)),
            COPY: (count, lambda: read_mapped(path, BATCH)),
            "pwcat, band histograms": (count, lambda: spectral_entropy(chips)),
            "pwcat, one thread": (count, lambda: spectral_entropy(chips, threads=1)),
            "pwcat, all three and band counts": (FEW * 4, lambda: measure(chips[: FEW * 4], codebook=codebook)),
        }
        seconds = {way: float("inf") for way in ways}
        for _ in range(turns):
            for way, (done, run) in ways.items():
                started = time.perf_counter()
                run()
                seconds[way] = min(seconds[way], (time.perf_counter() - started) / done)
    return [{"way": way, "chips_per_second": 1 / took} for way, took in seconds.items()]


def some_items(count: int) -> pa.Table:
    """Items of samples uniform on the sphere, with labels, land covers and entropies."""
    rng = np.random.default_rng(0)
    names = {"continent": 6, "biome": 14, "ecoregion": 846, "landcover": 11}
    table = {
        f"div:{name}": pa.DictionaryArray.from_arrays(
            rng.integers(0, classes, count).astype(np.int32), [f"{name} {k}" for k in range(classes)]
        ).cast(pa.string())
        for name, classes in names.items()
    }
    share = rng.uniform(0.5, 1, count)
    fractions = pa.StructArray.from_arrays(
        [
            pa.array([f"landcover {k}" for k in range(11)]).take(pa.array(rng.integers(0, 11, 2 * count))),
            np.column_stack([share, 1 - share]).ravel(),
        ],
        ["name", "fraction"],
    )
    table["div:landcover_fractions"] = pa.ListArray.from_arrays(
        np.arange(0, 2 * count + 1, 2, dtype=np.int32), fractions
    )
    for name in ("", "_codebook", "_covariance"):
        table[f"div:spectral_entropy{name}"] = pa.array(rng.uniform(0, 4, count))
    lonlat = [np.rad2deg(np.arcsin(rng.uniform(-1, 1, count))), rng.uniform(-180, 180, count)]
    table["proj:centroid"] = pa.StructArray.from_arrays([pa.array(values) for values in lonlat], ["lat", "lon"])
    return pa.table(table)


def case(count: int) -> None:
    """Statistics of so many items in this process; prints seconds with dispersion, without, and its ratio."""
    items = some_items(count)
    started = time.perf_counter()
    told = statistics_of(items, layers={})
    between = time.perf_counter()
    statistics_of(items, layers={}, dispersion=False)
    print(json.dumps([between - started, time.perf_counter() - between, told["dispersion"]["ratio"]]))


def measure_merging(count: int = 1000) -> dict[str, float]:
    """Tallies of shards merged, with their band histograms; and one as JSON."""
    chips = np.random.default_rng(0).integers(1, 10_000, (16, 1, BANDS, SIZE, SIZE), dtype=np.uint16)
    tally = Tally.of(some_items(16), measure(chips, codebook=None))
    started = time.perf_counter()
    merged = sum_tallies([tally] * count)
    seconds = time.perf_counter() - started
    assert merged.num_samples == 16 * count
    return {"tallies": count, "seconds": seconds, "json_bytes": len(json.dumps(tally.to_json()))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chips", type=int, default=2048)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--samples", type=int, nargs="*", default=[100_000, 1_000_000, 5_000_000])
    parser.add_argument("--out", type=Path, default=RESULTS / "diversity.json")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        case(options.case)
        return
    speeds = measure_speed(options.chips, options.turns)
    by_way = {row["way"]: row["chips_per_second"] for row in speeds}
    ours = by_way["pwcat, band histograms"]
    ratios = {f"to {way}": {"times": ours / by_way[way], "target": TARGETS.get(way)} for way in PEERS}
    merging = measure_merging()
    rows = []
    for count in options.samples:
        ran = run_python(__file__, "--case", count)
        seconds, without, ratio = json.loads(ran.lines[-1])
        rows.append({"samples": count, "seconds": seconds, "without": without, "peak_mb": ran.peak_mb, "ratio": ratio})
    keep(
        options.out,
        _shown(speeds, ours, ratios, merging, rows),
        speeds=speeds,
        ratios=ratios,
        merging=merging,
        statistics=rows,
    )


def _shown(speeds: Any, ours: float, ratios: Any, merging: Any, rows: Any) -> list[Table | str]:
    speed = Table(title=f"Spectral entropy, {BANDS} bands of {SIZE} x {SIZE}", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("way", "chips/s", "of ours"):
        speed.add_column(heading, justify="left" if heading == "way" else "right")
    for row in speeds:
        speed.add_row(row["way"], f"{row['chips_per_second']:,.0f}", f"{row['chips_per_second'] / ours:.3f}")
    told = [
        f"{name}: {ratio['times']:.2f} times" + (f", target {ratio['target']:g}" if ratio["target"] else "")
        for name, ratio in ratios.items()
    ]
    size = merging["json_bytes"] / 1e3
    told.append(f"{merging['tallies']:,} tallies merged in {merging['seconds']:.2f} s, {size:.0f} kB each as JSON")
    statistics = Table(title="Statistics of items", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("samples", "s", "s without dispersion", "peak MB", "ratio of uniform sites"):
        statistics.add_column(heading, justify="right")
    for row in rows:
        statistics.add_row(
            f"{row['samples']:,}",
            f"{row['seconds']:.1f}",
            f"{row['without']:.1f}",
            f"{row['peak_mb']:,.0f}",
            f"{row['ratio']:.3f}",
        )
    return [speed, *told, statistics]


if __name__ == "__main__":
    main()
