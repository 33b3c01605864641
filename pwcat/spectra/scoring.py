"""The spectral entropy of candidate chips before a dataset is made of them: coarse reads, and some in full to calibrate by."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window, from_bounds

from pwcat.entropy import spectral_entropy
from pwcat.gdal import GDAL_OPTIONS
from pwcat.plain import open_plain
from pwcat.providers import OpenSource
from pwcat.providers.guard import gdal_options
from pwcat.providers.limits import Limit, limit_of
from pwcat.recipe import Chip
from pwcat.scenes import Scene
from pwcat.sites.placing import Placements

__all__ = ["coarser", "score_chips"]

log = logging.getLogger(__name__)

# Reads at a time, tries of a scene that cannot be read, and chips of one scene that are in memory at once.
READ_THREADS = 8
ATTEMPTS = 3
CHIPS_AT_ONCE = 256

# A HEAD, and the start of the file.
REQUESTS_TO_OPEN = 2


def coarser(chip: Chip, *, factor: int, bands: Sequence[str] | None) -> Chip:
    """The chip with pixels ``factor`` times as large, at least one, and of some bands."""
    return Chip(
        size_px=max(1, chip.size_px // factor),
        resolution_m=chip.resolution_m * factor,
        bands=list(bands or chip.bands),
        resampling=chip.resampling,
        harmonise=chip.harmonise,
    )


def score_chips(
    placements: Placements, scenes: Sequence[Scene], *, chip: Chip, source: OpenSource
) -> NDArray[np.float64]:
    """Spectral entropy of each chip, nats, ``(n,)``, over all its dates; NaN where it has no data or cannot be read.

    Args:
        placements: where the chips lie.
        scenes: that the placements number.
        chip: size, resolution and bands to read.
        source: signs the hrefs, and knows the offset of each scene.
    """
    n, times = placements.scene.shape
    scores = np.full(n, np.nan)
    # Chips that share their scenes together, and of those the neighbours, so that a tile is not wanted again much later
    order = np.lexsort((placements.x0, -placements.y0, *placements.scene.T[::-1]))
    changes = np.flatnonzero((np.diff(placements.scene[order], axis=0) != 0).any(axis=1)) + 1
    for group in np.split(order, changes):
        for start in range(0, len(group), CHIPS_AT_ONCE):
            rows = group[start : start + CHIPS_AT_ONCE]
            corners = list(zip(placements.x0[rows].tolist(), placements.y0[rows].tolist(), strict=True))
            dates = [_read(scenes[number], corners, chip, source) for number in placements.scene[rows[0]]]
            read = [date for date in dates if date is not None]
            if len(read) == times and len(rows):
                scores[rows] = spectral_entropy(np.stack(read, axis=1))
    return scores


def _read(
    scene: Scene, corners: Sequence[tuple[float, float]], chip: Chip, source: OpenSource
) -> NDArray[np.uint16] | None:
    """Harmonised chips of one scene, ``(n, band, y, x)``; ``None`` where it cannot be read."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            raw = _read_decimated(scene, corners, chip, source)
        except rasterio.errors.RasterioError as exc:
            log.warning("scene %s cannot be scored (attempt %d): %s", scene.id, attempt, source.unsign(str(exc)))
            continue
        offset = source.boa_offset(scene.item["properties"]) if chip.harmonise else 0
        return np.where(raw > offset, raw - offset, 0).astype(np.uint16)
    return None


def _read_decimated(
    scene: Scene, corners: Sequence[tuple[float, float]], chip: Chip, source: OpenSource
) -> NDArray[np.uint16]:
    """Chips ``(n, band, y, x)`` at the chip's resolution, from the overview that GDAL finds next to it.

    A warped read, as stackstac makes it, would fetch the tiles of full resolution. At full resolution the two are the same.
    A permit of the source's rate is taken for each request that GDAL is expected to send.
    """
    assets = scene.item["assets"]
    hrefs = [source.sign(assets[source.band_asset(band, assets)]["href"]) for band in chip.bands]
    limit = limit_of(source)
    with ThreadPoolExecutor(min(READ_THREADS, len(hrefs))) as executor:
        bands = list(executor.map(lambda href: _read_band(href, corners, chip, limit), hrefs))
    return np.stack(bands, axis=1)


def _read_band(href: str, corners: Sequence[tuple[float, float]], chip: Chip, limit: Limit) -> NDArray[np.uint16]:
    side = chip.size_px * chip.resolution_m
    shape, how = (chip.size_px, chip.size_px), Resampling[chip.resampling]
    chips, asked = [], set[tuple[int, int]]()
    limit.wait(REQUESTS_TO_OPEN)
    with rasterio.Env(**GDAL_OPTIONS, **gdal_options(href)), open_plain(href) as raster:
        for x, y in corners:
            window = from_bounds(x, y - side, x + side, y, raster.transform)
            tiles = {*_tiles(raster, window, size_px=chip.size_px)}
            limit.wait(len({row for row, _ in tiles - asked}))  # neighbours in a row of tiles come in one request
            asked |= tiles
            chips.append(raster.read(1, window=window, out_shape=shape, resampling=how))
    return np.stack(chips)


def _tiles(raster: rasterio.DatasetReader, window: Window, *, size_px: int) -> Iterator[tuple[int, int]]:
    """Rows and columns of the tiles that hold a window, in the overview that serves it in so many pixels a side."""
    scale = max((factor for factor in raster.overviews(1) if factor <= window.width / size_px), default=1)
    height, width = (scale * side for side in raster.block_shapes[0])
    rows = range(int(window.row_off // height), int(np.ceil((window.row_off + window.height) / height)))
    columns = range(int(window.col_off // width), int(np.ceil((window.col_off + window.width) / width)))
    return product(rows, columns)
