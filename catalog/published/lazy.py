"""Samples as lazy arrays: one chunk for those that are fetched together, whatever order they are wanted in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array
import numpy as np
from numpy.typing import NDArray

__all__ = ["Blocks", "blocks_of"]

Index = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Samples that are read together.

    Attributes:
        wanted: samples of each block.
        back: place among all blocks' samples of each sample in the order wanted; ``None`` where that is theirs.
    """

    wanted: list[Index]
    back: Index | None

    def array(self, read: Callable[[Index], NDArray[Any]], shape: tuple[int, ...], dtype: Any) -> dask.array.Array:
        """What is read of each block, as one lazy array ``(n, *shape)`` in the order wanted. Nothing is read yet."""
        if not self.wanted:
            return dask.array.empty((0, *shape), dtype=dtype)
        found = dask.array.map_blocks(
            lambda block_info=None: read(self.wanted[block_info[None]["chunk-location"][0]]),
            chunks=(tuple(len(block) for block in self.wanted), *((size,) for size in shape)),
            dtype=dtype,
            meta=np.empty((0,) * (1 + len(shape)), dtype=dtype),
        )
        return found if self.back is None else found[self.back]


def blocks_of(wanted: Index, positions: Sequence[Index]) -> Blocks:
    """Blocks of samples by their positions among those wanted, each position once."""
    order = np.concatenate(positions) if positions else np.empty(0, dtype=np.int64)
    back = None if np.array_equal(order, np.arange(len(order))) else np.argsort(order, kind="stable")
    return Blocks(wanted=[wanted[some] for some in positions], back=back)
