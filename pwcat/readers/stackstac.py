"""Pixels of a scene's chips through GDAL: one stackstac stack a scene, chunks on the COG's own tiles, cut into chips.

One stack a chip reads a tile once for every chip that touches it: 3.4 times slower where chips are dense (30 ms a request), but
faster where a scene has few; docs/readers.md has the numbers.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask
import numpy as np
import rasterio
import stackstac
from dask.delayed import Delayed
from numpy.typing import NDArray
from rasterio.enums import MaskFlags, Resampling
from stackstac.rio_env import LayeredEnv

from pwcat.errors import DamagedError, ForbiddenError
from pwcat.gdal import GDAL_OPTIONS, forget_files
from pwcat.pixels.reasons import cause_of
from pwcat.providers import OpenSource
from pwcat.providers.limits import Limit, limit_of
from pwcat.providers.redaction import redact_logs
from pwcat.providers.reuse import forgets
from pwcat.readers import wire
from pwcat.readers.checksums import DamagedTileError, PassingError, check_tiles
from pwcat.readers.cutting import Cuts
from pwcat.readers.grid import Grid, place
from pwcat.readers.wire import Address
from pwcat.recipe import Chip
from pwcat.scenes import Scene

__all__ = ["Stackstac"]

# Sides of a Dask chunk, pixels, that a tile of the COG may ask for; a striped file is read in the smaller.
CHUNK_PX = (256, 2048)

redact_logs("rasterio")
redact_logs("stackstac")

# A HEAD, and the start of the file.
REQUESTS_TO_OPEN = 2


class Stackstac:
    """Reads whatever GDAL reads."""

    def read(
        self, scene: Scene, corners: Sequence[tuple[float, float]], *, chip: Chip, source: OpenSource, threads: int
    ) -> NDArray[np.uint16]:
        """Chips of one scene, ``(n, band, y, x)``; see :func:`pwcat.readers.read_chips`."""
        item = _signed(scene, source)
        read = partial(_read, item, scene, corners, chip=chip, source=source, threads=threads)
        try:
            try:
                return read()
            except PassingError as exc:
                forget_files(exc.href)
                return read()
        except DamagedError as exc:
            unsigned = {asset["href"]: scene.item["assets"][key]["href"] for key, asset in item["assets"].items()}
            raise DamagedError({corner: _unsigned(why, unsigned) for corner, why in exc.reasons.items()}) from None
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
    """All bands in as few stacks as they have grids; each chunk is cut into chips as it comes, and let go."""
    assets = [source.band_asset(band, item["assets"]) for band in chip.bands]
    # All files are opened, at once, so that stackstac finds their headers in GDAL's cache
    limit = limit_of(source)
    headers = _HEADERS.of(tuple(item["assets"][key]["href"] for key in assets), threads, limit)
    stacks: dict[Grid | None, list[int]] = {}
    for number, header in enumerate(headers):
        stacks.setdefault(_own_grid(header, scene, corners, chip), []).append(number)
    out = np.zeros((len(corners), len(assets), chip.size_px, chip.size_px), dtype=np.uint16)
    work: list[Delayed] = []
    checks: list[tuple[Cuts, str, int]] = []
    finish: list[tuple[Cuts, NDArray[np.uint16], NDArray[np.uint16]]] = []
    for own, members in stacks.items():
        finest = min((headers[number] for number in members), key=lambda header: header.gsd)
        grid, chunk = own or _chips_grid(scene, corners, chip), _chunk_px(finest, own, chip)
        placement = place(grid, corners, chip)
        assert placement is not None, "it is made for the chips, or was looked at before"
        cuts = Cuts.plan(placement, grid, (chunk, chunk))
        stack = _stack(item, [assets[number] for number in members], grid, chunk, chip)
        targets = [cuts.target(out[:, number]) for number in members]
        # Files that are warped are not looked at again: their chunks are not their tiles
        hrefs = [item["assets"][assets[number]]["href"] if own else None for number in members]
        work += _cutting(stack, cuts, list(zip(targets, hrefs, strict=True)), chunk)
        checks += [(cuts, href, chunk) for href in hrefs if href is not None]
        finish += [(cuts, target, out[:, number]) for target, number in zip(targets, members, strict=True)]
    try:
        _compute(work, threads, limit)
    except PassingError:
        raise
    except RuntimeError as exc:
        damaged = _damaged(checks, threads, limit) if cause_of(exc) == "corrupt data" else ()
        if reasons := {corners[chip]: why for chip, why in damaged}:
            raise DamagedError(reasons) from None
        raise
    for cuts, target, chips in finish:
        cuts.finish(target, chips)
    return out


def _compute(work: Sequence[Delayed], threads: int, limit: Limit) -> None:
    at_once = threads if limit.per_second else max(1, len(work))
    for start in range(0, len(work), at_once):
        part = work[start : start + at_once]
        limit.wait(len(part))
        dask.compute(*part, scheduler="threads", pool=_pool(threads))


def _damaged(checks: Sequence[tuple[Cuts, str, int]], threads: int, limit: Limit) -> Iterator[tuple[int, str]]:
    """Chips that touch damaged tiles, and why, after a read that failed: what is read for it is there for the next.

    Raises:
        RuntimeError: a tile cannot be read.
    """
    chunks = [(cuts, href, chunk, tile) for cuts, href, chunk in checks for tile in sorted(cuts.of_tile)]

    def look(place: tuple[Cuts, str, int, int]) -> str | None:
        cuts, href, chunk, tile = place
        limit.wait(1)
        try:
            _check(cuts, tile, chunk, href)
        except DamagedTileError as exc:
            return str(exc)
        return None

    for (cuts, _, _, tile), why in zip(chunks, _pool(threads).map(look, chunks), strict=True):
        if why is not None:
            yield from ((cut.chip, why) for cut in cuts.of_tile[tile])


def _check(cuts: Cuts, tile: int, chunk: int, href: str) -> None:
    """Compare the checksums of a chunk of a file."""
    row, column = divmod(tile, -(-cuts.grid.width // chunk))
    check_tiles(href, top=row * chunk, left=column * chunk, side=chunk)


def _own_grid(header: _Header, scene: Scene, corners: Sequence[tuple[float, float]], chip: Chip) -> Grid | None:
    """The grid that a file is read on: its own; ``None`` where GDAL must bring it onto the chips'."""
    if header.grid is None or header.grid.epsg != scene.epsg or place(header.grid, corners, chip) is None:
        return None
    return header.grid


def _chips_grid(scene: Scene, corners: Sequence[tuple[float, float]], chip: Chip) -> Grid:
    """A grid of the chips' pixels, from the scene's corner on, that holds them all."""
    side = chip.resolution_m
    x, y = np.array(corners, dtype=np.float64).T
    left, top = (float(np.floor(v / side)) for v in (x.min() - scene.left, scene.top - y.max()))
    right, bottom = (float(np.ceil(v / side)) for v in (x.max() - scene.left, scene.top - y.min()))
    left, top = min(left, 0.0), min(top, 0.0)
    return Grid(
        epsg=scene.epsg,
        left=scene.left + left * side,
        top=scene.top - top * side,
        gsd=side,
        width=int(right - left) + chip.size_px,
        height=int(bottom - top) + chip.size_px,
        nodata=None,
    )


def _chunk_px(finest: _Header, own: Grid | None, chip: Chip) -> int:
    """Side of a Dask chunk: the tile of the finest file, in pixels of the stack."""
    smallest, largest = CHUNK_PX
    scale = 1.0 if own is not None else finest.gsd / chip.resolution_m
    return int(min(max(finest.tile * scale, smallest), largest))


def _stack(item: dict[str, Any], assets: Sequence[str], grid: Grid, chunk: int, chip: Chip) -> Any:
    """Some bands on a grid, not read yet, ``(band, y, x)``; a file that has this very grid is read without a warp."""
    bottom, right = grid.top - grid.height * grid.gsd, grid.left + grid.width * grid.gsd
    stack = stackstac.stack(
        [item],
        assets=list(assets),
        epsg=grid.epsg,
        resolution=grid.gsd,
        bounds=(grid.left, bottom, right, grid.top),
        snap_bounds=False,
        resampling=Resampling[chip.resampling],
        chunksize=chunk,
        dtype=np.dtype("uint16"),
        fill_value=np.uint16(grid.nodata or 0),
        rescale=False,
        xy_coords=False,
        properties=False,
        band_coords=False,
        errors_as_nodata=(),
        gdal_env=LayeredEnv(always=dict(GDAL_OPTIONS)),
    )
    return stack.data[0]


def _cutting(
    stack: Any, cuts: Cuts, targets: Sequence[tuple[NDArray[np.uint16], str | None]], chunk: int
) -> Iterator[Delayed]:
    """A task for each chunk that chips touch, of each band: read it, check it where it is a file's own, cut it, let it go."""
    rows, columns = np.divmod(np.array(sorted(cuts.of_tile), dtype=np.int64), -(-cuts.grid.width // chunk))
    if not len(rows):
        return
    top, left = rows.min(), columns.min()
    # Chunks that nobody wants are taken out of the graph before it is spelled out
    blocks = stack.blocks[:, top : rows.max() + 1, left : columns.max() + 1].to_delayed()
    for tile, row, column in zip(sorted(cuts.of_tile), rows - top, columns - left, strict=True):
        for band, (target, href) in enumerate(targets):
            cut = partial(_cut, cuts, tile, chunk, target, href)
            yield dask.delayed(cut, pure=False, traverse=False)(blocks[band, row, column])


def _cut(
    cuts: Cuts, tile: int, chunk: int, into: NDArray[np.uint16], href: str | None, block: NDArray[np.uint16]
) -> None:
    if href is not None:
        _check(cuts, tile, chunk, href)
    cuts.cut(tile, block[0], into=into)


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


def _unsigned(text: str, names: Mapping[str, str]) -> str:
    for href in sorted(names, key=len, reverse=True):
        text = text.replace(href, names[href])
    return text


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
        self.lock = threading.Lock()
        self.known: OrderedDict[tuple[str, ...], Future[list[_Header]]] = OrderedDict()

    def of(self, hrefs: tuple[str, ...], threads: int, limit: Limit) -> list[_Header]:
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
            limit.wait(REQUESTS_TO_OPEN * len(set(hrefs)))
            self._open(hrefs, threads, future)
        return future.result()

    def forget(self, url: str) -> None:
        """Open files whose addresses begin like this anew the next time."""
        with self.lock:
            for hrefs in [hrefs for hrefs in self.known if any(href.startswith(url) for href in hrefs)]:
                del self.known[hrefs]

    def _open(self, hrefs: tuple[str, ...], threads: int, future: Future[list[_Header]]) -> None:
        try:
            future.set_result(list(_pool(threads).map(_open_header, hrefs)))
        except BaseException as exc:
            with self.lock:
                self.known.pop(hrefs, None)
            future.set_exception(exc)


_HEADERS = _Headers()
forgets(_HEADERS.forget)


def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads of the calling one's own, kept: each costs PROJ some milliseconds at first. They do not survive a fork."""
    key = (os.getpid(), threads)
    if getattr(_mine, "key", None) != key:
        _mine.key, _mine.pool = key, ThreadPoolExecutor(threads, thread_name_prefix="pwcat-gdal")
    pool: ThreadPoolExecutor = _mine.pool
    return pool


_mine = threading.local()


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
