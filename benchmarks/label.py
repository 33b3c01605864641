"""A million points labelled with biomes: pwcat beside `geopandas.sjoin`, on the same polygons, to the same answer.

Each case runs in its own process, so that its peak memory is its own: points uniform on the sphere, and points on land only;
with pwcat's index made anew each time, and kept from a labelling before. The peer is given its points as geometries already.
That all answers are equal, point by point, is asserted.

    python benchmarks/label.py [--points 1000000] [--repeats 5] [--out benchmarks/results/label.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
from measured import KIT, RESULTS, keep, run_python
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table

from pwcat.regions import VectorLayer
from pwcat.regions.vector import read_vector, vector_layer

BIOMES = KIT / "vectors" / "biomes" / "resolve_2017_biomes_simplified.fgb"
PEER = "geopandas.sjoin"
WAYS = (PEER, "index made", "index kept")
PLACES = ("sphere", "land")


@dataclass(frozen=True)
class Row:
    points: str
    way: str
    seconds: float
    peak_mb: float
    labelled: int
    count: int


def layer() -> VectorLayer:
    frame = read_vector(BIOMES, name="biome")
    return vector_layer(frame, name="biome", source=BIOMES.name, field="BIOME_NAME", path=BIOMES)


def draw(places: str, n: int) -> NDArray[np.float64]:
    """Points uniform by area on the sphere, or on land."""
    rng = np.random.default_rng(0)
    drawn: list[NDArray[np.float64]] = []
    biomes = layer()
    while sum(map(len, drawn)) < n:
        points = np.column_stack([rng.uniform(-180, 180, n), np.rad2deg(np.arcsin(rng.uniform(-1, 1, n)))])
        drawn.append(points if places == "sphere" else points[biomes.codes(points) >= 0])
    return np.concatenate(drawn)[:n]


def by_sjoin(points: NDArray[np.float64]) -> Callable[[], NDArray[np.int16]]:
    biomes = layer()
    frame = gpd.GeoDataFrame({"code": biomes.index.code_of}, geometry=biomes.polygons, crs="EPSG:4326")
    places = gpd.GeoDataFrame(geometry=gpd.points_from_xy(*points.T), crs="EPSG:4326")

    def label() -> NDArray[np.int16]:
        pairs = places.sjoin(frame, predicate="intersects")
        codes = np.full(len(points), -1, dtype=np.int16)
        order = np.argsort(
            -pairs["index_right"].to_numpy(), kind="stable"
        )  # the polygon first in the file is written last
        codes[pairs.index.to_numpy()[order]] = pairs["code"].to_numpy()[order]
        return codes

    return label


def by_pwcat(points: NDArray[np.float64], *, kept: bool) -> Callable[[], NDArray[np.int16]]:
    biomes = layer()
    if kept:
        biomes.codes(points)

    def label() -> NDArray[np.int16]:
        using = biomes if kept else VectorLayer(
            name=biomes.name, source=biomes.source, class_of=biomes.class_of, polygons=biomes.polygons
        )  # fmt: skip
        return using.codes(points)

    return label


def case(way: str, points_file: Path, answer: Path, repeats: int) -> None:
    """Run one case in this process, write its answer, and print its seconds."""
    points = np.load(points_file)
    label = by_sjoin(points) if way == PEER else by_pwcat(points, kept=way == "index kept")
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        codes = label()
        times.append(time.perf_counter() - started)
    np.save(answer, codes)
    print(json.dumps(statistics.median(times)))


def measure(places: str, n: int, repeats: int, root: Path) -> list[Row]:
    points_file = root / f"{places}.npy"
    np.save(points_file, draw(places, n))
    rows, answers = [], []
    for way in WAYS:
        answer = root / f"{places}-{way.replace(' ', '-')}.npy"
        ran = run_python(__file__, "--case", way, "--files", points_file, answer, "--repeats", repeats)
        seconds = json.loads(ran.lines[-1])
        answers.append(np.load(answer))
        assert np.array_equal(answers[0], answers[-1]), f"{way} does not answer as {PEER} does"
        rows.append(Row(places, way, seconds, ran.peak_mb, int((answers[-1] >= 0).sum()), n))
        print(f"{places:<7} {way:<16} {seconds:7.3f} s {ran.peak_mb:6.0f} MB", file=sys.stderr)
    return rows


def show(rows: list[Row]) -> Table:
    table = Table(title=f"{rows[0].count:,} points, biomes of the kit, the same answer", box=SIMPLE_HEAD)
    for name in ("Points", "Way", "Seconds", "Points/s", "Times as fast", "Peak MB"):
        table.add_column(name, justify="left" if name in ("Points", "Way") else "right")
    for row in rows:
        peer = next(r for r in rows if r.points == row.points and r.way == PEER)
        way = row.way if row.way == PEER else f"pwcat, {row.way}"
        table.add_row(
            row.points, way, f"{row.seconds:.3f}", f"{row.count / row.seconds:,.0f}",
            f"{peer.seconds / row.seconds:.1f}", f"{row.peak_mb:,.0f}",
        )  # fmt: skip
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "label.json")
    parser.add_argument("--case", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--files", type=Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        case(args.case, *args.files, repeats=args.repeats)
        return
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="pwcat-label-") as root:
        for places in PLACES:
            rows += measure(places, args.points, args.repeats, Path(root))
    keep(args.out, [show(rows)], rows=[asdict(row) for row in rows])


if __name__ == "__main__":
    main()
