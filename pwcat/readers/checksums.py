"""Checksums that GDAL leaves out: of deflated tiles that it has just decoded.

libtiff, with libdeflate, compares none where a tile reaches beyond the image, nor where wrong bytes make more pixels than are
due; without it, never. So the bytes are taken again from GDAL's own cache, and inflated with their checksum compared.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator
from functools import cache
from itertools import product

import numpy as np
import rasterio
from rasterio.enums import Compression

from pwcat.gdal import GDAL_OPTIONS, loaded_gdal
from pwcat.readers import counting, wire
from pwcat.readers.codecs import COMPRESSIONS
from pwcat.readers.wire import Address

__all__ = ["DamagedTileError", "PassingError", "check_tiles"]

log = logging.getLogger(__name__)

DEFLATE = 8
SEEK_SET = 0

# The cache of one open file would round ranges up to 32 KiB, and ask for what GDAL did not.
OPTIONS = {**GDAL_OPTIONS, "VSI_CACHE": False}


class DamagedTileError(RuntimeError):
    """A tile is damaged, and so it is where it is asked for again."""


class PassingError(RuntimeError):
    """A tile is damaged in GDAL's cache alone; reading the file again, without that, may help.

    Attributes:
        href: of the file.
    """

    def __init__(self, text: str, href: str) -> None:
        super().__init__(text)
        self.href = href


def check_tiles(href: str, *, top: int, left: int, side: int) -> None:
    """Compare the checksums of the tiles that a window touches; files that have none pass, and all where GDAL cannot be asked.

    Args:
        href: of the file, of one band, as GDAL has just read it in this process.
        top: first row of the window, in the file's pixels.
        left: first column.
        side: rows and columns; those beyond the file do not count.

    Raises:
        DamagedTileError: a tile is damaged, and came with the same bytes once more.
        PassingError: a tile is damaged, and came with other bytes.
        RuntimeError: a tile is damaged and cannot be asked for again.
    """
    gdal = _file_functions()
    if gdal is None:
        return
    with rasterio.Env(**OPTIONS), rasterio.open(href) as raster:
        if raster.compression != Compression.deflate:
            return
        for row, column in _tiles(raster, top=top, left=left, side=side):
            where = [raster.get_tag_item(f"BLOCK_{key}_{column}_{row}", "TIFF", bidx=1) for key in ("OFFSET", "SIZE")]
            offset, size = (int(number or 0) for number in where)
            if not size:  # left out of the file: without data
                continue
            data = _bytes_of(gdal, raster.files[0], offset, size)
            try:
                _check(data, _sizes_due(raster, row))
            except ValueError as exc:
                text = f"Error reading {href}: tile in row {row}, column {column} is damaged: {exc}"
                raise _asked_again(href, offset, data, text) from exc


def _tiles(raster: rasterio.DatasetReader, *, top: int, left: int, side: int) -> Iterator[tuple[int, int]]:
    """Row and column of each tile that a window touches."""
    height, width = raster.block_shapes[0]
    bottom, right = min(top + side, raster.height), min(left + side, raster.width)
    return product(range(top // height, -(-bottom // height)), range(left // width, -(-right // width)))


def _sizes_due(raster: rasterio.DatasetReader, row: int) -> tuple[int, int]:
    """Bytes of a tile's pixels: whole, and where the image ends, as the last strip of a file without tiles does."""
    height, width = raster.block_shapes[0]
    bits = int(raster.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", np.dtype(raster.dtypes[0]).itemsize * 8))
    row_bytes = -(-width * bits // 8)
    return height * row_bytes, min(height, raster.height - row * height) * row_bytes


def _check(data: bytes, due: tuple[int, int]) -> None:
    """Raises ``ValueError`` where a deflate stream is damaged, or does not hold so many bytes."""
    size = len(COMPRESSIONS[DEFLATE](memoryview(data), due[0]))
    if size not in due:
        raise ValueError(f"{size} bytes of pixels where {due[0]} are due")


def _asked_again(href: str, offset: int, before: bytes, text: str) -> RuntimeError:
    """What a damaged tile is, by the bytes that come past GDAL's cache."""
    address = Address.of(href, name=href)
    if address is None or not wire.usable():
        return RuntimeError(text)
    counting.add(retries=1)
    answer = wire.run(wire.fetch(address, offset, offset + len(before)))
    return DamagedTileError(text) if answer.data == before else PassingError(text, href)


def _bytes_of(gdal: ctypes.CDLL, path: str, offset: int, size: int) -> bytes:
    """A range of a file through GDAL, which has it in its cache.

    Raises:
        RuntimeError: the file cannot be opened, or ends before.
    """
    file = gdal.VSIFOpenL(path.encode(), b"rb")
    if not file:
        raise RuntimeError(f"Error reading {path}: it cannot be opened")
    try:
        buffer = ctypes.create_string_buffer(size)
        gdal.VSIFSeekL(file, offset, SEEK_SET)
        if gdal.VSIFReadL(buffer, 1, size, file) != size:
            raise RuntimeError(f"Error reading {path}: it ends before its tiles do")
        return buffer.raw
    finally:
        gdal.VSIFCloseL(file)


@cache
def _file_functions() -> ctypes.CDLL | None:
    """GDAL's functions on files; ``None``, which is said once, where they cannot be reached."""
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    try:
        gdal = loaded_gdal()
        if gdal is None:
            raise AttributeError("its library cannot be opened")
        gdal.VSIFOpenL.restype, gdal.VSIFOpenL.argtypes = pointer, [ctypes.c_char_p, ctypes.c_char_p]
        gdal.VSIFSeekL.argtypes = [pointer, ctypes.c_uint64, ctypes.c_int]
        gdal.VSIFReadL.restype, gdal.VSIFReadL.argtypes = size, [pointer, size, size, pointer]
        gdal.VSIFCloseL.argtypes = [pointer]
    except AttributeError as exc:
        log.debug("checksums of tiles that GDAL reads are not compared: it cannot be asked for their bytes (%s)", exc)
        return None
    return gdal
