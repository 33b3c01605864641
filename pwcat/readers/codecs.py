"""Bytes of a tile made pixels, or an error: never pixels from bytes that are short, long or fail their checksum."""

from __future__ import annotations

import ctypes
import zlib
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pwcat.gdal import loaded_gdal

__all__ = ["COMPRESSIONS", "decode_tile"]

HORIZONTAL = 2  # TIFF's predictor of differences along a row


def decode_tile(
    data: memoryview,
    *,
    compression: int,
    predictor: int,
    shape: tuple[int, int],
    dtype: np.dtype[np.generic],
    rows: slice = slice(None),
) -> NDArray[np.generic]:
    """The pixels of a tile, ``shape``, or of some of its rows, in the machine's byte order.

    Args:
        data: as the file holds it.
        compression: of TIFF; one of :data:`COMPRESSIONS`.
        predictor: of TIFF; 1 or 2.
        shape: rows and columns.
        dtype: as stored, byte order included.
        rows: that are wanted; to sum up the differences in all others, too, takes a third longer where few are.

    Raises:
        ValueError: the bytes are not those of such a tile.
    """
    size = shape[0] * shape[1] * dtype.itemsize
    plain = COMPRESSIONS[compression](data, size)
    if len(plain) != size:
        raise ValueError(f"{len(plain)} bytes of pixels where {size} are due")
    pixels = np.frombuffer(plain, dtype=dtype).reshape(shape)[rows]
    pixels = pixels.astype(dtype.newbyteorder("="), copy=False)
    return np.add.accumulate(pixels, axis=1, dtype=pixels.dtype) if predictor == HORIZONTAL else pixels


def _plain(data: memoryview, size: int) -> memoryview:
    return data


def _inflate(data: memoryview, size: int) -> memoryview | bytes:
    """Deflate of zlib's form, its checksum compared."""
    if (gdal := _inflater()) is None:
        return _inflate_slowly(data, size)
    out = np.empty(size, dtype=np.uint8)
    taken = ctypes.c_size_t()
    source = np.frombuffer(data, dtype=np.uint8)
    done = gdal.CPLZLibInflate(source.ctypes.data, len(source), out.ctypes.data, size, ctypes.byref(taken))
    if not done:
        raise ValueError("the deflate stream is damaged")
    return out.data[: taken.value]


def _inflate_slowly(data: memoryview, size: int) -> bytes:
    try:
        return zlib.decompress(data, bufsize=size)
    except zlib.error as exc:
        raise ValueError(f"the deflate stream is damaged: {exc}") from exc


@cache
def _inflater() -> ctypes.CDLL | None:
    """GDAL's own inflate, twice as fast as Python's; ``None`` where it cannot be reached."""
    try:
        gdal = loaded_gdal()
        if gdal is None:
            return None
        size, pointer = ctypes.c_size_t, ctypes.c_void_p
        gdal.CPLZLibInflate.restype = pointer
        gdal.CPLZLibInflate.argtypes = [pointer, size, pointer, size, ctypes.POINTER(size)]
    except AttributeError:
        return None
    return gdal


def _zstandard(data: memoryview, size: int) -> memoryview:
    """A frame of Zstandard. Files written by GDAL have no checksum in it."""
    try:
        return memoryview(pa.Codec("zstd").decompress(data, decompressed_size=size))
    except OSError as exc:
        raise ValueError(f"the zstd frame is damaged: {exc}") from exc


# By TIFF's number. LZW is left to GDAL: the decoder at hand panics at wrong bytes.
COMPRESSIONS: Mapping[int, Callable[[memoryview, int], memoryview | bytes]] = {
    1: _plain,
    8: _inflate,
    32946: _inflate,
    50000: _zstandard,
}
