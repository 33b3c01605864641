"""Pixels of a scene's chips through GDAL: one stackstac stack a scene, chunks on the COG's own tiles, cut into chips.

One stack a chip reads a tile once for every chip that touches it, and a few at a time; docs/readers.md has the numbers.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import dask
import numpy as np
import stackstac
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window
from stackstac.rio_env import LayeredEnv

from pwcat.errors import DamagedError, ForbiddenError
from pwcat.gdal import GDAL_OPTIONS, forget_files
from pwcat.pixels.reasons import cause_of
from pwcat.providers import OpenSource
from pwcat.providers.guard import why_refused
from pwcat.providers.limits import Limit, limit_of
from pwcat.providers.redaction import redact_logs
from pwcat.readers import wire
from pwcat.readers.checksums import DamagedTileError, PassingError
from pwcat.readers.cutting import Cuts
from pwcat.readers.grid import Grid, place
from pwcat.readers.opened import OpenFiles, OwnPixels, WarpedPixels
from pwcat.readers.seen import SEEN, Seen
from pwcat.readers.wire import Address
from pwcat.recipe import Chip
from pwcat.scenes import Scene

__all__ = ["Stackstac"]

# Sides of a Dask chunk, pixels, that a tile of the COG may ask for; a striped file is read in the smaller.
CHUNK_PX = (256, 2048)

redact_logs("rasterio")
redact_logs("stackstac")

# GDAL's cache of all files has what is wanted twice; that of an open file would copy it, and round ranges up to 32 KiB. The
# header of a file of 10980² pixels in tiles of 512, with all its overviews, is of 8 KiB. Where several tiles are read at a
# time, they are in the cache already: GDAL is not to ask for them past it.
OPTIONS: Mapping[str, Any] = {
    "VSI_CACHE": False,
    "GDAL_INGESTED_BYTES_AT_OPEN": 16384,
    "GDAL_HTTP_MULTIRANGE": "SERIAL",
}

# Pixels of the tiles that a thread asks for together. What leaves GDAL's cache before it is decoded is asked for again: 16
# threads want less of it than the 16 MB that it has where other code of the process was the first to use it.
RUN_PX = 2**19


class Stackstac:
    """Reads whatever GDAL reads of plain formats; see :mod:`pwcat.plain`."""

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
    hrefs = tuple(item["assets"][key]["href"] for key in assets)
    out = np.zeros((len(corners), len(assets), chip.size_px, chip.size_px), dtype=np.uint16)
    limit = limit_of(source)
    with OpenFiles({**GDAL_OPTIONS, **OPTIONS}) as files:
        headers = SEEN.of(hrefs, files, limit)
        groups: dict[tuple[Grid | None, bool], list[int]] = {}
        for number, header in enumerate(headers):
            groups.setdefault((_own_grid(header, scene, corners, chip), header.lendable), []).append(number)
        parts = []
        for (own, lendable), members in groups.items():
            finest = min((headers[number] for number in members), key=lambda header: header.gsd)
            grid, chunk = own or _chips_grid(scene, corners, chip), _chunk_px(finest, own, chip)
            placement = place(grid, corners, chip)
            assert placement is not None, "it is made for the chips, or was looked at before"
            cuts = Cuts.plan(placement, grid, (chunk, chunk))
            bands = [
                _Band(href=hrefs[number], chips=out[:, number], target=cuts.target(out[:, number]))
                for number in members
            ]
            lends = files if own is not None and lendable else None
            array = _stack(item, [assets[number] for number in members], grid, chunk, chip, lends).data
            parts.append(_Part(array=array, cuts=cuts, chunk=chunk, bands=bands, files=lends))
        _compute(parts, corners, threads, limit)
    for part in parts:
        for band in part.bands:
            part.cuts.finish(band.target, band.chips)
    return out


@dataclass(frozen=True, kw_only=True)
class _Band:
    """Chips of one band in the making: its file, the chips, and what chunks are cut into."""

    href: str
    chips: NDArray[np.uint16]
    target: NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The bands of a scene that have one grid.

    Attributes:
        array: stackstac's, ``(time, band, y, x)``, not read yet.
        cuts: chips in its chunks.
        chunk: side of those, pixels.
        bands: in its order.
        files: where their files are lent; ``None`` where stackstac opens them, to warp them or for one thread alone.
    """

    array: Any
    cuts: Cuts
    chunk: int
    bands: list[_Band]
    files: OpenFiles | None

    @property
    def across(self) -> int:
        """Chunks in a row."""
        return -(-self.cuts.grid.width // self.chunk)

    def runs(self) -> list[list[int]]:
        """Chunks that chips touch; neighbours in a row together, where they are tiles of files that are lent."""
        most = max(1, RUN_PX // self.chunk**2) if self.files else 1
        runs: list[list[int]] = []
        for tile in sorted(self.cuts.of_tile):
            if runs and tile == runs[-1][-1] + 1 and tile % self.across and len(runs[-1]) < most:
                runs[-1].append(tile)
            else:
                runs.append([tile])
        return runs

    def window(self, tile: int) -> Window:
        """Of a chunk."""
        row, column = divmod(tile, self.across)
        return Window(column * self.chunk, row * self.chunk, self.chunk, self.chunk)

    def key(self, band: int, tile: int) -> tuple[Any, ...]:
        """What Dask calls a chunk."""
        return (self.array.name, 0, band, *divmod(tile, self.across))

    def graph(self) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """How Dask comes by each chunk that chips touch, and stackstac's readers, which chunks share."""
        chunks = {self.key(band, tile) for band in range(len(self.bands)) for tile in self.cuts.of_tile}
        # Chunks that nobody wants are taken out of the graph before it is spelled out
        graph = dict(self.array.__dask_graph__().cull(chunks))
        shared = {key: graph.pop(key) for key in [key for key in graph if key not in chunks]}
        return graph, dict(zip(shared, dask.get(shared, list(shared)), strict=True))

    def lent(self, band: int, tiles: Sequence[int]) -> AbstractContextManager[None]:
        """The file of a band for this thread alone, with the bytes of some chunks, unless stackstac opens it."""
        if self.files is None:
            return nullcontext()
        return self.files.lent(self.bands[band].href, [self.window(tile) for tile in tiles])


def _compute(parts: Sequence[_Part], corners: Sequence[tuple[float, float]], threads: int, limit: Limit) -> None:
    """Read all chunks and cut each as it comes; bands side by side, so that few threads want the same file at a time.

    Raises:
        DamagedError: tiles are damaged; says which chips touch them.
        PassingError: a tile is damaged in GDAL's cache alone.
        RuntimeError: a chunk cannot be read.
    """
    pool, work = _pool(threads), []
    for part in parts:
        graph, readers = part.graph()
        for run, band in product(part.runs(), range(len(part.bands))):
            work.append(pool.submit(_read_run, part, band, run, graph, readers, limit))
    done, _ = wait(work, return_when=FIRST_EXCEPTION)
    for task in work:
        task.cancel()
    try:
        for task in done:
            task.result()
    except PassingError:
        raise
    except RuntimeError as exc:
        damaged = _damaged(parts, threads, limit) if cause_of(exc) == "corrupt data" else ()
        if reasons := {corners[chip]: why for chip, why in damaged}:
            raise DamagedError(reasons) from None
        raise


def _read_run(
    part: _Part, band: int, run: Sequence[int], graph: Mapping[Any, Any], readers: Mapping[Any, Any], limit: Limit
) -> None:
    """Some chunks of a band, read one after the other and cut into chips."""
    limit.wait()
    with part.lent(band, run):
        for tile in run:
            chunk = graph[part.key(band, tile)](readers)
            part.cuts.cut(tile, chunk[0, 0], into=part.bands[band].target)


def _damaged(parts: Sequence[_Part], threads: int, limit: Limit) -> Iterator[tuple[int, str]]:
    """Chips that touch damaged tiles, and why, after a read that failed: what is read for it is there for the next.

    Files that stackstac opens are not looked at: chunks are not their tiles.

    Raises:
        RuntimeError: a tile cannot be read.
    """
    chunks = [
        (part, part.files, band, tile)
        for part in parts
        if part.files
        for band, tile in product(range(len(part.bands)), sorted(part.cuts.of_tile))
    ]

    def look(place: tuple[_Part, OpenFiles, int, int]) -> str | None:
        part, files, band, tile = place
        limit.wait()
        with part.lent(band, [tile]):
            try:
                files.check(part.window(tile))
            except DamagedTileError as exc:
                return str(exc)
        return None

    for (part, _, _, tile), why in zip(chunks, _pool(threads).map(look, chunks), strict=True):
        if why is not None:
            yield from ((cut.chip, why) for cut in part.cuts.of_tile[tile])


def _own_grid(header: Seen, scene: Scene, corners: Sequence[tuple[float, float]], chip: Chip) -> Grid | None:
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


def _chunk_px(finest: Seen, own: Grid | None, chip: Chip) -> int:
    """Side of a Dask chunk: the tile of the finest file, in pixels of the stack."""
    smallest, largest = CHUNK_PX
    scale = 1.0 if own is not None else finest.gsd / chip.resolution_m
    return int(min(max(finest.tile * scale, smallest), largest))


def _stack(
    item: dict[str, Any], assets: Sequence[str], grid: Grid, chunk: int, chip: Chip, files: OpenFiles | None
) -> Any:
    """Some bands on a grid, not read yet, ``(time, band, y, x)``; without a warp where files are lent, whose grid it is."""
    bottom, right = grid.top - grid.height * grid.gsd, grid.left + grid.width * grid.gsd
    return stackstac.stack(
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
        gdal_env=LayeredEnv(always={**GDAL_OPTIONS, **OPTIONS}),
        reader=partial(OwnPixels, files=files) if files else WarpedPixels,
    )


def _in_our_words(exc: RuntimeError, signed: Mapping[str, Any], frozen: Mapping[str, Any]) -> RuntimeError:
    """The error with addresses as a plan keeps them; a refusal as what it is."""
    text = str(exc)
    for key in sorted(signed, key=lambda key: -len(signed[key]["href"])):
        href, name = signed[key]["href"], frozen[key]["href"]
        if href in text:
            forget_files(href)  # GDAL would give the same bytes, or the same refusal, the next time
            if why := why_refused(href):
                return RuntimeError(f"Error reading {name}: {why}")
            if (failure := _asked(href, name)) is not None:
                return failure
            text = text.replace(href, name)
    return RuntimeError(text)


def _unsigned(text: str, names: Mapping[str, str]) -> str:
    for href in sorted(names, key=len, reverse=True):
        text = text.replace(href, names[href])
    return text


def _asked(href: str, name: str) -> RuntimeError | None:
    """Whether the server refuses a file, or is silent; GDAL's messages do not always say."""
    address = Address.of(href, name=name)
    if address is None or not wire.usable():
        return None
    try:
        wire.run(wire.fetch(address, 0, 1, retries=0))
    except (ForbiddenError, wire.StalledError) as exc:
        return exc
    except RuntimeError:
        return None
    return None


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


def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads of the calling one's own, kept, for their connections. They do not survive a fork."""
    key = (os.getpid(), threads)
    if getattr(_mine, "key", None) != key:
        _mine.key, _mine.pool = key, ThreadPoolExecutor(threads, thread_name_prefix="pwcat-gdal")
    pool: ThreadPoolExecutor = _mine.pool
    return pool


_mine = threading.local()
