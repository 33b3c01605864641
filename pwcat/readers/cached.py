"""Bytes of tiles as they are in a file, through GDAL, which keeps them in its cache and does not ask for them again."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product

import numpy as np
import rasterio
from rasterio.windows import Window

from pwcat.gdal import loaded_gdal

__all__ = ["TileBytes", "bytes_of_tiles", "tiles_in"]

log = logging.getLogger(__name__)

SEEK_SET = 0

# A request skips this much between tiles (GDAL's COGs have 8 bytes there).
GAP_BYTES = 1024

# By row and column.
TileBytes = Mapping[tuple[int, int], memoryview]


def tiles_in(raster: rasterio.DatasetReader, window: Window) -> list[tuple[int, int]]:
    """Row and column of each tile that a window touches."""
    height, width = raster.block_shapes[0]
    top, left = int(window.row_off), int(window.col_off)
    bottom, right = min(top + int(window.height), raster.height), min(left + int(window.width), raster.width)
    return list(product(range(top // height, -(-bottom // height)), range(left // width, -(-right // width))))


def bytes_of_tiles(raster: rasterio.DatasetReader, href: str, windows: Sequence[Window]) -> TileBytes:
    """Compressed tiles of a GeoTIFF that some windows touch; neighbours in the file come in one request.

    Tiles that were left out of the file are missing, and all where GDAL cannot be asked.

    Args:
        raster: the file, of one band, with the options around it that it is read with.
        href: what it is called in messages.
        windows: of the file.

    Raises:
        RuntimeError: its server does not give the bytes, or not all of them.
    """
    gdal = _file_functions()
    if gdal is None:
        return {}
    places = []
    for row, column in {tile for window in windows for tile in tiles_in(raster, window)}:
        where = [raster.get_tag_item(f"BLOCK_{key}_{column}_{row}", "TIFF", bidx=1) for key in ("OFFSET", "SIZE")]
        offset, size = (int(number or 0) for number in where)
        if size:
            places.append((offset, size, (row, column)))
    tiles: dict[tuple[int, int], memoryview] = {}
    for run in _runs(sorted(places)):
        start, end = run[0][0], max(offset + size for offset, size, _ in run)
        data = _bytes_of(gdal, raster.files[0], href, start, end - start)
        tiles.update({tile: data[offset - start : offset - start + size] for offset, size, tile in run})
    return tiles


_Place = tuple[int, int, tuple[int, int]]


def _runs(places: Sequence[_Place]) -> list[list[_Place]]:
    """Tiles that lie next to each other, together."""
    runs: list[list[_Place]] = []
    for place in places:
        if runs and 0 <= place[0] - sum(runs[-1][-1][:2]) <= GAP_BYTES:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs


def _bytes_of(gdal: ctypes.CDLL, path: str, href: str, offset: int, size: int) -> memoryview:
    """A range of a file."""
    gdal.CPLErrorReset()
    file = gdal.VSIFOpenL(path.encode(), b"rb")
    if not file:
        raise RuntimeError(f"Error reading {href}: it cannot be opened")
    try:
        buffer = np.empty(size, dtype=np.uint8)
        gdal.VSIFSeekL(file, offset, SEEK_SET)
        got = gdal.VSIFReadL(buffer.ctypes.data, 1, size, file)
    finally:
        gdal.VSIFCloseL(file)
    if got != size:
        why = gdal.CPLGetLastErrorMsg().decode(errors="replace")
        raise RuntimeError(f"Error reading {href}: {why or 'it ends before its tiles do'}")
    return buffer.data


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
        gdal.CPLGetLastErrorMsg.restype = ctypes.c_char_p
        gdal.CPLErrorReset.restype = None
    except AttributeError as exc:
        log.debug("checksums of tiles that GDAL reads are not compared: it cannot be asked for their bytes (%s)", exc)
        return None
    return gdal
