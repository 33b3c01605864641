import pytest
import torch

from pwcat.errors import TrainingError
from training.augment import augment, center_crop
from training.chance import Chance


def position(size=12, count=6):
    """Images whose two bands hold row and column, so that a crop tells where it was cut."""
    steps = torch.arange(size, dtype=torch.float32) / size
    image = torch.stack([steps[:, None].expand(size, size), steps[None, :].expand(size, size)])
    return image.expand(count, -1, -1, -1).clone()


def draw(x, seed=0, **changes):
    options = {"size": 8, "crop": "random", "flip": "none", "min_scale": 0.2, **changes}
    return augment(x, chance=Chance(seed, total=len(x)), **options)


def test_a_random_crop_is_a_window_of_each_image():
    cut = draw(position())
    corners = cut[:, :, 0, 0] * 12
    assert torch.allclose(corners, corners.round(), atol=1e-5)
    assert (corners >= 0).all()
    assert (corners <= 4).all()
    for image, (row, column) in zip(cut, corners.round().long(), strict=True):
        assert torch.equal(image, position(count=1)[0, :, row : row + 8, column : column + 8])
    assert len(corners.unique(dim=0)) > 1


def test_flips_are_mirror_images_and_only_those():
    x = position(8)
    flipped = draw(x, flip="horizontal", seed=1)
    kinds = {"as it was": x[0], "mirrored": x[0].flip(-1)}
    found = [next(name for name, kind in kinds.items() if torch.equal(image, kind)) for image in flipped]
    assert set(found) == set(kinds)
    both = draw(position(8, count=40), flip="both")
    assert len({image.numpy().tobytes() for image in both}) == 4


def test_resized_crop_of_everything_is_the_image():
    torch.testing.assert_close(draw(position(8), crop="resized", min_scale=1.0)[0], position(8)[0], atol=0.12, rtol=0)


def test_resized_crop_keeps_size_range_and_seed():
    x = torch.rand(5, 3, 20, 20)
    first, again, other = draw(x, crop="resized"), draw(x, crop="resized"), draw(x, crop="resized", seed=1)
    assert first.shape == (5, 3, 8, 8)
    assert first.min() >= 0
    assert first.max() <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_centre_is_the_centre():
    assert torch.equal(center_crop(position(), size=8), position()[..., 2:10, 2:10])


@pytest.mark.parametrize("crop", ["random", "center"])
def test_smaller_chips_are_refused(crop):
    with pytest.raises(TrainingError, match=r"chips are 12 x 12 pixels, but the model reads 16 x 16.*at most 12"):
        draw(position(), size=16, crop=crop)


def test_blur_is_a_gaussian_of_three_pixels():
    x = torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    blurred = draw(x, crop="center", blur=True)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
    sigmas = 0.1 + 1.9 * Chance(0, total=3).uniform()
    for image, source, sigma in zip(blurred, padded, sigmas, strict=True):
        taps = torch.exp(-0.5 * (torch.tensor([-1.0, 0.0, 1.0]) / sigma) ** 2)
        kernel = torch.outer(taps, taps) / taps.sum() ** 2
        expected = torch.nn.functional.conv2d(source[:, None], kernel[None, None])[:, 0]
        torch.testing.assert_close(image, expected)
    assert len(sigmas.unique()) == 3


def test_blur_leaves_flat_images_alone_and_smooths_others():
    flat = torch.full((2, 1, 8, 8), 0.3)
    torch.testing.assert_close(draw(flat, blur=True), flat)
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert (draw(x, blur=True).var() < 0.9 * x.var()).item()
