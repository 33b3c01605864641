"""Shard files, open: a bounded number of them, whose indexes are read once."""

from __future__ import annotations

import os
import resource
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pwcat.chunks.layout import Layout

__all__ = ["ShardFile", "ShardFiles"]

# A process may hold so many files open that 16 cubes can be read side by side.
SHARE_OF_DESCRIPTORS = 16
MOST_FILES = 1024
# Indexes of closed files are kept in memory up to this size: those of four million chips.
INDEX_BYTES = 64 * 2**20

_Identity = tuple[int, int, int, int]


class ShardFile:
    """One shard, open for reading; it is closed when nobody holds it any more, so a reader never loses it midway.

    Files are read, not mapped: a file that another process cuts short is an error then, and no signal that ends this
    process; and pages of the cache do not count as its memory.
    """

    __slots__ = ("descriptor", "index", "size")

    def __init__(self, path: Path) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.index: NDArray[np.uint64]
        self.size = 0

    def __del__(
        self, close: Callable[[int], None] = os.close
    ) -> None:  # held here: at the process's end `os` may be gone
        if self.descriptor >= 0:
            close(self.descriptor)

    def read_index(self, layout: Layout) -> NDArray[np.uint64]:
        """Offset and length of each chunk.

        Raises:
            ValueError: the file is too short, or the index is damaged.
        """
        if self.size < layout.index_bytes:
            raise ValueError(f"it has {self.size} bytes, its index alone {layout.index_bytes}")
        start = 0 if layout.index_first else self.size - layout.index_bytes
        return layout.index_of(os.pread(self.descriptor, layout.index_bytes, start))

    def identity(self) -> _Identity:
        """What tells it from another file of the same name; sets its size."""
        found = os.fstat(self.descriptor)
        self.size = found.st_size
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class ShardFiles:
    """The shards of one array, opened when they are asked for; those asked for last stay open.

    Args:
        folder: of the array.
        layout: of the array.
        most: files that are open at once, at most; by default a share of what the process may have open.
    """

    def __init__(self, folder: Path, layout: Layout, *, most: int | None = None) -> None:
        self._folder, self._layout = folder, layout
        self._most = most or _most_files()
        self._lock = threading.Lock()
        self._files: OrderedDict[int, ShardFile] = OrderedDict()
        self._indexes: OrderedDict[int, tuple[_Identity, NDArray[np.uint64]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._files)

    def path_of(self, shard: int) -> Path:
        """The file of a shard."""
        return self._folder.joinpath("c", str(shard), *["0"] * len(self._layout.chip_shape))

    def after_fork(self) -> None:
        """Make it usable in a process that was forked while another thread held the lock."""
        self._lock = threading.Lock()

    def open_(self, shard: int) -> ShardFile:
        """A shard's file.

        Raises:
            OSError: it is not there, or cannot be opened.
            ValueError: it is damaged.
        """
        with self._lock:
            if (file := self._files.get(shard)) is not None:
                self._files.move_to_end(shard)
                return file
        file = self._opened(shard)
        with self._lock:
            self._files[shard] = file
            while len(self._files) > self._most:
                self._files.popitem(last=False)
        return file

    def _opened(self, shard: int) -> ShardFile:
        file = ShardFile(self.path_of(shard))
        identity = file.identity()
        with self._lock:
            kept = self._indexes.get(shard)
        if kept is not None and kept[0] == identity:
            file.index = kept[1]
            return file
        file.index = file.read_index(self._layout)
        with self._lock:
            self._indexes[shard] = identity, file.index
            while len(self._indexes) > max(self._most, INDEX_BYTES // self._layout.index_bytes):
                self._indexes.popitem(last=False)
        return file


def _most_files() -> int:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MOST_FILES
    return max(16, min(MOST_FILES, limit // SHARE_OF_DESCRIPTORS))
