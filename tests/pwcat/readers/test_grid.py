"""Coarser pixels on the chips' grid, beside GDAL's own warper (rasterio's WarpedVRT)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import Resampling
from rasterio.io import MemoryFile
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT

from pwcat.readers.grid import Grid, interpolate, place
from pwcat.recipe import Chip

LEFT, TOP, SIDE = 399960.0, 5300040.0, 30


def make(scale: float, nodata: int | None, seed: int) -> tuple[np.ndarray, Grid]:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 65536, (SIDE, SIDE)).astype(np.uint16)
    if nodata is not None:
        values[rng.random(values.shape) < 0.1] = nodata
    grid = Grid(epsg=32631, left=LEFT, top=TOP, gsd=10.0 * scale, width=SIDE, height=SIDE, nodata=nodata)
    return values, grid


def warped(values: np.ndarray, grid: Grid, row: int, column: int, size: int, resolution: float, resampling: str):
    """The chip as GDAL makes it, 0 where it says that there is no data."""
    profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 1, "dtype": "uint16", "crs": "EPSG:32631"}
    transform = from_origin(LEFT, TOP, grid.gsd, grid.gsd)
    target = from_origin(LEFT + column * resolution, TOP - row * resolution, resolution, resolution)
    with MemoryFile() as memory:
        with memory.open(**profile, transform=transform, nodata=grid.nodata) as raster:
            raster.write(values, 1)
        with (
            memory.open() as raster,
            WarpedVRT(
                raster,
                crs="EPSG:32631",
                transform=target,
                width=size,
                height=size,
                resampling=Resampling[resampling],
                add_alpha=grid.nodata is None,
            ) as vrt,
        ):
            read = vrt.read(masked=True)
    return np.where(read[1], read[0].data, 0) if len(read) == 2 else read[0].filled(0)


def ours(values: np.ndarray, grid: Grid, row: int, column: int, chip: Chip) -> np.ndarray:
    """The chip from the pixels that its placement names."""
    corner = (LEFT + column * chip.resolution_m, TOP - row * chip.resolution_m)
    placement = place(grid, [corner], chip)
    assert placement is not None
    rows, columns = placement.rows[0], placement.columns[0]
    inside = ((rows >= 0) & (rows < SIDE))[:, None] & ((columns >= 0) & (columns < SIDE))
    window = np.where(inside, values[np.ix_(rows.clip(0, SIDE - 1), columns.clip(0, SIDE - 1))], 0)
    if not placement.bilinear:
        return np.where(window == grid.nodata, 0, window) if grid.nodata else window
    out = np.empty((1, chip.size_px, chip.size_px), dtype=np.uint16)
    interpolate(window[None].astype(np.uint16), placement, grid=grid, out=out)
    return out[0]


places = {
    "row": st.integers(-30, 190),
    "column": st.integers(-30, 190),
    "size": st.integers(8, 40),  # GDAL takes windows of very few pixels for reductions, and blurs them
    "nodata": st.sampled_from([None, 0, 65535]),
    "seed": st.integers(0, 2**16),
}


@settings(max_examples=40)
@given(scale=st.sampled_from([1, 2, 3, 6]), **places)
def test_nearest_is_gdals(scale, row, column, size, nodata, seed):
    values, grid = make(scale, nodata, seed)
    chip = Chip(bands=["B01"], size_px=size)
    np.testing.assert_array_equal(
        ours(values, grid, row, column, chip), warped(values, grid, row, column, size, 10.0, "nearest")
    )


@settings(max_examples=40)
@given(step=st.sampled_from([2, 3, 6]), **places)
def test_nearest_of_finer_pixels_is_gdals(step, row, column, size, nodata, seed):
    row, column = row // 6, column // 6
    values, grid = make(1, nodata, seed)
    chip = Chip(bands=["B01"], size_px=size, resolution_m=10.0 * step)
    np.testing.assert_array_equal(
        ours(values, grid, row, column, chip), warped(values, grid, row, column, size, 10.0 * step, "nearest")
    )


@settings(max_examples=40)
@given(scale=st.sampled_from([1, 2, 3, 6]), **places)
def test_bilinear_is_gdals_but_for_halves(scale, row, column, size, nodata, seed):
    """GDAL rounds sums of floating point: an exact half goes either way there, by the window that is asked for."""
    values, grid = make(scale, nodata, seed)
    chip = Chip(bands=["B01"], size_px=size, resampling="bilinear")
    mine, gdals = (
        chip_.astype(int)
        for chip_ in (
            ours(values, grid, row, column, chip),
            warped(values, grid, row, column, size, 10.0, "bilinear"),
        )
    )
    halves = exact_halves(values, grid, row, column, size, scale)
    if scale in (1, 2) and nodata is None:  # all of GDAL's sums are exact
        np.testing.assert_array_equal(mine, gdals)
    np.testing.assert_array_equal(np.where(halves, 0, mine), np.where(halves, 0, gdals))
    assert ((mine - gdals)[halves] >= 0).all()
    assert ((mine - gdals)[halves] <= 1).all()


def exact_halves(values, grid, row, column, size, scale):
    """Where the bilinear value lies exactly between two whole numbers, pixel by pixel in fractions."""
    from fractions import Fraction

    halves = np.zeros((size, size), dtype=bool)
    for i in range(size):
        for j in range(size):
            y, x = (Fraction(2 * (start + k) + 1, 2 * scale) - Fraction(1, 2) for start, k in ((row, i), (column, j)))
            total, weights = Fraction(0), Fraction(0)
            for r in (y.__floor__(), y.__floor__() + 1):
                for c in (x.__floor__(), x.__floor__() + 1):
                    if 0 <= r < SIDE and 0 <= c < SIDE and values[r, c] != grid.nodata:
                        weight = (1 - abs(y - r)) * (1 - abs(x - c))
                        total, weights = total + weight * int(values[r, c]), weights + weight
            halves[i, j] = weights > 0 and (total / weights).denominator == 2
    return halves


@pytest.mark.parametrize(
    ("gsd", "shift", "resolution", "resampling"),
    [
        (15.0, 0.0, 10.0, "nearest"),
        (10.0, 5.0, 10.0, "nearest"),
        (10.0, 0.0, 20.0, "bilinear"),
        (10.0, 0.0, 15.0, "nearest"),
    ],
)
def test_pixels_that_do_not_fit_are_left_to_gdal(gsd, shift, resolution, resampling):
    grid = Grid(epsg=32631, left=LEFT + shift, top=TOP, gsd=gsd, width=9, height=9, nodata=None)
    chip = Chip(bands=["B01"], size_px=4, resolution_m=resolution, resampling=resampling)
    assert place(grid, [(LEFT, TOP)], chip) is None
