"""Segmentation by probes: each labelled pixel is a sample, with the embedding of its place within the chip.

So many pixels of each training chip are learnt from; all labelled pixels of the test chips are predicted, chip by chip, so that
memory is bounded whatever their number.

Shapes: h w places of a dense embedding, Y X pixels of a mask, P labelled pixels, D length of an embedding, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pwcat.errors import TrainingError
from training.batch import Batch
from training.embed import check_data
from training.fitting import fitted
from training.models import Model
from training.probes import Probe, predict_with_all
from training.resampling import Draw
from training.tasks.base import Fit, TaskData

__all__ = ["ChipPixels", "Counts", "count_pixels", "embed_pixels", "pixels_at", "score_pixels"]

PIXELS_A_CHIP = 32
CHIPS = 16  # encoded at once
PIXELS = 1 << 15  # predicted at once
SERIES = 1024  # pixels encoded at once by a model of single ones: about 0.7 GB of Presto as released
UNLABELLED = -1

Progress = Callable[[int, int], None]
# Hits, true and predicted pixels of each test chip of each draw, by class, (M, 3, K); and what was chosen in each draw.
Counts = tuple[list[NDArray[np.int64]], list[dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class ChipPixels:
    """Labelled pixels of one chip.

    Attributes:
        row: of the chip in the task.
        features: (P, D) float32.
        classes: (P,) int64.
    """

    row: int
    features: NDArray[np.float32]
    classes: NDArray[np.int64]


def embed_pixels(
    model: Model,
    data: TaskData,
    rows: NDArray[np.int64],
    *,
    per_chip: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Iterator[ChipPixels]:
    """Labelled pixels of chips with the embeddings of their places, chip by chip in the order of ``rows``.

    Embeddings are interpolated bilinearly between the centres of the places; a model of single pixels encodes those alone.

    Args:
        model: with dense embeddings; it is left on ``device``, in eval mode.
        data: a segmentation.
        rows: which chips.
        per_chip: so many labelled pixels of each chip, drawn by ``seed`` and the chip alone; all of them where ``None``.
        seed: fixes the draw.
        device: torch device.

    Raises:
        TrainingError: the model has no dense embeddings, or cannot read the chips.
    """
    if model.encodes == "places":
        raise TrainingError(f"a {model.architecture} embeds places, and not the pixels of chips: take a model of chips")
    check_data(model, data, other_units=True)
    model.to(device)
    model.eval()
    bands = model.choose_bands(data.chips.bands.names)
    for batch in data.batches(rows, bands=bands, times=model.times, block=CHIPS):
        masks_BYX = _seen(data.masks(batch.rows), model, data)
        drawn = [
            _drawn(mask_YX, per_chip=per_chip, seed=seed, row=row)
            for mask_YX, row in zip(masks_BYX, batch.rows.tolist(), strict=True)
        ]
        found = _encoded(model, batch, drawn, masks_BYX.shape[1:], device=device, fit=data.info.fit)
        for row, mask_YX, at_P, features_PD in zip(batch.rows.tolist(), masks_BYX, drawn, found, strict=True):
            yield ChipPixels(row=row, features=features_PD, classes=mask_YX.ravel()[at_P].astype(np.int64))


def _drawn(mask_YX: NDArray[np.int16], *, per_chip: int | None, seed: int, row: int) -> NDArray[np.int64]:
    """Places of labelled pixels within a mask, ascending."""
    at_P = np.flatnonzero(mask_YX.ravel() != UNLABELLED)
    if per_chip is not None and len(at_P) > per_chip:
        at_P = np.sort(np.random.default_rng([seed, row]).permutation(at_P)[:per_chip])
    return at_P


def _encoded(
    model: Model, batch: Batch, drawn: Sequence[NDArray[np.int64]], shape: tuple[int, ...], *, device: str, fit: Fit
) -> Iterator[NDArray[np.float32]]:
    """Embeddings (P, D) of pixels of each chip, of masks of this shape; of single pixels no others are encoded."""
    if model.image_size == 1 and batch.chips is not None and tuple(batch.chips.shape[-2:]) == tuple(shape):
        yield from _encoded_alone(model, batch, drawn, device=device)
        return
    whole = batch.to(device) if model.image_size == 1 else fitted(batch.to(device), model.image_size, fit)
    with torch.inference_mode():
        dense_BhwD = model.encode_dense(whole).float()
    for dense_hwD, at_P in zip(dense_BhwD, drawn, strict=True):
        places_2P = np.stack(np.unravel_index(at_P, shape))
        yield pixels_at(dense_hwD, places_2P, shape=shape).cpu().numpy()


def _encoded_alone(
    model: Model, batch: Batch, drawn: Sequence[NDArray[np.int64]], *, device: str
) -> Iterator[NDArray[np.float32]]:
    """As :func:`_encoded`, by a model of single pixels: each is a sample of one, where its chip is."""
    assert batch.chips is not None
    chip_P = np.repeat(np.arange(len(drawn)), [len(at_P) for at_P in drawn])
    at_P = np.concatenate([np.empty(0, dtype=np.int64), *drawn])
    words = batch.chips.view(torch.int16).flatten(3)  # torch has not all of its kernels for unsigned words
    found = [np.empty((0, model.embedding_dim), dtype=np.float32)]
    for start in range(0, len(at_P), SERIES):
        chips, places = (torch.from_numpy(each[start : start + SERIES]) for each in (chip_P, at_P))
        pixels = replace(
            batch,
            chips=words[chips, :, :, places][..., None, None].contiguous().view(torch.uint16),
            lonlat=batch.lonlat[chips],
            times=batch.times[chips],
            rows=batch.rows[chips.numpy()],
        )
        with torch.inference_mode():
            found.append(model.encode(pixels.to(device)).float().cpu().numpy())
    yield from np.split(np.concatenate(found), np.cumsum([len(each) for each in drawn])[:-1])


def pixels_at(dense_hwD: Tensor, places_2P: NDArray[np.int64], *, shape: tuple[int, ...]) -> Tensor:
    """Embeddings (P, D) of pixels of a mask of this shape, interpolated bilinearly; beyond the outer centres the nearest."""
    found, weights = [], []
    for at_P, here, there in zip(places_2P, dense_hwD.shape[:2], shape, strict=True):
        middle_P = torch.from_numpy((at_P + 0.5) * here / there - 0.5).to(dense_hwD.device).clamp(0, here - 1)
        low_P = middle_P.floor().long()
        found.append((low_P, (low_P + 1).clamp(max=here - 1)))
        weights.append((middle_P - low_P).to(dense_hwD.dtype)[:, None])
    (top, bottom), (left, right) = found
    down, across = weights
    above = dense_hwD[top, left] * (1 - across) + dense_hwD[top, right] * across
    below = dense_hwD[bottom, left] * (1 - across) + dense_hwD[bottom, right] * across
    return above * (1 - down) + below * down


def score_pixels(
    probes: Sequence[Probe],
    model: Model,
    data: TaskData,
    draws: Sequence[Draw],
    *,
    per_chip: int = PIXELS_A_CHIP,
    per_test_chip: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = lambda done, total: None,
) -> list[Counts]:
    """Of each probe what its heads predict for the labelled pixels of the test chips.

    Args:
        probes: fitted on the pixels of each draw's training chips.
        model: with dense embeddings.
        data: a segmentation.
        draws: of chips.
        per_chip: labelled pixels of each training chip that are learnt from.
        per_test_chip: of each test chip that are predicted; all of them where ``None``.
        seed: fixes which.
        device: torch device.
        progress: told of test chips done, and of all.
    """
    learnt = np.unique(np.concatenate([draw.train for draw in draws]))
    chips = list(embed_pixels(model, data, learnt, per_chip=per_chip, seed=seed, device=device))
    features_PD, classes_P = _joined(chips, model)
    of_chips = _pixel_draws(draws, chips)
    heads = [
        probe.fit_many(features_PD, classes_P, of_chips, kind="classification", num_classes=data.num_classes)
        for probe in probes
    ]
    tested = np.unique(np.concatenate([draw.test for draw in draws]))
    places = [{int(row): i for i, row in enumerate(draw.test)} for draw in draws]
    counts = [[np.zeros((len(draw.test), 3, data.num_classes), dtype=np.int64) for draw in draws] for _ in probes]
    for done, chip in enumerate(embed_pixels(model, data, tested, per_chip=per_test_chip, seed=seed, device=device)):
        asked = [
            (counted[i][places[i][chip.row]], of_probe[i])
            for counted, of_probe in zip(counts, heads, strict=True)
            for i in range(len(draws))
            if chip.row in places[i]
        ]
        for part in np.array_split(np.arange(len(chip.classes)), max(1, -(-len(chip.classes) // PIXELS))):
            if not len(part):
                continue
            predicted = predict_with_all([head for _, head in asked], chip.features[part])
            for (into, _), each in zip(asked, predicted, strict=True):
                into += count_pixels(chip.classes[part], each.values, data.num_classes)
        progress(done + 1, len(tested))
    return [(counted, [head.chosen for head in of_probe]) for counted, of_probe in zip(counts, heads, strict=True)]


def count_pixels(
    true_P: NDArray[np.integer[Any]], predicted_P: NDArray[np.integer[Any]], classes: int
) -> NDArray[np.int64]:
    """Hits, true and predicted pixels of each class, (3, K); unlabelled ones (-1) count for nothing."""
    known = true_P != UNLABELLED
    true_P, predicted_P = true_P[known].astype(np.int64), predicted_P[known].astype(np.int64)
    hits = true_P[true_P == predicted_P]
    return np.stack([np.bincount(each, minlength=classes) for each in (hits, true_P, predicted_P)])


def _seen(masks_BYX: NDArray[np.int16], model: Model, data: TaskData) -> NDArray[np.int16]:
    """The part of the masks that the model sees: where chips are cut, their middle."""
    if data.info.fit == "resize" or model.image_size == 1:
        return masks_BYX
    sizes = [
        round(model.image_size * pixels / side)
        for pixels, side in zip(masks_BYX.shape[1:], data.chips.shape[2:], strict=True)
    ]
    starts = [(pixels - size) // 2 for pixels, size in zip(masks_BYX.shape[1:], sizes, strict=True)]
    return masks_BYX[:, starts[0] : starts[0] + sizes[0], starts[1] : starts[1] + sizes[1]]


def _joined(chips: Sequence[ChipPixels], model: Model) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    if not any(len(chip.classes) for chip in chips):
        raise TrainingError(f"none of {len(chips)} training chips has a labelled pixel: there is nothing to learn from")
    return np.concatenate([chip.features for chip in chips]), np.concatenate([chip.classes for chip in chips])


def _pixel_draws(draws: Sequence[Draw], chips: Sequence[ChipPixels]) -> list[Draw]:
    """The draws of chips as draws of their pixels, which lie chip by chip; none is tested on."""
    ends = np.cumsum([len(chip.classes) for chip in chips])
    at = {chip.row: np.arange(end - len(chip.classes), end) for chip, end in zip(chips, ends, strict=True)}
    found = []
    for draw in draws:
        each = [at[int(row)] for row in draw.train]
        train = np.concatenate(each)
        if not len(train):
            raise TrainingError(f"none of {len(draw.train)} training chips of a draw has a labelled pixel")
        validation = np.repeat(draw.validation, [len(pixels) for pixels in each])
        found.append(replace(draw, train=train, validation=validation, test=np.empty(0, dtype=np.int64)))
    return found
