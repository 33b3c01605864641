"""A small world seen by four instruments: chips' own, a radar on another zone's grid, heights in degrees, a coarse climate."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import yaml
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.transform import Affine, from_origin

from pwcat.archive import folder, serve_archive
from pwcat.archive.folder import Grid
from pwcat.providers import OpenSource
from pwcat.providers.signing import Signing, tokens_of

FAULTS = Path(__file__).parents[2] / "faults"

# A hundred metres from zone 33, in zone 32.
PLACE, EPSG, RADAR_EPSG = (11.99, 50.0), 32632, 32633
# Of the plane that the ground is: metres a metre to the east, and to the north.
RISE_E, RISE_N = 0.05, -0.12
SIDE_PX = 256
LEFT, TOP = 714_000.0, 5_543_000.0

PLAIN = {
    "name": "four",
    "title": "Four instruments",
    "license": "CC0-1.0",
    "num_samples": 16,
    "sampler": {"strategy": "uniform", "domain": "scenes"},
    "when": {"start": "2021-06-01", "end": "2021-06-30"},
    "chip": {"size_px": 32, "bands": ["B02", "B08"], "harmonise": False},
}
DECIBEL = {"scale": 0.001, "offset": -50.001, "unit": "dB", "transform": "decibel"}
SENSORS: dict[str, Any] = {
    "s1": {"bands": ["VV", "VH"], "within_days": 15, "encode": {"VV": DECIBEL, "VH": DECIBEL}},
    "dem": {"bands": ["elevation", "slope"], "encode": {"elevation": {"scale": 0.25, "offset": -1000.25, "unit": "m"}}},
    "era5": {
        "bands": ["temperature_2m", "total_precipitation"],
        "within_days": 0,
        "encode": {
            "temperature_2m": {"scale": 0.01, "offset": 150, "unit": "K"},
            "total_precipitation": {"scale": 0.00005, "offset": 0, "unit": "m"},
        },
    },
}


@dataclass(frozen=True)
class World:
    """An archive of four collections: ``s2``, ``s1``, ``dem``, ``era5``; and of ``blind``, ``half``, a radar whose VH sees
    nothing, and heights of the west alone.
    """

    path: Path
    url: str | None = None

    def recipe(self, folder: Path, *, sensors: Mapping[str, Any] | None = SENSORS, **changes: Any) -> Path:
        """Write a recipe over it; sensors lack their sources yet."""
        source = {"provider": "archive", **({"url": self.url} if self.url else {"path": str(self.path)})}
        document = {**PLAIN, "source": {**source, "collection": "s2"}, **changes}
        if sensors:
            document["sensors"] = {
                name: {"source": {**source, "collection": name}, **said} for name, said in sensors.items()
            }
        path = folder / f"{document['name']}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    def file(self, collection: str, item: str, band: str) -> Path:
        """Of an asset."""
        return self.path / collection / item / f"{band}.tif"

    def add(
        self,
        collection: str,
        item: str,
        bands: Mapping[str, NDArray[Any]],
        grid: Grid,
        *,
        when: datetime,
        nodata: float | None = None,
        **properties: Any,
    ) -> None:
        """Write an item and its files."""
        home, assets = self.path / collection / item, {}
        for band, pixels in bands.items():
            folder.write_cog(home / f"{band}.tif", pixels, grid=grid, nodata=nodata)
            fields = folder.band_fields(band, dtype=str(pixels.dtype), nodata=nodata)
            assets[band] = folder.raster_asset(f"./{band}.tif", title=band, grid=grid, bands=[fields])
        made = folder.make_item(
            item,
            collection=collection,
            when=when,
            grid=grid,
            properties=properties,
            assets=assets,
            extensions=("proj",),
        )
        folder.write_item(self.path, made)
        if not (path := self.path / collection / "collection.json").is_file():
            kind = pystac.Collection(collection, collection, folder.everywhere(), license="CC0-1.0")
        else:
            kind = pystac.Collection.from_dict(folder.read_json(path), preserve_dict=False)
        folder.write_collection(self.path, kind)
        folder.write_catalog(self.path)


def utm_grid(epsg: int, left: float, top: float, gsd: float, size: int) -> Grid:
    return Grid(crs=CRS.from_epsg(epsg), shape=(size, size), transform=Affine(gsd, 0, left, 0, -gsd, top))


def degrees_grid(west: float, north: float, step: float, shape: tuple[int, int]) -> Grid:
    return Grid(crs=CRS.from_epsg(4326), shape=shape, transform=from_origin(west, north, step, step))


def centres(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``(y, x)`` coordinates of the pixels' centres in the grid's CRS."""
    rows, columns = np.mgrid[: grid.shape[0], : grid.shape[1]] + 0.5
    t = grid.transform
    return t.c + t.a * columns, t.f + t.e * rows


def ground(east: NDArray[np.float64], north: NDArray[np.float64]) -> NDArray[np.float64]:
    """Height of the plane, metres."""
    return 400 + RISE_E * (east - LEFT) + RISE_N * (north - TOP)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The archive, served for the whole session. Do not change it."""
    made = make_world(tmp_path_factory.mktemp("world"))
    with serve_archive(made.path) as url:
        yield World(made.path, url)


def make_world(path: Path) -> World:
    world, rng = World(path), np.random.default_rng(0)
    own = utm_grid(EPSG, LEFT, TOP, 10, SIDE_PX)
    for month in range(1, 13):
        bands = {band: rng.integers(100, 5000, own.shape, dtype=np.uint16) for band in ("B02", "B08")}
        world.add(
            "s2",
            f"S2_{month:02d}",
            bands,
            own,
            when=datetime(2021, month, 15, 10, tzinfo=UTC),
            nodata=0,
            **{"eo:cloud_cover": 1},
        )
    add_radar(world, rng)
    add_heights(world, "dem", "WE")
    add_heights(world, "half", "W")
    add_climate(world)
    return world


def add_radar(world: World, rng: np.random.Generator) -> None:
    """Two days after each S2 date but that of March: linear, speckled, with a hole; on the grid of the next zone."""
    to_radar = Transformer.from_crs(EPSG, RADAR_EPSG, always_xy=True)
    x, y = to_radar.transform(LEFT, TOP)
    grid = utm_grid(RADAR_EPSG, x // 10 * 10 - 500, y // 10 * 10 + 700, 10, 400)
    for month in (1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12):
        levels = {"VV": 0.1, "VH": 0.02}
        bands = {band: rng.gamma(4.0, level / 4, grid.shape).astype(np.float32) for band, level in levels.items()}
        for pixels in bands.values():
            pixels[150:170, 150:180] = -32768
        world.add("s1", f"S1_{month:02d}", bands, grid, when=datetime(2021, month, 17, 5, tzinfo=UTC), nodata=-32768)
    seen = {"VV": bands["VV"], "VH": np.full(grid.shape, -32768, dtype=np.float32)}
    world.add("blind", "S1_06", seen, grid, when=datetime(2021, 6, 17, 5, tzinfo=UTC), nodata=-32768)


def add_heights(world: World, collection: str, tiles: str) -> None:
    """Two tiles, or one, of an arc second whose border runs through the place; no number stands for no data."""
    to_utm = Transformer.from_crs(4326, EPSG, always_xy=True)
    border = round(float(Transformer.from_crs(EPSG, 4326, always_xy=True).transform(LEFT + 1280, TOP - 1280)[0]), 2)
    for name, west in zip("WE"[: len(tiles)], (border - 300 / 3600, border), strict=False):
        grid = degrees_grid(west, 50.05, 1 / 3600, (360, 300))
        heights = ground(*to_utm.transform(*centres(grid))).astype(np.float32)
        world.add(collection, f"DEM_{name}", {"elevation": heights}, grid, when=datetime(2015, 1, 1, tzinfo=UTC))


def add_climate(world: World) -> None:
    """Monthly means on a quarter of a degree; NaN over a sea that is elsewhere."""
    grid = degrees_grid(-10.125, 70.125, 0.25, (160, 160))
    lon, lat = centres(grid)
    for month in range(1, 13):
        warm = (280 + 10 * np.sin(month) - 0.5 * (lat - 50) + 0.1 * lon).astype(np.float32)
        wet = (0.002 + 0.0001 * month + 0.00002 * (lon + lat)).astype(np.float32)
        for pixels in (warm, wet):
            pixels[:5] = np.nan
        start = datetime(2021, month, 1, tzinfo=UTC)
        end = datetime(2021 + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        world.add(
            "era5",
            f"ERA5_{month:02d}",
            {"temperature_2m": warm, "total_precipitation": wet},
            grid,
            when=start,
            nodata=float("nan"),
            start_datetime=start.isoformat(),
            end_datetime=end.isoformat(),
        )


@dataclass
class Case:
    """A schedule of faults that runs at an address of its own; see tests/faults/server.py."""

    url: str
    administration: str

    def source(self, collection: str, *, signed: bool = False) -> OpenSource:
        """A collection of the archive; its files want tokens where ``signed``."""
        signing = Signing(endpoint=f"{self.url}/token", hosts=("127.0.0.1",)) if signed else None
        kind = Signed if signed else OpenSource
        return kind(provider="archive", url=self.url, collection=collection, signing=signing)

    def standing(self) -> dict[str, Any]:
        return dict(_request(self.administration))


class Signed(OpenSource):
    """The archive's files as a store keeps them that wants tokens."""

    def sign(self, href: str) -> str:
        assert self.signing is not None
        return tokens_of(self.signing).sign(super().sign(href))


def _request(url: str, document: object | None = None) -> Any:
    data = None if document is None else json.dumps(document).encode()
    asked = urllib.request.Request(url, data=data, method="GET" if data is None else "PUT")
    with urllib.request.urlopen(asked, timeout=20) as answer:
        return json.load(answer)


@pytest.fixture(scope="session")
def faulty(world: World) -> Iterator[Callable[..., Case]]:
    """Make a case: the world behind a server that fails by these rules."""
    command = [sys.executable, str(FAULTS / "server.py"), str(world.path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    root, numbers = process.stdout.readline().strip(), count()

    def case(*rules: dict[str, Any], **options: Any) -> Case:
        name = f"case{next(numbers)}"
        _request(f"{root}/_cases/{name}", {"rules": rules, **options})
        return Case(f"{root}/{name}", f"{root}/_cases/{name}")

    yield case
    process.stdin.close()
    process.stdout.close()
    process.wait(timeout=20)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience of a test's size: as many attempts as ever, with shorter pauses."""
    from pwcat.readers import wire
    from pwcat.sensors import files

    monkeypatch.setattr(wire, "RETRY_DELAY_S", 0.01)
    monkeypatch.setattr(files, "RETRY_DELAY_S", 0.01)
    monkeypatch.setattr(
        files, "OPTIONS", {**files.OPTIONS, "GDAL_HTTP_RETRY_DELAY": 0.01, "GDAL_HTTP_LOW_SPEED_TIME": 1}
    )
