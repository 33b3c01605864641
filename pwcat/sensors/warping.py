"""Pixels of any raster on a chip's grid, by GDAL's warp, told what it would guess from one chip to the next."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio import windows
from rasterio.crs import CRS
from rasterio.enums import MaskFlags, Resampling
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from pwcat.sensors.grids import METRES_A_DEGREE, PixelGrid

__all__ = ["block_rows", "warp", "warp_values", "windows_of"]

# GDAL widens its kernel where pixels become fewer than this share of what they were.
WIDENS_BELOW = 0.95

# Degrees of longitude that mean the same place, as it is first.
TURNS = (0.0, 360.0, -360.0)


def warp(
    raster: rasterio.DatasetReader, index: int, grid: PixelGrid, *, nodata: float | None, resampling: Resampling
) -> NDArray[np.float32]:
    """A band on a grid, ``(y, x)``; NaN where there is no data.

    ``rasterio.warp.reproject`` would do as well, could several threads use it: it silences a warning by a filter that all of
    the process shares.

    Args:
        raster: open, with a CRS that is of the Earth.
        index: of the band, from 1.
        grid: where its pixels are wanted.
        nodata: number that stands for no data where the file names none.
        resampling: nearest, or bilinear. Where the grid is coarser than the file, bilinear takes means.
    """
    pixels = np.full(grid.shape, np.nan, dtype=np.float32)
    for turn in _turns(raster, grid):
        there = _warped(raster, index, grid, turn=turn, nodata=nodata, resampling=resampling)
        pixels = np.where(np.isnan(pixels), there, pixels)
    return pixels


def _warped(
    raster: rasterio.DatasetReader,
    index: int,
    grid: PixelGrid,
    *,
    turn: float,
    nodata: float | None,
    resampling: Resampling,
) -> NDArray[np.float32]:
    """The same, of a file whose longitudes are counted on by a turn."""
    known = _nodata(raster, index, nodata)
    across, down = _scales(raster, grid)
    with (
        _alone(raster, index, grid, known) as (lone, band),
        WarpedVRT(
            lone,
            crs=f"EPSG:{grid.epsg}",
            transform=grid.transform,
            width=grid.width,
            height=grid.height,
            nodata=math.nan,
            dtype="float32",
            resampling=resampling,
            # Left to itself, GDAL takes the ratio of two boxes: where the grids are turned against each other, or the chip is a
            # pixel wide, it takes pixels of the same size for smaller ones, and blurs them
            XSCALE=across,
            YSCALE=down,
            **({"src_transform": Affine.translation(turn, 0) @ lone.transform} if turn else {}),
            **({} if known is None else {"src_nodata": known}),
        ) as warped,
    ):
        pixels: NDArray[np.float32] = warped.read(band)
    return pixels


def warp_values(
    values_YX: NDArray[np.float32], grid: PixelGrid, target: PixelGrid, resampling: Resampling
) -> NDArray[np.float32]:
    """Values of a grid on another one, ``(y, x)``; NaN is no data in both."""
    shape = {"height": grid.height, "width": grid.width, "transform": grid.transform, "crs": f"EPSG:{grid.epsg}"}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", count=1, dtype="float32", nodata=math.nan, **shape) as raster:
            raster.write(values_YX, 1)
        with memory.open() as raster:
            return warp(raster, 1, target, nodata=None, resampling=resampling)


def windows_of(raster: rasterio.DatasetReader, grid: PixelGrid) -> list[Window]:
    """The parts of a file that a grid is interpolated from; none where the file is elsewhere."""
    return [window for turn in _turns(raster, grid) for window in _windows(raster, grid, turn)]


def _turns(raster: rasterio.DatasetReader, grid: PixelGrid) -> list[float]:
    """By how many degrees a file's longitudes are to be counted on so that a grid lies in it; 0 for other coordinates.

    Longitudes of a file may run from −180° or from 0°, and half a pixel less. Of a grid across its border, one part lies in the
    file as it is, the other a turn away.
    """
    return [turn for turn in (TURNS if raster.crs.is_geographic else TURNS[:1]) if _windows(raster, grid, turn)]


def _windows(raster: rasterio.DatasetReader, grid: PixelGrid, turn: float) -> list[Window]:
    inverse = ~(Affine.translation(turn, 0) @ raster.transform)
    # As many pixels more on each side as the interpolation takes
    wide, high = (math.ceil(1 / scale) for scale in _scales(raster, grid))
    found = []
    for west, south, east, north in _bounds(raster.crs, grid):
        corners = [inverse @ (x, y) for x in (west, east) for y in (south, north)]
        columns, rows = ([corner[axis] for corner in corners] for axis in (0, 1))
        left, right = max(math.floor(min(columns)) - wide, 0), min(math.ceil(max(columns)) + wide, raster.width)
        top, bottom = max(math.floor(min(rows)) - high, 0), min(math.ceil(max(rows)) + high, raster.height)
        if left < right and top < bottom:
            found.append(Window(left, top, right - left, bottom - top))
    return found


def block_rows(raster: rasterio.DatasetReader, window: Window) -> int:
    """Rows of the file's blocks that a window touches, each about one request."""
    side = raster.block_shapes[0][0]
    return int((window.row_off + window.height - 1) // side - window.row_off // side) + 1


@lru_cache(maxsize=256)
def _bounds(crs: CRS, grid: PixelGrid) -> list[tuple[float, float, float, float]]:
    """Of a grid in another CRS: two of one across the antimeridian, none where the CRS does not reach."""
    west, south, east, north = transform_bounds(f"EPSG:{grid.epsg}", crs, *grid.bounds)
    if not np.isfinite([west, south, east, north]).all():
        return []
    return [(west, south, east, north)] if west <= east else [(west, south, 180.0, north), (-180.0, south, east, north)]


def _scales(raster: rasterio.DatasetReader, grid: PixelGrid) -> tuple[float, float]:
    """How many of the grid's pixels one of the file's is wide and high; 1 where they are as many or more."""
    metres = METRES_A_DEGREE if raster.crs.is_geographic else raster.crs.linear_units_factor[1]
    latitudes = [latitude for _, south, _, north in _bounds(raster.crs, grid)[:1] for latitude in (south, north)]
    narrowing = math.cos(math.radians(sum(latitudes) / 2)) if raster.crs.is_geographic else 1.0
    sides = abs(raster.transform.a) * metres * narrowing, abs(raster.transform.e) * metres
    across, down = (side / grid.gsd if side / grid.gsd < WIDENS_BELOW else 1.0 for side in sides)
    return across, down


@contextmanager
def _alone(
    raster: rasterio.DatasetReader, index: int, grid: PixelGrid, nodata: float | None
) -> Iterator[tuple[rasterio.DatasetReader, int]]:
    """A file in which a band is without others that have no data elsewhere, and its number there.

    Where one of several bands has data, GDAL's warp takes the numbers for no data of the others for data. The pixels that are
    wanted are copied: a VRT over the file would open it once more, as whatever format it is by then.
    """
    if raster.count == 1 or nodata is None:
        yield raster, index
        return
    part = windows.union(windows_of(raster, grid))
    shape = {"height": part.height, "width": part.width, "crs": raster.crs, "dtype": raster.dtypes[index - 1]}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", count=1, transform=raster.window_transform(part), **shape) as lone:
            lone.write(raster.read(index, window=part), 1)
        with memory.open() as lone:
            yield lone, 1


def _nodata(raster: rasterio.DatasetReader, index: int, known: float | None) -> float | None:
    """What stands for no data in a band: what the file says, else what is known, else NaN where it can be there."""
    if (said := raster.nodatavals[index - 1]) is not None:
        return float(said)
    if raster.mask_flag_enums[index - 1] != [MaskFlags.all_valid]:
        return None  # a mask of its own
    floating = np.issubdtype(np.dtype(raster.dtypes[index - 1]), np.floating)
    if known is not None and (floating or 0 <= known <= np.iinfo(raster.dtypes[index - 1]).max):
        return known
    return math.nan if floating else None
