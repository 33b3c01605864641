"""Numbers become the cube's and come back, to half a step; what is no data stays that."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pwcat.providers.records import Encoding
from pwcat.sensors.encoding import decode, encode

HEIGHT = Encoding(scale=0.25, offset=-1000.25, unit="m")
BACKSCATTER = Encoding(scale=0.001, offset=-50.001, unit="dB", transform="decibel")


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (-1000.0, 1),
        (-999.75, 2),
        (0.0, 4001),
        (15_383.5, 65_535),
        (-5000.0, 1),
        (99_999.0, 65_535),
        (np.nan, 0),
        (np.inf, 0),
    ],
)
def test_heights_are_counted_in_quarters_of_a_metre(value, stored):
    assert encode(np.array([value], dtype=np.float32), HEIGHT) == stored


@pytest.mark.parametrize(
    ("value", "stored"), [(1.0, 50_001), (0.1, 40_001), (1e-9, 1), (1e9, 65_535), (0.0, 0), (-1.0, 0), (np.nan, 0)]
)
def test_backscatter_is_kept_in_decibels_and_what_is_not_above_zero_is_no_data(value, stored):
    assert encode(np.array([value], dtype=np.float32), BACKSCATTER) == stored


@given(arrays.arrays(np.float32, st.integers(1, 50), elements=st.floats(-1000, 15_000, width=32)))
def test_heights_come_back_to_half_a_step(values):
    back = decode(encode(values, HEIGHT), HEIGHT)
    assert np.abs(back - values).max() <= 0.125 + 1e-3  # and float32's own rounding


@given(arrays.arrays(np.float32, st.integers(1, 50), elements=st.floats(2**-15, 30, width=32)))
def test_backscatter_comes_back_to_half_a_step(values):
    back = decode(encode(values, BACKSCATTER), BACKSCATTER)
    assert np.abs(back - 10 * np.log10(values.astype(np.float64))).max() <= 0.0005 + 1e-5


@given(arrays.arrays(np.uint16, st.integers(0, 50)))
def test_whole_numbers_without_an_encoding_stay_as_they_are(values):
    np.testing.assert_array_equal(encode(values.astype(np.float32), None), values)


def test_without_an_encoding_too_nan_is_no_data():
    np.testing.assert_array_equal(encode(np.array([np.nan, np.inf, 2.4, -3], dtype=np.float32), None), [0, 0, 2, 0])


def test_no_data_comes_back_as_nan():
    np.testing.assert_array_equal(decode(np.array([0, 1], dtype=np.uint16), HEIGHT), [np.nan, -1000])
