"""Files far away, read by ranges: by us, and by DuckDB, to which a store is a file system.

Those of object stores and web servers are read here; whoever reads others gives them as :class:`Files`. DuckDB's own
extension for HTTP would have to be downloaded; here the bytes come through obstore, which speaks S3, Google Cloud Storage,
Azure and HTTP, and goes by the usual credentials of each.
"""

from __future__ import annotations

import itertools
import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit

import fsspec
import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from pwcat.errors import CatalogError
from pwcat.providers.redaction import bare, unsign

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore

__all__ = ["Files", "ObjectFiles", "Store", "open_store"]

CLIENT: ClientConfig = {"allow_http": True, "connect_timeout": "10s", "read_timeout": "20s", "timeout": "120s"}
# Ranges kept, newest use last; DuckDB asks for a footer several times, and for a column again in the next query.
KEPT_BYTES = 64 << 20
# The end of a file that comes with its size: the footer of most items files lies in it.
TAIL_BYTES = 128 << 10

# When a file was written whose store does not say so.
UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)

_numbers = itertools.count()
T = TypeVar("T")


class Files(Protocol):
    """Files below an address. Errors say which address, and hold no secret; :class:`Store` hands them on as they are."""

    def facts(self, name: str) -> tuple[int, datetime]:
        """Bytes of a file, and when it was written.

        Raises:
            FileNotFoundError: there is none of that name.
            CatalogError: it cannot be asked for.
        """
        ...

    def whole(self, name: str) -> bytes:
        """All of a file; raises as :meth:`facts` does."""
        ...

    def part(self, name: str, start: int, end: int) -> bytes:
        """Its bytes from ``start`` up to ``end``, no fewer; raises as :meth:`facts` does."""
        ...


@dataclass(frozen=True)
class ObjectFiles:
    """Files of an object store or a web server.

    Attributes:
        url: for messages.
        store: of obstore, rooted there.
    """

    url: str
    store: ObjectStore

    def facts(self, name: str) -> tuple[int, datetime]:
        """Bytes of a file, and when it was written."""
        found = self._asked(lambda: obstore.head(self.store, name), name)
        return int(found["size"]), found["last_modified"] or UNKNOWN

    def whole(self, name: str) -> bytes:
        """All of a file."""
        return bytes(self._asked(lambda: obstore.get(self.store, name).bytes(), name))

    def part(self, name: str, start: int, end: int) -> bytes:
        """Some of its bytes."""
        got = bytes(self._asked(lambda: obstore.get_range(self.store, name, start=start, end=end), name))
        if len(got) != end - start:
            raise CatalogError(f"{self.url}/{name}: {end - start} bytes were asked for, {len(got)} came")
        return got

    def _asked(self, ask: Callable[[], T], name: str) -> T:
        try:
            return ask()
        except FileNotFoundError:
            raise
        except (BaseError, OSError, ValueError) as exc:
            first = " ".join(str(exc).split())[:200]
            raise CatalogError(f"{self.url}/{name}: cannot be read: {unsign(first)}") from exc


class Store:
    """Files below an address, read by ranges; what was read last is kept. Threads and processes may share it.

    Args:
        url: the address, without a slash at its end.
        files: what reads them.

    Attributes:
        requests: how many were made.
        bytes: how many came.
    """

    def __init__(self, url: str, files: Files) -> None:
        self.url = bare(url)
        self.files = files
        self.protocol = f"pwcat{next(_numbers)}"
        self.requests = 0
        self.bytes = 0
        self._sizes: dict[str, tuple[int, datetime]] = {}
        self._kept: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()
        self._kept_bytes = 0
        self._lock = Lock()
        _stores.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """What it is by: another process has its own memory of what was read."""
        return Store, (self.url, self.files)

    def address(self, name: str) -> str:
        """What DuckDB calls a file."""
        return f"{self.protocol}://{name}"

    def has(self, name: str) -> bool:
        """Whether there is a file of that name.

        Raises:
            CatalogError: the store cannot be asked.
        """
        try:
            self.size(name)
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str) -> bytes:
        """A file, whole.

        Raises:
            CatalogError: it is not there, or cannot be read.
        """
        try:
            got = self.files.whole(name)
        except FileNotFoundError as exc:
            raise CatalogError(f"{self.url}/{name}: there is no such file") from exc
        self._count(len(got))
        return got

    def size(self, name: str) -> int:
        """Bytes of a file; asked once.

        Raises:
            FileNotFoundError: there is none.
            CatalogError: the store cannot be asked.
        """
        return self._facts(name)[0]

    def modified(self, name: str) -> datetime:
        """When it was written, as of when it was first asked for."""
        return self._facts(name)[1]

    def _facts(self, name: str) -> tuple[int, datetime]:
        if name not in self._sizes:
            self._sizes[name] = self.files.facts(name)
            self._count(0)
        return self._sizes[name]

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Some bytes of a file, kept for the next who asks.

        Raises:
            CatalogError: they cannot be read, or the file ends before them.
        """
        if (kept := self._recall(name, start, length)) is not None:
            return kept
        size = self.size(name)
        first, end = start, min(start + length, size)
        if end > size - TAIL_BYTES and end - start < TAIL_BYTES:
            first, end = max(0, min(start, size - TAIL_BYTES)), size  # the footer, which is asked for in pieces
        got = self.fetch(name, first, end)
        self._keep((name, first, end), got)
        return got[start - first : start - first + length]

    def fetch(self, name: str, start: int, end: int) -> bytes:
        """The bytes of a file from ``start`` up to ``end``, which are not kept.

        Raises:
            CatalogError: they cannot be read, or the file ends before them.
        """
        try:
            got = self.files.part(name, start, end)
        except FileNotFoundError as exc:
            raise CatalogError(f"{self.url}/{name}: there is no such file") from exc
        self._count(len(got))
        return got

    def _recall(self, name: str, start: int, length: int) -> bytes | None:
        with self._lock:
            for key in self._kept:
                if key[0] == name and key[1] <= start and start + length <= key[2]:
                    self._kept.move_to_end(key)
                    return self._kept[key][start - key[1] : start - key[1] + length]
        return None

    def _keep(self, key: tuple[str, int, int], got: bytes) -> None:
        with self._lock:
            self._kept[key] = got
            self._kept_bytes += len(got)
            while self._kept_bytes > KEPT_BYTES and len(self._kept) > 1:
                self._kept_bytes -= len(self._kept.popitem(last=False)[1])

    def _count(self, got: int) -> None:
        with self._lock:
            self.requests += 1
            self.bytes += got

    def file_system(self) -> fsspec.AbstractFileSystem:
        """The store as a file system that DuckDB can be given."""
        return _FileSystem(self)


_stores: weakref.WeakSet[Store] = weakref.WeakSet()


def _renew_locks() -> None:
    """A lock may have been held by a thread that does not come along into a forked process."""
    for store in list(_stores):
        store._lock = Lock()


os.register_at_fork(after_in_child=_renew_locks)


class _FileSystem(fsspec.AbstractFileSystem):
    """What DuckDB asks of a file system: files opened, their sizes, when they were written."""

    cachable = False

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.protocol = store.protocol
        self.kept = store

    def _name(self, path: str) -> str:
        return path.partition("://")[2] or path

    def open(self, path: str, mode: str = "rb", **_: Any) -> _File:
        if mode != "rb":
            raise OSError(f"{path}: catalogs are only read")
        return _File(self.kept, self._name(path))

    def info(self, path: str, **_: Any) -> Mapping[str, Any]:
        return {"name": path, "size": self.kept.size(self._name(path)), "type": "file"}

    def modified(self, path: str) -> datetime:
        return self.kept.modified(self._name(path))

    def exists(self, path: str, **_: Any) -> bool:
        return self.kept.has(self._name(path))

    def glob(self, path: str, **_: Any) -> list[str]:
        return [path] if self.exists(path) else []


class _File:
    """A file opened: a place in it, and reading from there.

    DuckDB's threads share it, and each seeks and then reads: a place is of one thread.
    """

    closed = False

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name = store, name
        self._places: dict[
            int, int
        ] = {}  # by thread; Python's own local values are lost where a thread is not Python's

    @property
    def place(self) -> int:
        """Where this thread reads next."""
        return self._places.get(get_ident(), 0)

    @place.setter
    def place(self, offset: int) -> None:
        self._places[get_ident()] = offset

    def seek(self, offset: int, whence: int = 0) -> int:
        self.place = (0, self.place, self.store.size(self.name))[whence] + offset
        return self.place

    def tell(self) -> int:
        return self.place

    def seekable(self) -> bool:
        return True

    def read(self, length: int = -1) -> bytes:
        left = self.store.size(self.name) - self.place
        got = self.store.read_range(self.name, self.place, left if length < 0 else min(length, left))
        self.place += len(got)
        return got

    def close(self) -> None:
        self.closed = True


def open_store(url: str) -> Store:
    """The store at an address; nothing is asked of it yet.

    Credentials are those that obstore finds in the environment; a store in the environment's address needs none.

    Raises:
        CatalogError: the address makes no sense, or names no bucket.
    """
    url = url.rstrip("/")
    parts = urlsplit(url)
    if not parts.netloc:
        raise CatalogError(f"{url}: no host or bucket is named")
    if parts.query or parts.fragment:
        raise CatalogError(f"{bare(url)}: an address of a catalog has no query and no fragment")
    try:
        return Store(url, ObjectFiles(bare(url), from_url(url, client_options=CLIENT)))
    except (BaseError, ValueError, TypeError) as exc:
        reason = unsign(" ".join(str(exc).split())[:200])
        raise CatalogError(f"{bare(url)}: cannot be opened: {reason}") from exc
