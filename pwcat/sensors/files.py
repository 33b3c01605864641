"""Files of a sensor brought onto chips' grids by GDAL's warp: with patience, and signed anew after a refusal."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Compression, Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window

from pwcat.errors import ForbiddenError, SourceError
from pwcat.gdal import GDAL_OPTIONS, forget_files
from pwcat.pixels.outages import OUTAGES
from pwcat.pixels.reasons import Cause, cause_of
from pwcat.plain import is_placed, open_plain
from pwcat.providers import OpenSource
from pwcat.providers.guard import gdal_options, why_refused
from pwcat.providers.limits import Limit, limit_of
from pwcat.providers.redaction import redact_logs
from pwcat.readers import wire
from pwcat.readers.cached import bytes_of_tiles, tiles_in
from pwcat.readers.checksums import check_tiles
from pwcat.readers.wire import Address
from pwcat.sensors.grids import PixelGrid
from pwcat.sensors.warping import block_rows, warp, windows_of

__all__ = ["Asset", "Unread", "read_asset"]

log = logging.getLogger(__name__)

redact_logs("rasterio")

ATTEMPTS = 3
RETRY_DELAY_S = 0.5

# Of a server that has just failed for good; GDAL asks once more by itself, so that one lost answer does not cost a file.
HASTY_ATTEMPTS = 1
HASTY: dict[str, Any] = {"GDAL_HTTP_MAX_RETRY": 1}

# A HEAD, and the start of the file.
REQUESTS_TO_OPEN = 2

# GDAL's cache over all files holds what is wanted twice; the one of an open file would copy it, and round ranges up.
OPTIONS: dict[str, Any] = {**GDAL_OPTIONS, "VSI_CACHE": False, "GDAL_INGESTED_BYTES_AT_OPEN": 16384}

# Failures that may be of some pixels alone.
OF_THE_FILE: frozenset[Cause] = frozenset({"corrupt data", "other"})


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A file of an item, and which of its bands are wanted.

    Attributes:
        href: as the plan keeps it, unsigned.
        indexes: of the bands in the file, from 1.
        nodata: number that stands for no data where the file names none.
        unencoded: names of bands of which only whole numbers from 0 to 65535 can be kept: nothing says how others become these.
        resampling: onto other grids.
    """

    href: str
    indexes: tuple[int, ...]
    nodata: float | None
    unencoded: tuple[str, ...]
    resampling: Resampling


@dataclass(frozen=True, kw_only=True)
class Unread:
    """Pixels that cannot be had.

    Attributes:
        cause: in a word or two.
        reason: in words, without secrets.
    """

    cause: Cause
    reason: str


def read_asset(
    asset: Asset, grids: Sequence[PixelGrid], *, source: OpenSource
) -> Iterator[tuple[int, NDArray[np.float32] | Unread, int]]:
    """Its bands on each of some grids, ``(band, y, x)``, NaN where there is no data, or why they cannot be had; and how often
    they were asked for again.

    The file is opened once, unless reading fails. What a server refuses is signed anew, and asked for once more; what fails for
    other reasons is asked for three times, or once where the server has just failed so (:mod:`pwcat.pixels.outages`). A
    failure of some pixels costs the grids that hold them, one of the server or the whole file all grids.

    Args:
        asset: of an item of the source.
        grids: each comes once, by its place in this sequence.
        source: signs the href, says how often its files may be asked for.
    """
    hasty = OUTAGES.ask(source, asset.href)
    reading = _Reading(asset=asset, grids=grids, source=source, hasty=hasty, waiting=list(range(len(grids))))
    yield from reading.patiently()


@dataclass(kw_only=True)
class _Reading:
    """Grids of a file that still want to be read, the next one first."""

    asset: Asset
    grids: Sequence[PixelGrid]
    source: OpenSource
    hasty: bool
    waiting: list[int]
    retries: Counter[int] = field(default_factory=Counter)

    def patiently(self) -> Iterator[tuple[int, NDArray[np.float32] | Unread, int]]:
        failures, attempts, refused = 0, HASTY_ATTEMPTS if self.hasty else ATTEMPTS, False
        while self.waiting:
            href, before = self.asset.href, len(self.waiting)
            try:
                href = self.source.sign(self.asset.href)
                yield from self._read(href)
            except SourceError as exc:
                yield from self._give_up(exc, href, len(self.waiting))
            except (RasterioError, OSError, RuntimeError) as exc:
                if why := why_refused(href):
                    yield from self._give_up(exc, href, len(self.waiting), f"{self.asset.href}: {why}")
                    continue
                forget_files(href)  # GDAL would give the same bytes, or the same refusal, the next time
                if len(self.waiting) < before:
                    failures, refused = 0, False
                if _is_refusal(exc, href):
                    if refused:
                        told = self.source.refused(self.asset.href)
                        yield from self._give_up(ForbiddenError(self.asset.href), href, len(self.waiting), told)
                    refused = True
                    self.source.forget(href)
                    self.retries.update(self.waiting)
                    continue
                failures += 1
                if failures < attempts:
                    time.sleep(RETRY_DELAY_S * 2 ** (failures - 1))
                    self.retries.update(self.waiting)
                    continue
                alone = isinstance(exc, _OfPixelsError) and cause_of(_words(exc)) in OF_THE_FILE
                yield from self._give_up(exc, href, 1 if alone else len(self.waiting))
                failures, attempts = 0, 1  # patience was had with this file

    def _read(self, href: str) -> Iterator[tuple[int, NDArray[np.float32], int]]:
        limit = limit_of(self.source)
        with rasterio.Env(**OPTIONS | (HASTY if self.hasty else {}) | gdal_options(href)):
            limit.wait(REQUESTS_TO_OPEN)
            with open_plain(href) as raster:
                self._require_fit(raster)
                whole: set[tuple[int, int]] = set()
                while self.waiting:
                    try:
                        grid = self.grids[self.waiting[0]]
                        pixels = _bands(raster, href, self.asset, grid, limit=limit, whole=whole)
                    except (RasterioError, OSError, RuntimeError) as exc:
                        raise _OfPixelsError(str(exc)) from exc
                    number = self.waiting.pop(0)
                    OUTAGES.note(self.source, self.asset.href, None)
                    yield number, pixels, self.retries[number]

    def _require_fit(self, raster: rasterio.DatasetReader) -> None:
        """See that the file has the bands, and that their numbers can be kept."""
        if not is_placed(raster):
            raise SourceError(f"{self.asset.href}: its CRS is no place on Earth")
        for index in self.asset.indexes:
            if index > raster.count:
                raise SourceError(f"{self.asset.href}: it has {raster.count} band(s), band {index} is wanted")
            dtype = np.dtype(raster.dtypes[index - 1])
            if self.asset.unencoded and dtype not in (np.uint8, np.uint16):
                said = ", ".join(f"{band}: {{scale: ..., offset: ...}}" for band in self.asset.unencoded)
                raise SourceError(f"{self.asset.href}: {dtype} cannot be kept as uint16; say `encode: {{{said}}}`")

    def _give_up(
        self, exc: Exception, href: str, count: int, text: str | None = None
    ) -> Iterator[tuple[int, Unread, int]]:
        words = self.source.unsign((text or _words(exc)).replace(href, self.asset.href))
        cause = cause_of(exc if isinstance(exc, ForbiddenError | SourceError) else words)
        if self.asset.href not in words:
            words = f"{self.asset.href}: {words}"
        log.info("%s", words)
        OUTAGES.note(self.source, self.asset.href, cause)
        for _ in range(count):
            number = self.waiting.pop(0)
            yield number, Unread(cause=cause, reason=words), self.retries[number]


class _OfPixelsError(RuntimeError):
    """The file opens; these pixels of it cannot be read."""


def _bands(
    raster: rasterio.DatasetReader,
    href: str,
    asset: Asset,
    grid: PixelGrid,
    *,
    limit: Limit,
    whole: set[tuple[int, int]],
) -> NDArray[np.float32]:
    """Bands on a grid, ``(band, y, x)``; NaN where there is no data.

    Raises:
        RuntimeError: tiles cannot be read, or are damaged; ``whole`` are known not to be.
    """
    out = np.full((len(asset.indexes), *grid.shape), np.nan, dtype=np.float32)
    windows = windows_of(raster, grid)
    if not windows:
        return out
    for number, index in enumerate(asset.indexes):
        limit.wait(sum(block_rows(raster, window) for window in windows))
        out[number] = warp(raster, index, grid, nodata=asset.nodata, resampling=asset.resampling)
    for window in windows:
        _require_whole(raster, href, window, whole)
    return out


def _require_whole(raster: rasterio.DatasetReader, href: str, window: Window, whole: set[tuple[int, int]]) -> None:
    """Compare checksums that GDAL leaves out, of the tiles that a window touches and that are not known to be whole."""
    tiles = (
        set(tiles_in(raster, window)) - whole if raster.count == 1 and raster.compression == Compression.deflate else ()
    )
    height, width = raster.block_shapes[0]
    for row, column in sorted(tiles):
        tile = Window(column * width, row * height, width, height)
        tile = tile.intersection(Window(0, 0, raster.width, raster.height))
        check_tiles(raster, href, tile, bytes_of_tiles(raster, href, [tile]))
        whole.add((row, column))


def _words(exc: BaseException) -> str:
    """What failed in the end: the innermost of what GDAL says, and the outermost where that names what was done."""
    texts, inner = [str(exc)], exc
    while (deeper := inner.__cause__) is not None:
        inner = deeper
        texts.append(str(inner))
    said = list(dict.fromkeys(" ".join(text.split()) for text in texts if text))
    return ": ".join(said[:1] + said[-1:] if len(said) > 1 else said)


def _is_refusal(exc: Exception, href: str) -> bool:
    """Whether the server refuses a file; GDAL does not always say, where it has opened it."""
    if isinstance(exc, ForbiddenError) or cause_of(_words(exc)) == "forbidden":
        return True
    address = Address.of(href, name=href)
    if address is None or not isinstance(exc, _OfPixelsError) or not wire.usable():
        return False
    with suppress(RuntimeError):
        try:
            wire.run(wire.fetch(address, 0, 1, retries=0))
        except ForbiddenError:
            return True
    return False
