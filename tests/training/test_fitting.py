from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from pwcat.errors import TrainingError
from training.batch import Bands, Batch
from training.fitting import fitted

BANDS = ("B02", "B03")


def batch_of(chips, **bands):
    chips = torch.as_tensor(np.asarray(chips, dtype=np.uint16))
    batch = Batch.of_chips(chips, bands=BANDS)
    return replace(batch, bands=replace(batch.bands, **bands)) if bands else batch


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).integers(1, 10_000, shape).astype(np.uint16)


def test_a_batch_of_the_right_size_is_left_alone():
    batch = batch_of(drawn(2, 1, 2, 8, 8))
    assert fitted(batch, 8, "resize") is batch
    assert fitted(batch, 8, "crop") is batch


def test_resizing_is_bilinear_interpolation_of_digital_numbers():
    chips = drawn(3, 2, 2, 8, 8)
    found = fitted(batch_of(chips), 12, "resize").chips
    wanted = functional.interpolate(
        torch.from_numpy(chips.astype(np.float32)).flatten(0, 1), size=(12, 12), mode="bilinear"
    )
    assert found.dtype == torch.uint16
    assert np.abs(found.numpy().astype(float) - wanted.view(3, 2, 2, 12, 12).numpy()).max() <= 0.5 + 1e-3


def test_a_smaller_chip_keeps_its_mean():
    chips = drawn(4, 1, 2, 64, 64)
    small = fitted(batch_of(chips), 16, "resize").chips.numpy().astype(float)
    assert small.shape == (4, 1, 2, 16, 16)
    assert small.mean() == pytest.approx(chips.mean(), rel=0.01)
    assert small.std() < 0.4 * chips.std()  # noise of neighbours is averaged, not sampled


def test_no_data_stays_no_data_and_does_not_darken_what_is_beside_it():
    chips = np.full((1, 1, 2, 16, 16), 3000, dtype=np.uint16)
    chips[:, :, 0, :, :7] = 0
    for size in (5, 8, 11, 32):
        first, second = fitted(batch_of(chips), size, "resize").chips[0, 0].numpy()
        assert set(np.unique(first)) == {0, 3000}
        assert (first == 0).mean() == pytest.approx(7 / 16, abs=0.1)
        assert (second == 3000).all()
    assert (fitted(batch_of(np.zeros((1, 1, 2, 6, 6))), 4, "resize").chips.numpy() == 0).all()


def test_dark_pixels_do_not_become_no_data():
    assert (fitted(batch_of(np.ones((1, 1, 2, 6, 6))), 4, "resize").chips.numpy() == 1).all()


def test_numbers_beyond_the_signed_range_survive():
    chips = np.full((1, 1, 2, 6, 6), 65535, dtype=np.uint16)
    assert (fitted(batch_of(chips), 9, "resize").chips.numpy() == 65535).all()


def test_classes_are_not_averaged():
    chips = np.where(np.arange(12)[None, None, None, None] < 6, 1, 9) * np.ones((1, 1, 2, 12, 1))
    found = fitted(batch_of(chips, unit=("1", "class")), 7, "resize").chips.numpy()
    assert set(np.unique(found[:, :, 1])) == {1, 9}
    assert set(np.unique(found[:, :, 0])) > {1, 9}


def test_one_pixel_is_the_mean_of_the_chip_or_its_middle():
    chips = drawn(2, 3, 2, 6, 6)
    found = fitted(batch_of(chips), 1, "resize").chips.numpy()[..., 0, 0]
    np.testing.assert_allclose(found, chips.mean(axis=(-2, -1)), atol=0.51)
    np.testing.assert_array_equal(fitted(batch_of(chips), 1, "crop").chips.numpy()[..., 0, 0], chips[..., 3, 3])


def test_a_crop_is_the_middle_of_all_dates():
    chips = drawn(2, 3, 2, 10, 8)
    np.testing.assert_array_equal(fitted(batch_of(chips), 4, "crop").chips.numpy(), chips[..., 3:7, 2:6])


def test_what_cannot_be_fitted_says_so():
    with pytest.raises(TrainingError, match=r"chips are 10 x 8 pixels, and 9 x 9 cannot be cut of them.*fit='resize'"):
        fitted(batch_of(drawn(1, 1, 2, 10, 8)), 9, "crop")
    with pytest.raises(TrainingError, match="this batch has no chips"):
        fitted(replace(batch_of(drawn(1, 1, 2, 4, 4)), chips=None, bands=Bands.reflectance(())), 4, "resize")
