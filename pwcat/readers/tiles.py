"""Pixels of a scene's chips, each tile of its files fetched once: all bands side by side, many requests in flight.

Tiles that lie next to each other in a file come in one request. Each is decoded in a thread and cut into the chips that touch
it. What is held at a time is the chips, the requests in flight and the compressed tiles that were wanted last, which the next
shard may want, too: however large the scene.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pwcat.errors import DamagedError
from pwcat.providers import OpenSource
from pwcat.providers.limits import limit_of
from pwcat.readers import counting, wire
from pwcat.readers.codecs import decode_tile
from pwcat.readers.cutting import Cuts
from pwcat.readers.grid import Placement, place
from pwcat.readers.headers import Header, UnsuitedError, forget, open_header
from pwcat.readers.kept import KEPT, Key
from pwcat.readers.wire import Address
from pwcat.recipe import Chip
from pwcat.scenes import Scene

__all__ = ["Tiles"]

T = TypeVar("T")

# A request holds neighbouring tiles up to this size, and skips this much between them (GDAL's COGs have 8 bytes there).
RUN_BYTES = 2 * 2**20
GAP_BYTES = 1024

# Requests of a process that are in flight or being decoded: with RUN_BYTES, what is held of compressed bytes.
IN_FLIGHT = 64


class Tiles:
    """Reads tiled GeoTIFFs over HTTP, on pixel grids that the chips' fits into."""

    def read(
        self, scene: Scene, corners: Sequence[tuple[float, float]], *, chip: Chip, source: OpenSource, threads: int
    ) -> NDArray[np.uint16]:
        """Chips of one scene, ``(n, band, y, x)``; see :func:`pwcat.readers.read_chips`. ``threads`` is not used.

        Raises:
            DamagedError: tiles are damaged; all others have been read, and are kept.
            UnsuitedError: an asset is not of the kind that is read here; says which and why.
        """
        files = _addresses(scene, chip, source)
        try:
            return wire.run(_read(files, scene, corners, chip))
        except ChangedError:
            return wire.run(_read(files, scene, corners, chip))  # the header that was kept was of another file


class ChangedError(RuntimeError):
    """A file is not the one any more whose header was read."""


def _addresses(scene: Scene, chip: Chip, source: OpenSource) -> list[Address]:
    """The files of a chip's bands.

    Raises:
        UnsuitedError: one of them has no address that can be read here.
    """
    if not wire.usable():
        raise UnsuitedError("this process was forked from one that had begun to read tiles")
    files, limit = [], limit_of(source)
    for band in chip.bands:
        asset = scene.item["assets"][source.band_asset(band, scene.item["assets"])]
        href = source.sign(asset["href"])
        address = Address.of(href, name=asset["href"], limit=limit)
        if address is None or "jp2" in (asset.get("type") or "") or href.lower().endswith((".jp2", ".j2k")):
            raise UnsuitedError(f"{asset['href']}: it is no GeoTIFF at an http(s) address")
        files.append(address)
    return files


@dataclass(frozen=True, kw_only=True)
class _Band:
    """One band of some chips in the making.

    Attributes:
        target: what tiles are cut into, ``(n, rows, columns)``: the chips themselves, or windows to be interpolated.
        chips: the chips, ``(n, y, x)``.
        damaged: tiles that are, and why, in words.
    """

    address: Address
    header: Header
    cuts: Cuts
    target: NDArray[np.uint16]
    chips: NDArray[np.uint16]
    damaged: dict[int, str] = field(default_factory=dict)

    def key(self, tile: int) -> Key:
        """What a tile is kept by."""
        return self.address.key, self.header.version, tile


async def _read(
    files: Sequence[Address], scene: Scene, corners: Sequence[tuple[float, float]], chip: Chip
) -> NDArray[np.uint16]:
    headers = await _each(open_header(file) for file in files)
    out = np.zeros((len(corners), len(files), chip.size_px, chip.size_px), dtype=np.uint16)
    bands, known = [], dict[tuple[object, ...], Cuts]()
    for number, (file, header) in enumerate(zip(files, headers, strict=True)):
        key = (header.grid, header.tile)
        if key not in known:
            known[key] = Cuts.plan(_placement(file, header, scene, corners, chip), header.grid, header.tile)
        cuts, chips = known[key], out[:, number]
        bands.append(_Band(address=file, header=header, cuts=cuts, target=cuts.target(chips), chips=chips))
    await _each(_read_band(band) for band in bands)
    damaged = (
        (cut.chip, why) for band in bands for tile, why in band.damaged.items() for cut in band.cuts.of_tile[tile]
    )
    if reasons := {corners[chip]: why for chip, why in damaged}:
        raise DamagedError(reasons)
    return out


def _placement(
    file: Address, header: Header, scene: Scene, corners: Sequence[tuple[float, float]], chip: Chip
) -> Placement:
    if header.grid.epsg != scene.epsg:
        raise UnsuitedError(f"{file.name}: it is in EPSG:{header.grid.epsg}, the scene in EPSG:{scene.epsg}")
    placement = place(header.grid, corners, chip)
    if placement is None:
        raise UnsuitedError(f"{file.name}: the chips' pixels do not fit into its own, of {header.grid.gsd:g} m")
    return placement


async def _read_band(band: _Band) -> None:
    left = [
        tile for tile in band.cuts.of_tile if band.header.sizes[tile] > 0
    ]  # else left out of the file: without data
    while left:
        here = [(tile, data) for tile in left if (data := KEPT.get(band.key(tile))) is not None]
        missing = {*left} - {tile for tile, _ in here}
        mine = KEPT.claim(band.key(tile) for tile in missing)
        try:
            runs = _runs(band.header, [tile for tile in missing if band.key(tile) in mine])
            await _each([*(_read_run(band, run) for run in runs), *(_in_thread(_cut, band, *tile) for tile in here)])
        finally:
            KEPT.release(mine)
        left = [tile for tile in missing if band.key(tile) not in mine]  # others were reading these
        await KEPT.others([band.key(tile) for tile in left])
    if band.target is not band.chips:
        await _in_thread(band.cuts.finish, band.target, band.chips)


def _runs(header: Header, wanted: Sequence[int]) -> Iterator[list[int]]:
    """The tiles that are wanted, in the file's order; those that lie next to each other together."""
    run: list[int] = []
    for tile in sorted(wanted, key=lambda tile: int(header.offsets[tile])):
        if run:
            start, end = header.offsets[run[0]], header.offsets[run[-1]] + header.sizes[run[-1]]
            gap = header.offsets[tile] - end
            if not 0 <= gap <= GAP_BYTES or header.offsets[tile] + header.sizes[tile] - start > RUN_BYTES:
                yield run
                run = []
        run.append(tile)
    if run:
        yield run


async def _read_run(band: _Band, run: Sequence[int]) -> None:
    async with _in_flight():
        data = await _fetch(band, run)
        for tile, compressed in await _in_thread(_cut_run, band, run, data):
            await _read_again(band, tile, compressed)


async def _read_again(band: _Band, tile: int, before: bytes) -> None:
    """A tile that was found damaged: read alone, unless the file is so.

    Raises:
        RuntimeError: it is damaged in another way.
    """
    counting.add(retries=1)
    data = await _fetch(band, [tile])
    if not await _in_thread(_cut_run, band, [tile], data):
        del band.damaged[tile]
    elif data != before:
        raise RuntimeError(band.damaged[tile])


async def _fetch(band: _Band, run: Sequence[int]) -> memoryview:
    """The bytes from the first of some tiles to the last."""
    header, name = band.header, band.address.name
    start, end = int(header.offsets[run[0]]), int(header.offsets[run[-1]] + header.sizes[run[-1]])
    answer = await wire.fetch(band.address, start, end)
    if answer.version != header.version:
        forget(band.address)
        raise ChangedError(f"Error reading {name}: the file has changed while it was read")
    if len(answer.data) != end - start:
        raise RuntimeError(f"Error reading {name}: it ends before its tiles do, at byte {answer.size}")
    return answer.data


def _cut_run(band: _Band, run: Sequence[int], data: memoryview) -> list[tuple[int, bytes]]:
    """Tiles of one request cut into chips, and kept once they are found whole; those that are damaged."""
    header, damaged = band.header, []
    for tile in run:
        start = int(header.offsets[tile] - header.offsets[run[0]])
        compressed = data[start : start + int(header.sizes[tile])]
        try:
            _cut(band, tile, compressed)
        except ValueError as exc:
            row, column = divmod(tile, header.across)
            where = f"tile in row {row}, column {column}"
            band.damaged[tile] = f"Error reading {band.address.name}: {where} is damaged: {exc}"
            damaged.append((tile, bytes(compressed)))
        else:
            KEPT.keep(band.key(tile), compressed)
    return damaged


def _cut(band: _Band, tile: int, compressed: memoryview) -> None:
    """One tile cut into chips.

    Raises:
        ValueError: the bytes are not those of a tile.
    """
    header, rows = band.header, band.cuts.rows(tile)
    pixels = decode_tile(
        compressed,
        compression=header.compression,
        predictor=header.predictor,
        shape=header.tile,
        dtype=header.dtype,
        rows=rows,
    )
    band.cuts.cut(tile, pixels, into=band.target, first=rows.start)


async def _each(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Results of all, side by side; at the first failure the others are stopped, and it is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


async def _in_thread(work: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(_decoders(), work, *arguments)


@cache
def _decoders() -> ThreadPoolExecutor:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ThreadPoolExecutor(min(8, cores), thread_name_prefix="pwcat-tiles")


@cache
def _in_flight() -> asyncio.Semaphore:
    return asyncio.Semaphore(IN_FLIGHT)
