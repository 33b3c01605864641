"""Chips of any size brought to the side that a model reads: resized, or cut to their middle.

Shapes: B batch, T times, C bands, H W pixels in, S pixels a side out.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from pwcat.errors import TrainingError
from training.augment import center_crop
from training.batch import Bands, Batch
from training.tasks.base import Fit

__all__ = ["fitted", "resized"]

CLASSES = "class"  # unit of bands whose numbers are names: nothing lies between two of them
HIGHEST = 65535
# A pixel that is made of less data than of no data has none; half of a border's pixels are then lost, and half gained.
LEAST_DATA = 0.5


def fitted(batch: Batch, size: int, fit: Fit) -> Batch:
    """The same samples with chips of ``size`` pixels a side; the batch itself where they are so already.

    Args:
        batch: samples with chips.
        size: side in pixels, as :attr:`training.models.Model.image_size`.
        fit: "crop" takes the middle; "resize" shows the whole chip, see :func:`resized`.

    Raises:
        TrainingError: the batch has no chips, or they are smaller than what is to be cut of them.
    """
    if batch.chips is None:
        raise TrainingError("this batch has no chips, so they cannot be brought to a size")
    height, width = batch.chips.shape[-2:]
    if height == width == size:
        return batch
    if fit == "resize":
        return replace(batch, chips=resized(batch.chips, size, bands=batch.bands))
    if min(height, width) < size:
        raise TrainingError(
            f"chips are {height} x {width} pixels, and {size} x {size} cannot be cut of them: take a task that resizes its "
            "chips (fit='resize'), larger chips, or a model of a smaller image_size"
        )
    return replace(batch, chips=_middle(batch.chips, size))


def resized(chips_BTCHW: Tensor, size: int, *, bands: Bands) -> Tensor:
    """Chips of S x S pixels, uint16: bilinear interpolation of digital numbers, smoothed where it makes chips smaller.

    Pixels of no data (0) count for nothing: a new pixel is the weighted mean of those that have data, and has none where
    these weigh less than half. Classes are taken from the nearest pixel. A side of one pixel is the mean of the chip.

    Args:
        chips_BTCHW: digital numbers, uint16.
        size: S.
        bands: what the bands are.
    """
    named = [place for place, unit in enumerate(bands.unit) if unit == CLASSES]
    new_BTCSS = _interpolated(chips_BTCHW, size)
    if named:
        new_BTCSS[:, :, named] = _nearest(chips_BTCHW, size)[:, :, named]
    # by way of signed words, for which every device has a kernel
    return new_BTCSS.to(torch.int32).to(torch.int16).view(torch.uint16)


def _middle(chips_BTCHW: Tensor, size: int) -> Tensor:
    if size > 1:
        return center_crop(chips_BTCHW, size=size)
    y, x = (side // 2 for side in chips_BTCHW.shape[-2:])  # the pixel that a model of single pixels takes by itself
    return chips_BTCHW[..., y : y + 1, x : x + 1]


def _interpolated(chips_BTCHW: Tensor, size: int) -> Tensor:
    numbers = chips_BTCHW.flatten(0, 1).float()
    total, weight = _smooth(numbers, size), _smooth((numbers != 0).float(), size)
    mean = (total / weight.clamp_min(LEAST_DATA)).round().clamp(1, HIGHEST)  # 0 would be no data
    there = weight > LEAST_DATA - 1e-4
    return torch.where(there, mean, torch.zeros_like(mean)).view(*chips_BTCHW.shape[:3], size, size)


def _smooth(x_NCHW: Tensor, size: int) -> Tensor:
    if size == 1:
        return x_NCHW.mean(dim=(2, 3), keepdim=True)
    return functional.interpolate(x_NCHW, size=(size, size), mode="bilinear", align_corners=False, antialias=True)


def _nearest(chips_BTCHW: Tensor, size: int) -> Tensor:
    numbers = functional.interpolate(chips_BTCHW.flatten(0, 1).float(), size=(size, size), mode="nearest-exact")
    return numbers.view(*chips_BTCHW.shape[:3], size, size)
