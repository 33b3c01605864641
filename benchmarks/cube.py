"""Codec and shard shape of the cube: write speed, random-read speed and size together, on real chips.

Chips of 96 x 96 px and 12 bands are cut from the kit's Sentinel-2 tiles, at random places, so that they compress as real ones
do. Every layout writes the same chips through the cube's own writer, whole shard by whole shard, and reads them through its
own reader: batches of 256 in random order, and shard by shard. All layouts take turns in each round; medians over rounds are
told as ratios to the layout that cubes have. The score is the geometric mean of the ratios of write speed, random-read speed
and smallness. What is read back is checked against what was written.

    python benchmarks/cube.py [--chips 2048] [--rounds 3] [--out benchmarks/results/cube.json]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from measured import KIT, RESULTS, keep
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table
from zarr.codecs import BloscCodec, ZstdCodec

from pwcat.cube import CubeSpec, create_cube, encode_shard, open_cube, shard_path, write_shard

TILES = KIT / "s2_satclip"
SIZE_PX = 96
BATCH = 256
SHARDS = (16, 64, 256)


def blosc(cname: str, level: int, shuffle: str) -> BloscCodec:
    return BloscCodec(cname=cname, clevel=level, shuffle=shuffle, typesize=2)


# None stands for chunks as they are.
CODECS: dict[str, Any] = {
    "lz4, bit shuffle": blosc("lz4", 5, "bitshuffle"),
    "lz4 level 1, bit shuffle": blosc("lz4", 1, "bitshuffle"),
    "lz4 level 9, bit shuffle": blosc("lz4", 9, "bitshuffle"),
    "lz4, byte shuffle": blosc("lz4", 5, "shuffle"),
    "zstd 1 in blosc, byte shuffle": blosc("zstd", 1, "shuffle"),
    "zstd 1 in blosc, bit shuffle": blosc("zstd", 1, "bitshuffle"),
    "zstd 3 in blosc, bit shuffle": blosc("zstd", 3, "bitshuffle"),
    "zstd 3": ZstdCodec(level=3),
    "none": None,
}


@dataclass(frozen=True, kw_only=True)
class Layout(CubeSpec):
    """A cube's shape, with another codec."""

    codec: str

    def layout(self, num_samples: int) -> dict[str, Any]:
        codec = CODECS[self.codec]
        return {**super().layout(num_samples), "compressors": None if codec is None else codec}


@dataclass(frozen=True, kw_only=True)
class Row:
    """Medians over the rounds; ratios are to the layout that cubes have.

    Attributes:
        codec, shard: the layout.
        write_mb_s: of pixels, encoding and writing to disk.
        random_chips_s: batches in random order.
        ordered_chips_s: shard by shard.
        size: on disk, of the pixels' size.
        score: geometric mean of the ratios of writing, random reading and smallness.
    """

    codec: str
    shard: int
    write_mb_s: float
    random_chips_s: float
    ordered_chips_s: float
    size: float
    score: float


def draw_chips(count: int) -> NDArray[np.uint16]:
    """Chips at random places of the kit's tiles, ``(n, 1, band, y, x)``."""
    rng = np.random.default_rng(0)
    tiles = []
    for path in sorted(TILES.rglob("*.tif")):
        with rasterio.open(path) as raster:
            tiles.append(raster.read())
    chips = np.empty((count, 1, len(tiles[0]), SIZE_PX, SIZE_PX), dtype=np.uint16)
    for number in range(count):
        tile = tiles[number % len(tiles)]
        row, column = (rng.integers(0, side - SIZE_PX + 1) for side in tile.shape[1:])
        chips[number, 0] = tile[:, row : row + SIZE_PX, column : column + SIZE_PX]
    return chips


def timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(spec: Layout, chips: NDArray[np.uint16], root: Path, order: NDArray[np.int64]) -> dict[str, float]:
    """Figures of one layout in one round."""
    path = root / "cube.zarr"
    shutil.rmtree(path, ignore_errors=True)
    create_cube(path, spec, attributes={})

    def write() -> None:
        for shard in range(spec.num_shards):
            part = chips[shard * spec.shard_size : (shard + 1) * spec.shard_size]
            write_shard(path, shard, encode_shard(spec, shard, part))

    write_s = timed(write)
    cube = open_cube(path)

    def read_random() -> None:
        for start in range(0, len(order), BATCH):
            cube.read(order[start : start + BATCH])

    def read_ordered() -> None:
        for shard in range(spec.num_shards):
            cube.read_shard(shard)

    random_s, ordered_s = timed(read_random), timed(read_ordered)
    assert np.array_equal(cube.read(order[:BATCH]), chips[order[:BATCH]]), "what is read is not what was written"
    stored = sum(shard_path(path, shard).stat().st_size for shard in range(spec.num_shards))
    return {
        "write_mb_s": chips.nbytes / 1e6 / write_s,
        "random_chips_s": len(order) / random_s,
        "ordered_chips_s": len(chips) / ordered_s,
        "size": stored / chips.nbytes,
    }


def layouts(chips: NDArray[np.uint16]) -> list[Layout]:
    """The default first: its codec in all shard sizes, then all codecs in its shard size."""
    pairs = [("lz4, bit shuffle", 64), *(("lz4, bit shuffle", size) for size in SHARDS if size != 64)]
    pairs += [(codec, 64) for codec in CODECS if codec != "lz4, bit shuffle"]
    shape: dict[str, Any] = {"num_samples": len(chips), "num_times": 1, "size_px": SIZE_PX}
    shape["bands"] = tuple(f"B{number:02}" for number in range(1, chips.shape[2] + 1))
    return [Layout(codec=codec, shard_size=shard, **shape) for codec, shard in pairs]


def compare(specs: list[Layout], rounds: list[list[dict[str, float]]]) -> list[Row]:
    medians = []
    for number in range(len(specs)):
        figures: dict[str, list[float]] = defaultdict(list)
        for measured in rounds:
            for name, value in measured[number].items():
                figures[name].append(value)
        medians.append({name: statistics.median(values) for name, values in figures.items()})
    usual = medians[0]
    rows = []
    for spec, one in zip(specs, medians, strict=True):
        gains = [one[name] / usual[name] for name in ("write_mb_s", "random_chips_s")] + [usual["size"] / one["size"]]
        rows.append(Row(codec=spec.codec, shard=spec.shard_size, score=statistics.geometric_mean(gains), **one))
    return rows


def as_table(rows: list[Row]) -> Table:
    table = Table(box=SIMPLE_HEAD, title="Ratios to the first row, which is what cubes have", title_justify="left")
    table.add_column("Codec", overflow="fold")
    for name in ("Shard", "Write", "Random", "In order", "Size", "Score"):
        table.add_column(name, justify="right")
    usual = rows[0]
    for row in rows:
        ratios = [
            getattr(row, name) / getattr(usual, name) for name in ("write_mb_s", "random_chips_s", "ordered_chips_s")
        ]
        table.add_row(
            row.codec, str(row.shard), *(f"{ratio:.2f}" for ratio in ratios), f"{row.size:.3f}", f"{row.score:.2f}"
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "cube.json")
    options = parser.parse_args()
    chips = draw_chips(options.chips)
    specs = layouts(chips)
    order = np.random.default_rng(1).permutation(len(chips))
    with tempfile.TemporaryDirectory() as root:
        rounds = [[measure(spec, chips, Path(root), order) for spec in specs] for _ in range(options.rounds)]
    rows = compare(specs, rounds)
    usual = rows[0]
    told = (
        f"The first row writes {usual.write_mb_s:,.0f} MB/s and reads {usual.random_chips_s:,.0f} chips/s in random order, "
        f"{usual.ordered_chips_s:,.0f} in order; {len(chips):,} chips of {chips[0].nbytes / 1e3:,.0f} kB."
    )
    keep(options.out, [as_table(rows), told], chips=len(chips), rounds=options.rounds, rows=[vars(row) for row in rows])


if __name__ == "__main__":
    main()
