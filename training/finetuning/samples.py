"""A task's samples for training: read once where memory holds them, else as they are asked for, the next ones meanwhile.

Shapes: n samples, T dates, C bands, H W pixels.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pwcat.errors import TrainingError
from training.batch import UNKNOWN_TIME, Bands, Batch
from training.embed import check_data
from training.loading.ahead import Job, read_ahead
from training.models.base import Model
from training.tasks.base import TaskData

__all__ = ["Sampled", "Samples"]

BLOCK = 64  # chips read at once where they are to be held
AHEAD = 2  # batches read, or being read, while one is trained on


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Some samples.

    Attributes:
        batch: what the model reads.
        masks: class of each pixel, (n, H, W) int16, -1 where there is none; ``None`` but of a segmentation.
    """

    batch: Batch
    masks: Tensor | None

    def to(self, device: torch.device) -> Sampled:
        """The same on a device."""
        masks = None if self.masks is None else self.masks.to(device, non_blocking=True)
        return Sampled(batch=self.batch.to(device), masks=masks)

    def at(self, places: NDArray[np.int64]) -> Sampled:
        """Those at some places, in that order."""
        index, whole = torch.from_numpy(places), self.batch
        batch = replace(
            whole,
            chips=None if whole.chips is None else whole.chips[index],
            lonlat=whole.lonlat[index],
            times=whole.times[index],
            rows=whole.rows[places],
        )
        return Sampled(batch=batch, masks=None if self.masks is None else self.masks[index])


class Samples:
    """What a model reads of a task.

    Args:
        model: that is trained.
        data: the task.
        other_units: let values of another unit than in pretraining pass.

    Raises:
        TrainingError: the model cannot read the samples.
    """

    def __init__(self, model: Model, data: TaskData, *, other_units: bool = False) -> None:
        check_data(model, data, other_units=other_units)
        self._data, self._times = data, model.times
        self._places = model.encodes == "places"
        self._bands: Sequence[str] = () if self._places else model.choose_bands(data.chips.bands.names)
        self._entities = model.reads_entities
        self._masked = data.info.kind == "segmentation"
        self._held: Sampled | None = None
        self._place_of: NDArray[np.int64] = np.full(len(data), -1, dtype=np.int64)

    def hold(self, rows: NDArray[np.int64], *, budget_mb: float) -> bool:
        """Read these rows and keep them, if they take no more than ``budget_mb`` MB; whether they are kept.

        Tiles of maps are not: what lies on them was decoded before, and is kept by its reader.
        """
        if self._entities or not len(rows) or len(rows) * self._bytes() > budget_mb * 1e6:
            return False
        parts = [self._read(rows[start : start + BLOCK]) for start in range(0, len(rows), BLOCK)]
        self._held = _joined(parts)
        self._place_of[rows] = np.arange(len(rows))
        return True

    def read(self, rows: NDArray[np.int64]) -> Sampled:
        """These rows in their order."""
        places = self._place_of[rows]
        if self._held is not None and (places >= 0).all():
            return self._held.at(places)
        return self._read(rows)

    def each(self, groups: Iterable[NDArray[np.int64]]) -> Generator[Sampled]:
        """The rows of each group in turn; one group after the other is read ahead."""
        jobs = (Job(pieces=[_nothing], finish=partial(self.read, rows)) for rows in groups)
        return read_ahead(jobs, threads=1, ahead=AHEAD)

    def _bytes(self) -> int:
        """Of a sample."""
        if self._places:
            return 16
        times, _, height, width = self._data.chips.shape
        dates = 1 if self._times == "first" else times
        return height * width * 2 * (dates * len(self._bands) + self._masked)

    def _read(self, rows: NDArray[np.int64]) -> Sampled:
        masks = torch.from_numpy(np.ascontiguousarray(self._data.masks(rows))) if self._masked else None
        if self._places:
            return Sampled(batch=self._of_places(rows), masks=masks)
        (batch,) = self._data.batches(
            rows, bands=self._bands, times=self._times, block=len(rows), entities=self._entities
        )
        return Sampled(batch=batch, masks=masks)

    def _of_places(self, rows: NDArray[np.int64]) -> Batch:
        lonlat = self._data.lonlat[rows]
        if unknown := int((~np.isfinite(lonlat).all(axis=1)).sum()):
            raise TrainingError(
                f"the model encodes places, and {unknown} of {len(rows)} samples have none: take a task whose samples have "
                "longitude and latitude, or a model of chips"
            )
        return Batch(
            chips=None,
            bands=Bands.reflectance(()),
            lonlat=torch.from_numpy(np.ascontiguousarray(lonlat)),
            times=torch.full((len(rows), 1), UNKNOWN_TIME),
            rows=rows,
        )


def _nothing() -> None:
    """A batch is read in one piece, its last."""


def _joined(parts: Sequence[Sampled]) -> Sampled:
    batches = [part.batch for part in parts]
    chips = [batch.chips for batch in batches if batch.chips is not None]
    masks = [part.masks for part in parts if part.masks is not None]
    batch = replace(
        batches[0],
        # torch has not all of its kernels for unsigned words
        chips=torch.cat([each.view(torch.int16) for each in chips]).view(torch.uint16) if chips else None,
        lonlat=torch.cat([each.lonlat for each in batches]),
        times=torch.cat([each.times for each in batches]),
        rows=np.concatenate([each.rows for each in batches]),
    )
    return Sampled(batch=batch, masks=torch.cat(masks) if masks else None)
