"""Random numbers for a batch: the same on one device as on many, and on a GPU as on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Chance", "to_device"]


class Chance:
    """Draws for the rows that one rank has of a global batch.

    Each draw is made on the CPU for all rows of the global batch, and the own ones are handed out: ranks together see what
    one process would have seen. The order of draws matters, and only that; nothing runs along from batch to batch.

    Args:
        seed: fixes all draws of this batch.
        total: rows of the global batch.
        rows: those of this rank; all where ``None``.
        world_size: ranks that share the batch.
    """

    def __init__(self, seed: int, *, total: int, rows: slice | None = None, world_size: int = 1) -> None:
        self.total = total
        self.rows = slice(0, total) if rows is None else rows
        self.world_size = world_size
        self.seed = seed
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def share(self) -> float:
        """What a mean over the own rows is to be multiplied with, so that its average over ranks is that of all rows."""
        own = range(self.total)[self.rows]
        return self.world_size * len(own) / self.total

    def uniform(self, *shape: int) -> Tensor:
        """Numbers of [0, 1), (own rows, \\*shape) float32."""
        return torch.rand(self.total, *shape, generator=self._generator)[self.rows]

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, (own rows, \\*shape) float32."""
        return torch.randn(self.total, *shape, generator=self._generator)[self.rows]

    def common(self, *shape: int) -> Tensor:
        """Numbers of [0, 1) that all rows of the global batch share, (\\*shape) float32; the same on every rank."""
        return torch.rand(shape, generator=self._generator)

    def integers(self, high: int, *shape: int) -> Tensor:
        """Integers of 0 to ``high`` - 1, (own rows, \\*shape) int64."""
        return torch.randint(high, (self.total, *shape), generator=self._generator)[self.rows]


def to_device(drawn: Tensor, device: torch.device) -> Tensor:
    """What was drawn, on a device; the host goes on at once, where a copy from memory that is not pinned would wait."""
    return drawn.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else drawn.to(device)
