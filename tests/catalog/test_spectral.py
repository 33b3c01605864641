from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import entropy

from catalog.measures.codebook import Codebook, fit_codebook, read_codebook, write_codebook
from catalog.spectral import measure, spectral_entropy
from pwcat import entropy as in_numpy
from pwcat.errors import CatalogError

BANDS = ("B2", "B3", "B4")
CENTRES = np.array([[100, 100, 100], [400, 300, 900], [800, 5000, 200], [3000, 3000, 3000]], dtype=np.uint16)
CODEBOOK = Codebook(centres_KB=CENTRES, bands=BANDS)

shapes = st.tuples(st.integers(1, 3), st.integers(1, 2), st.just(3), st.integers(1, 7), st.integers(1, 9))
dn = st.one_of(st.just(0), st.integers(1, 12_000), st.integers(0, 65_535))
chips = shapes.flatmap(lambda shape: hnp.arrays(np.uint16, shape, elements=dn))


def slow_joint(chip_TBHW, centres=CENTRES):
    """Entropy by codebook and by covariance of one chip, pixel by pixel."""
    pixels = np.moveaxis(chip_TBHW, 1, -1).reshape(-1, chip_TBHW.shape[1]).astype(np.int64)
    pixels = [pixel for pixel in pixels if all(pixel > 0)]
    if not pixels:
        return math.nan, math.nan
    nearest = [np.argmin([((pixel - centre) ** 2).sum() for centre in centres.astype(np.int64)]) for pixel in pixels]
    eigenvalues = (
        np.linalg.eigvalsh(np.atleast_2d(np.cov(np.array(pixels).T, bias=True))) if len(pixels) > 1 else np.zeros(1)
    )
    eigenvalues = np.maximum(eigenvalues, 0)
    return entropy(np.bincount(nearest)), entropy(eigenvalues) if eigenvalues.any() else 0.0


@settings(deadline=None)
@given(chips=chips)
def test_all_three_are_those_of_slow_references(chips):
    found = measure(chips, codebook=CODEBOOK, threads=1)
    np.testing.assert_allclose(found.band_histogram, in_numpy.spectral_entropy(chips), atol=1e-12)
    by_codebook, by_covariance = zip(*map(slow_joint, chips), strict=True)
    np.testing.assert_allclose(found.codebook, by_codebook, atol=1e-12)
    np.testing.assert_allclose(found.covariance, by_covariance, atol=1e-6)
    held = np.moveaxis(chips, 2, 0).reshape(3, -1).astype(np.int64)
    np.testing.assert_array_equal(found.sum_B, held.sum(axis=1))
    np.testing.assert_array_equal(found.sum_of_squares_B, (held**2).sum(axis=1))
    for band, counts in zip(held, found.histogram_BK, strict=True):
        bins = np.minimum(band[band > 0] * 4096 // 10_000, 4095)
        np.testing.assert_array_equal(counts, np.bincount(bins, minlength=4096))


@pytest.mark.parametrize("bands", [1, 4, 6, 13])
def test_joint_entropies_of_more_bands_and_pixels_are_those_of_slow_references(bands):
    rng = np.random.default_rng(bands)
    chips = rng.integers(1, 5000, size=(3, 2, bands, 12, 15), dtype=np.uint16)
    chips[1, 0, 0, :4] = 0
    codebook = Codebook(centres_KB=rng.integers(1, 5000, size=(9, bands), dtype=np.uint16), bands=("B",) * bands)
    found = measure(chips, codebook=codebook)
    by_codebook, by_covariance = zip(*(slow_joint(chip, codebook.centres_KB) for chip in chips), strict=True)
    np.testing.assert_allclose(found.codebook, by_codebook, atol=1e-12)
    np.testing.assert_allclose(found.covariance, by_covariance, atol=1e-9)


def test_neither_neighbours_nor_threads_change_a_chips_entropy():
    rng = np.random.default_rng(1)
    chips = rng.integers(0, 4000, size=(40, 1, 3, 11, 13), dtype=np.uint16)
    whole, alone = measure(chips, codebook=CODEBOOK), measure(chips[17:18], codebook=CODEBOOK, threads=1)
    threaded = measure(chips, codebook=CODEBOOK, threads=3)
    for name in ("band_histogram", "codebook", "covariance", "histogram_BK", "sum_B", "sum_of_squares_B"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(threaded, name))
    assert (alone.band_histogram, alone.codebook, alone.covariance) == (
        whole.band_histogram[17],
        whole.codebook[17],
        whole.covariance[17],
    )
    np.testing.assert_array_equal(spectral_entropy(chips), whole.band_histogram)
    np.testing.assert_array_equal(measure(chips[:, :, ::-1], codebook=None).band_histogram.shape, (40,))


def test_closed_forms():
    constant = np.full((1, 1, 3, 8, 8), 500, dtype=np.uint16)
    found = measure(constant, codebook=CODEBOOK)
    assert (found.band_histogram, found.codebook, found.covariance) == (0.0, 0.0, 0.0)
    nothing = measure(constant * 0, codebook=CODEBOOK)
    assert np.isnan([nothing.band_histogram, nothing.codebook, nothing.covariance]).all()
    quarters = np.repeat(CENTRES, 16, axis=0).reshape(1, 1, 8, 8, 3).transpose(0, 1, 4, 2, 3)
    assert measure(quarters, codebook=CODEBOOK).codebook == pytest.approx([math.log(4)])
    cube = np.stack(np.meshgrid(*[[1000, 2000]] * 3), axis=0).reshape(1, 1, 3, 2, 4).astype(np.uint16)
    assert measure(cube, codebook=None).covariance == pytest.approx([math.log(3)])  # alike along all three bands
    line = np.broadcast_to(np.arange(1, 65, dtype=np.uint16).reshape(8, 8), (1, 1, 3, 8, 8))
    assert measure(line, codebook=None).covariance == pytest.approx([0], abs=1e-9)  # along one direction alone
    assert np.isnan(measure(cube, codebook=None).codebook).all()
    uniform = np.arange(256) * 10_000 // 256 + 20
    assert spectral_entropy(uniform.astype(np.uint16).reshape(1, 1, 1, 16, 16)) == pytest.approx([math.log(256)])


def test_a_band_without_data_leaves_the_first_alone_and_no_pixel_to_the_others():
    chips = np.random.default_rng(0).integers(1, 4000, size=(1, 1, 3, 8, 8), dtype=np.uint16)
    chips[:, :, 1] = 0
    found = measure(chips, codebook=CODEBOOK)
    assert found.band_histogram == pytest.approx(in_numpy.spectral_entropy(chips), abs=1e-12)
    assert np.isnan([found.codebook, found.covariance]).all()


def test_no_chips_have_no_entropies():
    found = measure(np.empty((0, 1, 3, 8, 8), dtype=np.uint16), codebook=CODEBOOK)
    assert (len(found.band_histogram), len(found.codebook), len(found.covariance)) == (0, 0, 0)
    assert not found.histogram_BK.any()


def test_chips_of_another_kind_are_refused():
    with pytest.raises(CatalogError, match="these are float64 of 5 dimensions"):
        measure(np.ones((1, 1, 3, 8, 8)), codebook=None)
    with pytest.raises(CatalogError, match="do not fit the codebook's B2, B3, B4"):
        measure(np.ones((1, 1, 2, 8, 8), dtype=np.uint16), codebook=CODEBOOK)
    with pytest.raises(CatalogError, match="do not fit the codebook's B2, B3, B4"):
        measure(np.ones((1, 1, 3, 8, 8), dtype=np.uint16), codebook=CODEBOOK, bands=("B4", "B3", "B2"))


def test_a_codebook_is_the_same_for_the_same_chips_and_keeps_its_hash_in_a_file(tmp_path):
    chips = np.random.default_rng(2).integers(1, 9000, size=(20, 1, 3, 16, 16), dtype=np.uint16)
    one, other = (fit_codebook([chips], bands=BANDS, rng=np.random.default_rng(5)) for _ in range(2))
    assert one == other
    assert one.hash == other.hash != CODEBOOK.hash
    assert len(one) == 128
    write_codebook(tmp_path / "codebook.parquet", one)
    assert read_codebook(tmp_path / "codebook.parquet") == one
    assert 0 < measure(chips, codebook=one).codebook.min() <= math.log(128)


def test_a_codebook_finds_the_clusters_that_are_there():
    rng = np.random.default_rng(3)
    truth = np.array([[500, 700, 900], [3000, 2500, 2000], [8000, 8200, 8400]])
    pixels = truth[rng.integers(3, size=16 * 16 * 30)] + rng.integers(-20, 21, size=(16 * 16 * 30, 3))
    chips = pixels.reshape(30, 1, 16, 16, 3).transpose(0, 1, 4, 2, 3).astype(np.uint16)
    found = fit_codebook([chips[:10], chips[10:]], bands=BANDS, rng=rng, size=3)
    np.testing.assert_allclose(found.centres_KB, truth, atol=3)
    alike = fit_codebook([np.full((2, 1, 3, 4, 4), 7, dtype=np.uint16)], bands=BANDS, rng=rng)
    assert alike.centres_KB.tolist() == [[7, 7, 7]]


def test_what_is_no_codebook_is_refused(tmp_path):
    with pytest.raises(CatalogError, match="no pixel has data in every band"):
        fit_codebook([np.zeros((2, 1, 3, 4, 4), dtype=np.uint16)], bands=BANDS, rng=np.random.default_rng(0))
    with pytest.raises(CatalogError, match=r"cannot be read as a codebook .* give the codebook\.parquet"):
        read_codebook(tmp_path / "none.parquet")
