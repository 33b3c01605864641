"""Chips of a subset's rows, decoded straight into the caller's array: the bands and times that a model reads.

Chips of our own cubes are read one by one, from anywhere, at once. Those of imported datasets lie in files of others, many
in one part that can only be read as a whole: where they are wanted in random order, they are read a window at a time, and
held until the window is done (:meth:`Source.expect`, :meth:`Source.release`).

Shapes: n chips, T times, C bands, H W pixels.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pwcat.chips import ChipReader, Stretch
from pwcat.cube import Cube
from pwcat.errors import TrainingError
from training.loading.ahead import NAME
from training.loading.memory import available_ram

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["Source", "Times", "band_indices"]

log = logging.getLogger(__name__)

T = TypeVar("T")

Times = Literal["first", "all"]
Chips = NDArray[np.uint16]
Index = NDArray[np.int64]

# Of a shard's chips, the part that must be wanted for reading all of it ahead to be worth it.
WORTH_A_SHARD = 0.25
FOREIGN_THREADS = 2
# Decoded bytes of a window that may be held, of which there are up to three; and the share of the memory there is.
HELD_BYTES = 4 * 2**30
HELD_SHARE = 0.1


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


class _Reader(Protocol):
    """Reads chips of one cube; from any thread."""

    def read_into(self, out: Chips, index: Index, *, rows: Index | None, parts: Sequence[Stretch] | None) -> None:
        """Chips of some samples, in the order asked for; see :meth:`pwcat.chips.ChipReader.read_into`."""

    def expect(self, index: Index, *, own: NDArray[np.bool_], hints: bool) -> None:
        """These samples are wanted soon; some by this process."""

    def release(self, index: Index, *, hints: bool) -> None:
        """These samples are not wanted any more."""

    def close(self) -> None:
        """Nothing is wanted any more."""


class Source:
    """Chips of a subset.

    Args:
        subset: the samples.
        bands: names of the bands, in the order wanted.
        times: the first of each sample, or all.

    Attributes:
        reads_ahead: whether to tell the system which files will be read.
        gives_up: whether to tell it which ones will not any more, for long; else it keeps what it can.
        chip_shape: (T, C, H, W) of a chip as it is handed out.
    """

    def __init__(self, subset: Subset, *, bands: Sequence[str], times: Times = "first") -> None:
        wanted = band_indices(subset, bands)
        stored = subset.chip_shape
        self.subset, self.reads_ahead, self.gives_up = subset, False, False
        self.chip_shape = (1 if times == "first" else stored[0], len(wanted), *stored[2:])
        self._parts = _parts(wanted, times=self.chip_shape[0], stored=stored)
        self._starts = np.array([rows.start for _, rows in subset.parts()])
        self._readers = [_reader(collection.cube) for collection, _ in subset.parts()]

    def read_into(self, out: Chips, rows: Index) -> None:
        """Chips of some rows of the subset, in the order asked for.

        Args:
            out: (n, T, C, H, W), is set.
            rows: (n,) of the subset.

        Raises:
            CubeError: a chip cannot be read; names its shard.
        """
        index = self.subset.index[rows]
        if len(self._readers) == 1:
            self._readers[0].read_into(out, index, rows=None, parts=self._parts)
            return
        for reader, mine in self._shared_out(rows):
            reader.read_into(out, index[mine], rows=mine, parts=self._parts)

    def expect(self, rows: Index, *, own: NDArray[np.bool_]) -> None:
        """Read ahead what a window will ask for: as a hint to the system, or into memory; nothing, where no band is read.

        Args:
            rows: of the window.
            own: (n,) which of them this process will read; other ranks read the others.
        """
        if not self.chip_shape[1]:
            return
        for reader, mine in self._shared_out(rows):
            reader.expect(self.subset.index[rows[mine]], own=own[mine], hints=self.reads_ahead)

    def release(self, rows: Index) -> None:
        """Give up what was read ahead for these rows."""
        if not self.chip_shape[1]:
            return
        for reader, mine in self._shared_out(rows):
            reader.release(self.subset.index[rows[mine]], hints=self.gives_up)

    def close(self) -> None:
        """Give up all that was read ahead, and end the threads that do so."""
        for reader in self._readers:
            reader.close()

    def _shared_out(self, rows: Index) -> Iterator[tuple[_Reader, Index]]:
        """Each cube's reader that has any of some rows, and which of them, as places among them."""
        if len(self._readers) == 1:
            yield self._readers[0], np.arange(len(rows))
            return
        owner = np.searchsorted(self._starts, rows, side="right") - 1
        for number, reader in enumerate(self._readers):
            mine = np.flatnonzero(owner == number)
            if len(mine):
                yield reader, mine


def _parts(wanted: Sequence[int], *, times: int, stored: tuple[int, int, int, int]) -> list[Stretch] | None:
    """The pixels of the first times and the bands wanted, in a chip as it is stored; ``None`` where that is all of it."""
    _, bands, height, width = stored
    plane = height * width
    parts: list[Stretch] = []
    for to, begin in enumerate(bands * time + band for time in range(times) for band in wanted):
        if parts and plane * begin == parts[-1][1] + parts[-1][2]:
            parts[-1] = (*parts[-1][:2], parts[-1][2] + plane)
        else:
            parts.append((plane * to, plane * begin, plane))
    return None if parts == [(0, 0, math.prod(stored))] else parts


def _reader(cube: Cube) -> _Reader:
    return _Direct(cube) if type(cube) is Cube else _Windowed(cube)


class _Helpers:
    """Threads that are there from the first work given to them until they are let go."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._pool: ThreadPoolExecutor | None = None

    def submit(self, work: Callable[..., T], *given: Any) -> Future[T]:
        """Have it done."""
        self._pool = self._pool or ThreadPoolExecutor(self._number, thread_name_prefix=f"{NAME}-window")
        return self._pool.submit(work, *given)

    def end(self) -> None:
        """End them after what they are at; what they have not begun is left undone."""
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None


class _Direct:
    """Chips of a cube of ours, from anywhere; the pages of its files are the system's to keep."""

    def __init__(self, cube: Cube) -> None:
        self._chips, self._shard_size = ChipReader(cube, threads=1), cube.shard_size  # the threads are the caller's
        self._helpers = _Helpers(1)  # the system may take its time over a hint

    def read_into(self, out: Chips, index: Index, *, rows: Index | None, parts: Sequence[Stretch] | None) -> None:
        self._chips.read_into(out, index, rows=rows, parts=parts)

    def expect(self, index: Index, *, own: NDArray[np.bool_], hints: bool) -> None:
        if hints:
            self._helpers.submit(lambda: self._chips.advise(self._full(index), will_need=True))

    def release(self, index: Index, *, hints: bool) -> None:
        if hints:
            self._helpers.submit(lambda: self._chips.advise(self._full(index), will_need=False))

    def close(self) -> None:
        self._helpers.end()

    def _full(self, index: Index) -> Index:
        """Shards of which enough is wanted; of others, what is wanted is read when it is."""
        wanted = np.bincount(index // self._shard_size)
        return np.flatnonzero(wanted >= WORTH_A_SHARD * self._shard_size)


class _Windowed:
    """Chips of files of others: each shard, that is what lies together, is read once a window, and held for its length.

    Of a window that is too large for that, some are held, and the others read one by one as they are wanted.
    """

    def __init__(self, cube: Cube) -> None:
        self._cube, self._shard_size = cube, cube.shard_size
        self._most = _chips_to_hold(cube)
        self._told = False
        self._held: dict[int, tuple[Index, Future[Chips]]] = {}
        self._helpers = _Helpers(FOREIGN_THREADS)

    def read_into(self, out: Chips, index: Index, *, rows: Index | None, parts: Sequence[Stretch] | None) -> None:
        shards = index // self._shard_size
        pixels = out.reshape(len(out), math.prod(out.shape[1:]))
        for shard in np.unique(shards):
            places = np.flatnonzero(shards == shard)
            held = self._held.get(int(shard))
            found = self._cube.read(index[places]) if held is None else self._taken(index[places], *held)
            chips = found.reshape(len(found), -1)
            for to, begin, length in parts or [(0, 0, chips.shape[1])]:
                pixels[places if rows is None else rows[places], to : to + length] = chips[:, begin : begin + length]

    def expect(self, index: Index, *, own: NDArray[np.bool_], hints: bool) -> None:
        index = np.sort(index[own])
        if len(index) > self._most:
            self._tell(len(index))
            index = index[: self._most]
        if not len(index):
            return
        for part in np.split(index, np.flatnonzero(np.diff(index // self._shard_size)) + 1):
            self._held[int(part[0]) // self._shard_size] = part, self._helpers.submit(self._cube.read, part)

    def _taken(self, index: Index, known: Index, held: Future[Chips]) -> Chips:
        """What is held of a shard; the window's end may cut through one."""
        found = np.minimum(np.searchsorted(known, index), len(known) - 1)
        there = known[found] == index
        chips = held.result()[found]
        if not there.all():
            chips[~there] = self._cube.read(index[~there])
        return chips

    def _tell(self, chips: int) -> None:
        if not self._told:
            log.warning(
                "%s: of a window of %d chips, %d can be held in memory; the others are read one by one, which is slow where "
                "many lie in one part of a file: window_chips of at most %d holds all", self._cube.path, chips, self._most,
                self._most,
            )  # fmt: skip
        self._told = True

    def release(self, index: Index, *, hints: bool) -> None:
        for shard in np.unique(index // self._shard_size):
            self._held.pop(int(shard), None)

    def close(self) -> None:
        self._helpers.end()
        self._held = {}


def _chips_to_hold(cube: Cube) -> int:
    ram = available_ram()
    most = HELD_BYTES if ram is None else min(HELD_BYTES, int(HELD_SHARE * ram))
    return max(1, most // (2 * int(np.prod(cube.chip_shape))))
