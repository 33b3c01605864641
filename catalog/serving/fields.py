"""Which members of an item are wanted: columns that are read for them, and what is left out of the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from catalog.serving.asked import Fields
from catalog.serving.refusals import RefusedError

__all__ = ["Wanted", "collection_members", "item_members", "wanted_of"]

# Without these an item is nobody's; they are told whatever is asked for.
_ALWAYS = ("type", "id", "collection")
_MEMBERS = ("type", "stac_version", "stac_extensions", "id", "collection", "geometry", "bbox", "links", "assets")
# What a feature is made from.
_NEEDED = ("id", "collection", "geometry", "bbox", "datetime")
# What this server says of an item itself, whatever the file says.
_MADE = frozenset({"type", "stac_version", "links"})

Path = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Members that are wanted; all of them by default.

    Attributes:
        include: paths of members, as ``("properties", "div:biome")``; everything where there is none.
        exclude: paths of members that are left out, even where one above them is included.
    """

    include: tuple[Path, ...] = ()
    exclude: tuple[Path, ...] = ()

    def columns(self, there: Iterable[str]) -> list[str]:
        """Columns of a file that have to be read."""
        return [name for name in there if name in _NEEDED or (name not in _MADE and self._reads(_path(name)))]

    def prune(self, item: dict[str, Any]) -> dict[str, Any]:
        """An item with what is wanted of it alone."""
        if self.include:
            item = _included(item, [*((name,) for name in _ALWAYS), *self.include])
        for path in self.exclude:
            _drop(item, path)
        return item

    def _reads(self, path: Path) -> bool:
        if any(path[: len(one)] == one for one in self.exclude):
            return False
        return not self.include or any(path[: len(one)] == one[: len(path)] for one in self.include)


def item_members(columns: Iterable[str]) -> frozenset[str]:
    """Members of items with these columns, properties as ``properties.name``."""
    properties = {f"properties.{name}" for name in columns if name not in _MEMBERS}
    return frozenset({*_MEMBERS, "properties", *properties})


def collection_members(documents: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Members of collections."""
    return frozenset({name for document in documents for name in document})


def wanted_of(fields: Fields | None, *, members: frozenset[str]) -> Wanted:
    """What a request wants of each item or collection.

    Raises:
        RefusedError: it names a member that there is not, or leaves out what tells one from another.
    """
    if fields is None:
        return Wanted()
    include = tuple(_known(name, members) for name in fields.include or ())
    exclude = tuple(_known(name, members) for name in fields.exclude or ())
    if always := [".".join(path) for path in exclude if path[0] in _ALWAYS]:
        raise RefusedError(f"fields: {', '.join(always)} cannot be left out")
    return Wanted(include=include, exclude=exclude)


def _known(name: str, members: frozenset[str]) -> Path:
    """The path of a member; a property may be named without ``properties.`` before it."""
    if name not in members and f"properties.{name}" in members:
        return ("properties", name)
    path = tuple(name.split("."))
    if path[0] not in members or (path[0] == "properties" and len(path) > 1 and ".".join(path[:2]) not in members):
        raise RefusedError(f"fields: unknown {name!r}; there are {', '.join(sorted(members))}")
    return path


def _path(column: str) -> Path:
    return (column,) if column in _MEMBERS else ("properties", column)


def _included(item: dict[str, Any], paths: Iterable[Path]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for path in sorted(paths, key=len):
        source, target = item, kept
        for name in path[:-1]:
            if not isinstance(source.get(name), dict):
                break
            source, target = source[name], target.setdefault(name, {})
        else:
            if path[-1] in source and path[-1] not in target:
                target[path[-1]] = source[path[-1]]
    return kept


def _drop(item: dict[str, Any], path: Path) -> None:
    for name in path[:-1]:
        item = item.get(name, {})
        if not isinstance(item, dict):
            return
    item.pop(path[-1], None)
