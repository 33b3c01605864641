"""Numbers and grids of foreign datasets: what becomes no data, and where chips lie."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from catalog.importers.importer import Grid
from catalog.importers.labels import metres_of, to_lonlat
from catalog.importers.numbers import UnlikelyValuesError, remove_offset, to_dn, valid_fraction
from catalog.importers.rasters import band_name
from catalog.importers.rows import outlines
from catalog.importers.tables import moment, offset_of


@given(arrays(np.int32, (3, 4), elements=st.integers(-70_000, 140_000)), st.integers(-9_999, 9_999))
def test_whole_numbers_are_kept_where_uint16_can_hold_them(values, nodata):
    dn = to_dn(values, nodata=nodata)
    expected = np.where(values == nodata, 0, np.clip(values, 0, 65_535))
    np.testing.assert_array_equal(dn, expected)
    assert dn.dtype == np.uint16


@given(arrays(np.float32, (4,), elements=st.floats(0, 1.5, width=32)))
def test_fractions_are_scaled_or_refused(values):
    np.testing.assert_array_equal(to_dn(values, scale=10_000.0), np.rint(values.astype(np.float64) * 10_000))
    if (values % 1).any():
        with pytest.raises(UnlikelyValuesError, match="give --scale 10000"):
            to_dn(values)


def test_what_is_not_finite_is_no_data():
    np.testing.assert_array_equal(to_dn(np.array([np.nan, np.inf, -3.0, 250.4, 7e4])), [0, 0, 0, 250, 65_535])


@given(arrays(np.uint16, (5,)), st.sampled_from([0, 1000]))
def test_an_offset_is_removed_as_builds_remove_it(dn, offset):
    expected = [value - offset if value > offset else 0 for value in dn.tolist()]
    np.testing.assert_array_equal(remove_offset(dn, offset), expected)


def test_a_pixel_counts_as_valid_with_data_in_every_band_and_date():
    chip = np.ones((2, 3, 2, 2), np.uint16)
    chip[1, 2, 0, 0] = 0
    assert valid_fraction(chip) == 0.75


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("B2", "B02"),
        ("b8a", "B8A"),
        ("B12_20m", "B12"),
        ("band_3", "B03"),
        ("B10", "B10"),
        ("B13", None),
        ("red", None),
    ],
)
def test_names_of_bands(text, name):
    assert band_name(text) == name


def test_cells_of_tables():
    assert moment("2021-07-01").isoformat() == "2021-07-01T00:00:00+00:00"
    assert moment("20230415T181919").isoformat() == "2023-04-15T18:19:19+00:00"
    assert moment("2021-07-01T02:00:00+02:00").isoformat() == "2021-07-01T00:00:00+00:00"
    assert [offset_of(text) for text in ("", "no", "yes", "1000", "1000.0", "likely_+1000")] == [
        0,
        0,
        1000,
        1000,
        1000,
        1000,
    ]
    with pytest.raises(ValueError, match="offset -5"):
        offset_of("-5")


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_the_centre_of_a_grid_has_its_pixels(height, width, size):
    size = min(size, height, width)
    grid = Grid("EPSG:32631", (10.0, 0.0, 5e5, 0.0, -20.0, 4.9e6), height, width)
    inner = grid.centre(size)
    left, top = (width - size) // 2, (height - size) // 2
    assert inner.xy(np.array(0.0), np.array(0.0)) == grid.xy(np.array(left / width), np.array(top / height))
    assert (inner.height, inner.width) == (size, size)


def test_outlines_across_the_antimeridian_are_cut():
    across = Grid("EPSG:32701", (10.0, 0.0, 166_000.0, 0.0, -10.0, 8_000_000.0), 2000, 2000)
    beside = Grid("EPSG:4326", (0.001, 0.0, 3.0, 0.0, -0.001, 45.0), 10, 20)
    cut, whole = outlines([across, beside])
    assert [part.bounds[0] < 0 for part in cut.geoms] == [False, True]
    assert cut.geoms[0].bounds[2] == 180
    assert cut.geoms[1].bounds[0] == -180
    assert shapely.area(cut) < 1
    np.testing.assert_allclose(whole.bounds, [3.0, 44.99, 3.02, 45.0])
    assert metres_of(across) == 10
    centre = to_lonlat([beside], np.array([0.5]), np.array([0.5]))
    np.testing.assert_allclose(centre, [[[3.01, 44.995]]])
