"""Pixels of a scene's chips: one stackstac stack a scene, chunks on the COG's own tiles, every chip a slice of it.

One stack a chip would read most tiles many times over: 2 to 7 times slower, the worse the denser the chips.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import dask
import numpy as np
import rasterio
import stackstac
from numpy.typing import NDArray
from rasterio.enums import Resampling
from stackstac.rio_env import LayeredEnv

from pwcat.gdal import GDAL_OPTIONS
from pwcat.providers import OpenSource
from pwcat.recipe import Chip
from pwcat.scenes import Scene

__all__ = ["read_chips"]

# Sides of a Dask chunk, pixels, that a tile of the COG may ask for; a striped file is read in the smaller.
CHUNK_PX = (256, 2048)


def read_chips(
    scene: Scene, corners: Sequence[tuple[float, float]], *, chip: Chip, source: OpenSource, threads: int
) -> NDArray[np.uint16]:
    """Chips of one scene as stored there, ``(n, band, y, x)``; pixels outside the scene's data are 0.

    Args:
        scene: where from.
        corners: easting and northing of each chip's upper-left corner, on the scene's pixel grid.
        chip: size, resolution, bands, resampling of coarser bands.
        source: signs the hrefs.
        threads: reads at a time.

    Raises:
        RuntimeError: an asset cannot be opened or read; the message holds its address.
    """
    item = _signed(scene, source)
    assets = [source.band_asset(band, item["assets"]) for band in chip.bands]
    tile = _tile_px([item["assets"][key]["href"] for key in assets], chip, threads)
    left, top, right, bottom = _tile_bounds(scene, corners, chip, tile)
    side = chip.resolution_m
    stack = stackstac.stack(
        [item],
        assets=assets,
        epsg=scene.epsg,
        resolution=side,
        bounds=(left, bottom, right, top),
        snap_bounds=False,
        resampling=Resampling[chip.resampling],
        chunksize=tile,
        dtype=np.dtype("uint16"),
        fill_value=np.uint16(0),
        rescale=False,
        xy_coords=False,
        properties=False,
        band_coords=False,
        errors_as_nodata=(),
        gdal_env=LayeredEnv(always=dict(GDAL_OPTIONS)),
    )
    chips = []
    for x0, y0 in corners:
        row, column = round((top - y0) / side), round((x0 - left) / side)
        chips.append(stack[0, :, row : row + chip.size_px, column : column + chip.size_px].data)
    return np.stack(dask.compute(*chips, scheduler="threads", num_workers=threads))


def _signed(scene: Scene, source: OpenSource) -> dict[str, Any]:
    """The item with hrefs that can be read now, and with the CRS where stackstac looks for it.

    stackstac knows ``proj:epsg`` alone; items of projection 2.0 have ``proj:code``, and without this it falls back to the
    lon/lat bounding box and a wrong grid.
    """
    fields = {"proj:epsg": scene.epsg}
    assets = {
        key: {**asset, **fields, "href": source.sign(asset["href"])} for key, asset in scene.item["assets"].items()
    }
    return {**scene.item, "assets": assets, "properties": {**scene.item["properties"], **fields}}


def _tile_px(hrefs: Sequence[str], chip: Chip, threads: int) -> int:
    """Side of a Dask chunk: the tile of the finest band's file, in chip pixels.

    All files are opened, at once, so that stackstac finds their headers in GDAL's cache.
    """
    headers = _HEADERS.of(tuple(dict.fromkeys(hrefs)), threads)
    finest = min(headers, key=lambda header: header.gsd)
    scale = finest.gsd / chip.resolution_m
    smallest, largest = CHUNK_PX
    return int(min(max(finest.tile * scale, smallest), largest))


@dataclass(frozen=True)
class _Header:
    """Side of a file's internal tiles in its own pixels, and side of those pixels in units of its CRS."""

    tile: int
    gsd: float


class _Headers:
    """Headers of the files that this process has opened last.

    Shards in flight are neighbours, and want the same scenes at the same time: one opens the files, the others wait for it.
    Without that, they ask for the size of each file several times over.
    """

    def __init__(self, most: int = 4096) -> None:
        self.most = most
        self.lock = Lock()
        self.known: OrderedDict[tuple[str, ...], Future[list[_Header]]] = OrderedDict()

    def of(self, hrefs: tuple[str, ...], threads: int) -> list[_Header]:
        """Headers of some files, opened side by side unless they are known.

        Raises:
            RuntimeError: a file cannot be opened; it is tried again the next time.
        """
        with self.lock:
            mine = hrefs not in self.known
            future = self.known.setdefault(hrefs, Future())
            while len(self.known) > self.most:
                self.known.popitem(last=False)
        if mine:
            self._open(hrefs, threads, future)
        return future.result()

    def _open(self, hrefs: tuple[str, ...], threads: int, future: Future[list[_Header]]) -> None:
        try:
            with ThreadPoolExecutor(min(threads, len(hrefs))) as executor:
                future.set_result(list(executor.map(_open_header, hrefs)))
        except BaseException as exc:
            with self.lock:
                self.known.pop(hrefs, None)
            future.set_exception(exc)


_HEADERS = _Headers()


def _open_header(href: str) -> _Header:
    with rasterio.Env(**GDAL_OPTIONS):
        try:
            with rasterio.open(href) as raster:
                return _Header(tile=min(raster.block_shapes[0]), gsd=abs(raster.transform.a))
        except rasterio.errors.RasterioIOError as exc:
            raise RuntimeError(f"Error opening {href}: {exc}") from exc


def _tile_bounds(
    scene: Scene, corners: Sequence[tuple[float, float]], chip: Chip, tile: int
) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the tiles that hold the chips, on the scene's grid."""
    step, side = tile * chip.resolution_m, chip.size_px * chip.resolution_m
    x, y = (np.array(axis) for axis in zip(*corners, strict=True))
    left = scene.left + np.floor((x.min() - scene.left) / step) * step
    top = scene.top - np.floor((scene.top - y.max()) / step) * step
    right = scene.left + np.ceil((x.max() + side - scene.left) / step) * step
    bottom = scene.top - np.ceil((scene.top - y.min() + side) / step) * step
    return float(left), float(top), float(right), float(bottom)
