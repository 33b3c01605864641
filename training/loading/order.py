"""Which sample comes when: a function of seed, epoch, window and data alone.

Shards are shuffled, gathered into windows of about ``window_chips`` samples, and the samples of a window are shuffled
together. Neither the placement of the chips nor the number of ranks nor the machine has a say in it: a run goes on
anywhere with the very next sample. Random numbers are raw words of PCG64, which NumPy promises to keep, and sorting is
stable: another version gives the same order too.

An epoch knows its shards; the samples of a window are worked out when they are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["Epoch", "Part", "Shards", "own_rows", "shards_of"]

Rows = NDArray[np.int64]

WINDOWS_KEPT = 3  # a batch may begin in one and end in the next, and the one after is read ahead


@dataclass(frozen=True, kw_only=True)
class Shards:
    """Which rows of a subset lie in which shard of which of its cubes; S shards that hold any of its N samples.

    Attributes:
        starts: (S + 1,) where each shard's rows begin among ``rows``; ascending, the last is N.
        cube: (S,) number of each shard's collection among the subset's.
        number: (S,) of the shard in its cube.
        rows: (N,) the subset's rows, shard by shard; ``None`` where they are so already.
    """

    starts: Rows
    cube: NDArray[np.int64]
    number: NDArray[np.int64]
    rows: Rows | None = None

    def __len__(self) -> int:
        return len(self.number)

    @property
    def num_samples(self) -> int:
        """Samples in all."""
        return int(self.starts[-1])

    @property
    def sizes(self) -> Rows:
        """(S,) samples of the subset in each shard."""
        return np.diff(self.starts)

    def rows_of(self, shards: NDArray[np.int64]) -> Rows:
        """The subset's rows that lie in these shards, shard by shard, in their order in each."""
        sizes = self.sizes[shards]
        ends = np.cumsum(sizes)
        places = np.repeat(self.starts[shards] - (ends - sizes), sizes) + np.arange(sizes.sum())
        return places if self.rows is None else self.rows[places]


def shards_of(subset: Subset) -> Shards:
    """The shards that a subset's samples lie in. No array is made of what is sorted already, as a built cube's items are."""
    cube, number, sorted_by = [], [], []
    for owner, (collection, rows) in enumerate(subset.parts()):
        found = subset.index[rows] // collection.cube.shard_size
        order = None if np.all(found[1:] >= found[:-1]) else found.argsort(kind="stable")
        number.append(found if order is None else found[order])
        cube.append(owner)
        sorted_by.append((rows.start, order, len(found)))
    cuts = [np.flatnonzero(np.diff(part, prepend=part[0] - 1)) for part in number]
    starts = [cut + first for cut, (first, _, _) in zip(cuts, sorted_by, strict=True)]
    in_order = all(order is None for _, order, _ in sorted_by)
    return Shards(
        starts=np.append(np.concatenate(starts), len(subset)),
        cube=np.repeat(np.array(cube), [len(cut) for cut in cuts]),
        number=np.concatenate([part[cut] for part, cut in zip(number, cuts, strict=True)]),
        rows=None
        if in_order
        else np.concatenate([first + (np.arange(n) if order is None else order) for first, order, n in sorted_by]),
    )


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one rank has of a global batch.

    Attributes:
        start: where the global batch begins in its epoch.
        stop: where it ends.
        rows: the subset's rows that are this rank's.
    """

    start: int
    stop: int
    rows: Rows


class Epoch:
    """The order of one epoch.

    Args:
        shards: where the samples lie.
        seed: with ``number``, fixes the order.
        number: of the epoch.
        window_chips: samples that are shuffled together, about: a window is whole shards, and windows are nearly alike.
    """

    def __init__(self, shards: Shards, *, seed: int, number: int, window_chips: int) -> None:
        self._shards, self._seed, self._number = shards, seed, number
        self._shuffled = _permutation(len(shards), [seed, number, 0])
        ends = np.cumsum(shards.sizes[self._shuffled])
        total = shards.num_samples
        windows = max(
            1, (2 * total + window_chips) // (2 * window_chips)
        )  # the nearest number: none is left with a rest
        wanted = total * np.arange(1, windows) // windows
        last_shards = np.append(np.searchsorted(ends, wanted), len(shards) - 1)
        last_shards = last_shards[np.diff(last_shards, append=len(shards)) > 0]  # a large shard may be all of a window
        self._cuts = np.concatenate([[0], last_shards + 1])
        self.starts: Rows = np.concatenate([[0], ends[last_shards]])
        self._rows = lru_cache(maxsize=WINDOWS_KEPT)(self._draw)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def num_windows(self) -> int:
        """Windows of the epoch."""
        return len(self.starts) - 1

    def shards(self, window: int) -> NDArray[np.int64]:
        """Numbers of the shards of a window, among all that the subset has samples in."""
        return self._shuffled[self._cuts[window] : self._cuts[window + 1]]

    def window(self, window: int) -> Rows:
        """The subset's rows of a window, in order."""
        return self._rows(window)

    def windows(self, start: int, stop: int) -> range:
        """The windows that the places ``start`` to ``stop`` of the epoch touch; there is at least one place."""
        first, last = np.searchsorted(self.starts, [start, stop - 1], side="right") - 1
        return range(int(first), int(last) + 1)

    def rows(self, start: int, stop: int) -> Rows:
        """The subset's rows at the places ``start`` to ``stop`` of the epoch, in order."""
        parts = []
        for window in self.windows(start, stop):
            begin, end = int(self.starts[window]), int(self.starts[window + 1])
            parts.append(self.window(window)[max(start - begin, 0) : min(stop, end) - begin])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _draw(self, window: int) -> Rows:
        rows = self._shards.rows_of(self.shards(window))
        return rows[_permutation(len(rows), [self._seed, self._number, 1 + window])]


def own_rows(total: int, *, rank: int, world_size: int) -> slice:
    """The part of a global batch of so many rows that is one rank's: contiguous, nearly equal, in the order of ranks."""
    return slice(rank * total // world_size, (rank + 1) * total // world_size)


def _permutation(n: int, seeds: list[int]) -> NDArray[np.int64]:
    return np.random.PCG64(np.random.SeedSequence(seeds)).random_raw(n).argsort(kind="stable")
