"""Batches: chips with what a subset says of their samples, where and when."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.batch import UNKNOWN_TIME, Bands, Batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.subset import Subset
    from pwcat.cube import Cube
    from training.loading.source import Times

__all__ = ["Samples"]


class Samples:
    """What is known of N samples; read by :meth:`load`, or when the first batch asks for it.

    Args:
        subset: the samples.
        bands: names of the bands that are read.
        times: the first of each sample, or all T.

    Raises:
        TrainingError: collections of the subset differ in what their bands are.
    """

    def __init__(self, subset: Subset, *, bands: Sequence[str], times: Times) -> None:
        self.subset, self.bands = subset, Bands.of(subset, bands)
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

    def batch(self, chips: Tensor, rows: NDArray[np.int64]) -> Batch:
        """The batch of these chips, (B, T, C, H, W) uint16, and their rows of the subset, (B,)."""
        wanted = torch.from_numpy(rows)
        return Batch(chips=chips, bands=self.bands, lonlat=self.lonlat[wanted], times=self.times[wanted], rows=rows)


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
