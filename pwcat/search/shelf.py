"""Items kept out of memory: of the many that a source answers, few are read again.

An item of Sentinel-2 is 15 kB of JSON and 45 kB as Python's dicts; on the shelf it is about one, compressed against the first
item that came, since items of a collection differ in little. What is small stays in memory; the rest lies in a file without a
name, which is gone with the process, however that ends.
"""

from __future__ import annotations

import json
import tempfile
import threading
import weakref
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date, datetime
from pathlib import Path
from typing import Any

__all__ = ["Shelf", "ShelvedItem"]

# Compressed bytes that stay in memory: some 30,000 items.
IN_MEMORY = 32 * 1024 * 1024
# How far back deflate looks.
WINDOW = 32_768


class ShelvedItem(Mapping[str, Any]):
    """A STAC item that is read when it is asked for; pickled, it is the plain dict."""

    __slots__ = ("_shelf", "_size", "_start")

    def __init__(self, shelf: Shelf, start: int, size: int) -> None:
        self._shelf, self._start, self._size = shelf, start, size

    def __getitem__(self, key: str) -> Any:
        return self._read()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        return dict, (self._read(),)

    def __repr__(self) -> str:
        return f"ShelvedItem({self._read()['id']!r})"

    def _read(self) -> dict[str, Any]:
        return self._shelf.read(self._start, self._size)


class Shelf:
    """Items, each put there once and read as often as wanted, from any thread; gone with the last of them."""

    def __init__(self, folder: Path | None = None) -> None:
        """An empty one.

        Args:
            folder: whose disk is used once there are many; the system's for temporary files where ``None``.
        """
        self._folder = folder
        self._file: tempfile.SpooledTemporaryFile[bytes] | None = None
        self._first = b""
        self._end = 0
        self._last: tuple[int, dict[str, Any]] = (-1, {})
        self._lock = threading.Lock()

    def put(self, item: Mapping[str, Any]) -> ShelvedItem:
        """The item as it can be read again.

        Raises:
            OSError: the disk is full, or cannot be written.
        """
        text = json.dumps(dict(item), separators=(",", ":"), default=_as_text).encode()
        with self._lock, self._told():
            if self._file is None:
                self._file, self._first = self._opened(), text[-WINDOW:]
            packer = zlib.compressobj(level=1, zdict=self._first)
            packed = packer.compress(text) + packer.flush()
            self._file.seek(self._end)
            self._file.write(packed)
            start, self._end = self._end, self._end + len(packed)
        return ShelvedItem(self, start, len(packed))

    def read(self, start: int, size: int) -> dict[str, Any]:
        """The item that lies there; the one read last is at hand.

        Raises:
            OSError: the disk cannot be read.
        """
        last, item = self._last
        if last == start:
            return item
        with self._lock, self._told():
            assert self._file is not None, "it holds something"
            self._file.seek(start)
            packed = self._file.read(size)
        item = json.loads(zlib.decompressobj(zdict=self._first).decompress(packed))
        self._last = (start, item)
        return item

    def _opened(self) -> tempfile.SpooledTemporaryFile[bytes]:
        where = None if self._folder is None else str(self._folder)
        if where is not None:
            Path(where).mkdir(parents=True, exist_ok=True)
        file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, dir=where)  # noqa: SIM115
        weakref.finalize(self, _close, file)
        return file

    @contextmanager
    def _told(self) -> Iterator[None]:
        """A file without a name says not where it failed."""
        try:
            yield
        except OSError as exc:
            where = str(self._folder or tempfile.gettempdir())
            raise OSError(
                exc.errno, f"{exc.strerror or exc}; scenes' items are kept there while a plan is made", where
            ) from exc


def _close(file: tempfile.SpooledTemporaryFile[bytes]) -> None:
    with suppress(OSError):  # what a full disk left unwritten
        file.close()


def _as_text(value: object) -> str:
    """A moment as STAC has it; GeoParquet may hold one as such."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"an item holds {type(value).__name__}, which is no JSON")
