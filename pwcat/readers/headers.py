"""Headers of tiled GeoTIFFs: where each tile lies and what its bytes mean; the last ones are kept."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from async_geotiff import GeoTIFF
from async_tiff import TIFF
from async_tiff.enums import Endianness, PlanarConfiguration, Predictor
from numpy.typing import NDArray

from pwcat.errors import ForbiddenError
from pwcat.providers.reuse import forgets
from pwcat.readers.codecs import COMPRESSIONS
from pwcat.readers.grid import Grid
from pwcat.readers.wire import Address, fetch

__all__ = ["Header", "UnsuitedError", "forget", "open_header"]

# Holds the tables of a file of 10980² pixels with all its overviews; more is read where it does not.
HEADER_BYTES = 16_384
KEPT = 4096

# A tile is held whole while it is decoded.
LARGEST_TILE_PX = 2048**2

USER_DEFINED = 32767  # GeoTIFF's code of a CRS that has none


class UnsuitedError(Exception):
    """The file is not of the kind that the tile reader reads; says why. GDAL may read it."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What is known of a file before its pixels are read.

    Attributes:
        grid: its pixels.
        tile: rows and columns of a tile.
        across: tiles in a row of tiles.
        offsets: of each tile in the file, row by row.
        sizes: of each tile, compressed; 0 where it was left out.
        dtype: of the pixels as stored, byte order included.
        compression: TIFF's number.
        predictor: TIFF's number.
        version: of the file when the header was read.
    """

    grid: Grid
    tile: tuple[int, int]
    across: int
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    dtype: np.dtype[np.generic]
    compression: int
    predictor: int
    version: Any


async def open_header(address: Address) -> Header:
    """The header of a file, read unless it is known; shards that want the same one at the same time share the read.

    Raises:
        UnsuitedError: the file is of another kind.
        ForbiddenError: the server refuses.
        RuntimeError: it cannot be read.
    """
    base, task = _known.get(address.key, (address.base, None))
    if task is None or (task.done() and _unkept(task)):
        base, task = _known[address.key] = address.base, asyncio.ensure_future(_read(address))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, even if nobody waits any more
    _known.move_to_end(address.key)
    while len(_known) > KEPT:
        _known.popitem(last=False)
    try:
        return await asyncio.shield(task)
    except ForbiddenError:
        if base == address.base:
            raise
        return await open_header(address)  # what was refused is another's signature, an older one
    except UnsuitedError as exc:
        raise UnsuitedError(f"{address.name}: {exc}") from None


def forget(address: Address) -> None:
    """Read the header again the next time: the file is another by now."""
    _known.pop(address.key, None)


@forgets
def _forget_under(url: str) -> None:
    for key in [key for key in list(_known) if key.startswith(url)]:
        _known.pop(key, None)


# With the server and signature that each was asked for with.
_known: OrderedDict[str, tuple[str, asyncio.Task[Header]]] = OrderedDict()


def _unkept(task: asyncio.Task[Header]) -> bool:
    """Whether it failed in a way that may be otherwise the next time."""
    return task.cancelled() or not isinstance(task.exception(), UnsuitedError | None)


async def _read(address: Address) -> Header:
    source = _Source(address)
    try:
        tiff = await TIFF.open(address.path, store=source, prefetch=HEADER_BYTES)
    except Exception as exc:
        if source.failure is not None:
            raise source.failure from None
        raise UnsuitedError(f"it is no TIFF: {exc}") from exc
    if any(ifd.tile_offsets is None or ifd.strip_offsets is not None for ifd in tiff.ifds):
        raise UnsuitedError("it is not tiled")
    try:
        return _header(GeoTIFF(tiff), source.version)
    except ValueError as exc:
        raise UnsuitedError(f"it is no GeoTIFF: {exc}") from exc


class _Source:
    """A file as async-tiff reads headers from it."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.version: Any = None
        self.failure: Exception | None = None

    async def get_range_async(
        self, path: str, *, start: int, end: int | None = None, length: int | None = None
    ) -> memoryview:
        try:
            answer = await fetch(self.address, start, start + (length or 0) if end is None else end)
        except (ForbiddenError, RuntimeError) as exc:
            self.failure = exc
            raise
        self.version = answer.version
        return answer.data

    async def get_ranges_async(
        self,
        path: str,
        *,
        starts: Sequence[int],
        ends: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
    ) -> list[memoryview]:
        stops = ends if ends is not None else [a + b for a, b in zip(starts, lengths or (), strict=True)]
        return [await self.get_range_async(path, start=a, end=b) for a, b in zip(starts, stops, strict=True)]


def _header(tiff: GeoTIFF, version: Any) -> Header:
    """What the tile reader needs of a header.

    Raises:
        UnsuitedError: the first thing that it cannot read.
    """
    ifd, transform = tiff.ifd, tiff.transform
    offsets, sizes, keys = ifd.tile_offsets, ifd.tile_byte_counts, ifd.geo_key_directory
    planes = (ifd.samples_per_pixel, ifd.planar_configuration)
    if offsets is None or sizes is None or ifd.tile_width is None or ifd.tile_height is None:
        raise UnsuitedError("it is not tiled")
    if ifd.tile_width * ifd.tile_height > LARGEST_TILE_PX:
        raise UnsuitedError(f"its tiles are of {ifd.tile_width} x {ifd.tile_height} pixels")
    if planes[0] != 1 or planes[1] not in (PlanarConfiguration.Chunky, PlanarConfiguration.Planar):
        raise UnsuitedError(f"it has {planes[0]} bands")
    if transform.b or transform.d or transform.a <= 0 or transform.e != -transform.a:
        raise UnsuitedError(f"its pixels are not upright and square: {tuple(transform)[:6]}")
    if keys is None or keys.projected_type in (None, USER_DEFINED):
        raise UnsuitedError("its CRS has no EPSG code of a projection")
    if tiff.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
        raise UnsuitedError(f"its pixels are {tiff.dtype}")
    if int(ifd.compression) not in COMPRESSIONS or ifd.predictor not in (None, Predictor.Unknown, Predictor.Horizontal):
        raise UnsuitedError(f"it is compressed by {ifd.compression!r} with predictor {ifd.predictor!r}")
    if getattr(tiff, "mask_ifd", None) is not None:
        raise UnsuitedError("it has a mask of its own")
    across, down = -(-ifd.image_width // ifd.tile_width), -(-ifd.image_height // ifd.tile_height)
    if not len(offsets) == len(sizes) == across * down:
        raise UnsuitedError(f"it lists {len(offsets)} tiles where {across * down} are due")
    order: Literal["<", ">"] = "<" if tiff.tiff.endianness == Endianness.LittleEndian else ">"
    return Header(
        grid=Grid(
            epsg=int(keys.projected_type),
            left=float(transform.c),
            top=float(transform.f),
            gsd=float(transform.a),
            width=ifd.image_width,
            height=ifd.image_height,
            nodata=_nodata(tiff),
        ),
        tile=(ifd.tile_height, ifd.tile_width),
        across=across,
        offsets=np.array(offsets, dtype=np.int64),
        sizes=np.array(sizes, dtype=np.int64),
        dtype=tiff.dtype.newbyteorder(order),
        compression=int(ifd.compression),
        predictor=int(ifd.predictor or 1),
        version=version,
    )


def _nodata(tiff: GeoTIFF) -> int | None:
    """Value of pixels without data; only the ends of the range are known to be taken as GDAL takes them."""
    value = tiff.nodata
    if value is None:
        return None
    if value not in (0, np.iinfo(tiff.dtype).max):
        raise UnsuitedError(f"its pixels without data have the value {value:g}")
    return int(value)
