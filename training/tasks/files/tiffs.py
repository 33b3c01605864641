"""GeoTIFFs of benchmarks: whether they are whole, where they lie, and their pixels.

Opening a file reads its header alone, so a file whose end is missing opens as well as any: its last block is looked for too.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyproj
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from pwcat.errors import TrainingError
from pwcat.plain import is_placed, open_plain

__all__ = ["Looked", "look_at_all", "places", "read"]

T = TypeVar("T")

THREADS = 16
_of_thread = threading.local()


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What a file's header says.

    Attributes:
        fault: why it cannot be read; empty where it can.
        bands: how many.
        height: in pixels.
        width: in pixels.
        crs: as WKT; empty where it has none.
        x: of its middle, in the CRS.
        y: of its middle, in the CRS.
    """

    fault: str = ""
    bands: int = 0
    height: int = 0
    width: int = 0
    crs: str = ""
    x: float = np.nan
    y: float = np.nan


def look_at_all(paths: Sequence[Path]) -> list[Looked]:
    """What the headers of files say, in their order, and whether all of each is there."""
    with _quiet():
        return list(_pool().map(_look, paths))


def _look(path: Path) -> Looked:
    try:
        size = path.stat().st_size
    except OSError:
        return Looked(fault="is missing")
    if size == 0:
        return Looked(fault="is empty")
    try:
        with open_plain(str(path)) as raster:
            end = _end(raster)
            x, y = raster.transform @ (raster.width / 2, raster.height / 2)
            return Looked(
                fault="is not whole" if end > size else "",
                bands=raster.count,
                height=raster.height,
                width=raster.width,
                crs=raster.crs.to_wkt() if is_placed(raster) and not raster.transform.is_identity else "",
                x=x,
                y=y,
            )
    except RasterioError:
        return Looked(fault="is no GeoTIFF, or damaged")


def places(looked: Sequence[Looked]) -> NDArray[np.float64]:
    """Longitude and latitude of the middle of each, (N, 2), EPSG:4326; NaN where a file has no CRS."""
    lonlat = np.full((len(looked), 2), np.nan)
    crs = np.array([one.crs for one in looked], dtype=object)
    x, y = (np.array([getattr(one, axis) for one in looked], dtype=np.float64) for axis in "xy")
    for name in sorted(set(crs) - {""}):
        of = crs == name
        to = pyproj.Transformer.from_crs(name, "EPSG:4326", always_xy=True)
        lonlat[of] = np.stack(to.transform(x[of], y[of]), axis=1)
    lonlat[~np.isfinite(lonlat).all(axis=1)] = np.nan
    return lonlat


def read(paths: Sequence[Path], *, bands: int, made: Callable[[NDArray[np.generic]], T]) -> list[T]:
    """What is made of the pixels of each file, (C, H, W), in the order of the files; several are read side by side.

    Raises:
        TrainingError: one cannot be read, or has another number of bands.
    """
    with _quiet():
        return list(_pool().map(lambda path: made(_read(path, bands)), paths))


def _read(path: Path, bands: int) -> NDArray[np.generic]:
    try:
        with open_plain(str(path)) as raster:
            pixels: NDArray[np.generic] = raster.read()
    except RasterioError as exc:
        raise TrainingError(f"{path} cannot be read ({exc}): it is missing or damaged; fetch it again") from exc
    if len(pixels) != bands:
        raise TrainingError(f"{path} has {len(pixels)} bands, and {bands} are expected: it is not the official file")
    return pixels


@cache
def _pool() -> ThreadPoolExecutor:
    """Threads that stay: the first file costs each of them 8 ms, for PROJ's database, and GDAL's environment .3 ms."""
    return ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1), thread_name_prefix="pwcat-tiff", initializer=_enter)


def _enter() -> None:
    _of_thread.env = rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR")
    _of_thread.env.__enter__()


@contextmanager
def _quiet() -> Iterator[None]:
    """No word for each file that says nothing of its place: how many there are is told elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _end(raster: rasterio.DatasetReader) -> int:
    """Where the last block of a file ends, in bytes; 0 where GDAL does not tell."""
    rows, columns = raster.block_shapes[-1]
    last = f"{(raster.width - 1) // columns}_{(raster.height - 1) // rows}"
    ends = [0]
    for band in {1, raster.count}:
        offset = raster.get_tag_item(f"BLOCK_OFFSET_{last}", "TIFF", bidx=band)
        length = raster.get_tag_item(f"BLOCK_SIZE_{last}", "TIFF", bidx=band)
        if offset and length:
            ends.append(int(offset) + int(length))
    return max(ends)
