"""Rows of lists of differing lengths, one after the other in one array: where they are taken from, and put to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["places_of", "starts_of"]

Places = NDArray[np.int64]


def starts_of(lengths: NDArray[np.integer]) -> Places:
    """Where each list begins, and the last ends: (n + 1,)."""
    starts = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts


def places_of(starts: Places, lengths: NDArray[np.integer]) -> Places:
    """The places of all elements of some lists, list by list: ``starts[i], starts[i] + 1, ...``, ``lengths[i]`` of each."""
    before = starts_of(lengths)
    return np.repeat(starts - before[:-1], lengths) + np.arange(before[-1])
