"""Training samples of several draws side by side, padded to the same number with samples of no weight."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["Stack", "parts", "stacked", "threads_for"]

SMALL_PROBLEM = 2_000_000  # numbers up to which one thread is fastest


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Rows of S draws.

    Attributes:
        rows_SN: positions of the samples, int64; 0 where a draw has fewer.
        real_SN: 1 for a sample, 0 for padding, in the dtype of the computation.
    """

    rows_SN: Tensor
    real_SN: Tensor

    @property
    def counts_S(self) -> Tensor:
        """Samples of each draw."""
        return self.real_SN.sum(dim=1)


def stacked(rows: Sequence[np.ndarray], *, dtype: torch.dtype, device: str | torch.device) -> Stack:
    """The rows of several draws as one stack."""
    longest = max((len(each) for each in rows), default=0)
    rows_SN, real_SN = np.zeros((len(rows), longest), dtype=np.int64), np.zeros((len(rows), longest), dtype=bool)
    for s, each in enumerate(rows):
        rows_SN[s, : len(each)], real_SN[s, : len(each)] = each, True
    return Stack(
        rows_SN=torch.from_numpy(rows_SN).to(device), real_SN=torch.from_numpy(real_SN).to(device=device, dtype=dtype)
    )


def parts(
    sizes: Sequence[int],
    *,
    cost: Callable[[int], int],
    budget: int,
    alike: Callable[[int], Hashable] = lambda size: 0,
) -> Iterator[list[int]]:
    """Positions of draws that go into one stack: of like size, so that little is padding, and small enough for memory.

    Args:
        sizes: training samples of each draw.
        cost: numbers in memory that a draw of so many samples needs.
        budget: numbers that may be in memory at once; a draw that needs more goes alone.
        alike: only draws for which this is the same go together.
    """
    order = sorted(range(len(sizes)), key=lambda s: sizes[s])
    part: list[int] = []
    for s in order:  # from few to many: each is the largest of its stack so far
        if part:
            first = sizes[part[0]]
            full = (len(part) + 1) * cost(sizes[s]) > budget
            if full or sizes[s] > 2 * first + 8 or alike(sizes[s]) != alike(first):
                yield part
                part = []
        part.append(s)
    if part:
        yield part


@contextmanager
def threads_for(numbers: int) -> Iterator[None]:
    """One thread for small problems: handing a product of microseconds to several costs ten times the product."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if numbers < SMALL_PROBLEM else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
