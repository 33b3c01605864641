"""Batches of chips from a subset: every sample once an epoch, in an order that seed and epoch fix.

The order is that of :mod:`training.loading.order`; where the chips are kept is chosen by their size, and said
(:mod:`training.loading.placement`). Neither has a say in the other. Chips are decoded by threads of their own, a bounded
number of batches ahead, and handed over as uint16; on CUDA they are on the card already.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pwcat.errors import TrainingError
from training.batch import Batch
from training.loading.ahead import Job, num_threads, read_ahead
from training.loading.blocks import block_jobs, chip_bytes, how_far_ahead, pieces_of, sample_bytes
from training.loading.buffers import Buffers
from training.loading.order import Epoch, Part, own_rows, shards_of
from training.loading.placement import Asked, Choice, Placement, choose_placement, room_on
from training.loading.resident import Held, fill
from training.loading.samples import Samples
from training.loading.sizes import needs_of
from training.loading.source import Source, Times, band_indices
from training.loading.streaming import streamed
from training.loading.transfer import Transfer
from training.normalize import Normalization, measured
from training.osm.reading import EntityReader, memory_for_entities

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["Loader", "band_indices", "in_order", "read_blocks", "read_chips"]

log = logging.getLogger(__name__)

DEFAULT_BLOCK = 256  # chips read at once
WINDOW_CHIPS = 32768  # see Loader
MEMORY_BUDGET_MB = 2048

Progress = Callable[[int, int], None]


def read_chips(subset: Subset, rows: np.ndarray, *, bands: Sequence[str]) -> np.ndarray:
    """The first time of these rows' chips, (n, C, H, W) uint16, in the asked order, with the bands asked for."""
    source = Source(subset, bands=bands)
    chips = np.empty((len(rows), *source.chip_shape), dtype=np.uint16)
    source.read_into(chips, np.asarray(rows, dtype=np.int64))
    return chips[:, 0]


def read_blocks(subset: Subset, *, bands: Sequence[str], block: int = DEFAULT_BLOCK) -> Iterator[np.ndarray]:
    """The chips of a subset in its own order, (n <= block, C, H, W) uint16 at a time."""
    with closing(_blocks(Source(subset, bands=bands), block)) as blocks:
        for _, chips in blocks:
            yield chips.numpy()[:, 0]


def in_order(
    subset: Subset,
    *,
    bands: Sequence[str],
    times: Times = "first",
    block: int = DEFAULT_BLOCK,
    entities: bool | EntityReader = False,
) -> Iterator[Batch]:
    """The samples of a subset in its own order, at most ``block`` at a time, with these bands in this order.

    Args:
        subset: the samples.
        bands: to be read; without any, no chips are.
        times: the first of each sample, or all.
        block: samples at a time.
        entities: of maps, whether to read what lies on their tiles; or what reads it.
    """
    samples = Samples(subset, bands=bands, times=times, reader=_reader(subset, entities))
    source = Source(subset, bands=bands, times=times)
    threads, ahead = num_threads(), how_far_ahead(block * sample_bytes(source, samples))
    samples.load()
    with closing(read_ahead(_in_order(source, samples, block), threads=threads, ahead=ahead)) as batches:
        yield from batches


def _reader(subset: Subset, entities: bool | EntityReader) -> EntityReader | None:
    if isinstance(entities, EntityReader):
        return entities.of(subset)
    return EntityReader(subset) if entities else None


def _in_order(source: Source, samples: Samples, block: int) -> Iterator[Job[Batch]]:
    threads, buffers = num_threads(), Buffers()
    for start in range(0, len(source.subset), block):
        rows = np.arange(start, min(start + block, len(source.subset)))
        chips, making = buffers.empty((len(rows), *source.chip_shape)), samples.making(rows)
        pieces = making.pieces(pieces_of(source, rows, chips, threads=threads))
        yield Job(pieces, partial(making.batch, chips))


def _blocks(source: Source, block: int) -> Generator[tuple[slice, Tensor]]:
    """The chips of a subset in its own order, (n, T, C, H, W), with their rows; the next are read meanwhile."""
    threads, buffers = num_threads(), Buffers()
    jobs = block_jobs(
        source, slice(0, len(source.subset)), block=block, threads=threads,
        into=lambda start, stop: buffers.empty((stop - start, *source.chip_shape)),
        then=lambda rows, chips: (rows, chips),
    )  # fmt: skip
    return read_ahead(jobs, threads=threads, ahead=how_far_ahead(block * chip_bytes(source)))


class Loader:
    """Shuffled batches of a subset; one epoch is read at a time.

    Ranks that train together give the same arguments but for ``rank`` and ``device``: each global batch is cut into
    contiguous, nearly equal slices, one a rank. A last batch of fewer samples than there are ranks is left out.

    Args:
        subset: the samples.
        bands: names of the bands to hand over, in order; without any, no chips are read.
        batch_size: samples of a global batch, on all devices at once; the last batch of an epoch may be smaller.
        seed: with the number of the epoch, fixes the order.
        times: the first of each sample, or all.
        rank: number of this process.
        world_size: processes that train together.
        placement: where chips are kept; ``auto`` chooses by size.
        device: that trains: batches are on it where it is CUDA, else in memory.
        memory_budget_mb: MB (10^6 bytes) of this process' memory that decoded chips may take, where they are not on a card.
        window_chips: samples that are shuffled together. Shards are neighbourhoods of 64 to 256 chips, and a batch can be no
            more mixed than its window: the default mixes 128 to 512 of them, of which a batch of 4,096 takes 8 to 32 chips
            each. While streaming, the files of two windows are wanted in memory: 5 GB each, of 12 bands and 96 px. It is
            part of the order; one as large as the data shuffles all of them, which costs nothing where they are held.
        card_reserve: bytes of a card that are left to the model; 16 GiB where ``None``, or half of a small card.
        entities: of maps, whether to hand over what lies on their tiles too.

    Attributes:
        waited: seconds that the consumer has waited for data so far; filling a device is waiting too.

    Raises:
        TrainingError: there are no samples, bands are missing, or the placement asked for cannot be.
    """

    def __init__(
        self,
        subset: Subset,
        *,
        bands: Sequence[str],
        batch_size: int,
        seed: int,
        times: Times = "first",
        rank: int = 0,
        world_size: int = 1,
        placement: Asked = "auto",
        device: torch.device | str = "cpu",
        memory_budget_mb: float = MEMORY_BUDGET_MB,
        window_chips: int = WINDOW_CHIPS,
        card_reserve: int | None = None,
        entities: bool = False,
    ) -> None:
        if not len(subset):
            raise TrainingError("the subset holds no samples, so there is nothing to train on")
        if not 0 <= rank < world_size <= batch_size:
            raise TrainingError(
                f"rank {rank} of {world_size} cannot share batches of {batch_size}: ranks are 0 to {world_size - 1}, and a "
                "batch has a sample for each at least"
            )
        if window_chips < 1:
            raise TrainingError(f"window_chips is {window_chips}: a window is of one chip at least")
        self.subset, self.bands, self.times = subset, tuple(bands), times
        self.batch_size, self.seed, self.window_chips = batch_size, seed, window_chips
        self.rank, self.world_size, self.device = rank, world_size, torch.device(device)
        self.waited = 0.0
        self._threads = num_threads(shared_by=self._ranks_here)
        self._shards = shards_of(subset)
        self._source = Source(subset, bands=bands, times=times)
        self._samples = Samples(subset, bands=bands, times=times, reader=self._reader() if entities else None)
        self._choice = self._choose(placement, memory_budget_mb, card_reserve)
        self._source.reads_ahead = self.placement == "stream"
        self._source.gives_up = self.placement == "stream" and not self._choice.stays
        self._held: Held | None = None
        self._transfer = Transfer(self.device)
        what = "chips" if self.bands else "samples"
        log.info("%s %s, placement %s: %s", f"{len(subset):,}", what, self.placement, self.placement_reason)

    @property
    def placement(self) -> Placement:
        """Where the chips are kept: device, cache or stream."""
        return self._choice.placement

    @property
    def placement_reason(self) -> str:
        """Why there: a sentence with the numbers that led to it."""
        return self._choice.reason

    @property
    def map_hash(self) -> str | None:
        """What identifies the maps that entities are read of; ``None`` where none are."""
        return self._samples.reader.fingerprint if self._samples.reader else None

    @property
    def num_batches(self) -> int:
        """Global batches an epoch."""
        whole, rest = divmod(len(self.subset), self.batch_size)
        return whole + (rest >= self.world_size)

    @property
    def decoded_bytes(self) -> int:
        """What all chips take, decoded."""
        return len(self.subset) * chip_bytes(self._source)

    def order(self, epoch: int) -> Epoch:
        """Which sample comes when in an epoch, on all ranks together."""
        return Epoch(self._shards, seed=self.seed, number=epoch, window_chips=self.window_chips)

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Generator[Batch]:
        """This rank's part of each global batch of an epoch, from ``start_batch`` on; what is before it is not read.

        Raises:
            CubeError: a chip cannot be read: with the batch that it belongs to, not before.
            TrainingError: ``start_batch`` is below 0.
        """
        if start_batch < 0:
            raise TrainingError(f"an epoch goes on from batch 0 or a later one, not from {start_batch}")
        return self._timed(lambda: self._batches(self.order(epoch), start_batch))

    def fill(self, progress: Progress = lambda done, total: None) -> None:
        """Decode all chips to where they are held, if that is their placement; else the first epoch does so."""
        if self.placement == "device":
            self._hold(progress)

    def measure(
        self,
        *,
        add: Callable[[Tensor], Tensor] = lambda counts: counts,
        keep_in: Path | None = None,
        progress: Progress = lambda done, total: None,
    ) -> Normalization:
        """Statistics of the subset; each rank counts its part of the samples, and all get the same.

        Args:
            add: the sum of a tensor over all ranks, on :attr:`device` where that is CUDA.
            keep_in: folder where statistics of earlier runs on the same files are found, and left; none where ``None``.
            progress: told of samples done, and of all, of this rank.

        Raises:
            TrainingError: collections have different units.
        """

        def all_have(here: bool) -> bool:
            return int(add(torch.tensor(int(not here), device=self._sums_on)).item()) == 0

        return measured(
            self.subset, bands=self.bands, times=self.times, count=lambda: self._count(add, progress), keep_in=keep_in,
            all_have=all_have,
        )  # fmt: skip

    def _count(self, add: Callable[[Tensor], Tensor], progress: Progress) -> np.ndarray:
        from training.loading.counts import counts_of_held, counts_of_source  # compiles its loop

        own = own_rows(len(self.subset), rank=self.rank, world_size=self.world_size)
        if self.placement == "device":
            counts = counts_of_held(self._hold().chips, own, threads=self._threads, progress=progress)
        else:
            counts = counts_of_source(self._source, own, threads=self._threads, progress=progress)
        return add(torch.from_numpy(counts).to(self._sums_on)).cpu().numpy()

    def _reader(self) -> EntityReader:
        """Reads what lies on tiles; says so where a window is more than memory was given for."""
        reader = EntityReader(self.subset, budget=memory_for_entities(self._ranks_here))
        window = min(len(self.subset), self.window_chips) * reader.tile_bytes
        if window > reader.budget:
            log.warning(
                "what lies on the tiles of a window takes about %.1f GB, and %.1f GB are there for it: much is decoded again "
                "for every batch. Lower window_chips", window / 1e9, reader.budget / 1e9,
            )  # fmt: skip
        return reader

    @property
    def _ranks_here(self) -> int:
        """Ranks that share this machine: one a card, or all of them where they train on CPUs."""
        return min(self.world_size, torch.cuda.device_count()) if self.device.type == "cuda" else self.world_size

    @property
    def _sums_on(self) -> torch.device:
        """Where tensors are that ranks add: on the card, if they have one."""
        return self.device if self.device.type == "cuda" else torch.device("cpu")

    def _choose(self, asked: Asked, budget_mb: float, reserve: int | None) -> Choice:
        if not self.bands:
            return Choice(placement="stream", reason="the model reads no bands, so that there are no chips to keep")
        needs = needs_of(self.subset, self._shards, chip_shape=self._source.chip_shape, window_chips=self.window_chips)
        room = room_on(self.device, budget_mb=budget_mb, reserve=reserve, ranks=self._ranks_here)
        return choose_placement(needs, room, asked=asked, window_chips=self.window_chips)

    def _parts(self, order: Epoch, start_batch: int) -> Iterator[Part]:
        """This rank's part of each global batch, worked out one by one."""
        for number in range(start_batch, self.num_batches):
            start = number * self.batch_size
            stop = min(start + self.batch_size, len(order))
            own = own_rows(stop - start, rank=self.rank, world_size=self.world_size)
            yield Part(start=start, stop=stop, rows=order.rows(start, stop)[own])

    def _batches(self, order: Epoch, start_batch: int) -> Generator[Batch]:
        parts = self._parts(order, start_batch)
        if self.placement == "device":
            return self._hold().batches(parts)
        return streamed(
            parts, order, source=self._source, samples=self._samples, transfer=self._transfer, threads=self._threads,
            batch_size=self.batch_size, share=(self.rank, self.world_size),
        )  # fmt: skip

    def _hold(self, progress: Progress = lambda done, total: None) -> Held:
        if self._held is None:
            chips = fill(self._source, device=self.device, threads=self._threads, progress=progress)
            self._held = Held(chips, self._samples, threads=self._threads)
        return self._held

    def _timed(self, begin: Callable[[], Generator[Batch]]) -> Generator[Batch]:
        """Batches, with the time that the consumer waits for them."""
        began = time.perf_counter()
        with closing(begin()) as batches:
            while True:
                try:
                    found = [next(batches)]
                except StopIteration:
                    return
                finally:
                    self.waited += time.perf_counter() - began
                yield found.pop()  # nothing here holds on to a batch that the consumer has let go of
                began = time.perf_counter()
