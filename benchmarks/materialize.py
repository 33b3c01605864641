"""Chips from COGs over HTTP: pwcat's two readers beside one stackstac or odc-stac call a chip, rasterio, and a lower bound.

A server in a process of its own serves one synthetic scene of 5490² pixels, six bands as COGs of 512-px tiles (deflate with
predictor), without a delay and with one of 30 ms a request, and counts what it is asked for. Chips have 96 pixels a side.
Dense: 200 chips of a scene; sparse: 10; lone: one chip a scene, of many scenes, four side by side in every row. Files have new
addresses each time, so that nobody knows their headers; a chip of another address is read first, so that libraries are loaded.
A round runs all rows one after the other; ratios are taken within a round, and medians over the rounds. That all rows bring
the same bytes is asserted.

    python benchmarks/materialize.py [--rounds 3] [--out benchmarks/results/materialize.json]
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import odc.stac
import pystac
import rasterio
import stackstac
from measured import RESULTS, keep
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.transform import from_origin
from rasterio.windows import Window
from rich.box import SIMPLE_HEAD
from rich.table import Table
from scipy.ndimage import zoom

from pwcat.gdal import GDAL_OPTIONS
from pwcat.providers import OpenSource
from pwcat.readers import ReaderName, read_chips
from pwcat.readers.codecs import decode_tile
from pwcat.recipe import Chip
from pwcat.scenes import Scene

SIDE, TILE, CHIP_PX, THREADS = 5490, 512, 96, 16
EPSG, LEFT, TOP, GSD = 32631, 399960.0, 5300040.0, 10.0
BANDS = ["B02", "B03", "B04", "B08", "B11", "B12"]
CHIP = Chip(bands=BANDS, size_px=CHIP_PX)
SCENES_AT_ONCE = 4

Corner = tuple[float, float]
Chips = NDArray[np.uint16]
Read = Callable[[str, Sequence[Corner]], Chips]


@dataclass(frozen=True)
class Case:
    """How many chips a scene has, and how many scenes are read, how many at once."""

    name: str
    chips: int
    scenes: int
    at_once: int


CASES = (Case("dense", 200, 1, 1), Case("sparse", 10, 2, 1), Case("lone", 1, 24, SCENES_AT_ONCE))
DELAYS_S = (0.0, 0.03)
CACHE_SIZE = "CPL_VSIL_CURL_CACHE_SIZE"


@dataclass(frozen=True)
class Row:
    case: str
    delay_ms: int
    way: str
    chips_per_s: float
    ratio: float
    cpu_ms_per_chip: float
    requests_per_chip: float
    mb: float
    of_bound: float


# The scene and its server


def write_scene(folder: Path) -> None:
    """Six COGs of a landscape: smooth at large, rough at small, the bands alike."""
    rng = np.random.default_rng(0)
    shape = zoom(rng.normal(size=(60, 60)), SIDE / 60, order=1)[:SIDE, :SIDE].astype(np.float32)
    detail = zoom(rng.normal(size=(SIDE // 6, SIDE // 6)), 6, order=1)[:SIDE, :SIDE].astype(np.float32)
    for number, band in enumerate(BANDS):
        noise = rng.normal(scale=25, size=(SIDE, SIDE)).astype(np.float32)
        values = 1500 + 250 * number + 500 * shape + 120 * detail + noise
        with rasterio.open(
            folder / f"{band}.tif",
            "w",
            driver="COG",
            height=SIDE,
            width=SIDE,
            count=1,
            dtype="uint16",
            crs=f"EPSG:{EPSG}",
            transform=from_origin(LEFT, TOP, GSD, GSD),
            blocksize=TILE,
            compress="deflate",
            predictor="yes",
            nodata=0,
            num_threads="all_cpus",
        ) as raster:
            raster.write(np.clip(values, 1, 65535).astype(np.uint16), 1)


@contextmanager
def serving(folder: Path, delay_s: float) -> Iterator[str]:
    command = [sys.executable, str(Path(__file__).with_name("cog_server.py")), str(folder), str(delay_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def take(url: str) -> dict[str, int]:
    """Requests and bytes since this was last asked."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.request("GET", "/_take")
    counted: dict[str, int] = json.loads(connection.getresponse().read())
    connection.close()
    return counted


def item(base: str) -> dict[str, Any]:
    """The scene as a STAC item, under one of its addresses."""
    grid = {"proj:transform": [GSD, 0, LEFT, 0, -GSD, TOP], "proj:shape": [SIDE, SIDE]}
    kind = {"type": "image/tiff; application=geotiff; profile=cloud-optimized", "roles": ["data"]}
    ring = [[1.6, 47.3], [2.4, 47.3], [2.4, 47.9], [1.6, 47.9], [1.6, 47.3]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": ["https://stac-extensions.github.io/projection/v1.1.0/schema.json"],
        "id": base.rpartition("/")[2],
        "properties": {"datetime": "2024-06-01T00:00:00Z", "proj:epsg": EPSG},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [1.6, 47.3, 2.4, 47.9],
        "assets": {band: {"href": f"{base}/{band}.tif", **grid, **kind} for band in BANDS},
        "links": [],
    }


def draw(case: Case, rng: np.random.Generator) -> list[list[Corner]]:
    """Corners of chips, scene by scene, uniform in the scene."""
    places = rng.integers(0, SIDE - CHIP_PX, (case.scenes, case.chips, 2))
    return [[(LEFT + x * GSD, TOP - y * GSD) for x, y in scene.tolist()] for scene in places]


# The ways of reading: the address of a scene and corners in, chips ``(n, band, y, x)`` out


def stackstac_a_chip(base: str, corners: Sequence[Corner], **compute: Any) -> Chips:
    """As many threads as cores, as Dask has it, unless told otherwise."""
    side = CHIP_PX * GSD
    chips = [
        stackstac.stack(
            [item(base)],
            assets=BANDS,
            epsg=EPSG,
            resolution=GSD,
            bounds=(x, y - side, x + side, y),
            snap_bounds=False,
            dtype=np.dtype("uint16"),
            fill_value=np.uint16(0),
            rescale=False,
        )[0].data.compute(scheduler="threads", **compute)
        for x, y in corners
    ]
    return np.stack(chips)


def odc_a_chip(base: str, corners: Sequence[Corner]) -> Chips:
    scene = pystac.Item.from_dict(item(base))
    chips = []
    for x, y in corners:
        box = GeoBox((CHIP_PX, CHIP_PX), rasterio.Affine(GSD, 0, x, 0, -GSD, y), f"EPSG:{EPSG}")
        loaded = odc.stac.load([scene], bands=BANDS, geobox=box, dtype="uint16", nodata=0, pool=len(BANDS))
        chips.append(np.stack([loaded[band].values[0] for band in BANDS]))
    return np.stack(chips)


def rasterio_open_once(base: str, corners: Sequence[Corner]) -> Chips:
    """Every thread has the scene's files open; each chip and band is a window of its own."""
    out = np.empty((len(corners), len(BANDS), CHIP_PX, CHIP_PX), dtype=np.uint16)
    mine = threading.local()
    opened = []

    def read(job: tuple[int, int]) -> None:
        chip, band = job
        with rasterio.Env(**GDAL_OPTIONS):
            files = mine.__dict__.setdefault("files", {})
            if band not in files:
                files[band] = rasterio.open(f"{base}/{BANDS[band]}.tif", sharing=False)
                opened.append(files[band])
            x, y = corners[chip]
            window = Window(round((x - LEFT) / GSD), round((TOP - y) / GSD), CHIP_PX, CHIP_PX)
            out[chip, band] = files[band].read(1, window=window)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(read, itertools.product(range(len(corners)), range(len(BANDS)))))
    for file in opened:
        file.close()
    return out


def by_reader(reader: ReaderName) -> Read:
    def read(base: str, corners: Sequence[Corner]) -> Chips:
        source = OpenSource(provider="stac", url=base, collection="bench", allow_private=True)
        scene = Scene.from_item(item(base), source=source, bands=BANDS)
        return read_chips(scene, corners, chip=CHIP, source=source, threads=THREADS, reader=reader)

    return read


@cache
def tiles_of(path: Path) -> dict[tuple[int, int], tuple[int, int]]:
    """Offset and size of each tile of a file, by row and column."""
    with rasterio.open(path) as raster:
        count = -(-SIDE // TILE)
        return {
            (row, column): (
                int(raster.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=1)),
                int(raster.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=1)),
            )
            for row, column in itertools.product(range(count), range(count))
        }


def lower_bound(folder: Path) -> Read:
    """Each tile that is needed fetched once, where it lies known beforehand, by bare connections; decoded; cut into chips."""

    def read(base: str, corners: Sequence[Corner]) -> Chips:
        out = np.empty((len(corners), len(BANDS), CHIP_PX, CHIP_PX), dtype=np.uint16)
        tiles: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
        for chip, (x, y) in enumerate(corners):
            column, row = round((x - LEFT) / GSD), round((TOP - y) / GSD)
            ends = [range(first // TILE, (first + CHIP_PX - 1) // TILE + 1) for first in (row, column)]
            for tile in itertools.product(*ends):
                tiles.setdefault(tile, []).append((chip, row - tile[0] * TILE, column - tile[1] * TILE))
        mine = threading.local()

        def fetch(job: tuple[int, tuple[int, int]]) -> None:
            band, tile = job
            host, _, path = base.removeprefix("http://").partition("/")
            if not hasattr(mine, "connection"):
                mine.connection = http.client.HTTPConnection(host)
            start, size = tiles_of(folder / f"{BANDS[band]}.tif")[tile]
            span = {"Range": f"bytes={start}-{start + size - 1}"}
            mine.connection.request("GET", f"/{path}/{BANDS[band]}.tif", headers=span)
            data = memoryview(mine.connection.getresponse().read())
            kind: dict[str, Any] = {"compression": 8, "predictor": 2, "dtype": np.dtype("<u2")}
            pixels = decode_tile(data, shape=(TILE, TILE), **kind)
            for chip, row, column in tiles[tile]:
                top, left = max(row, 0), max(column, 0)
                part = pixels[top : row + CHIP_PX, left : column + CHIP_PX]
                out[
                    chip,
                    band,
                    top - row : top - row + part.shape[0],
                    left - column : left - column + part.shape[1],
                ] = part

        with ThreadPoolExecutor(2 * THREADS) as pool:
            list(pool.map(fetch, itertools.product(range(len(BANDS)), sorted(tiles))))
        return out

    return read


# Measuring: readers alone. What is made of chips (a cube written, on one worker and two) has a part of its own.


BOUND, BASELINE = "lower bound", "stackstac a chip"


def ways(folder: Path) -> dict[str, Read]:
    return {
        BASELINE: stackstac_a_chip,
        f"  {THREADS} threads": partial(stackstac_a_chip, num_workers=THREADS),
        "odc-stac a chip": odc_a_chip,
        "rasterio": rasterio_open_once,
        "pwcat stackstac": by_reader("stackstac"),
        "pwcat tiles": by_reader("tiles"),
        BOUND: lower_bound(folder),
    }


def run_case(
    case: Case, read: Read, url: str, places: Sequence[Sequence[Corner]], name: str
) -> tuple[float, float, str]:
    """Seconds, those of the processor in this process, and the checksum of all chips."""
    bases = [f"{url}/{name}-{number}" for number in range(case.scenes)]
    started, busy = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(case.at_once) as pool:
        chips = list(pool.map(read, bases, places))
    seconds, cpu = time.perf_counter() - started, time.process_time() - busy
    return seconds, cpu, sha256(b"".join(part.tobytes() for part in chips)).hexdigest()


def measure_reading(folder: Path, *, rounds: int) -> list[Row]:
    """Every case, with and without a delay, by every way."""
    rows = []
    for delay_s in DELAYS_S:
        with serving(folder, delay_s) as url:
            for case in CASES:
                rows += measure_case(case, url, delay_s, ways(folder), rounds=rounds)
    return rows


def measure_case(case: Case, url: str, delay_s: float, all_ways: dict[str, Read], *, rounds: int) -> list[Row]:
    total = case.chips * case.scenes
    seconds: dict[str, list[float]] = {way: [] for way in all_ways}
    cpu: dict[str, list[float]] = {way: [] for way in all_ways}
    asked: dict[str, dict[str, int]] = {}
    for number in range(rounds):
        places = draw(case, np.random.default_rng(number if number else 10**6))
        sums = set()
        for index, (way, read) in enumerate(all_ways.items()):
            read(f"{url}/warm-{case.name}-{number}-{index}", places[0][:1])
            take(url)
            took, busy, digest = run_case(case, read, url, places, f"{case.name}-{number}-{index}")
            seconds[way].append(took)
            cpu[way].append(busy)
            asked[way] = take(url)
            sums.add(digest)
            print(f"{case.name} {1000 * delay_s:g} ms, {way}: {total / took:.1f} chips/s", file=sys.stderr)
        assert len(sums) == 1, f"{case.name}: the ways bring different chips"
    return [
        Row(
            case=case.name,
            delay_ms=round(1000 * delay_s),
            way=way,
            chips_per_s=total / statistics.median(seconds[way]),
            ratio=statistics.median(a / b for a, b in zip(seconds[BASELINE], seconds[way], strict=True)),
            cpu_ms_per_chip=1000 * statistics.median(cpu[way]) / total,
            requests_per_chip=asked[way]["requests"] / total,
            mb=asked[way]["bytes"] / 1e6,
            of_bound=asked[way]["bytes"] / asked[BOUND]["bytes"],
        )
        for way in all_ways
    ]


def reading_table(rows: Sequence[Row]) -> Table:
    """One line a case and way: chips a second with 30 ms a request; times the first row, with and without.

    Milliseconds of this process's processor and requests (asks) are for a chip; the last column is bytes beside those that are
    needed.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("chips", "way", "chips/s", "×", "× 0 ms", "CPU ms", "asks", "MB", "× bound"):
        table.add_column(name, justify="left" if name in ("chips", "way") else "right", no_wrap=True)
    near = {(row.case, row.way): row for row in rows if not row.delay_ms}
    for row in (row for row in rows if row.delay_ms):
        other = near[row.case, row.way]
        table.add_row(
            row.case,
            row.way,
            f"{row.chips_per_s:.1f}",
            f"{row.ratio:.1f}",
            f"{other.ratio:.1f}",
            f"{row.cpu_ms_per_chip:.0f}",
            f"{row.requests_per_chip:.2f}",
            f"{row.mb:.0f}",
            f"{row.of_bound:.2f}",
            end_section=row.way == BOUND,
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "materialize.json")
    options = parser.parse_args()
    # GDAL takes the size of its cache once in a process: all rows have that of pwcat's processes, whichever comes first
    os.environ[CACHE_SIZE] = str(GDAL_OPTIONS[CACHE_SIZE])
    with tempfile.TemporaryDirectory() as folder:
        write_scene(Path(folder))
        rows = measure_reading(Path(folder), rounds=options.rounds)
    keep(options.out, [reading_table(rows)], rounds=options.rounds, reading=[asdict(row) for row in rows])


if __name__ == "__main__":
    main()
