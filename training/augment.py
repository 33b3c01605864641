"""Crops, flips and blurs of scaled images, on their device, drawn by chance.

Shapes: B batch, C bands, H W pixels in, S pixels a side out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from pwcat.errors import TrainingError
from training.chance import Chance, to_device

__all__ = ["Crop", "Flip", "augment", "center_crop", "check_size", "flip_images", "part_grid"]

Crop = Literal["resized", "random", "center"]
Flip = Literal["none", "horizontal", "both"]
ASPECT = (3 / 4, 4 / 3)  # of torchvision's RandomResizedCrop, which SatMAE uses
SIGMA = (0.1, 2.0)  # pixels; of torchvision's GaussianBlur(3), which SatCLIP uses


def augment(
    x_BCHW: Tensor, *, size: int, crop: Crop, flip: Flip, min_scale: float, chance: Chance, blur: bool = False
) -> Tensor:
    """Images cut to (B, C, size, size), flipped and blurred, each by its own draw.

    Args:
        x_BCHW: images scaled to 0..1.
        size: side of what comes back, in pixels.
        crop: "resized" cuts a part of the area and resizes it (bicubic); "random" and "center" cut without resizing.
        flip: "horizontal" flips half of the images left to right; "both" also flips half top to bottom.
        min_scale: smallest part of the area that "resized" cuts.
        chance: where the draws come from.
        blur: smooth each image with a Gaussian of 3 x 3 pixels, of its own width of 0.1 to 2 pixels.
    """
    if crop == "resized":
        cut = _resized(x_BCHW, size=size, min_scale=min_scale, chance=chance)
    else:
        cut = center_crop(x_BCHW, size=size) if crop == "center" else _random_crop(x_BCHW, size=size, chance=chance)
    (flipped,) = flip_images([cut], flip=flip, chance=chance)
    return _blur(flipped, chance=chance) if blur else flipped


def center_crop(x_BCHW: Tensor, *, size: int) -> Tensor:
    """The middle of the images, (B, C, size, size).

    Raises:
        TrainingError: the images are smaller.
    """
    height, width = x_BCHW.shape[-2:]
    check_size(height, width, size=size)
    top, left = (height - size) // 2, (width - size) // 2
    return x_BCHW[..., top : top + size, left : left + size]


def check_size(height: int, width: int, *, size: int) -> None:
    """Raise a :class:`TrainingError` where images of this height and width (pixels) are smaller than ``size``."""
    if min(height, width) < size:
        raise TrainingError(
            f"chips are {height} x {width} pixels, but the model reads {size} x {size}: choose larger chips, or "
            f"pretrain with model.image_size at most {min(height, width)}"
        )


def _random_crop(x_BCHW: Tensor, *, size: int, chance: Chance) -> Tensor:
    batch, _, height, width = x_BCHW.shape
    check_size(height, width, size=size)
    if height == width == size:
        return x_BCHW
    top_B = chance.integers(height - size + 1)
    left_B = chance.integers(width - size + 1)
    steps_S = torch.arange(size)
    rows_BS = to_device(top_B[:, None] + steps_S, x_BCHW.device)
    columns_BS = to_device(left_B[:, None] + steps_S, x_BCHW.device)
    images_B = torch.arange(batch, device=x_BCHW.device)[:, None, None]
    cut_BSSC = x_BCHW.permute(0, 2, 3, 1)[images_B, rows_BS[:, :, None], columns_BS[:, None, :]]
    return cut_BSSC.permute(0, 3, 1, 2).contiguous()


def flip_images(images: Sequence[Tensor], *, flip: Flip, chance: Chance) -> list[Tensor]:
    """Images (B, ..., H, W), each flipped by its own draw; what is of one sample in several tensors is flipped alike."""
    turned = list(images)
    for axis in {"none": [], "horizontal": [-1], "both": [-1, -2]}[flip]:
        drawn_B = chance.uniform() < 0.5
        for number, x in enumerate(turned):
            turned_B = to_device(drawn_B, x.device).view(-1, *[1] * (x.ndim - 1))
            turned[number] = torch.where(turned_B, x.flip(axis), x)
    return turned


def _blur(x_BCHW: Tensor, *, chance: Chance) -> Tensor:
    """Images smoothed by three pixels along each axis, mirrored at their borders."""
    sigma_B = SIGMA[0] + (SIGMA[1] - SIGMA[0]) * chance.uniform()
    side_B = to_device(torch.exp(-0.5 / sigma_B.square()), x_BCHW.device)
    side_B111 = side_B.view(-1, 1, 1, 1).to(x_BCHW.dtype)
    padded = functional.pad(x_BCHW, (1, 1, 1, 1), mode="reflect")
    rows = padded[..., 1:-1, :] + side_B111 * (padded[..., :-2, :] + padded[..., 2:, :])
    return (rows[..., 1:-1] + side_B111 * (rows[..., :-2] + rows[..., 2:])) / (1 + 2 * side_B111).square()


def part_grid(x_BCHW: Tensor, *, size: int, min_scale: float, chance: Chance) -> Tensor:
    """Where ``grid_sample`` reads a part of each image, of random area, aspect and place, (B, size, size, 2)."""
    batch = len(x_BCHW)
    draw_B4 = chance.uniform(4)
    area_B = min_scale + (1 - min_scale) * draw_B4[:, 0]
    aspect_B = torch.exp(math.log(ASPECT[0]) + (math.log(ASPECT[1]) - math.log(ASPECT[0])) * draw_B4[:, 1])
    # shares of the side; a cut that would not fit is narrowed to the side, where torchvision draws again
    width_B = (area_B * aspect_B).sqrt().clamp(max=1)
    height_B = (area_B / aspect_B).sqrt().clamp(max=1)
    theta_B23 = torch.zeros(batch, 2, 3)
    theta_B23[:, 0, 0], theta_B23[:, 1, 1] = width_B, height_B
    theta_B23[:, 0, 2] = (1 - width_B) * (2 * draw_B4[:, 2] - 1)
    theta_B23[:, 1, 2] = (1 - height_B) * (2 * draw_B4[:, 3] - 1)
    return functional.affine_grid(
        to_device(theta_B23, x_BCHW.device), [batch, x_BCHW.shape[1], size, size], align_corners=False
    )


def _resized(x_BCHW: Tensor, *, size: int, min_scale: float, chance: Chance) -> Tensor:
    """A part of each image, of random area, aspect and place, resized by bicubic sampling."""
    grid = part_grid(x_BCHW, size=size, min_scale=min_scale, chance=chance)
    return functional.grid_sample(x_BCHW, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp_(0, 1)
