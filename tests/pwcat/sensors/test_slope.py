"""Slopes against surfaces whose steepness is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwcat.sensors.grids import PixelGrid, around, sampling_m
from pwcat.sensors.slope import slope_degrees

Y, X = np.mgrid[:9, :11].astype(np.float64)


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.5, 100))
def test_a_plane_has_its_slope_everywhere_edges_included(east, south, gsd):
    z = 100 + gsd * (east * X + south * Y)
    np.testing.assert_allclose(slope_degrees(z, gsd), np.degrees(np.arctan(np.hypot(east, south))), atol=1e-4)


def test_level_ground_has_none_and_a_step_of_its_own_width_has_45_degrees():
    assert (slope_degrees(np.full((3, 3), 8.0), 30) == 0).all()
    assert slope_degrees(30 * X[:3, :3], 30) == pytest.approx(45)


def test_a_paraboloid_is_as_steep_as_its_derivative():
    gsd = 10.0
    z = 0.01 * (gsd * X) ** 2  # central differences are exact for it
    inner = slope_degrees(z, gsd)[1:-1, 1:-1]
    np.testing.assert_allclose(inner, np.degrees(np.arctan(0.02 * gsd * X[1:-1, 1:-1])), atol=1e-4)


def test_horns_weights_are_one_two_one():
    z = np.zeros((3, 3))
    z[0, 2], z[1, 2] = 8, 8  # north-east, east
    expected = np.degrees(np.arctan(np.hypot((8 + 16) / 8, -8 / 8)))
    assert slope_degrees(z, 1.0)[1, 1] == pytest.approx(expected)


def test_a_hole_is_no_data_and_its_neighbours_keep_the_planes_slope():
    z = 3.0 * X + 4.0 * Y
    z[4, 5] = np.nan
    slope = slope_degrees(z, 1.0)
    assert np.isnan(slope[4, 5])
    assert np.isnan(slope).sum() == 1
    np.testing.assert_allclose(slope[~np.isnan(slope)], np.degrees(np.arctan(5)), atol=1e-4)


def test_a_lone_cell_is_level():
    assert slope_degrees(np.array([[7.0]]), 30) == 0


CHIP = PixelGrid(epsg=32632, left=714_003.0, top=5_542_001.0, gsd=10.0, width=32, height=16)


def test_a_grid_around_a_chip_holds_it_with_two_cells_to_spare_on_lines_of_its_own():
    grid = around(CHIP, 30.0)
    west, south, east, north = grid.bounds
    assert all(value % 30 == 0 for value in grid.bounds)
    assert (west, south) <= (CHIP.bounds[0] - 60, CHIP.bounds[1] - 60)
    assert (east, north) >= (CHIP.bounds[2] + 60, CHIP.bounds[3] + 60)
    assert east - west < 320 + 4 * 30 + 60


def item(**fields):
    return {"id": "x", "properties": fields, "assets": {"data": {}}}


@pytest.mark.parametrize(
    ("fields", "metres"),
    [
        ({"proj:code": "EPSG:32632", "proj:transform": [20, 0, 0, 0, -25, 0]}, 25),
        ({"proj:epsg": 4326, "proj:transform": [1 / 3600, 0, 0, 0, -1 / 3600, 0]}, 30.8875),
        ({"gsd": 90}, 90),
    ],
)
def test_the_sampling_of_an_item_is_that_from_north_to_south(fields, metres):
    assert sampling_m(item(**fields), "data") == pytest.approx(metres, abs=1e-3)
