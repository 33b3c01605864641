"""Compressed tiles that this process has read last, and those that are under way: neighbouring shards want the same ones.

All of it but forgetting happens on the readers' one event loop.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Iterable
from threading import Lock
from typing import Any

from pwcat.providers.reuse import forgets

__all__ = ["KEPT", "KeptTiles", "Key"]

# Of a process: some shards' worth of the tiles of one scene, a sixth of what a worker may take.
KEPT_BYTES = 256 * 2**20

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
        self._tiles: OrderedDict[Key, bytes] = OrderedDict()
        self._coming: dict[Key, asyncio.Event] = {}
        self._lock = Lock()

    def get(self, key: Key) -> bytes | None:
        """The tile, if it is here."""
        with self._lock:
            if key in self._tiles:
                self._tiles.move_to_end(key)
            return self._tiles.get(key)

    def keep(self, key: Key, tile: bytes) -> None:
        """Keep a tile that was found whole."""
        with self._lock:
            self.bytes += len(tile) - len(self._tiles.pop(key, b""))
            self._tiles[key] = tile
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
        with self._lock:
            for key in [key for key in self._tiles if key[0].startswith(url)]:
                self.bytes -= len(self._tiles.pop(key))


KEPT = KeptTiles()
forgets(KEPT.forget)
