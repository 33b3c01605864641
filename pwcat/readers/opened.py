"""Files that GDAL has open while chips of a scene are read, and stackstac's readers: of those on their own grid, and of others.

stackstac opens a file once for its header and again in each thread that reads from it, and asks for each tile by itself. Here a
file is lent to one thread at a time, opened again only where all open ones are lent; and the bytes of the tiles that a thread
is to read come first, neighbours in one request. GDAL then finds them in its cache, and their checksums are compared.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window
from stackstac.raster_spec import RasterSpec
from stackstac.rio_env import LayeredEnv
from stackstac.rio_reader import (
    MULTITHREADED_DRIVER_ALLOWLIST,
    AutoParallelRioReader,
    SingleThreadedRioDataset,
    ThreadLocalRioDataset,
)

from pwcat.plain import is_placed, open_plain
from pwcat.providers.guard import gdal_options
from pwcat.readers.cached import TileBytes, bytes_of_tiles
from pwcat.readers.checksums import check_tiles

__all__ = ["OpenFiles", "OwnPixels", "WarpedPixels"]

T = TypeVar("T")

# Threads of a process that open files: no others do, because the first file costs a thread 8 ms, for PROJ's database.
OPENERS = 32


@dataclass(frozen=True, kw_only=True)
class _Lent:
    """A file that a thread has to itself, and the bytes of tiles that it is about to read."""

    href: str
    raster: rasterio.DatasetReader
    tiles: TileBytes


class OpenFiles:
    """Files that are open, each lent to one thread at a time."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """None is open yet.

        Args:
            options: GDAL's, to open and to read.
        """
        self._options = dict(options)
        self._lock = threading.Lock()
        self._here: dict[str, list[rasterio.DatasetReader]] = {}
        self._over = False
        self._mine = threading.local()

    def __enter__(self) -> OpenFiles:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files; those that are lent when they come back."""
        with self._lock:
            self._over = True
            here = [raster for rasters in self._here.values() for raster in rasters]
            self._here.clear()
        for raster in here:
            raster.close()

    def __dask_tokenize__(self) -> int:
        return id(self)

    def look(self, hrefs: Sequence[str], at: Callable[[rasterio.DatasetReader], T]) -> list[T]:
        """What is seen in each of some files, all opened side by side.

        Raises:
            RuntimeError: a file cannot be opened.
        """

        def look(href: str) -> T:
            raster = self._open(href)
            try:
                return at(raster)
            finally:
                self._take_back(href, raster)

        coming = {href: _openers(os.getpid()).submit(look, href) for href in dict.fromkeys(hrefs)}
        wait(coming.values())
        return [coming[href].result() for href in hrefs]

    @contextmanager
    def lent(self, href: str, windows: Sequence[Window]) -> Iterator[None]:
        """This thread has a file to itself, and the bytes of the tiles in some windows.

        Raises:
            RuntimeError: the file cannot be opened, or its server does not give the bytes.
        """
        with self._lock:
            here = self._here.get(href)
            raster = here.pop() if here else None
        if raster is None:
            raster = _openers(os.getpid()).submit(self._open, href).result()
        try:
            with rasterio.Env(**self._options, **gdal_options(href)):
                self._mine.lent = _Lent(href=href, raster=raster, tiles=bytes_of_tiles(raster, href, windows))
                yield
        finally:
            self._mine.lent = None
            self._take_back(href, raster)

    def read(self, window: Window) -> NDArray[Any]:
        """Pixels ``(y, x)`` of a window, as stored in the file that this thread has, their checksums compared.

        Raises:
            RuntimeError: they cannot be read, or are damaged.
        """
        lent: _Lent = self._mine.lent
        try:
            pixels: NDArray[Any] = lent.raster.read(1, window=window)
        except rasterio.errors.RasterioError as exc:
            raise RuntimeError(f"Error reading {window} from {lent.href!r}: {exc!r}") from exc
        check_tiles(lent.raster, lent.href, window, lent.tiles, pixels)
        return pixels

    def check(self, window: Window) -> None:
        """Compare the checksums of the tiles in a window of the file that this thread has.

        Raises:
            RuntimeError: a tile is damaged.
        """
        lent: _Lent = self._mine.lent
        check_tiles(lent.raster, lent.href, window, lent.tiles)

    def _open(self, href: str) -> rasterio.DatasetReader:
        try:
            with rasterio.Env(**self._options, **gdal_options(href)):
                return open_plain(href)
        except rasterio.errors.RasterioIOError as exc:
            raise RuntimeError(f"Error opening {href}: {exc}") from exc

    def _take_back(self, href: str, raster: rasterio.DatasetReader) -> None:
        with self._lock:
            if not self._over:
                self._here.setdefault(href, []).append(raster)
                return
        raster.close()


class OwnPixels:
    """stackstac's ``Reader`` of the file that is lent to the thread: pixels as stored, as a mask would be filled with."""

    def __init__(self, *, dtype: np.dtype[Any], files: OpenFiles, **_kind: Any) -> None:
        """Nothing is opened here.

        Args:
            dtype: of the array that is wanted.
            files: where the file is lent.
            _kind: what stackstac would need to open and warp it.
        """
        self.dtype = dtype
        self.files = files

    def read(self, window: Window) -> NDArray[Any]:
        """Pixels of a window that lies inside the file."""
        return self.files.read(window).astype(self.dtype, copy=False)

    def close(self) -> None:
        """Files are closed where they are lent."""


class WarpedPixels(AutoParallelRioReader):
    """stackstac's own ``Reader``, which warps, of files of plain formats alone: it would open whatever GDAL can."""

    def __init__(self, *, url: str, gdal_env: LayeredEnv, **kind: Any) -> None:
        """Nothing is opened here; see stackstac for ``kind``."""
        super().__init__(url=url, gdal_env=gdal_env.updated(always=gdal_options(url)), **kind)

    def _open(self) -> SingleThreadedRioDataset | ThreadLocalRioDataset:
        with self.gdal_env.open:
            try:
                raster = open_plain(self.url)
            except rasterio.errors.RasterioIOError as exc:
                raise RuntimeError(f"Error opening {self.url!r}: {exc}") from exc
            if raster.count != 1:
                raise RuntimeError(
                    f"Error opening {self.url!r}: it has {raster.count} bands, and chips are of files of one"
                )
            if not is_placed(raster):
                raise RuntimeError(f"Error opening {self.url!r}: its CRS is no place on Earth")
            warped = None if _lies_on(raster, self.spec) else self._warp(raster)
        of_threads = raster.driver in MULTITHREADED_DRIVER_ALLOWLIST
        return (ThreadLocalRioDataset if of_threads else SingleThreadedRioDataset)(self.gdal_env, raster, vrt=warped)

    def _warp(self, raster: rasterio.DatasetReader) -> WarpedVRT:
        alpha = raster.nodata is None
        return WarpedVRT(raster, sharing=False, resampling=self.resampling, add_alpha=alpha, **self.spec.vrt_params)


def _lies_on(raster: rasterio.DatasetReader, spec: RasterSpec) -> bool:
    """Whether a file's pixels are those that are wanted."""
    grid = {"transform": raster.transform, "height": raster.height, "width": raster.width}
    wanted: dict[str, Any] = spec.vrt_params
    return wanted == {"crs": raster.crs.to_epsg() if raster.crs else None, **grid}


@cache
def _openers(process: int) -> ThreadPoolExecutor:
    """Threads do not survive a fork: another process has its own."""
    return ThreadPoolExecutor(OPENERS, thread_name_prefix="pwcat-open")
