"""How often each digital number occurs in each band: what statistics are made of. Counts add exactly, in any order.

Shapes: n chips, T times, C bands, H W pixels, K = 65,536 digital numbers.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.loading.ahead import Job, read_ahead
from training.loading.blocks import block_jobs
from training.loading.buffers import Buffers
from training.loading.source import Source

__all__ = ["LEVELS", "add_counts", "counts_of_held", "counts_of_source"]

LEVELS = 65536  # digital numbers are uint16
BLOCK = 64  # chips counted by one thread at a time
HELD_BLOCK = 1024  # chips of a card counted together


def _add_counts(chips_NTCP: NDArray[np.uint16], counts_CK: NDArray[np.int64]) -> None:
    """Add the pixels of some chips to the counts of their bands."""
    chips, times, bands, pixels = chips_NTCP.shape
    for c in range(bands):  # one band after the other: the part of its counts that is in use stays in the core's cache
        row = counts_CK[c]
        for i in range(chips):
            for t in range(times):
                plane = chips_NTCP[i, t, c]
                for p in range(pixels):
                    row[plane[p]] += 1


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function without the interpreter's lock; its machine code is kept for later processes where that can be."""
    try:
        kept: Callable[..., Any] = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        kept = numba.njit(nogil=True)(function)
    return kept


_kernel = _compiled(_add_counts)


def add_counts(chips: NDArray[np.uint16], counts_CK: NDArray[np.int64]) -> None:
    """Add the pixels of some chips, (n, T, C, H, W), to the counts of their bands, (C, K) int64."""
    n, times, bands = chips.shape[:3]
    _kernel(np.ascontiguousarray(chips).reshape(n, times, bands, -1), counts_CK)


def counts_of_source(
    source: Source, rows: slice, *, threads: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> NDArray[np.int64]:
    """The counts of some rows, (C, K) int64: each thread reads and counts blocks, and its counts are added at the end.

    Args:
        source: of the chips.
        rows: a stretch of its rows.
        threads: that do so.
        progress: told of rows done, and of all.
    """
    tallies, buffers = _Tallies(source.chip_shape[1], threads), Buffers()
    jobs = block_jobs(
        source, rows, block=BLOCK, threads=1,
        into=lambda start, stop: buffers.empty((stop - start, *source.chip_shape)),
        then=lambda done, chips: tallies.add(done, chips.numpy()),
    )  # fmt: skip
    for done in read_ahead(jobs, threads=threads, ahead=2 * threads):
        progress(done.stop - rows.start, rows.stop - rows.start)
    return tallies.total()


def counts_of_held(
    held: Tensor, rows: slice, *, threads: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> NDArray[np.int64]:
    """The counts of some of the chips that are held, (N, T, C, H, W): in memory by threads, on a card by the card."""
    if held.device.type == "cuda":
        return _on_card(held, rows, progress)
    chips: NDArray[np.uint16] = held.numpy()
    tallies = _Tallies(chips.shape[2], threads)
    for done in read_ahead(_held_jobs(chips, rows, tallies), threads=threads, ahead=2 * threads):
        progress(done.stop - rows.start, rows.stop - rows.start)
    return tallies.total()


def _held_jobs(chips: NDArray[np.uint16], rows: slice, tallies: _Tallies) -> Iterator[Job[slice]]:
    for start in range(rows.start, rows.stop, BLOCK):
        part = slice(start, min(start + BLOCK, rows.stop))
        yield Job([_counting(tallies, part, chips)], partial(slice, part.start, part.stop))


def _counting(tallies: _Tallies, rows: slice, chips: NDArray[np.uint16]) -> Callable[[], None]:
    def count() -> None:
        tallies.add(rows, chips[rows])

    return count


def _on_card(held: Tensor, rows: slice, progress: Callable[[int, int], None]) -> NDArray[np.int64]:
    bands, signed = held.shape[2], held.view(torch.int16)  # torch has not all of its kernels for unsigned words
    total = torch.zeros(bands, LEVELS, dtype=torch.int64, device=held.device)
    for start in range(rows.start, rows.stop, HELD_BLOCK):
        stop = min(start + HELD_BLOCK, rows.stop)
        for band in range(bands):
            levels = signed[start:stop, :, band].to(torch.int32).flatten() & (LEVELS - 1)
            total[band] += torch.bincount(levels, minlength=LEVELS)
        progress(stop - rows.start, rows.stop - rows.start)
    return total.cpu().numpy()


class _Tallies:
    """Counts that several threads add to, each to one that no other uses just then."""

    def __init__(self, bands: int, threads: int) -> None:
        self._free: queue.SimpleQueue[NDArray[np.int64]] = queue.SimpleQueue()
        self._all = [np.zeros((bands, LEVELS), dtype=np.int64) for _ in range(threads)]
        for counts in self._all:
            self._free.put(counts)

    def add(self, rows: slice, chips: NDArray[np.uint16]) -> slice:
        counts = self._free.get()
        try:
            add_counts(chips, counts)
        finally:
            self._free.put(counts)
        return rows

    def total(self) -> NDArray[np.int64]:
        whole: NDArray[np.int64] = np.sum(self._all, axis=0)
        return whole
