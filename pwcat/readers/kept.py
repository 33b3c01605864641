"""Compressed tiles that this process has read last, and those that are under way: neighbouring shards want the same ones.

Tiles lie in blocks of memory, one after the other as they came, and a block goes back to the system at once and whole. Among
all else that a process holds, tiles would leave gaps that are never given back; with memory of its own each, a build would
wait for the system's pages a fifth of its time (``benchmarks/materialize.py``, dense).

All of it but forgetting happens on the readers' one event loop and its threads.
"""

from __future__ import annotations

import asyncio
import mmap
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from pwcat.providers.reuse import forgets
from pwcat.readers import headers
from pwcat.readers.wire import Address

__all__ = ["KEPT", "KeptTiles", "Key", "let_go"]

# Of a process: some shards' worth of the tiles of one scene, a sixth of what a worker may take.
KEPT_BYTES = 256 * 2**20

# Large enough for pages of 2 MB, small enough that few tiles wait for the last one of theirs to be let go.
BLOCK_BYTES = 8 * 2**20

# A file at one state, and the number of a tile in it.
Key = tuple[str, Any, int]


def _memory(size: int) -> mmap.mmap:
    """Memory from the system, in large pages where it has such: given back when nothing in it is looked at any more."""
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}
    memory = mmap.mmap(-1, size, **private)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel that is built without them refuses
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


@dataclass(eq=False)
class _Block:
    """Some tiles, one after the other.

    Attributes:
        memory: theirs.
        tiles: where each that is still kept lies.
        used: bytes from the start that are taken.
    """

    memory: mmap.mmap
    tiles: dict[Key, slice] = field(default_factory=dict)
    used: int = 0

    def add(self, key: Key, tile: bytes | memoryview) -> bool:
        """Whether there was room."""
        end = self.used + len(tile)
        if end > len(self.memory):
            return False
        self.memory[self.used : end] = tile
        self.tiles[key] = slice(self.used, end)
        self.used = end
        return True


class KeptTiles:
    """Tiles as they are in their files, the last ones; each is under way once at a time."""

    def __init__(self, most_bytes: int = KEPT_BYTES, *, block_bytes: int = BLOCK_BYTES) -> None:
        """Nothing is kept yet.

        Args:
            most_bytes: of memory that is taken at most; blocks of which no tile was wanted for longest go first.
            block_bytes: of a block; one with a larger tile is as large as that.
        """
        self.most_bytes, self.block_bytes = most_bytes, block_bytes
        self.bytes = 0
        self._blocks: OrderedDict[int, _Block] = OrderedDict()  # by their id, the last wanted one last
        self._of: dict[Key, _Block] = {}
        self._filling: _Block | None = None
        self._coming: dict[Key, asyncio.Event] = {}
        self._lock = Lock()

    def get(self, key: Key) -> memoryview | None:
        """The tile, if it is here; it stays as it is while it is looked at."""
        with self._lock:
            if (block := self._of.get(key)) is None:
                return None
            self._blocks.move_to_end(id(block))
            return memoryview(block.memory)[block.tiles[key]]

    def keep(self, key: Key, tile: bytes | memoryview) -> None:
        """Keep a copy of a tile that was found whole."""
        with self._lock:
            self._drop(key)
            if self._filling is None or not self._filling.add(key, tile):
                self._filling = self._new_block(len(tile))
                self._filling.add(key, tile)
            self._of[key] = self._filling
            self._blocks.move_to_end(id(self._filling))
            while self.bytes > self.most_bytes:
                self._free(next(iter(self._blocks.values())))

    def claim(self, keys: Iterable[Key]) -> set[Key]:
        """Those that nobody is reading: they are the caller's to read, and to release."""
        mine = {key for key in keys if key not in self._coming}
        self._coming.update((key, asyncio.Event()) for key in mine)
        return mine

    def release(self, keys: Iterable[Key]) -> None:
        """Let others have them, whether they were read or not."""
        for key in keys:
            self._coming.pop(key).set()

    async def others(self, keys: Collection[Key]) -> None:
        """Wait until nobody is reading these any more."""
        for key in keys:
            if coming := self._coming.get(key):
                await coming.wait()

    def forget(self, url: str) -> None:
        """Let go of what was read from addresses that begin like this."""
        self._drop_all(lambda key: key[0].startswith(url))

    def let_go(self, files: Collection[str]) -> None:
        """Let go of the tiles of some files."""
        self._drop_all(lambda key: key[0] in files)

    def _drop_all(self, is_meant: Callable[[Key], bool]) -> None:
        with self._lock:
            for key in [key for key in self._of if is_meant(key)]:
                self._drop(key)

    def _drop(self, key: Key) -> None:
        if (block := self._of.pop(key, None)) is not None:
            del block.tiles[key]
            if not block.tiles:
                self._free(block)

    def _new_block(self, least_bytes: int) -> _Block:
        block = _Block(_memory(max(least_bytes, self.block_bytes)))
        self._blocks[id(block)] = block
        self.bytes += len(block.memory)
        return block

    def _free(self, block: _Block) -> None:
        """Its memory goes back to the system when the last of its tiles is no longer looked at."""
        del self._blocks[id(block)]
        for key in block.tiles:
            del self._of[key]
        self.bytes -= len(block.memory)
        if block is self._filling:
            self._filling = None


KEPT = KeptTiles()
forgets(KEPT.forget)


def let_go(hrefs: Iterable[str]) -> None:
    """Let go of all that is kept of files that nobody here will want again; signatures do not matter."""
    files = [address for href in hrefs if (address := Address.of(href, name=href)) is not None]
    KEPT.let_go({address.key for address in files})
    for address in files:
        headers.forget(address)
