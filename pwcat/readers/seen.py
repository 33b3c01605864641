"""Headers of files as GDAL sees them: how they may be read; the last ones are kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import rasterio
from rasterio.enums import MaskFlags
from stackstac.rio_reader import MULTITHREADED_DRIVER_ALLOWLIST

from pwcat.providers.limits import Limit
from pwcat.providers.reuse import forgets
from pwcat.readers.grid import Grid
from pwcat.readers.opened import OpenFiles

__all__ = ["SEEN", "Seen"]

# A HEAD, and the start of the file.
REQUESTS_TO_OPEN = 2


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is known of a file.

    Attributes:
        tile: side of its internal tiles, in its own pixels.
        gsd: side of those pixels, in units of its CRS.
        grid: they, where pixels are upright and without data as :mod:`pwcat.readers.grid` understands it.
        lendable: whether several threads may read it side by side, each through an opening of its own.
    """

    tile: int
    gsd: float
    grid: Grid | None
    lendable: bool


class _Looks:
    """Headers of the files that this process has opened last.

    Shards in flight are neighbours, and want the same scenes at the same time: one opens the files, the others wait for it.
    Without that, they ask for the size of each file several times over.
    """

    def __init__(self, most: int = 4096) -> None:
        self.most = most
        self.lock = threading.Lock()
        self.known: OrderedDict[tuple[str, ...], Future[list[Seen]]] = OrderedDict()

    def of(self, hrefs: tuple[str, ...], files: OpenFiles, limit: Limit) -> list[Seen]:
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
            self._open(hrefs, files, future)
        return future.result()

    def forget(self, url: str) -> None:
        """Open files whose addresses begin like this anew the next time."""
        with self.lock:
            for hrefs in [hrefs for hrefs in self.known if any(href.startswith(url) for href in hrefs)]:
                del self.known[hrefs]

    def _open(self, hrefs: tuple[str, ...], files: OpenFiles, future: Future[list[Seen]]) -> None:
        try:
            future.set_result(files.look(hrefs, _seen))
        except BaseException as exc:
            with self.lock:
                self.known.pop(hrefs, None)
            future.set_exception(exc)


SEEN = _Looks()
forgets(SEEN.forget)


def _seen(raster: rasterio.DatasetReader) -> Seen:
    return Seen(
        tile=min(raster.block_shapes[0]),
        gsd=abs(raster.transform.a),
        grid=_grid(raster),
        lendable=raster.driver in MULTITHREADED_DRIVER_ALLOWLIST,
    )


def _grid(raster: rasterio.DatasetReader) -> Grid | None:
    transform, dtype = raster.transform, np.dtype(raster.dtypes[0])
    upright = not (transform.b or transform.d) and transform.a > 0 and transform.e == -transform.a
    epsg = raster.crs.to_epsg() if raster.crs else None
    plain = (
        raster.count == 1
        and dtype in (np.uint8, np.uint16)
        and raster.mask_flag_enums[0] in ([MaskFlags.all_valid], [MaskFlags.nodata])
    )
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
