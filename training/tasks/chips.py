"""Pixels of a task's samples: of a catalog's subset, of files that a reader knows, or none where there are places alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from pwcat.errors import TrainingError
from training.batch import UNKNOWN_TIME, Bands, Batch
from training.loader import in_order
from training.osm.reading import EntityReader
from training.osm.rules import TagRule
from training.tasks.base import Times

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["FileChips", "PlaceChips", "SubsetChips"]

Read = Callable[[NDArray[np.int64]], NDArray[np.uint16]]
ReadMasks = Callable[[NDArray[np.int64]], NDArray[np.int16]]


def no_masks(rows: NDArray[np.int64]) -> NDArray[np.int16]:
    """Says that there are none."""
    raise TrainingError("these samples have one target each, and no masks of their pixels")


def _require_no_entities(asked: bool) -> None:
    if asked:
        raise TrainingError(
            "these samples are no tiles of maps, whose entities this model reads: take a task of a map collection, or a model "
            "of chips alone"
        )


@dataclass(frozen=True, kw_only=True)
class FileChips:
    """Samples that a function reads.

    Attributes:
        bands: what the bands of ``read`` are, in order.
        shape: (T, C, H, W) of a sample.
        lonlat: (N, 2) of all samples, EPSG:4326; NaN where unknown.
        times: (N, T) int64 of all samples, seconds since 1970-01-01 UTC; ``UNKNOWN_TIME`` where unknown.
        read: digital numbers (n, T, C, H, W) uint16 of rows of all samples; 0 is no data.
        read_masks: class of each pixel (n, H, W), -1 where there is none.
    """

    bands: Bands
    shape: tuple[int, int, int, int]
    lonlat: NDArray[np.float64]
    times: NDArray[np.int64]
    read: Read
    read_masks: ReadMasks = field(default=no_masks)

    def batches(
        self, rows: NDArray[np.int64], *, bands: Sequence[str], times: Times, block: int, entities: bool = False
    ) -> Iterator[Batch]:
        """See :meth:`training.tasks.base.Chips.batches`."""
        _require_no_entities(entities)
        places, chosen = [self.bands.names.index(name) for name in bands], self.bands.select(bands)
        last = 1 if times == "first" else self.shape[0]
        for start in range(0, len(rows), block):
            part = rows[start : start + block]
            chips = self.read(part)[:, :last, places]
            yield Batch(
                chips=torch.from_numpy(np.ascontiguousarray(chips)),
                bands=chosen,
                lonlat=torch.from_numpy(np.ascontiguousarray(self.lonlat[part])),
                times=torch.from_numpy(np.ascontiguousarray(self.times[part, :last])),
                rows=part,
            )

    def masks(self, rows: NDArray[np.int64]) -> NDArray[np.int16]:
        """See :meth:`training.tasks.base.Chips.masks`."""
        return self.read_masks(rows)


@dataclass(frozen=True, kw_only=True)
class PlaceChips:
    """Samples that are places alone: models of places can embed them, others say what they lack.

    Attributes:
        lonlat: (N, 2) of all samples, EPSG:4326.
    """

    lonlat: NDArray[np.float64]
    bands: Bands = field(default_factory=lambda: Bands.reflectance(()))
    shape: tuple[int, int, int, int] = (0, 0, 0, 0)

    def batches(
        self, rows: NDArray[np.int64], *, bands: Sequence[str], times: Times, block: int, entities: bool = False
    ) -> Iterator[Batch]:
        """See :meth:`training.tasks.base.Chips.batches`; these have no pixels."""
        _require_no_entities(entities)
        if bands:
            raise TrainingError(f"these samples are places without pixels: bands {', '.join(bands)} cannot be read")
        for start in range(0, len(rows), block):
            part = rows[start : start + block]
            yield Batch(
                chips=None,
                bands=self.bands,
                lonlat=torch.from_numpy(np.ascontiguousarray(self.lonlat[part])),
                times=torch.full((len(part), 1), UNKNOWN_TIME),
                rows=part,
            )

    def masks(self, rows: NDArray[np.int64]) -> NDArray[np.int16]:
        """See :meth:`training.tasks.base.Chips.masks`."""
        return no_masks(rows)


@dataclass(frozen=True, kw_only=True)
class SubsetChips:
    """Samples of a catalog's subset, read as the loader reads them.

    Attributes:
        subset: the samples; a task's rows are rows of it.
        read_masks: class of each pixel, where there are any.
        removing: of maps, the tags that are taken away from what lies on the tiles.
    """

    subset: Subset
    read_masks: ReadMasks = field(default=no_masks)
    removing: TagRule | None = None

    @cached_property
    def entities(self) -> EntityReader:
        """Reads what lies on the tiles.

        Raises:
            TrainingError: these are no tiles of maps.
        """
        return EntityReader(self.subset, self.removing)

    @property
    def bands(self) -> Bands:
        """See :attr:`training.tasks.base.Chips.bands`."""
        return Bands.of(self.subset, self.subset.bands)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """See :attr:`training.tasks.base.Chips.shape`."""
        return self.subset.chip_shape

    def batches(
        self, rows: NDArray[np.int64], *, bands: Sequence[str], times: Times, block: int, entities: bool = False
    ) -> Iterator[Batch]:
        """See :meth:`training.tasks.base.Chips.batches`."""
        reader = self.entities if entities else None
        if np.array_equal(rows, np.arange(len(self.subset))):
            yield from in_order(self.subset, bands=bands, times=times, block=block, entities=reader or False)
            return
        if len(rows) and (np.diff(rows) > 0).all():
            for batch in in_order(
                self.subset.only(rows), bands=bands, times=times, block=block, entities=reader or False
            ):
                yield replace(batch, rows=rows[batch.rows])
            return
        for start in range(0, len(rows), block):
            part = rows[start : start + block]
            taken, back = np.unique(part, return_inverse=True)  # a subset is read in the order of its shards
            (batch,) = in_order(self.subset.only(taken), bands=bands, times=times, block=len(taken))
            yield replace(
                batch,
                chips=batch.chips[torch.from_numpy(back)] if batch.chips is not None else None,
                lonlat=batch.lonlat[back],
                times=batch.times[back],
                rows=part,
                entities=reader.batch(part) if reader else None,
            )

    def masks(self, rows: NDArray[np.int64]) -> NDArray[np.int16]:
        """See :meth:`training.tasks.base.Chips.masks`."""
        return self.read_masks(rows)
