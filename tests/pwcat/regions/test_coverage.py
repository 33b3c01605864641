"""Where a projected raster can have a class: no point that has it lies in another cell, and the cells are near."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Geod, Transformer

from pwcat.regions import coverage
from pwcat.regions.areas import EARTH_RADIUS_KM
from pwcat.regions.cells import SHAPE, cell_of, row_weights
from pwcat.regions.pixels import PixelGrid

GEOD = Geod(ellps="WGS84")

# A projection, and the middle of a raster in it: in the middle of a zone, across the antimeridian, at a pole.
PLACES = {
    "a zone of UTM": ("EPSG:32633", 420_000, 5_300_000),
    "across the antimeridian": ("EPSG:32701", 170_000, 8_000_000),
    "the north pole": ("EPSG:3413", 1_000, -2_000),
    "beside the south pole": ("EPSG:3031", 90_000, 20_000),
    "sheared": ("+proj=sinu +R=6371007.181 +units=m", -9_000_000, 6_600_000),
    "the corner of a lobe": ("+proj=sinu +R=6371007.181 +units=m", 17_333_000, 3_336_000),
    "the edge of a disc": ("+proj=geos +h=35785831 +lon_0=10 +units=m", 5_300_000, 500_000),
    "opposite of the middle": ("+proj=laea +lat_0=10 +lon_0=-20 +units=m", 12_700_000, 200_000),
    "degrees, turned": ("EPSG:4326", 179.9, 60),
}


def grid_at(place, *, side_m, pixels, turn):
    """A square grid of so many pixels around a place, and its marked pixels."""
    crs, x, y = PLACES[place]
    crs = CRS.from_user_input(crs)
    side = side_m / 111_320 if crs.is_geographic else side_m
    transform = (
        Affine.translation(x, y)
        @ Affine.rotation(turn)
        @ Affine.scale(side / pixels, -side / pixels)
        @ Affine.translation(-pixels / 2, -pixels / 2)
    )
    return PixelGrid(transform=transform, crs=crs, shape=(pixels, pixels))


def points_on(grid, n, rng):
    """Points anywhere on a grid, its corners and edges among them."""
    share = rng.random((n, 2))
    share[: n // 10] = np.round(share[: n // 10])
    share[n // 10 : n // 5, 0] = np.round(share[n // 10 : n // 5, 0])
    columns, rows = share.T * grid.shape[0]
    t = grid.transform
    x, y = t.a * columns + t.b * rows + t.c, t.d * columns + t.e * rows + t.f
    if not grid.crs.is_geographic:
        x, y = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(x, y)
    lonlat = np.column_stack([x, y])[np.isfinite(x) & np.isfinite(y)]
    return np.column_stack([(lonlat[:, 0] + 180) % 360 - 180, lonlat[:, 1]])[np.abs(lonlat[:, 1]) <= 90]


@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=2)
@given(
    side_m=st.floats(3e3, 1e5),
    pixels=st.sampled_from([1, 7, 60]),
    turn=st.sampled_from([0, 0, 20.0, 45.0]),
    seed=st.integers(0, 1000),
)
def test_no_point_with_a_marked_pixel_lies_in_another_cell(place, side_m, pixels, turn, seed):
    rng = np.random.default_rng(seed)
    grid = grid_at(place, side_m=side_m, pixels=pixels, turn=turn)
    marked = rng.random(grid.shape) < 0.3
    cells = grid.cells(marked)
    points = points_on(grid, 20_000, rng)
    rows, columns, inside = grid.find(points)
    assert inside.mean() > 0.7 or "edge" in place or "corner" in place or "opposite" in place
    hit = marked[rows, columns]
    assert cells.ravel()[cell_of(points[inside][hit])].all()
    assert grid.footprint().ravel()[cell_of(points[inside])].all()


@pytest.mark.parametrize("place", ["a zone of UTM", "across the antimeridian", "the north pole", "sheared"])
def test_the_cells_are_near_what_is_marked(place):
    grid = grid_at(place, side_m=60_000, pixels=60, turn=0)
    marked = np.zeros(grid.shape, dtype=bool)
    marked[10, 50] = True
    rows, columns = np.nonzero(grid.cells(marked))
    lon, lat = -180 + (columns + 0.5) * 0.05, 90 - (rows + 0.5) * 0.05
    t = grid.transform
    x, y = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(t.a * 50.5 + t.c, t.e * 10.5 + t.f)
    far_km = GEOD.inv(np.full(len(lon), x), np.full(len(lon), y), lon, lat)[2] / 1000
    assert (far_km < 20).any()
    km2 = row_weights()[rows] * EARTH_RADIUS_KM**2
    assert (
        km2[far_km >= 20].sum() < 200
    )  # at a cut of the projection, or its far pole, a cell's image is from end to end
    assert km2.sum() < 500


def test_a_large_part_of_the_globe_is_given_in_larger_squares(monkeypatch):
    monkeypatch.setattr(coverage, "MOST_SQUARES", 70_000)
    grid = PixelGrid(
        transform=Affine(500_000, 0, -20_015_110, 0, -500_000, 10_007_555),
        crs=CRS.from_user_input("+proj=sinu +R=6371007.181 +units=m"),
        shape=(41, 81),
    )
    assert grid.footprint().all()
    north = np.zeros(grid.shape, dtype=bool)
    north[:10] = True
    cells = grid.cells(north)
    assert cells[: SHAPE[0] // 4].all()
    assert not cells[SHAPE[0] // 2 :].any()


def test_pixels_in_blocks_lose_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    grid = grid_at("a zone of UTM", side_m=200_000, pixels=101, turn=0)
    marked = rng.random(grid.shape) < 0.01
    fine = grid.cells(marked)
    monkeypatch.setattr(coverage, "MOST_BLOCKS", 500)
    coarse = grid.cells(marked)
    assert (coarse | fine).sum() == coarse.sum()
    assert coarse.sum() > fine.sum()
    assert coarse.sum() < 2 * grid.footprint().sum()


def test_a_point_that_a_projection_has_no_place_for_is_outside():
    """Near its singular points, 90° away on the equator, transverse Mercator gives any numbers."""
    grid = grid_at("a zone of UTM", side_m=600_000, pixels=10, turn=0)
    rng = np.random.default_rng(0)
    points = np.column_stack([105 + rng.uniform(-3, 3, 200_000), rng.uniform(-5, 5, 200_000)])
    raw = np.column_stack(Transformer.from_crs("EPSG:4326", grid.crs, always_xy=True).transform(*points.T))
    lured = (np.abs(raw - (420_000, 5_300_000)) < 300_000).all(axis=1)
    assert lured.any()
    assert not grid.find(points)[2].any()
