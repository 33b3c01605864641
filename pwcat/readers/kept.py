"""Compressed tiles that this process has read last, and those that are under way: neighbouring shards want the same ones.

All of it but forgetting happens on the readers' one event loop.
"""

from __future__ import annotations

import asyncio
import mmap
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from threading import Lock
from typing import Any

from pwcat.providers.reuse import forgets
from pwcat.readers import headers
from pwcat.readers.wire import Address

__all__ = ["KEPT", "KeptTiles", "Key", "let_go"]

# Of a process: some shards' worth of the tiles of one scene, a sixth of what a worker may take.
KEPT_BYTES = 256 * 2**20

# Tiles from this size on have memory of their own, in pages of 4 KB; a process may have 65,530 such pieces.
OWN_BYTES = 32 * 2**10

# As it is in its file.
Tile = bytes | mmap.mmap

# A file at one state, and the number of a tile in it.
Key = tuple[str, Any, int]


class KeptTiles:
    """Tiles as they are in their files, the last ones; each is under way once at a time."""

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        """Nothing is kept yet.

        Args:
            most_bytes: what is kept at most; those that were wanted longest ago go first.
        """
        self.most_bytes = most_bytes
        self.bytes = 0
        self._tiles: OrderedDict[Key, Tile] = OrderedDict()
        self._coming: dict[Key, asyncio.Event] = {}
        self._lock = Lock()

    def get(self, key: Key) -> Tile | None:
        """The tile, if it is here."""
        with self._lock:
            if key in self._tiles:
                self._tiles.move_to_end(key)
            return self._tiles.get(key)

    def keep(self, key: Key, tile: bytes | memoryview) -> None:
        """Keep a copy of a tile that was found whole."""
        copy = _copy(tile)
        with self._lock:
            self.bytes += len(copy) - len(self._tiles.pop(key, b""))
            self._tiles[key] = copy
            while self.bytes > self.most_bytes:
                self.bytes -= len(self._tiles.popitem(last=False)[1])

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
        self._drop(lambda key: key[0].startswith(url))

    def let_go(self, files: Collection[str]) -> None:
        """Let go of the tiles of some files."""
        self._drop(lambda key: key[0] in files)

    def _drop(self, is_meant: Callable[[Key], bool]) -> None:
        with self._lock:
            for key in [key for key in self._tiles if is_meant(key)]:
                self.bytes -= len(self._tiles.pop(key))


def _copy(tile: bytes | memoryview) -> Tile:
    """In memory of its own, where that can be: once it is let go the system has it back, whatever lies beside it."""
    if len(tile) < OWN_BYTES or not hasattr(mmap, "MAP_ANONYMOUS"):
        return bytes(tile)
    copy = mmap.mmap(-1, len(tile), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    copy[:] = tile
    return copy


KEPT = KeptTiles()
forgets(KEPT.forget)


def let_go(hrefs: Iterable[str]) -> None:
    """Let go of all that is kept of files that nobody here will want again; signatures do not matter."""
    files = [address for href in hrefs if (address := Address.of(href, name=href)) is not None]
    KEPT.let_go({address.key for address in files})
    for address in files:
        headers.forget(address)
