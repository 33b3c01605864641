from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod
from scipy.stats import chisquare

from pwcat.errors import RegionError
from pwcat.regions.cells import CELL_DEG, SHAPE, cell_of, grow, row_weights
from pwcat.samplers.sphere import CellSampler

GEOD = Geod(ellps="WGS84")


def test_cells_are_counted_from_the_north_west_and_edges_stay_on_the_grid():
    points = np.array([[-180, 90], [-179.96, 89.99], [-179.94, 90], [180, -90], [0, 0], [-180, 89.94]], dtype=float)
    last = SHAPE[0] * SHAPE[1] - 1
    assert cell_of(points).tolist() == [0, 0, 1, last, 1800 * 7200 + 3600, 7200]


def test_the_cells_of_the_grid_have_the_area_of_the_sphere():
    assert row_weights().sum() * SHAPE[1] == pytest.approx(4 * np.pi, rel=1e-12)


def draw_in_cells(cells, n, rng):
    stream = CellSampler(cells.astype(np.int32), SHAPE)(rng)
    drawn = np.empty((0, 2))
    while len(drawn) < n:
        drawn = np.concatenate([drawn, next(stream)])
    return drawn[:n]


def test_points_are_drawn_from_the_cells_uniformly_by_area():
    rng = np.random.default_rng(0)
    # from the north pole's row to the equator: areas differ by a factor of 2,000
    rows = np.array([0, 5, 400, 900, 1400, 1799])
    cells = np.concatenate([rows * SHAPE[1] + column for column in (0, 17, 7199)])
    points = draw_in_cells(cells, 200_000, rng)
    drawn = cell_of(points)
    assert np.isin(drawn, cells).all()
    expected = row_weights()[cells // SHAPE[1]]
    order = np.argsort(cells)
    counts = np.array([(drawn == cell).sum() for cell in cells[order]])
    expected = expected[order] / expected.sum() * len(points)
    assert (
        chisquare(
            counts[expected > 5], expected[expected > 5] * counts[expected > 5].sum() / expected[expected > 5].sum()
        ).pvalue
        > 1e-3
    )
    within = (points[:, 0] + 180) / CELL_DEG % 1
    assert chisquare(np.histogram(within, 10, (0, 1))[0]).pvalue > 1e-3


def test_the_same_cells_and_the_same_seed_give_the_same_points_and_no_cells_none():
    cells = np.array([5, 77, 2_000_000, 10_000_000])
    first, again, other = (draw_in_cells(cells, 50, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    with pytest.raises(RegionError, match="no cell of the grid is left"):
        draw_in_cells(np.array([], dtype=int), 1, np.random.default_rng(0))


@settings(max_examples=40)
@given(
    lon=st.floats(-180, 180),
    lat=st.one_of(st.floats(-90, 90), st.floats(85, 90), st.floats(-90, -85)),
    km=st.floats(0.1, 900),
    azimuth=st.floats(0, 360),
    share=st.floats(0, 1),
)
def test_a_grown_mask_holds_every_point_within_the_distance(lon, lat, km, azimuth, share):
    mask = np.zeros(SHAPE, dtype=bool)
    mask.ravel()[cell_of(np.array([[lon, lat]]))] = True
    east, north, _ = GEOD.fwd(lon, lat, azimuth, 1000 * km * share)
    assert grow(mask, km).ravel()[cell_of(np.array([[east, north]]))].all()


@pytest.mark.parametrize("lat", [0.0, 45.0, -70.0])
def test_a_grown_mask_is_hardly_larger_than_the_distance(lat):
    mask = np.zeros(SHAPE, dtype=bool)
    mask.ravel()[cell_of(np.array([[179.99, lat]]))] = True
    rows, columns = np.nonzero(grow(mask, 100.0))
    lons, lats = -180 + (columns + 0.5) * CELL_DEG, 90 - (rows + 0.5) * CELL_DEG
    far = GEOD.inv(np.full(len(lons), 179.99), np.full(len(lons), lat), lons, lats)[2] / 1000
    assert far.max() < 100 * np.sqrt(2) * 1.05 + 25  # the corners of a box around the circle, and two cells
    assert set(np.unique(columns)) & {0, 7199} == {0, 7199}  # around the antimeridian
    assert grow(mask, 0.0) is mask
