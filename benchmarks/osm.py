"""A map extract read, cut and sorted into entities, at two sizes; beside other readers of the same file.

The extract is made: towns of blocks of houses (some with a court, as multipolygons), streets, landuse, trees and crossings, in
the proportions of OpenStreetMap as a whole: 9 nodes a way, 1 tagged node in 30, 65 % of the ways buildings, 1 relation in 80
ways, of which 1 in 2 a multipolygon. Every step runs in a process of its own, so that its peak memory is its own: `peak` is all
of it, `own` what the system cannot drop for others, which pages of files it can.

`entities` is what a build does: read, cut at tiles of zoom 16, sorted, written, tags counted. `read` is its first part alone:
features with shapes and tags. The peers stop there too: GDAL's driver through pyogrio (all layers, whose columns and shapes
become the same Python objects), and pyosmium with libosmium's own assembler of areas. QuackOSM and DuckDB's spatial extension
are named in docs/maps-and-images.md: both fetch an extension when they run, so that they cannot be measured without a network.

    python benchmarks/osm.py [--nodes 500000] [--out benchmarks/results/osm.json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from measured import RESULTS, keep, run_python
from rich.box import SIMPLE_HEAD
from rich.table import Table

SIZES = (1, 10)
PEERS = ("osmium areas", "pyogrio")
HOUSES = 60  # a block: they have 5 nodes each; with its streets, trees and court it has 503 nodes and 66 ways
STEP = 0.0022  # degrees from block to block
NODES_OF_BLOCK = 503


@dataclass(frozen=True)
class Row:
    step: str
    nodes: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    own_mb: float
    things: int


class Town:
    """Blocks of houses, written as nodes, then ways, then relations."""

    def __init__(self, blocks: int) -> None:
        self.side = int(np.ceil(np.sqrt(blocks)))
        self.blocks = blocks
        self.rng = np.random.default_rng(0)

    def write(self, path: Path) -> int:
        """Write it; how many nodes there are."""
        import osmium
        from osmium.osm import mutable

        nodes = 0
        with osmium.SimpleWriter(str(path)) as writer:
            for block in range(self.blocks):
                places, tags = self._nodes(block)
                for number, place in enumerate(places.tolist()):
                    writer.add_node(mutable.Node(id=nodes + number + 1, location=place, tags=tags.get(number)))
                nodes += len(places)
            per_block = nodes // self.blocks
            for block in range(self.blocks):
                for number, (refs, tags) in enumerate(self._ways(block * per_block + 1)):
                    writer.add_way(mutable.Way(id=block * 100 + number + 1, nodes=refs, tags=tags))
            for block in range(self.blocks):
                first = block * 100
                members = [("w", first + 1, "outer"), ("w", first + 66, "inner")]
                tags = {"type": "multipolygon", "building": "apartments", "building:levels": "5"}
                writer.add_relation(mutable.Relation(id=2 * block + 1, members=members, tags=tags))
                stops = [("w", first + 62, ""), ("w", first + 63, "")]
                tags = {"type": "route", "route": "bus", "ref": str(block)}
                writer.add_relation(mutable.Relation(id=2 * block + 2, members=stops, tags=tags))
        return nodes

    def _nodes(self, block: int) -> tuple[np.ndarray, dict[int, dict[str, str]]]:
        y, x = divmod(block, self.side)
        corner = np.array([5 + x * STEP, 45 + y * STEP])
        at = np.arange(HOUSES + 1)
        houses = np.column_stack([at % 8 * 0.00025, at // 8 * 0.00025])[:, None] + _ring(5, 0.0001, self.rng)
        streets = np.stack([np.linspace(0, 1.1 * STEP, 40), np.full(40, 0.0021)], axis=-1)
        lanes = np.stack([streets, streets[:, ::-1], streets * [1, 0.5]])
        green = _ring(60, 0.0009, self.rng) + 0.001
        trees = self.rng.random((18, 2)) * STEP
        parts = [houses.reshape(-1, 2), lanes.reshape(-1, 2), green.reshape(-1, 2), trees]
        places = np.concatenate(parts)
        places = np.round(corner + places + self.rng.normal(0, 3e-6, places.shape), 7)
        kinds = [{"natural": "tree"}, {"highway": "crossing", "crossing": "marked"}, {"addr:housenumber": str(block)}]
        return places, {len(places) - 18 + n: kinds[n % 3] for n in range(18)}

    def _ways(self, first: int) -> Iterator[tuple[list[int], dict[str, str]]]:
        for house in range(HOUSES):
            at = first + 5 * house
            tags = {"building": ("yes", "house", "residential")[house % 3], "building:levels": str(house % 4)}
            yield [*range(at, at + 5), at], {} if house == 0 else tags | {"source": "cadastre"}
        at = first + 5 * (HOUSES + 1)
        for lane in range(3):
            tags = {
                "highway": ("residential", "tertiary", "service")[lane],
                "name": f"Street {first}",
                "maxspeed": "50",
            }
            yield list(range(at + 40 * lane, at + 40 * lane + 40)), tags
        at += 120
        yield [*range(at, at + 60), at], {"landuse": "residential"}
        yield [*range(at, at + 30)], {"waterway": "stream"}
        court = first + 5 * HOUSES
        yield [*range(court, court + 5), court], {}


def _ring(vertices: int, radius: float, rng: np.random.Generator) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, vertices, endpoint=False) + rng.random()
    return np.column_stack([np.cos(angle), np.sin(angle)]) * radius * 0.9


def entities(path: Path, folder: Path) -> int:
    from pwcat.osm.entities import write_entities

    return write_entities(path, folder / "out", zoom=16).entities


def read(path: Path, folder: Path) -> int:
    from pwcat.osm.exclusion import Exclusion
    from pwcat.osm.extract import read_extract
    from pwcat.osm.features import Losses

    return sum(len(some) for some in read_extract(path, exclude=Exclusion(), losses=Losses(), scratch=folder))


def osmium_areas(path: Path, folder: Path) -> int:
    import osmium
    import shapely

    from pwcat.osm.exclusion import Exclusion

    exclude, factory, things = Exclusion(), osmium.geom.WKBFactory(), 0
    for each in osmium.FileProcessor(str(path)).with_areas().with_filter(osmium.filter.EmptyTagFilter()):
        if not exclude.keep([(tag.k, tag.v) for tag in each.tags]) or each.is_relation():
            continue
        if each.is_way() and each.is_closed():
            continue  # comes as an area
        made = factory.create_multipolygon if each.is_area() else factory.create_linestring
        shapely.from_wkb(factory.create_point(each) if each.is_node() else made(each))
        things += 1
    return things


def pyogrio(path: Path, folder: Path) -> int:
    from pwcat.osm.exclusion import Exclusion
    from pwcat.osm.features import Losses
    from pwcat.osm.vectors import read_vectors

    return sum(len(some) for some in read_vectors(path, exclude=Exclusion(), leave=[], losses=Losses()))


WORK: dict[str, Callable[[Path, Path], int]] = {
    "entities": entities,
    "read": read,
    "osmium areas": osmium_areas,
    "pyogrio": pyogrio,
}


class OwnMemory:
    """The most memory of this process that no file is behind, looked at twenty times a second."""

    def __enter__(self) -> OwnMemory:
        self.peak_mb = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            lines = Path("/proc/self/status").read_text().splitlines()
            own = next(line for line in lines if line.startswith("RssAnon"))
            self.peak_mb = max(self.peak_mb, int(own.split()[1]) / 1024)


def in_child(step: str, path: Path) -> None:
    """Run one step in this process; print its seconds, its own memory, and how many things it found."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, OwnMemory() as memory:
        started, worked = time.perf_counter(), time.process_time()
        things = WORK[step](path, Path(folder))
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - worked
    print(json.dumps([seconds, cpu_seconds, memory.peak_mb, things]))


def measure(step: str, path: Path, nodes: int) -> Row:
    ran = run_python(__file__, "--step", step, "--extract", path)
    seconds, cpu_seconds, own_mb, things = json.loads(ran.lines[-1])
    row = Row(step, nodes, seconds, cpu_seconds, ran.peak_mb, own_mb, things)
    print(f"{step:<13} {nodes:>10,} nodes {seconds:7.1f} s {ran.peak_mb:6.0f} MB {things:>9,} things", file=sys.stderr)
    return row


def show(rows: list[Row]) -> Table:
    table = Table(title="A map extract, each step in a process of its own", box=SIMPLE_HEAD)
    for name in ("Step", "Nodes", "s", "CPU s", "Things", "/CPU s", "Peak MB", "Own MB"):
        table.add_column(name, justify="left" if name == "Step" else "right", no_wrap=True)
    for row in rows:
        numbers = (f"{row.nodes / 1e6:.1f} M", f"{row.seconds:.1f}", f"{row.cpu_seconds:.1f}", f"{row.things:,}")
        speed = f"{row.things / row.cpu_seconds:,.0f}"
        table.add_row(row.step, *numbers, speed, f"{row.peak_mb:,.0f}", f"{row.own_mb:,.0f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=500_000)
    parser.add_argument("--out", type=Path, default=RESULTS / "osm.json")
    parser.add_argument("--step", choices=WORK)
    parser.add_argument("--extract", type=Path)
    args = parser.parse_args()
    if args.step:
        in_child(args.step, args.extract)
        return
    rows = []
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "made.osm.pbf"
            nodes = Town(size * args.nodes // NODES_OF_BLOCK).write(path)
            rows += [measure(step, path, nodes) for step in WORK]
    small, large = (row for row in rows if row.step == "entities")
    more, longer = large.own_mb / small.own_mb, large.cpu_seconds / small.cpu_seconds
    told = (
        f"{large.nodes / small.nodes:.0f} times the map: {more:.2f} times its own memory, {longer:.1f} times the work"
    )
    keep(args.out, [show(rows), told], rows=[asdict(row) for row in rows], times_memory=more, times_cpu_seconds=longer)


if __name__ == "__main__":
    main()
