"""Memory that batches are decoded into, used again when they are let go of.

Fresh memory costs as much as decoding into it: the system has to make every page. What was page-locked costs more still; for
that, torch keeps what was given back. For plain memory it does not, and this does.
"""

from __future__ import annotations

import weakref
from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Buffers"]

KEPT = 10  # unused ones that are kept: as many as are in use at once when batches are small
MOST_TOO_LARGE = 4  # times what is needed that one of them may be


class Buffers:
    """Tensors of uint16 in memory.

    Args:
        pinned: page-locked, for copies to a card that the thread does not wait for.
    """

    def __init__(self, *, pinned: bool = False) -> None:
        self._pinned = pinned
        # memory may be given back at any moment, in the midst of anything: a deque needs no lock for it
        self._free: deque[NDArray[np.uint16]] = deque(maxlen=KEPT)

    def empty(self, shape: tuple[int, ...]) -> Tensor:
        """A tensor to fill; its NumPy view shares its memory, which is in use as long as either is there, or a view of them."""
        if self._pinned:
            return torch.empty(shape, dtype=torch.uint16, pin_memory=True)
        size = int(np.prod(shape))
        memory = self._take(size)
        lent = memory[:size].reshape(shape)
        # the tensor holds on to this very array, and so do all that share its memory: it goes when the last of them does
        weakref.finalize(lent, self._free.append, memory).atexit = False
        return torch.from_numpy(lent)

    def _take(self, size: int) -> NDArray[np.uint16]:
        for _ in range(KEPT):
            try:
                memory = self._free.popleft()
            except IndexError:
                break
            if size <= memory.size <= MOST_TOO_LARGE * size:
                return memory
            self._free.append(memory)
        return np.empty(size, dtype=np.uint16)
