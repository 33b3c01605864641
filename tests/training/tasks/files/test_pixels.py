"""Numbers of official files as digital numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from training.tasks.files.pixels import HIGHEST, digital


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_what_is_no_light_is_no_data(kind: type) -> None:
    values = np.array([np.nan, np.inf, -np.inf, -0.1, 0, 1e-6, 0.00004, 0.12345, 6.5535, 7], dtype=kind)

    np.testing.assert_array_equal(digital(values, scale=1e4), [0, 0, 0, 0, 0, 1, 1, 1234, 65535, 65535])


@given(arrays.arrays(st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.int64]), st.integers(0, 20)))
def test_whole_numbers_stay_as_they_are(values: np.ndarray) -> None:
    got = digital(values)

    assert got.dtype == np.uint16
    within = values.astype(np.float32).clip(0, HIGHEST)  # as exact as single precision is, beyond 2 ** 24 no matter
    np.testing.assert_array_equal(got, within.astype(np.uint16))


def test_values_are_not_written_over() -> None:
    values = np.array([0.5, np.nan], dtype=np.float32)
    digital(values, scale=1e4)
    np.testing.assert_array_equal(values, np.array([0.5, np.nan], dtype=np.float32))
