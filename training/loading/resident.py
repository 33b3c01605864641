"""Placement ``device``: all chips decoded once, on the card or in memory; batches are gathered there.

Shapes: N samples, T times, C bands, H W pixels, B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pwcat.errors import TrainingError
from training.batch import Batch
from training.loading.ahead import Job, read_ahead
from training.loading.blocks import block_jobs
from training.loading.buffers import Buffers
from training.loading.order import Part
from training.loading.samples import Samples
from training.loading.source import Source
from training.loading.transfer import Sent, Transfer

__all__ = ["Held", "fill"]

BLOCK = 512  # chips that are decoded and copied together
AHEAD = 4


class Held:
    """Chips of a subset where the model trains.

    Args:
        chips: (N, T, C, H, W) uint16, in the subset's order.
        samples: what is known beside them.
        threads: that read what lies on the samples' tiles, where that is wanted.

    Attributes:
        chips: see above.
    """

    def __init__(self, chips: Tensor, samples: Samples, *, threads: int = 1) -> None:
        self.chips, self._samples, self._threads = chips, samples, threads
        self._buffers = Buffers()
        self._lonlat, self._times = samples.lonlat.to(chips.device), samples.times.to(chips.device)

    def batches(self, parts: Iterator[Part]) -> Generator[Batch]:
        """The batches of these parts of an epoch, in their order."""
        if self._samples.reader is None:
            for part in parts:
                yield self._gather(part.rows)
            return
        transfer = Transfer(self.chips.device)
        with closing(self._entities(parts, transfer)) as coming:
            for sent in coming:
                beside = transfer.receive(sent)
                yield replace(self._gather(beside.rows), entities=beside.entities)

    def _entities(self, parts: Iterator[Part], transfer: Transfer) -> Generator[Sent]:
        """What lies on the tiles of each part, on its way to the device; the next ones are read meanwhile."""
        samples, making = self._samples, map(self._samples.making, (part.rows for part in parts))
        assert samples.reader is not None
        samples.load()
        jobs = (Job(each.pieces(), lambda each=each: transfer.send(each.batch())) for each in making)  # type: ignore[misc]
        return read_ahead(jobs, threads=self._threads, ahead=AHEAD)

    def _gather(self, rows: NDArray[np.int64]) -> Batch:
        wanted = torch.from_numpy(rows)
        # torch has not all of its kernels for unsigned words; their bits are the same as of signed ones
        words = self.chips.view(torch.int16)
        if self.chips.device.type == "cuda":  # the thread waits neither for this copy nor for the kernels
            wanted = wanted.pin_memory().to(self.chips.device, non_blocking=True)
            chips = words.index_select(0, wanted).view(torch.uint16)
        else:
            chips = self._buffers.empty((len(rows), *words.shape[1:]))
            torch.index_select(words, 0, wanted, out=chips.view(torch.int16))
        return Batch(
            chips=chips,
            bands=self._samples.bands,
            lonlat=self._lonlat.index_select(0, wanted),
            times=self._times.index_select(0, wanted),
            rows=rows,
        )


def fill(
    source: Source,
    *,
    device: torch.device,
    threads: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """The chips of a subset in its order, (N, T, C, H, W) uint16 on the device.

    Args:
        source: of the chips.
        device: CUDA; anything else is memory.
        threads: that decode.
        progress: told of samples done, and of all.

    Raises:
        TrainingError: the device has no room for them.
    """
    total = len(source.subset)
    held = _room(total, source, device)
    stage = _Memory(held) if device.type != "cuda" else _Card(held, Transfer(device))
    jobs = block_jobs(source, slice(0, total), block=BLOCK, threads=threads, into=stage.block, then=stage.place)
    for rows in read_ahead(jobs, threads=threads, ahead=AHEAD):
        progress(rows.stop, total)
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # filled, whatever stream asks
    return held


def _room(total: int, source: Source, device: torch.device) -> Tensor:
    shape = (total, *source.chip_shape)
    try:
        return torch.empty(shape, dtype=torch.uint16, device=device if device.type == "cuda" else "cpu")
    except (RuntimeError, MemoryError) as exc:  # torch's own out-of-memory error is a RuntimeError
        size = 2 * int(np.prod(shape)) / 1e9
        raise TrainingError(
            f"{total:,} chips of {source.chip_shape} take {size:,.1f} GB, and {device} has no room for them: choose "
            "placement cache or stream, or fewer samples or bands"
        ) from exc


class _Memory:
    """Blocks are decoded where they stay."""

    def __init__(self, held: Tensor) -> None:
        self._held = held

    def block(self, start: int, stop: int) -> Tensor:
        return self._held[start:stop]

    def place(self, rows: slice, chips: Tensor) -> slice:
        return rows


class _Card:
    """Blocks are decoded into page-locked memory and copied to the card, by the thread that decoded the last piece."""

    def __init__(self, held: Tensor, transfer: Transfer) -> None:
        self._held, self._transfer = held, transfer

    def block(self, start: int, stop: int) -> Tensor:
        return self._transfer.empty((stop - start, *self._held.shape[1:]))

    def place(self, rows: slice, chips: Tensor) -> slice:
        self._held[rows].copy_(chips)
        return rows
