"""Chips of a cube, in any order, as fast as memory takes them.

A chip is one chunk of a sharded Zarr array: where it lies stands in its shard's index, which is read once. Its bytes are read
from there and decoded straight into the caller's memory, by as many threads as there are cores; zarr-python is asked
only where an array is laid out in a way that is none of ours.
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pwcat.chunks.files import ShardFile, ShardFiles
from pwcat.chunks.layout import MISSING, Layout, layout_of
from pwcat.errors import CubeError

if TYPE_CHECKING:
    import zarr

    from pwcat.cube import Cube

__all__ = ["ChipReader", "Stretch"]

MOST_THREADS = 16
# Some pixels of a chip: from where in the caller's, from where in the chip, how many.
Stretch = tuple[int, int, int]

# Fewer bytes than this are read by the thread that asks: handing them on takes longer.
WORTH_A_THREAD = 2**20


class ChipReader:
    """Reads chips of one cube into memory of the caller's. Threads may share it; processes that are forked may, too.

    A shard that is replaced while it is open is read as it was.

    Args:
        cube: whose chips to read.
        threads: that read at once; by default one a core, at most 16.
        most_files: shards that are open at once, at most; by default a sixteenth of what the process may have open.
    """

    def __init__(self, cube: Cube, *, threads: int | None = None, most_files: int | None = None) -> None:
        array = cube.array
        self.path = cube.path
        self.num_samples = int(array.shape[0])
        self.chip_shape = tuple(int(n) for n in array.shape[1:])
        self.threads = threads or min(MOST_THREADS, _num_cores())
        layout = layout_of(array.metadata.to_dict())
        self._source: _Shards | _ByZarr = (
            _ByZarr(self.path, array) if layout is None else _Shards(self.path, layout, most_files=most_files)
        )
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        _readers.add(self)

    def read_into(
        self,
        out: NDArray[np.uint16],
        index: NDArray[np.integer[Any]],
        *,
        rows: NDArray[np.int64] | None = None,
        parts: Sequence[Stretch] | None = None,
    ) -> None:
        """Fill ``out`` with the chips of some samples, in the order asked for.

        Args:
            out: ``(n, time, band, y, x)`` uint16, contiguous; may be another library's memory, pinned say.
            index: ``(n,)`` samples of the cube; the same one may be asked for twice.
            rows: ``(n,)`` which rows of ``out`` are filled, where it has others too.
            parts: stretches of each chip's pixels that are wanted, which fill the rows of ``out``; all where ``None``.

        Raises:
            CubeError: a sample is not in the cube; or a shard is missing or damaged: the message names it and what to do.
            ValueError: ``out`` does not fit.
        """
        wanted: NDArray[np.int64] = np.asarray(index, dtype=np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= self.num_samples):
            last = self.num_samples - 1
            raise CubeError(f"{self.path}: samples are 0 to {last}, asked for {wanted.min()} to {wanted.max()}")
        self._require_fits(out, len(wanted) if rows is None else len(out), parts)
        order = np.argsort(wanted, kind="stable")
        pixels = out.reshape(len(out), math.prod(out.shape[1:]))
        shares = min(self.threads, 1 + out.nbytes // WORTH_A_THREAD)
        works = [
            partial(self._source.read, pixels, some if rows is None else rows[some], wanted[some], parts)
            for some in np.array_split(order, shares)
            if some.size
        ]
        self._run(works)

    def _require_fits(self, out: NDArray[np.uint16], count: int, parts: Sequence[Stretch] | None) -> None:
        if parts is None:
            fits = out.shape == (count, *self.chip_shape)
        else:
            fits = len(out) == count and math.prod(out.shape[1:]) == sum(length for _, _, length in parts)
        if not fits or out.dtype != np.uint16 or not out.flags.c_contiguous:
            raise ValueError(
                f"chips go into contiguous uint16 {(count, *self.chip_shape)}, got {out.dtype} {out.shape}"
            )

    def _run(self, works: Sequence[Callable[[], None]]) -> None:
        """All of them, the first here, the others on threads; ends when all have."""
        if len(works) < 2:
            for work in works:
                work()
            return
        others = [self._threads().submit(work) for work in works[1:]]
        try:
            works[0]()
        finally:
            failures = [failure for other in others if (failure := other.exception()) is not None]
        if failures:
            raise failures[0]

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="pwcat-chips")
            return self._pool

    def advise(self, shards: Iterable[int], *, will_need: bool) -> None:
        """Tell the system that these shards are soon read, so that it reads ahead, or are not needed again for long.

        A hint: where shards are missing, or the system takes none, nothing happens.
        """
        self._source.advise(shards, will_need=will_need)

    def _after_fork(self) -> None:
        """Threads do not come along into a forked process, and a lock may have been held by one."""
        self._pool, self._lock = None, threading.Lock()
        self._source.after_fork()


_readers: weakref.WeakSet[ChipReader] = weakref.WeakSet()


def _renew_readers() -> None:
    for reader in list(_readers):
        reader._after_fork()


os.register_at_fork(after_in_child=_renew_readers)


class _Shards:
    """Chips from shard files of a layout that is known."""

    def __init__(self, path: Path, layout: Layout, *, most_files: int | None) -> None:
        self._path, self._layout = path, layout
        self._files = ShardFiles(path / "chips", layout, most=most_files)
        self._chip_bytes = layout.chip_bytes
        self._scratch = threading.local()

    def after_fork(self) -> None:
        self._files.after_fork()

    def read(
        self,
        pixels: NDArray[np.uint16],
        rows: NDArray[np.int64],
        samples: NDArray[np.int64],
        parts: Sequence[Stretch] | None,
    ) -> None:
        """Fill some rows of ``(n, pixel)`` with samples, ascending; one chip after the other."""
        read = self._read_chip if parts is None else partial(self._read_parts, parts=parts)
        size = self._layout.shard_size
        shard, file = -1, None
        for row, sample in zip(rows.tolist(), samples.tolist(), strict=True):
            if file is None or sample // size != shard:
                shard = sample // size
                file = self._open(shard)
            try:
                read(file, sample % size, pixels[row])
            except (ValueError, RuntimeError, OSError) as exc:
                raise self._damaged(shard, exc) from exc

    def _open(self, shard: int) -> ShardFile:
        try:
            return self._files.open_(shard)
        except FileNotFoundError:
            raise missing_shard(self._path, shard) from None
        except ValueError as exc:
            raise self._damaged(shard, exc) from exc
        except OSError as exc:
            raise CubeError(f"{self._path}: shard {shard} cannot be opened ({exc})") from exc

    def _damaged(self, shard: int, exc: Exception) -> CubeError:
        return damaged_shard(self._path, shard, self._files.path_of(shard), exc)

    def _read_chip(self, file: ShardFile, place: int, out: NDArray[np.uint16]) -> None:
        """All pixels of a chip."""
        start, length = file.index.item(place, 0), file.index.item(place, 1)
        if start == length == MISSING:
            out[...] = self._layout.fill_value
            return
        decode = self._layout.decode
        self._require_whole(file, place)
        target: Any = out if decode is None else self._memory(length)
        got = _read_at(file.descriptor, target, start)
        if got != length:
            raise ValueError(f"chip {place} of it ends after {got} of {length} bytes")
        if decode is not None:
            decode(target, out)

    def _read_parts(self, file: ShardFile, place: int, out: NDArray[np.uint16], *, parts: Sequence[Stretch]) -> None:
        """Some pixels of a chip: alone, where they lie in the file as they are; else beside those decoded with them."""
        if self._layout.decode is not None or file.index.item(place, 0) == MISSING:
            whole = self._whole()
            self._read_chip(file, place, whole)
            for to, begin, length in parts:
                out[to : to + length] = whole[begin : begin + length]
            return
        self._require_whole(file, place)
        for to, begin, length in parts:
            got = _read_at(file.descriptor, out[to : to + length], file.index.item(place, 0) + 2 * begin)
            if got != 2 * length:
                raise ValueError(f"chip {place} of it ends within")

    def _require_whole(self, file: ShardFile, place: int) -> None:
        """Make sure that a chip lies within its file, and has its length where it lies there as it is."""
        start, length = file.index.item(place, 0), file.index.item(place, 1)
        if start + length > file.size:
            raise ValueError(f"chip {place} of it ends at byte {start + length} of {file.size}")
        if self._layout.decode is None and length != self._chip_bytes:
            raise ValueError(f"a chip is of {length} bytes, not {self._chip_bytes}")

    def _whole(self) -> NDArray[np.uint16]:
        """Scratch memory of this thread for one chip: so little stays in the core's cache."""
        whole: NDArray[np.uint16] | None = getattr(self._scratch, "whole", None)
        if whole is None:
            whole = self._scratch.whole = np.empty(self._chip_bytes // 2, dtype=np.uint16)
        return whole

    def _memory(self, length: int) -> memoryview:
        """Scratch memory of this thread."""
        memory = getattr(self._scratch, "memory", None)
        if memory is None or len(memory) < length:
            memory = self._scratch.memory = bytearray(length + length // 4)
        return memoryview(memory)[:length]

    def advise(self, shards: Iterable[int], *, will_need: bool) -> None:
        if not hasattr(os, "posix_fadvise"):
            return
        hint = os.POSIX_FADV_WILLNEED if will_need else os.POSIX_FADV_DONTNEED
        for shard in shards:
            try:
                os.posix_fadvise(self._files.open_(shard).descriptor, 0, 0, hint)
            except (OSError, ValueError):
                continue


class _ByZarr:
    """Chips of any array that zarr reads: those that lie close together in a shard as one slice, the others one by one.

    Its fancy index of a sharded array is about a hundred times slower than the disk.
    """

    def __init__(self, path: Path, array: zarr.Array[Any]) -> None:
        self._path, self._array = path, array
        self._shard_size = int((array.shards or array.chunks)[0])

    def after_fork(self) -> None:
        pass

    def advise(self, shards: Iterable[int], *, will_need: bool) -> None:
        pass

    def read(
        self,
        pixels: NDArray[np.uint16],
        rows: NDArray[np.int64],
        samples: NDArray[np.int64],
        parts: Sequence[Stretch] | None,
    ) -> None:
        """Fill some rows of ``(n, pixel)`` with samples, ascending."""
        for some in self._together(samples):
            first, last = int(samples[some[0]]), int(samples[some[-1]])
            chips = self._slice(first, last + 1)[samples[some] - first]
            for to, begin, length in parts or [(0, 0, chips.shape[1])]:
                pixels[rows[some], to : to + length] = chips[:, begin : begin + length]

    def _together(self, samples: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Positions to be read together: those of a shard where they fill half of the span they lie in."""
        shards = samples // self._shard_size
        for some in np.split(np.arange(len(samples)), np.flatnonzero(np.diff(shards)) + 1):
            if some.size and 2 * some.size >= np.ptp(samples[some]) + 1:
                yield some
            else:
                yield from some[:, None]

    def _slice(self, start: int, stop: int) -> NDArray[np.uint16]:
        """Chips of neighbours within one shard, ``(n, pixel)``. Zarr reads a missing shard as zeros; here it is an error."""
        shard = start // self._shard_size
        key = self._array.metadata.encode_chunk_key((shard, *[0] * (self._array.ndim - 1)))
        file = self._path / "chips" / key
        if not file.is_file():
            raise missing_shard(self._path, shard)
        try:
            return np.asarray(self._array[start:stop], dtype=np.uint16).reshape(
                stop - start, math.prod(self._array.shape[1:])
            )
        except (ValueError, RuntimeError) as exc:  # what zarr and its codecs raise for bytes that are no shard
            raise damaged_shard(self._path, shard, file, exc) from exc


def _num_cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read_at(descriptor: int, target: Any, start: int) -> int:
    """Fill memory with a file's bytes from ``start`` on; how many there were."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [target], start)
    memory = memoryview(target).cast("B")
    found = os.pread(descriptor, len(memory), start)
    memory[: len(found)] = found
    return len(found)


def missing_shard(path: Path, shard: int) -> CubeError:
    """That a cube's shard has no file."""
    return CubeError(f"{path}: shard {shard} is missing; `pwcat build` of its recipe makes it again")


def damaged_shard(path: Path, shard: int, file: Path, exc: Exception) -> CubeError:
    """That a cube's shard cannot be read, and why."""
    return CubeError(f"{path}: shard {shard} is damaged ({exc}); remove {file} and build again")
