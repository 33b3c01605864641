"""Pixels of any raster on a chip's grid, by GDAL's warp, told what it would guess from one chip to the next."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import MaskFlags, Resampling
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from pwcat.sensors.grids import METRES_A_DEGREE, PixelGrid

__all__ = ["block_rows", "warp", "warp_values", "window_of"]

# GDAL widens its kernel where pixels become fewer than this share of what they were.
WIDENS_BELOW = 0.95


def warp(
    raster: rasterio.DatasetReader, index: int, grid: PixelGrid, *, nodata: float | None, resampling: Resampling
) -> NDArray[np.float32]:
    """A band on a grid, ``(y, x)``; NaN where there is no data.

    ``rasterio.warp.reproject`` would do as well, could several threads use it: it silences a warning by a filter that all of
    the process shares.

    Args:
        raster: open, with a CRS.
        index: of the band, from 1.
        grid: where its pixels are wanted.
        nodata: number that stands for no data where the file names none.
        resampling: nearest, or bilinear. Where the grid is coarser than the file, bilinear takes means.
    """
    known = _nodata(raster, index, nodata)
    across, down = _scales(raster, grid)
    with (
        _alone(raster, index, known) as (lone, band),
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


def window_of(raster: rasterio.DatasetReader, grid: PixelGrid) -> Window | None:
    """The part of a file that a grid is interpolated from; ``None`` where the file is elsewhere."""
    west, south, east, north = _bounds(raster, grid)
    inverse = ~raster.transform
    corners = [inverse @ (x, y) for x in (west, east) for y in (south, north)]
    columns, rows = ([corner[axis] for corner in corners] for axis in (0, 1))
    # One pixel more on each side, for the interpolation
    left, right = math.floor(min(columns)) - 1, math.ceil(max(columns)) + 1
    top, bottom = math.floor(min(rows)) - 1, math.ceil(max(rows)) + 1
    left, right = max(left, 0), min(right, raster.width)
    top, bottom = max(top, 0), min(bottom, raster.height)
    return Window(left, top, right - left, bottom - top) if left < right and top < bottom else None


def block_rows(raster: rasterio.DatasetReader, window: Window) -> int:
    """Rows of the file's blocks that a window touches, each about one request."""
    side = raster.block_shapes[0][0]
    return int((window.row_off + window.height - 1) // side - window.row_off // side) + 1


def _bounds(raster: rasterio.DatasetReader, grid: PixelGrid) -> tuple[float, float, float, float]:
    """Of a grid in the file's CRS; across the antimeridian, those of the file from west to east."""
    west, south, east, north = transform_bounds(f"EPSG:{grid.epsg}", raster.crs, *grid.bounds)
    return (west, south, east, north) if west <= east else (raster.bounds.left, south, raster.bounds.right, north)


def _scales(raster: rasterio.DatasetReader, grid: PixelGrid) -> tuple[float, float]:
    """How many of the grid's pixels one of the file's is wide and high; 1 where they are as many or more."""
    metres = METRES_A_DEGREE if raster.crs.is_geographic else raster.crs.linear_units_factor[1]
    _, south, _, north = _bounds(raster, grid)
    narrowing = math.cos(math.radians((south + north) / 2)) if raster.crs.is_geographic else 1.0
    sides = abs(raster.transform.a) * metres * narrowing, abs(raster.transform.e) * metres
    across, down = (side / grid.gsd if side / grid.gsd < WIDENS_BELOW else 1.0 for side in sides)
    return across, down


@contextmanager
def _alone(
    raster: rasterio.DatasetReader, index: int, nodata: float | None
) -> Iterator[tuple[rasterio.DatasetReader, int]]:
    """A file in which a band is without others that have no data elsewhere, and its number there.

    Where one of several bands has data, GDAL's warp takes the numbers for no data of the others for data.
    """
    if raster.count == 1 or nodata is None:
        yield raster, index
        return
    transform = ",".join(repr(float(value)) for value in raster.transform.to_gdal())
    dtype = "Byte" if raster.dtypes[index - 1] == "uint8" else raster.dtypes[index - 1]
    text = (
        f'<VRTDataset rasterXSize="{raster.width}" rasterYSize="{raster.height}"><SRS>{escape(raster.crs.to_wkt())}</SRS>'
        f'<GeoTransform>{transform}</GeoTransform><VRTRasterBand dataType="{dtype}" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{escape(raster.files[0])}</SourceFilename><SourceBand>{index}</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with rasterio.open(text) as lone:
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
