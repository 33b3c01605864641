"""Checksums that GDAL leaves out: of deflated tiles that it has just decoded.

libtiff, with libdeflate, compares none where a tile reaches beyond the image, nor where wrong bytes make more pixels than are
due; without it, never. So the checksum of the pixels that came is compared with that at the end of the tile's bytes. Where that
does not tell (of a tile at the edge not all pixels come), the bytes are inflated once more.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Compression
from rasterio.windows import Window

from pwcat.readers import counting, wire
from pwcat.readers.cached import TileBytes, tiles_in
from pwcat.readers.codecs import COMPRESSIONS
from pwcat.readers.wire import Address

__all__ = ["DamagedTileError", "PassingError", "check_tiles"]

DEFLATE = 8
HORIZONTAL = "2"

# Of a deflate stream of zlib's form: Adler-32, at its end, the largest byte first.
CHECKSUM_BYTES = 4


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


def check_tiles(
    raster: rasterio.DatasetReader,
    href: str,
    window: Window,
    tiles: TileBytes,
    pixels: NDArray[Any] | None = None,
) -> None:
    """Compare the checksums of the tiles that a window touches; files that have none pass, and tiles whose bytes are not known.

    Args:
        raster: the file, of one band.
        href: of the file.
        window: of the file; what lies beyond it does not count.
        tiles: their bytes.
        pixels: of the window, ``(y, x)``, as they came; spares inflating the tiles that lie in it whole.

    Raises:
        DamagedTileError: a tile is damaged, and came with the same bytes once more.
        PassingError: a tile is damaged, and came with other bytes.
        RuntimeError: a tile is damaged and cannot be asked for again.
    """
    if raster.compression != Compression.deflate:
        return
    for row, column in tiles_in(raster, window):
        data = tiles.get((row, column))
        if data is None:
            continue
        whole = None if pixels is None else _whole(raster, window, pixels, row, column)
        if whole is not None and _checksum(raster, whole) == data[-CHECKSUM_BYTES:]:
            continue
        try:
            _check(data, _sizes_due(raster, row))
        except ValueError as exc:
            text = f"Error reading {href}: tile in row {row}, column {column} is damaged: {exc}"
            offset = int(raster.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=1))
            raise _asked_again(href, offset, data, text) from exc


def _whole(
    raster: rasterio.DatasetReader, window: Window, pixels: NDArray[Any], row: int, column: int
) -> NDArray[Any] | None:
    """The pixels of a tile; ``None`` where the window does not hold them all."""
    height, width = raster.block_shapes[0]
    top, left = row * height - int(window.row_off), column * width - int(window.col_off)
    if top < 0 or left < 0 or top + height > pixels.shape[0] or left + width > pixels.shape[1]:
        return None
    return pixels[top : top + height, left : left + width]


def _checksum(raster: rasterio.DatasetReader, tile: NDArray[Any]) -> bytes:
    """Of a tile's bytes before they were compressed, if they were pixels in this machine's order, or differences of them."""
    plain = np.ascontiguousarray(tile)
    if raster.tags(ns="IMAGE_STRUCTURE").get("PREDICTOR") == HORIZONTAL:
        plain = np.diff(tile, axis=1, prepend=tile.dtype.type(0))
    return zlib.adler32(plain.data).to_bytes(CHECKSUM_BYTES, "big")


def _sizes_due(raster: rasterio.DatasetReader, row: int) -> tuple[int, int]:
    """Bytes of a tile's pixels: whole, and where the image ends, as the last strip of a file without tiles does."""
    height, width = raster.block_shapes[0]
    bits = int(raster.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", np.dtype(raster.dtypes[0]).itemsize * 8))
    row_bytes = -(-width * bits // 8)
    return height * row_bytes, min(height, raster.height - row * height) * row_bytes


def _check(data: memoryview, due: tuple[int, int]) -> None:
    """Raises ``ValueError`` where a deflate stream is damaged, or does not hold so many bytes."""
    size = len(COMPRESSIONS[DEFLATE](data, due[0]))
    if size not in due:
        raise ValueError(f"{size} bytes of pixels where {due[0]} are due")


def _asked_again(href: str, offset: int, before: memoryview, text: str) -> RuntimeError:
    """What a damaged tile is, by the bytes that come past GDAL's cache."""
    address = Address.of(href, name=href)
    if address is None or not wire.usable():
        return RuntimeError(text)
    counting.add(retries=1)
    answer = wire.run(wire.fetch(address, offset, offset + len(before)))
    return DamagedTileError(text) if answer.data == before else PassingError(text, href)
