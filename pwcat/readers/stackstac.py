"""Pixels of a scene's chips through GDAL: one stackstac stack a scene, chunks on the COG's own tiles, every chip a slice of it.

One stack a chip would read most tiles many times over: 2 to 7 times slower, the worse the denser the chips.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import dask
import numpy as np
import rasterio
import stackstac
from numpy.typing import NDArray
from rasterio.enums import MaskFlags, Resampling
from stackstac.rio_env import LayeredEnv

from pwcat.errors import ForbiddenError
from pwcat.gdal import GDAL_OPTIONS, forget_files
from pwcat.providers import OpenSource
from pwcat.readers import wire
from pwcat.readers.grid import Grid, Placement, interpolate, place
from pwcat.readers.wire import Address
from pwcat.recipe import Chip
from pwcat.scenes import Scene

__all__ = ["Stackstac"]

# Sides of a Dask chunk, pixels, that a tile of the COG may ask for; a striped file is read in the smaller.
CHUNK_PX = (256, 2048)


class Stackstac:
    """Reads whatever GDAL reads."""

    def read(
        self, scene: Scene, corners: Sequence[tuple[float, float]], *, chip: Chip, source: OpenSource, threads: int
    ) -> NDArray[np.uint16]:
        """Chips of one scene, ``(n, band, y, x)``; see :func:`pwcat.readers.read_chips`."""
        item = _signed(scene, source)
        try:
            return _read(item, scene, corners, chip=chip, source=source, threads=threads)
        except RuntimeError as exc:
            raise _in_our_words(exc, item["assets"], scene.item["assets"]) from None


def _read(
    item: dict[str, Any],
    scene: Scene,
    corners: Sequence[tuple[float, float]],
    *,
    chip: Chip,
    source: OpenSource,
    threads: int,
) -> NDArray[np.uint16]:
    """Bands as GDAL gives them on the chips' grid in one stack; coarser ones to be interpolated in a stack for each grid."""
    assets = [source.band_asset(band, item["assets"]) for band in chip.bands]
    # All files are opened, at once, so that stackstac finds their headers in GDAL's cache
    headers = _HEADERS.of(tuple(item["assets"][key]["href"] for key in assets), threads)
    stacks: dict[Grid | None, list[int]] = {}
    for number, header in enumerate(headers):
        stacks.setdefault(_interpolated(header, scene, corners, chip), []).append(number)
    parts = [
        _Part.of(item, scene, corners, chip, grid, [assets[k] for k in members], [headers[k] for k in members])
        for grid, members in stacks.items()
    ]
    with ThreadPoolExecutor(threads) as pool:  # Dask's own does not survive a fork
        read = dask.compute(*[part.lazy for part in parts], scheduler="threads", pool=pool)
    out = np.empty((len(corners), len(assets), chip.size_px, chip.size_px), dtype=np.uint16)
    for part, members, windows in zip(parts, stacks.values(), read, strict=True):
        for k, number in enumerate(members):
            part.finish([window[k] for window in windows], out[:, number])
    return out


def _interpolated(header: _Header, scene: Scene, corners: Sequence[tuple[float, float]], chip: Chip) -> Grid | None:
    """The grid that a file is read on, to be interpolated; ``None`` where GDAL brings it onto the chips'."""
    if header.grid is None or header.grid.epsg != scene.epsg:
        return None
    placement = place(header.grid, corners, chip)
    return header.grid if placement is not None and placement.bilinear else None


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Some bands of the chips, not read yet.

    Attributes:
        lazy: a window of all the bands for each chip, ``(band, y, x)``.
        grid: of the windows, where they are yet to be interpolated.
        placement: of the chips on that grid.
    """

    lazy: list[Any]
    grid: Grid | None
    placement: Placement | None

    @classmethod
    def of(
        cls,
        item: dict[str, Any],
        scene: Scene,
        corners: Sequence[tuple[float, float]],
        chip: Chip,
        grid: Grid | None,
        assets: Sequence[str],
        headers: Sequence[_Header],
    ) -> _Part:
        finest = min(headers, key=lambda header: header.gsd)
        if grid is None:
            x, y = np.array(corners, dtype=np.float64).T
            rows = np.rint((scene.top - y) / chip.resolution_m).astype(np.int64)
            columns = np.rint((x - scene.left) / chip.resolution_m).astype(np.int64)
            frame = _Frame(left=scene.left, top=scene.top, resolution=chip.resolution_m)
            window, fill, placement = chip.size_px, 0, None
        else:
            placement = place(grid, corners, chip)
            assert placement is not None, "it was placed on this grid before"
            rows, columns = placement.rows[:, 0], placement.columns[:, 0]
            frame = _Frame(left=grid.left, top=grid.top, resolution=grid.gsd)
            window, fill = placement.rows.shape[1], grid.nodata or 0
        smallest, largest = CHUNK_PX
        tile = int(min(max(finest.tile * finest.gsd / frame.resolution, smallest), largest))
        top, left = rows.min() // tile * tile, columns.min() // tile * tile
        bottom, right = (-(-(index.max() + window) // tile) * tile for index in (rows, columns))
        stack = stackstac.stack(
            [item],
            assets=list(assets),
            epsg=scene.epsg,
            resolution=frame.resolution,
            bounds=frame.bounds(int(left), int(top), int(right), int(bottom)),
            snap_bounds=False,
            resampling=Resampling[chip.resampling],
            chunksize=tile,
            dtype=np.dtype("uint16"),
            fill_value=np.uint16(fill),
            rescale=False,
            xy_coords=False,
            properties=False,
            band_coords=False,
            errors_as_nodata=(),
            gdal_env=LayeredEnv(always=dict(GDAL_OPTIONS)),
        )
        lazy = [
            stack[0, :, row : row + window, column : column + window].data
            for row, column in zip((rows - top).tolist(), (columns - left).tolist(), strict=True)
        ]
        return cls(lazy=lazy, grid=grid, placement=placement)

    def finish(self, windows: Sequence[NDArray[np.uint16]], out: NDArray[np.uint16]) -> None:
        """Windows of one band made chips, ``(n, y, x)``."""
        if self.grid is None or self.placement is None:
            np.stack(windows, out=out)
        else:
            interpolate(np.stack(windows), self.placement, grid=self.grid, out=out)


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """A grid of pixels without an end: its upper-left corner and the side of a pixel."""

    left: float
    top: float
    resolution: float

    def bounds(self, left: int, top: int, right: int, bottom: int) -> tuple[float, float, float, float]:
        """West, south, east and north of a window of it."""
        x, y, side = self.left, self.top, self.resolution
        return (x + left * side, y - bottom * side, x + right * side, y - top * side)


def _in_our_words(exc: RuntimeError, signed: Mapping[str, Any], frozen: Mapping[str, Any]) -> RuntimeError:
    """The error with addresses as a plan keeps them; a refusal as what it is."""
    text = str(exc)
    for key in sorted(signed, key=lambda key: -len(signed[key]["href"])):
        href, name = signed[key]["href"], frozen[key]["href"]
        if href in text:
            forget_files(href)  # GDAL would give the same bytes, or the same refusal, the next time
            if _refused(href, name):
                return ForbiddenError(name)
            text = text.replace(href, name)
    return RuntimeError(text)


def _refused(href: str, name: str) -> bool:
    """Whether the server refuses a file; GDAL's messages do not always say."""
    address = Address.of(href, name=name)
    if address is None or not wire.usable():
        return False
    try:
        wire.run(wire.fetch(address, 0, 1, retries=0))
    except ForbiddenError:
        return True
    except RuntimeError:
        return False
    return False


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


@dataclass(frozen=True, kw_only=True)
class _Header:
    """What is known of a file.

    Attributes:
        tile: side of its internal tiles, in its own pixels.
        gsd: side of those pixels, in units of its CRS.
        grid: they, where pixels are upright and without data as :mod:`pwcat.readers.grid` understands it.
    """

    tile: int
    gsd: float
    grid: Grid | None


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
            with ThreadPoolExecutor(min(threads, len(set(hrefs)))) as executor:
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
                return _Header(tile=min(raster.block_shapes[0]), gsd=abs(raster.transform.a), grid=_grid(raster))
        except rasterio.errors.RasterioIOError as exc:
            raise RuntimeError(f"Error opening {href}: {exc}") from exc


def _grid(raster: rasterio.DatasetReader) -> Grid | None:
    transform, dtype = raster.transform, np.dtype(raster.dtypes[0])
    upright = not (transform.b or transform.d) and transform.a > 0 and transform.e == -transform.a
    epsg = raster.crs.to_epsg() if raster.crs else None
    plain = dtype in (np.uint8, np.uint16) and raster.mask_flag_enums[0] in ([MaskFlags.all_valid], [MaskFlags.nodata])
    if not (upright and plain and epsg) or raster.nodata not in (None, 0, np.iinfo(dtype).max):
        return None
    return Grid(
        epsg=epsg,
        left=transform.c,
        top=transform.f,
        gsd=transform.a,
        width=raster.width,
        height=raster.height,
        nodata=None if raster.nodata is None else int(raster.nodata),
    )
