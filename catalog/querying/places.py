"""Where a catalog lies: a folder here, or an address of an object store or web server, read by ranges."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pwcat.errors import CatalogError

if TYPE_CHECKING:
    from catalog.querying.remote import Store

__all__ = ["OPENERS", "SCHEMES", "Folder", "Place", "RemoteFolder", "open_place", "read_json"]

# Addresses that are opened here, by scheme.
SCHEMES = ("s3", "gs", "az", "http", "https")
# Others are opened by whoever has an entry point of this group, named as the scheme: a function of an address that gives a
# `catalog.querying.remote.Store`. So the core knows nothing of a hub's client.
OPENERS = "pwcat.stores"
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_REVISION = re.compile(r"@[0-9a-f]{40}$")


class Place(Protocol):
    """A folder whose files can be read, wherever it is."""

    @property
    def name(self) -> str:
        """Last part of its path."""
        ...

    def __truediv__(self, name: str) -> Place:
        """A folder in it."""
        ...

    def address(self, name: str) -> str:
        """What a file in it is called in SQL."""
        ...

    def has(self, name: str) -> bool:
        """Whether it has a file of that name."""
        ...

    def read(self, name: str) -> bytes:
        """A file in it, whole.

        Raises:
            CatalogError: it is not there or cannot be read.
        """
        ...

    def tail(self, name: str, length: int) -> bytes:
        """The last bytes of a file.

        Raises:
            CatalogError: it is not there or cannot be read.
        """
        ...

    def size(self, name: str) -> int:
        """Bytes of a file.

        Raises:
            CatalogError: it is not there or cannot be read.
        """
        ...

    def range(self, name: str, start: int, length: int) -> bytes:
        """So many bytes of a file, no fewer; they are not kept.

        Raises:
            CatalogError: it is not there, ends before them, or cannot be read.
        """
        ...

    def local(self, wanted: str) -> Path:
        """The folder as a path of this computer.

        Args:
            wanted: what needs it, for the message.

        Raises:
            CatalogError: it lies elsewhere.
        """
        ...


@dataclass(frozen=True)
class Folder:
    """A folder of this computer."""

    path: Path

    @property
    def name(self) -> str:
        """Last part of its path."""
        return self.path.name

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> Folder:
        return Folder(self.path / name)

    def address(self, name: str) -> str:
        """The file's path."""
        return str(self.path / name)

    def has(self, name: str) -> bool:
        """Whether it has a file of that name."""
        return (self.path / name).is_file()

    def read(self, name: str) -> bytes:
        """A file in it, whole."""
        try:
            return (self.path / name).read_bytes()
        except OSError as exc:
            raise CatalogError(f"{self.path / name}: cannot be read: {exc.strerror or exc}") from exc

    def tail(self, name: str, length: int) -> bytes:
        """The last bytes of a file."""
        try:
            with (self.path / name).open("rb") as file:
                file.seek(max(0, (self.path / name).stat().st_size - length))
                return file.read()
        except OSError as exc:
            raise CatalogError(f"{self.path / name}: cannot be read: {exc.strerror or exc}") from exc

    def size(self, name: str) -> int:
        """Bytes of a file."""
        try:
            return (self.path / name).stat().st_size
        except OSError as exc:
            raise CatalogError(f"{self.path / name}: cannot be read: {exc.strerror or exc}") from exc

    def range(self, name: str, start: int, length: int) -> bytes:
        """So many bytes of a file."""
        try:
            with (self.path / name).open("rb") as file:
                file.seek(start)
                got = file.read(length)
        except OSError as exc:
            raise CatalogError(f"{self.path / name}: cannot be read: {exc.strerror or exc}") from exc
        if len(got) != length:
            raise CatalogError(f"{self.path / name}: {length} bytes were asked for at {start}, it has {len(got)} there")
        return got

    def local(self, wanted: str) -> Path:
        """Its path."""
        return self.path


@dataclass(frozen=True)
class RemoteFolder:
    """A folder of an object store or web server.

    Attributes:
        store: reads files by ranges; shared by all folders of a catalog.
        prefix: of the names of its files in the store, with a slash at its end unless it is empty.
    """

    store: Store
    prefix: str = ""

    @property
    def name(self) -> str:
        """Last part of its path, without the revision of a repository."""
        return _REVISION.sub("", str(self).rstrip("/").rpartition("/")[2])

    def __str__(self) -> str:
        return f"{self.store.url}/{self.prefix}".rstrip("/")

    def __truediv__(self, name: str) -> RemoteFolder:
        return RemoteFolder(self.store, f"{self.prefix}{name}/")

    def address(self, name: str) -> str:
        """The file's name with the scheme under which the store is known to the database."""
        return self.store.address(self.prefix + name)

    def has(self, name: str) -> bool:
        """Whether it has a file of that name."""
        return self.store.has(self.prefix + name)

    def read(self, name: str) -> bytes:
        """A file in it, whole."""
        return self.store.read(self.prefix + name)

    def tail(self, name: str, length: int) -> bytes:
        """The last bytes of a file."""
        name = self.prefix + name
        size = self.store.size(name)
        return self.store.read_range(name, max(0, size - length), min(length, size))

    def size(self, name: str) -> int:
        """Bytes of a file."""
        try:
            return self.store.size(self.prefix + name)
        except FileNotFoundError as exc:
            raise CatalogError(f"{self}/{name}: there is no such file") from exc

    def range(self, name: str, start: int, length: int) -> bytes:
        """So many bytes of a file."""
        return self.store.fetch(self.prefix + name, start, start + length)

    def local(self, wanted: str) -> Path:
        """Refused: it lies elsewhere."""
        raise CatalogError(f"{self}: {wanted} cannot be read from there; copy the folder to this computer")


def open_place(path: str | Path) -> Place:
    """A folder by its path, or by its address: of :data:`SCHEMES`, or of one that is installed besides (:data:`OPENERS`).

    Nothing is read yet; a store of another's may ask once, for what the address names today.

    Raises:
        CatalogError: the scheme is another one, or the address cannot be opened.
    """
    found = _ADDRESS.match(str(path))
    if found is None:
        return Folder(Path(path).resolve())
    return RemoteFolder(_opener(str(path), found[1].lower())(str(path)))


def _opener(path: str, scheme: str) -> Callable[[str], Store]:
    """What opens addresses of a scheme.

    Raises:
        CatalogError: nothing does; or what does so lacks something that is not installed.
    """
    if scheme in SCHEMES:
        from catalog.querying.remote import open_store

        return open_store
    known = {point.name: point for point in entry_points(group=OPENERS)}
    if scheme not in known:
        there = ", ".join(f"{name}://" for name in (*SCHEMES, *sorted(known)))
        raise CatalogError(f"{path}: a catalog is opened from a folder or from {there}")
    return _load(path, known[scheme])


def _load(path: str, point: EntryPoint) -> Callable[[str], Store]:
    try:
        opener: Callable[[str], Store] = point.load()
    except ModuleNotFoundError as exc:
        package = point.module.partition(".")[0]
        raise CatalogError(
            f"{path}: to open {point.name}:// the module {exc.name} is needed, which is not installed: "
            f"`pip install 'pwcat[{package}]'`"
        ) from exc
    return opener


def read_json(place: Place, name: str) -> dict[str, Any]:
    """A JSON object in a file.

    Raises:
        CatalogError: it is missing or unreadable.
    """
    try:
        document = json.loads(place.read(name))
    except ValueError as exc:
        raise CatalogError(f"{place}/{name}: cannot be read: {exc}") from exc
    if not isinstance(document, dict):
        raise CatalogError(f"{place}/{name}: cannot be read: a JSON object was expected")
    return document
