from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skbio.diversity import alpha

from pwcat.entropy import evenness, hill_number, shannon_entropy, spectral_entropy

counts = st.lists(st.integers(0, 1000), min_size=1, max_size=20).filter(lambda values: sum(values) > 0)


def test_closed_forms():
    assert shannon_entropy([7] * 6) == pytest.approx(1.791759, abs=5e-7)  # six continents in equal shares: ln 6
    assert shannon_entropy([5]) == shannon_entropy([5, 0, 0]) == 0.0
    assert math.copysign(1, shannon_entropy([5])) == 1  # and not minus zero
    assert shannon_entropy([1, 3]) == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))
    assert [hill_number([2, 2, 2, 2], q=q) for q in (0, 1, 2, 3.5)] == pytest.approx([4] * 4)
    assert hill_number([3, 1], q=0) == 2
    assert hill_number([3, 1], q=2) == pytest.approx(1 / (0.75**2 + 0.25**2))
    assert evenness([4, 4, 4]) == pytest.approx(1)
    assert all(math.isnan(value) for value in (evenness([4]), shannon_entropy([0]), hill_number([0, 0], q=1)))


@given(values=counts)
def test_entropy_and_hill_numbers_are_those_of_scikit_bio(values):
    assert shannon_entropy(values) == pytest.approx(alpha.shannon(values, base=math.e), abs=1e-12)
    for q in (0, 1, 2):
        assert hill_number(values, q=q) == pytest.approx(alpha.hill(values, order=q))
    if sum(value > 0 for value in values) > 1:
        assert evenness(values) == pytest.approx(alpha.pielou_e(values))


@given(values=counts, q=st.floats(0, 5))
def test_hill_numbers_fall_with_their_order_and_stay_within_the_classes(values, q):
    present = sum(value > 0 for value in values)
    assert 1 - 1e-9 <= hill_number(values, q=q + 0.5) <= hill_number(values, q=q) + 1e-9 <= present + 2e-9
    assert 0 <= shannon_entropy(values) <= math.log(present) + 1e-12


def slow_spectral_entropy(chip):
    """Band by band, by NumPy's own histogram of reflectance; a pixel of 0 is no data."""
    entropies = []
    for band in range(chip.shape[1]):
        reflectance = chip[:, band][chip[:, band] > 0] / 10_000
        if not len(reflectance):
            continue
        histogram, _ = np.histogram(np.minimum(reflectance, 1 - 1e-9), bins=256, range=(0, 1))
        shares = histogram[histogram > 0] / histogram.sum()
        entropies.append(-(shares * np.log(shares)).sum())
    return np.mean(entropies) if entropies else math.nan


@given(
    chips=hnp.arrays(np.uint16, st.tuples(*[st.integers(1, 3)] * 3, *[st.integers(1, 8)] * 2), elements=st.integers(0, 20_000))
)  # fmt: skip
def test_spectral_entropy_is_that_of_a_slow_reference(chips):
    np.testing.assert_allclose(spectral_entropy(chips), [slow_spectral_entropy(chip) for chip in chips], atol=1e-12)


def test_spectral_entropy_in_closed_form():
    constant = np.full((1, 1, 3, 16, 16), 1234, dtype=np.uint16)
    # one pixel in each of the 256 bins, away from their edges
    centres = np.round((np.arange(256) + 0.5) / 256 * 10_000).astype(np.uint16).reshape(16, 16)
    uniform = np.broadcast_to(centres, (1, 2, 3, 16, 16))
    assert spectral_entropy(constant).tolist() == [0.0]
    assert spectral_entropy(uniform) == pytest.approx([math.log(256)])
    assert np.isnan(spectral_entropy(constant * 0)).tolist() == [True]
    half = constant.copy()
    half[..., 8:] = 0  # what has no data is not counted
    assert spectral_entropy(half).tolist() == [0.0]
    bands = np.concatenate([constant, uniform[:, :1]], axis=2)
    assert spectral_entropy(bands) == pytest.approx([math.log(256) / 2])  # the mean over bands
    bright = np.array([9_999, 10_000, 65_535], dtype=np.uint16).reshape(1, 1, 1, 1, 3)
    assert spectral_entropy(bright).tolist() == [0.0]  # the last bin holds all that is brighter
