"""Batches: chips with what a subset says of their samples, where and when; of tiles of maps, with what lies on them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.batch import UNKNOWN_TIME, Bands, Batch
from training.osm.entities import Entities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.subset import Subset
    from pwcat.cube import Cube
    from training.loading.source import Times
    from training.osm.reading import EntityReader

__all__ = ["Making", "Samples"]


class Samples:
    """What is known of N samples; read by :meth:`load`, or when the first batch asks for it.

    Args:
        subset: the samples.
        bands: names of the bands that are read.
        times: the first of each sample, or all T.
        reader: of what lies on the samples' tiles, where that is wanted.

    Raises:
        TrainingError: collections of the subset differ in what their bands are.
    """

    def __init__(
        self, subset: Subset, *, bands: Sequence[str], times: Times, reader: EntityReader | None = None
    ) -> None:
        self.subset, self.bands, self.reader = subset, Bands.of(subset, bands), reader
        self._times = times
        self._known: tuple[Tensor, Tensor] | None = None
        self._lock = threading.Lock()

    @property
    def lonlat(self) -> Tensor:
        """(N, 2) float64 degrees, EPSG:4326."""
        return self.load()[0]

    @property
    def times(self) -> Tensor:
        """(N, T) int64 seconds since 1970-01-01 UTC, ``UNKNOWN_TIME`` where the cube does not tell."""
        return self.load()[1]

    def load(self) -> tuple[Tensor, Tensor]:
        """Where and when all of them are; read once, however many threads ask."""
        with self._lock:
            if self._known is None:
                self._known = torch.from_numpy(np.ascontiguousarray(self.subset.lonlat)), self._read_times()
            return self._known

    def _read_times(self) -> Tensor:
        kept = 1 if self._times == "first" else self.subset.chip_shape[0]
        found = np.full((len(self.subset), kept), UNKNOWN_TIME, dtype=np.int64)
        for collection, rows in self.subset.parts():
            known = _seconds(collection.cube)
            if known is not None:
                found[rows] = known[self.subset.index[rows], :kept]
        return torch.from_numpy(found)

    def batch(self, chips: Tensor | None, rows: NDArray[np.int64], *, entities: Entities | None = None) -> Batch:
        """The batch of these chips, (B, T, C, H, W) uint16, and their rows of the subset, (B,); without bands it has none."""
        wanted = torch.from_numpy(rows)
        return Batch(
            chips=chips if self.bands.names else None,
            bands=self.bands,
            lonlat=self.lonlat[wanted],
            times=self.times[wanted],
            rows=rows,
            entities=entities,
        )

    def making(self, rows: NDArray[np.int64]) -> Making:
        """A batch of these rows of the subset, whose entities are still to be read."""
        return Making(self, rows)


@dataclass
class Making:
    """A batch in the making.

    Attributes:
        samples: what is known of all samples.
        rows: of the batch, (B,).
    """

    samples: Samples
    rows: NDArray[np.int64]
    _entities: Entities | None = field(default=None, init=False)

    def pieces(self, others: Sequence[Callable[[], None]] = ()) -> list[Callable[[], None]]:
        """What is to be done for it, by any threads: reading its entities, and others; at least one piece."""
        return [self._read, *others]

    def batch(self, chips: Tensor | None = None) -> Batch:
        """The batch, once its pieces are done."""
        return self.samples.batch(chips, self.rows, entities=self._entities)

    def _read(self) -> None:
        if self.samples.reader is not None:
            self._entities = self.samples.reader.batch(self.rows)


def _seconds(cube: Cube) -> NDArray[np.int64] | None:
    """(samples, times) of a cube; ``None`` where it does not tell, or tells of others than its chips."""
    values = cube.stored("datetime")
    if values is None or values.shape != (cube.num_samples, cube.num_times):
        return None
    if values.dtype.kind == "M":
        return values.astype("datetime64[s]").astype(np.int64)
    if values.dtype.kind == "f":
        return np.where(np.isfinite(values), np.nan_to_num(values), UNKNOWN_TIME).astype(np.int64)
    return values.astype(np.int64)
