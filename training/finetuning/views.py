"""How samples look to a model in training: fitted, cut, flipped, erased and mixed, in digital numbers.

So any architecture can be trained, for which :meth:`~training.models.base.Model.encode` takes digital numbers and scales them
itself. Pixels of no data (0) stay pixels of no data, and nothing lies between two classes.

Shapes: B samples, T dates, C bands, P = T * C planes, H W pixels in, S pixels a side out, K classes or labels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.augment import flip_images, part_grid
from training.batch import Bands
from training.chance import Chance, to_device
from training.finetuning.recipe import FinetuneRecipe
from training.finetuning.samples import Sampled
from training.fitting import CLASSES, HIGHEST, fitted
from training.models.base import Model
from training.tasks.base import Fit

__all__ = ["Viewer", "mix", "uncut"]

ERASED_AREA = (0.02, 1 / 3)  # of a chip, and the aspects of what is erased: Zhong et al. (2020), Random Erasing
ERASED_ASPECT = 0.3
# Side of the windows of pixels that a model of single pixels is trained on, each pixel being a series of its own.
WINDOW = 16


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """Brings samples to what a model reads.

    Attributes:
        size: side that the model reads, in pixels; 0 where it reads no chips.
        fit: how chips of another size come to it.
        dense: whether places within the chips are asked for.
        recipe: how they are changed in training.
    """

    size: int
    fit: Fit
    dense: bool
    recipe: FinetuneRecipe

    @classmethod
    def of(cls, model: Model, *, fit: Fit, dense: bool, recipe: FinetuneRecipe) -> Viewer:
        """That of a model; entities of a map lie on the whole chip, so that nothing is cut, turned or mixed beside them."""
        if model.reads_entities:
            fit, recipe = (
                "resize",
                recipe.model_copy(update={"crop": "none", "flip": "none", "mixup": 0.0, "cutmix": 0.0}),
            )
        size = 0 if model.encodes == "places" else model.image_size
        return cls(size=size, fit=fit, dense=dense, recipe=recipe)

    @property
    def by_pixel(self) -> bool:
        """Whether each pixel is read by itself: then chips of a segmentation stay as large as they are."""
        return self.dense and self.size == 1

    def plain(self, sampled: Sampled) -> Sampled:
        """As they are predicted: nothing is drawn. What is cut of a mask has no class any more."""
        if self.size == 0 or self.by_pixel or sampled.batch.chips is None:
            return sampled
        batch, masks = fitted(sampled.batch, self.size, self.fit), sampled.masks
        if masks is not None and self.fit == "crop" and sampled.batch.chips is not None:
            masks = _middle(masks, size=self.size, of=sampled.batch.chips.shape[-2:])
        return Sampled(batch=batch, masks=masks)

    def drawn(self, sampled: Sampled, chance: Chance) -> Sampled:
        """As they are trained on."""
        if sampled.batch.chips is None:
            return sampled
        crop = self.recipe.crop
        if self.by_pixel:
            sampled = _window(sampled, min(WINDOW, *sampled.batch.chips.shape[-2:]), chance)
        elif crop == "resized" and self.size > 1:
            sampled = _part(sampled, self.size, min_scale=self.recipe.min_scale, chance=chance)
        elif crop == "random" and self.fit == "crop":
            sampled = _window(sampled, self.size, chance)
        sampled = _flipped(self.plain(sampled), self.recipe, chance)
        return _erased(sampled, self.recipe.erase, chance) if self.recipe.erase > 0 else sampled


def mix(
    sampled: Sampled, targets_BK: Tensor, *, recipe: FinetuneRecipe, rng: np.random.Generator
) -> tuple[Sampled, Tensor]:
    """Samples mixed in pairs, the first with the last and so on, and their targets likewise; one way for all of a batch.

    Mixup takes the weighted mean of both chips; cutmix pastes a rectangle of the one into the other. Place and time stay those
    of the one.

    Source: Zhang et al. (2018), mixup; Yun et al. (2019), CutMix; by batch, as timm and MAE have it.
    """
    chips = sampled.batch.chips
    ways = [name for name in ("mixup", "cutmix") if getattr(recipe, name) > 0]
    if chips is None or not ways or len(targets_BK) < 2:
        return sampled, targets_BK
    way = ways[int(rng.integers(len(ways)))]
    share = float(rng.beta(*[getattr(recipe, way)] * 2))
    own = chips.to(torch.int32)
    other = own.flip(0)
    if way == "mixup":
        mean = (share * own + (1 - share) * other).round().to(torch.int32)
        mixed = torch.where(own == 0, other, torch.where(other == 0, own, mean))
        for place in _named(sampled.batch.bands):
            mixed[:, :, place] = (own if share >= 0.5 else other)[:, :, place]
    else:
        mixed, share = _pasted(own, other, share, rng)
    batch = replace(sampled.batch, chips=_words(mixed))
    return Sampled(batch=batch, masks=sampled.masks), share * targets_BK + (1 - share) * targets_BK.flip(0)


def uncut(found: Tensor, masks: Tensor | None) -> Tensor:
    """Classes of pixels at the size of whole masks, -1 around what was cut of them; anything else as it is."""
    if masks is None or found.shape == masks.shape:
        return found
    whole = torch.full_like(masks, -1)
    (height, width), (rows, columns) = found.shape[1:], masks.shape[1:]
    top, left = (rows - height) // 2, (columns - width) // 2
    whole[:, top : top + height, left : left + width] = found
    return whole


def _pasted(own: Tensor, other: Tensor, share: float, rng: np.random.Generator) -> tuple[Tensor, float]:
    """A rectangle of the other in the own, whose middle lies anywhere, and what share of the own is left."""
    height, width = own.shape[-2:]
    side = np.sqrt(1 - share)
    (top, bottom), (left, right) = (
        np.clip(np.array([-0.5, 0.5]) * side * length + rng.integers(length), 0, length).round().astype(int)
        for length in (height, width)
    )
    mixed = own.clone()
    mixed[..., top:bottom, left:right] = other[..., top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def _flipped(sampled: Sampled, recipe: FinetuneRecipe, chance: Chance) -> Sampled:
    assert sampled.batch.chips is not None
    images = [sampled.batch.chips.view(torch.int16)]  # torch has not all of its kernels for unsigned words
    masks = [] if sampled.masks is None else [sampled.masks]
    chips, *turned = flip_images([*images, *masks], flip=recipe.flip, chance=chance)
    return Sampled(batch=replace(sampled.batch, chips=chips.view(torch.uint16)), masks=turned[0] if turned else None)


def _window(sampled: Sampled, size: int, chance: Chance) -> Sampled:
    """A square of pixels cut anywhere; all, where there are no more."""
    chips = sampled.batch.chips
    assert chips is not None
    height, width = chips.shape[-2:]
    if min(height, width) <= size:
        return sampled
    steps = torch.arange(size)
    rows_BS, columns_BS = (
        to_device(chance.integers(length - size + 1)[:, None] + steps, chips.device) for length in (height, width)
    )
    cut = _taken(chips.view(torch.int16).flatten(1, 2), rows_BS, columns_BS).view(*chips.shape[:3], size, size)
    masks = (
        None if sampled.masks is None else _taken(_of_size(sampled.masks, chips)[:, None], rows_BS, columns_BS)[:, 0]
    )
    return Sampled(batch=replace(sampled.batch, chips=cut.view(torch.uint16)), masks=masks)


def _taken(planes_BPHW: Tensor, rows_BS: Tensor, columns_BS: Tensor) -> Tensor:
    """The same rows and columns of all planes of a sample, (B, P, S, S)."""
    images_B = torch.arange(len(planes_BPHW), device=planes_BPHW.device)[:, None, None]
    cut_BSSP = planes_BPHW.permute(0, 2, 3, 1)[images_B, rows_BS[:, :, None], columns_BS[:, None, :]]
    return cut_BSSP.permute(0, 3, 1, 2).contiguous()


def _part(sampled: Sampled, size: int, *, min_scale: float, chance: Chance) -> Sampled:
    """A part of each chip and its mask, resized: digital numbers by bicubic sampling, classes from the nearest pixel."""
    chips = sampled.batch.chips
    assert chips is not None
    planes_BPHW = chips.float().flatten(1, 2)
    grid = part_grid(planes_BPHW, size=size, min_scale=min_scale, chance=chance)

    def sample(x: Tensor, mode: str) -> Tensor:
        return functional.grid_sample(x, grid, mode=mode, padding_mode="border", align_corners=False)

    near, smooth = (sample(planes_BPHW, mode).view(*chips.shape[:3], size, size) for mode in ("nearest", "bicubic"))
    new = torch.where(near > 0, smooth.round().clamp(1, HIGHEST), near)
    named = _named(sampled.batch.bands)
    new[:, :, named] = near[:, :, named]
    masks = sampled.masks
    if masks is not None:
        masks = sample(_of_size(masks, chips)[:, None].float(), "nearest")[:, 0].to(torch.int16)
    return Sampled(batch=replace(sampled.batch, chips=_words(new.to(torch.int32))), masks=masks)


def _erased(sampled: Sampled, probability: float, chance: Chance) -> Sampled:
    """A rectangle of some samples filled with noise of each band's mean and deviation, and its pixels without a class."""
    chips = sampled.batch.chips
    assert chips is not None
    times, bands, height, width = chips.shape[1:]
    inside = to_device(_rectangles(chance, probability, height, width), chips.device)
    values = chips.float()
    held = values > 0
    count = held.sum(dim=(0, 1, 3, 4), keepdim=True).clamp(min=1)
    mean = (values * held).sum(dim=(0, 1, 3, 4), keepdim=True) / count
    spread = (((values - mean) * held).square().sum(dim=(0, 1, 3, 4), keepdim=True) / count).sqrt()
    noise = to_device(chance.normal(times, bands, height, width), chips.device)
    new = torch.where(inside[:, None, None], (mean + spread * noise).round().clamp(1, HIGHEST), values)
    named = _named(sampled.batch.bands)
    new[:, :, named] = torch.where(inside[:, None, None], 0.0, values[:, :, named])  # of classes there is no noise
    masks = sampled.masks
    if masks is not None:
        there = functional.interpolate(inside[:, None].float(), size=tuple(masks.shape[1:]), mode="nearest-exact")
        masks = masks.masked_fill(there[:, 0] > 0, -1)
    return Sampled(batch=replace(sampled.batch, chips=_words(new.to(torch.int32))), masks=masks)


def _rectangles(chance: Chance, probability: float, height: int, width: int) -> Tensor:
    """The pixels of one rectangle each, (B, H, W) bool; nothing of those whom it does not befall."""
    drawn_B5 = chance.uniform(5)
    area_B = ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * drawn_B5[:, 1]
    aspect_B = torch.exp((2 * drawn_B5[:, 2] - 1) * -np.log(ERASED_ASPECT))
    sides = ((area_B * aspect_B).sqrt().clamp(max=1) * height, (area_B / aspect_B).sqrt().clamp(max=1) * width)
    lines = []
    for side_B, length, place_B in zip(sides, (height, width), (drawn_B5[:, 3], drawn_B5[:, 4]), strict=True):
        start_B1 = ((length - side_B) * place_B)[:, None]
        steps = torch.arange(length) + 0.5
        lines.append((steps >= start_B1) & (steps < start_B1 + side_B[:, None]))
    return lines[0][:, :, None] & lines[1][:, None, :] & (drawn_B5[:, 0] < probability)[:, None, None]


def _middle(masks_BHW: Tensor, *, size: int, of: tuple[int, ...]) -> Tensor:
    """The middle of masks that are of chips whose own middle is cut; they may be finer or coarser than these."""
    sides = [round(size * pixels / side) for pixels, side in zip(masks_BHW.shape[1:], of, strict=True)]
    (top, left) = ((whole - side) // 2 for whole, side in zip(masks_BHW.shape[1:], sides, strict=True))
    return masks_BHW[:, top : top + sides[0], left : left + sides[1]]


def _of_size(masks_BHW: Tensor, chips: Tensor) -> Tensor:
    """Masks of the size of the chips, by the nearest pixel."""
    if masks_BHW.shape[1:] == chips.shape[-2:]:
        return masks_BHW
    size = tuple(chips.shape[-2:])
    return functional.interpolate(masks_BHW[:, None].float(), size=size, mode="nearest-exact")[:, 0].to(torch.int16)


def _named(bands: Bands) -> list[int]:
    """Places of the bands whose numbers are names."""
    return [place for place, unit in enumerate(bands.unit) if unit == CLASSES]


def _words(numbers: Tensor) -> Tensor:
    """Numbers of 0 to 65535 as uint16, by way of signed words, for which every device has a kernel."""
    return numbers.to(torch.int16).view(torch.uint16)
