"""Batches of chips from a subset: every sample once an epoch, in an order that seed and epoch fix.

A subset that fits the memory budget is read once and held; a larger one is read shard by shard in shuffled order, and
shuffled again within a window of shards. Either way one thread reads ahead, and batches are handed over as uint16.
Of chips with several times the first is taken.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from pwcat.errors import TrainingError
from training.batch import UNKNOWN_TIME, Bands, Batch

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["Loader", "band_indices", "in_order", "read_blocks", "read_chips"]

log = logging.getLogger(__name__)

DEFAULT_BLOCK = 256  # chips read at once
AHEAD = 2  # batches prepared while one is trained on


def band_indices(subset: Subset, bands: Sequence[str]) -> list[int]:
    """Where the wanted bands are among those of a subset.

    Raises:
        TrainingError: some are not there; the message lists both sides.
    """
    if missing := [band for band in bands if band not in subset.bands]:
        raise TrainingError(
            f"the model reads bands {', '.join(bands)}, but the data have {', '.join(subset.bands)}: "
            f"{', '.join(missing)} are missing. Choose data with these bands, or pretrain on the bands there are "
            "(model.bands and model.groups of the recipe)"
        )
    return [subset.bands.index(band) for band in bands]


def read_chips(subset: Subset, rows: np.ndarray, *, bands: Sequence[str]) -> np.ndarray:
    """The first time of these rows' chips, (n, C, H, W) uint16, in the asked order, with the bands asked for."""
    return np.ascontiguousarray(subset.read(rows)[:, 0, band_indices(subset, bands)])


def read_blocks(subset: Subset, *, bands: Sequence[str], block: int = DEFAULT_BLOCK) -> Iterator[np.ndarray]:
    """The chips of a subset in its own order, (n <= block, C, H, W) uint16 at a time."""
    for start in range(0, len(subset), block):
        yield read_chips(subset, np.arange(start, min(start + block, len(subset))), bands=bands)


def in_order(
    subset: Subset, *, bands: Sequence[str], times: Literal["first", "all"] = "first", block: int = DEFAULT_BLOCK
) -> Iterator[Batch]:
    """The samples of a subset in its own order, at most ``block`` at a time, with these bands in this order."""
    known, wanted = Bands.of(subset, bands), band_indices(subset, bands)
    kept = slice(0, 1) if times == "first" else slice(None)
    for start in range(0, len(subset), block):
        rows = np.arange(start, min(start + block, len(subset)))
        chips = np.ascontiguousarray(subset.read(rows)[:, kept][:, :, wanted])
        yield Batch(
            chips=torch.from_numpy(chips),
            bands=known,
            lonlat=torch.from_numpy(subset.lonlat[rows]),
            times=torch.full(chips.shape[:2], UNKNOWN_TIME, dtype=torch.int64),
            rows=rows,
        )


class Loader:
    """Shuffled batches of a subset.

    Args:
        subset: the samples.
        bands: names of the bands to hand over, in order.
        batch_size: chips a batch; the last batch of an epoch may be smaller.
        seed: with the number of the epoch, fixes the order.
        memory_budget_mb: how much the chips may take in memory, in MB (10^6 bytes), before they are streamed instead.
        window_chips: chips that are shuffled together while streaming.
    """

    def __init__(
        self,
        subset: Subset,
        *,
        bands: Sequence[str],
        batch_size: int,
        seed: int,
        memory_budget_mb: float = 2048,
        window_chips: int = 8192,
    ) -> None:
        if not len(subset):
            raise TrainingError("the subset holds no samples, so there is nothing to train on")
        band_indices(subset, bands)
        self.subset, self.bands, self.batch_size, self.seed = subset, tuple(bands), batch_size, seed
        self.window_chips = window_chips
        self._bands = Bands.of(subset, bands)
        size_mb = len(subset) * len(bands) * np.prod(subset.chip_shape[2:]) * 2 / 1e6
        self.placement: Literal["memory", "stream"] = "memory" if size_mb <= memory_budget_mb else "stream"
        log.info(
            "%d chips of %.0f MB: %s (budget %.0f MB)",
            len(subset),
            size_mb,
            "held in memory" if self.placement == "memory" else f"streamed, {window_chips} shuffled at a time",
            memory_budget_mb,
        )
        self._held: np.ndarray | None = None

    @property
    def num_batches(self) -> int:
        """Batches an epoch."""
        return -(-len(self.subset) // self.batch_size)

    def blocks(self) -> Iterator[np.ndarray]:
        """The chips in the subset's order, block by block, without reading those again that are held in memory."""
        if self.placement == "stream":
            return read_blocks(self.subset, bands=self.bands)
        held = self._hold()
        return (held[start : start + DEFAULT_BLOCK] for start in range(0, len(held), DEFAULT_BLOCK))

    def order(self, epoch: int) -> list[np.ndarray]:
        """Rows of the subset in the order of this epoch, cut into the windows that are read together."""
        rng = np.random.default_rng([self.seed, epoch])
        if self.placement == "memory":
            return [rng.permutation(len(self.subset))]
        return [rng.permutation(window) for window in self._windows(rng)]

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from ``start_batch`` on; what is before it is not read."""
        batches = (
            self._from_memory(epoch, start_batch) if self.placement == "memory" else self._streamed(epoch, start_batch)
        )
        return _read_ahead(batches)

    def _from_memory(self, epoch: int, start_batch: int) -> Iterator[Batch]:
        held = self._hold()
        (order,) = self.order(epoch)
        for start in range(start_batch * self.batch_size, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            yield self._batch(held[rows], rows)

    def _streamed(self, epoch: int, start_batch: int) -> Iterator[Batch]:
        skip = start_batch * self.batch_size
        rows, chips = np.empty(0, dtype=np.int64), None
        for window in self.order(epoch):
            window, skip = window[skip:], max(0, skip - len(window))
            if not len(window):
                continue
            read = self._read_sorted(window)
            chips = read if chips is None else np.concatenate([chips, read])
            rows = np.concatenate([rows, window])
            whole = len(rows) - len(rows) % self.batch_size
            yield from self._cut(rows[:whole], chips[:whole])
            rows, chips = rows[whole:], chips[whole:]
        if chips is not None:
            yield from self._cut(rows, chips)

    def _batch(self, chips: np.ndarray, rows: np.ndarray) -> Batch:
        return Batch(
            chips=torch.from_numpy(chips).unsqueeze(1),
            bands=self._bands,
            lonlat=torch.from_numpy(self.subset.lonlat[rows]),
            times=torch.full((len(rows), 1), UNKNOWN_TIME, dtype=torch.int64),
            rows=rows,
        )

    def _cut(self, rows: np.ndarray, chips: np.ndarray) -> Iterator[Batch]:
        for start in range(0, len(rows), self.batch_size):
            stop = start + self.batch_size
            yield self._batch(chips[start:stop].copy(), rows[start:stop])

    def _read_sorted(self, rows: np.ndarray) -> np.ndarray:
        """The chips of these rows in their order, read in the order of the cube so that each shard is opened once."""
        places = rows.argsort()
        chips = read_chips(self.subset, rows[places], bands=self.bands)
        return chips[places.argsort()]

    def _windows(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Whole shards in random order, gathered until a window is full."""
        shards = _shards(self.subset)
        window: list[np.ndarray] = []
        for index in rng.permutation(len(shards)):
            window.append(shards[index])
            if sum(map(len, window)) >= self.window_chips:
                yield np.concatenate(window)
                window = []
        if window:
            yield np.concatenate(window)

    def _hold(self) -> np.ndarray:
        if self._held is None:
            self._held = np.concatenate(list(read_blocks(self.subset, bands=self.bands)))
        return self._held


def _shards(subset: Subset) -> list[np.ndarray]:
    """Rows of a subset, one array for each shard of a cube that they are in."""
    sizes = {collection.name: collection.cube.shard_size for collection in subset.collections}
    names = subset.column("collection")
    shard = subset.column("pwcat:index").astype(np.int64) // np.array([sizes[name] for name in names])
    keys = {key: number for number, key in enumerate(dict.fromkeys(zip(names, shard.tolist(), strict=True)))}
    numbers = np.array([keys[key] for key in zip(names, shard.tolist(), strict=True)])
    by_shard = numbers.argsort(kind="stable")
    return np.split(by_shard, np.flatnonzero(np.diff(numbers[by_shard])) + 1)


def _read_ahead(items: Iterator[Batch]) -> Iterator[Batch]:
    """The same items, prepared by one thread while earlier ones are used; the thread ends with the iterator."""
    end: Any = object()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="pwcat-loader") as pool:
        ahead = deque(pool.submit(next, items, end) for _ in range(AHEAD))
        while (item := ahead.popleft().result()) is not end:
            ahead.append(pool.submit(next, items, end))
            yield item
