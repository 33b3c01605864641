"""A published dataset: what it says of itself, and of the collections that its samples come from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from catalog.published.layout import COLLECTION_PATH, ITEMS_PATH, MANIFEST_PATH, STATISTICS_PATH
from catalog.querying.places import Place, read_json
from pwcat.errors import CatalogError

if TYPE_CHECKING:
    from catalog.published.groups import RowGroups

__all__ = ["Publication", "is_published"]

RECORD_VERSION = 1


def is_published(place: Place) -> bool:
    """Whether a published dataset lies there."""
    return place.has(STATISTICS_PATH) and place.has(ITEMS_PATH)


@dataclass(frozen=True)
class Publication:
    """A published dataset. Opening it reads nothing; what is asked for is read then, once.

    Attributes:
        place: its folder, here or far away.
    """

    place: Place

    def __getstate__(self) -> dict[str, Any]:
        """What it is by, without what it has read: that stays in its process."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def record(self) -> dict[str, Any]:
        """``stats/diversity.json``.

        Raises:
            CatalogError: it cannot be read, or is of a version that is not known.
        """
        record = read_json(self.place, STATISTICS_PATH)
        if not isinstance(record.get("collections"), dict) or not isinstance(record.get("chip"), dict):
            raise CatalogError(
                f"{self.place}/{STATISTICS_PATH}: does not say which collections the samples come from: published by an "
                "older pwcat; publish it again, or fetch it and `pwcat catalog add` the folder"
            )
        if int(record.get("record_version", 0)) > RECORD_VERSION:
            raise CatalogError(f"{self.place}/{STATISTICS_PATH}: written by a later pwcat; upgrade this one")
        return record

    @property
    def names(self) -> list[str]:
        """The collections that its samples come from, in the order of its items."""
        return list(self.record["collections"])

    @property
    def own_columns(self) -> list[str]:
        """Columns of its items that were made for what was published, as a split of its own: part of its hash."""
        return list(self.record.get("own_columns", ()))

    def collection(self, name: str) -> Mapping[str, Any]:
        """What is recorded of one of the collections."""
        found: Mapping[str, Any] = self.record["collections"][name]
        return found

    def holds_map(self, name: str) -> bool:
        """Whether the samples of one of the collections are tiles of a map."""
        about = self.collection(name).get("about") or {}
        return bool(about.get("pwcat:kind") == "map")

    @cached_property
    def document(self) -> dict[str, Any]:
        """Its STAC Collection."""
        return read_json(self.place, COLLECTION_PATH)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """``MANIFEST.json``."""
        return read_json(self.place, MANIFEST_PATH)

    @cached_property
    def groups(self) -> RowGroups:
        """Row groups of its files: fetched when they are asked for, and kept, within bounds."""
        from catalog.published.groups import RowGroups

        return RowGroups(self.place)

    @cached_property
    def _recipes(self) -> dict[str, bytes | None]:
        """Recipes that were read, by collection."""
        return {}

    def _recipe(self, name: str) -> bytes | None:
        if name not in self._recipes:
            path = self.collection(name).get("recipe")
            self._recipes[name] = self.place.read(path) if path and self.place.has(path) else None
        return self._recipes[name]

    def read(self, name: str, file: str) -> bytes | None:
        """What a collection's folder would have in a file of that name; ``None`` where nothing of it was published."""
        if file == "stats.json":
            told = self.collection(name)
            return _json({key: told[key] for key in ("recipe_hash", "num_samples", "statistics")})
        if file == "collection.json":
            return _json({**self.document, **self._about(name)})
        if file == "recipe.yaml":
            return self._recipe(name)
        if file == "origin.json":
            return _json(self._origin())
        return None

    def _about(self, name: str) -> dict[str, Any]:
        """What a collection's document says that is not said of the publication as a whole."""
        told = self.collection(name)
        own = {**(told.get("about") or {}), "id": name, "div:statistics": told["statistics"]}
        if gsd := told.get("gsd"):
            own["summaries"] = {**(self.document.get("summaries") or {}), "gsd": gsd}
        return own

    def _origin(self) -> dict[str, Any]:
        """Where it comes from, as a collection notes it that was fetched: repository and commit, where it lies in one."""
        repository, _, commit = str(self.place).removeprefix("hf://datasets/").partition("@")
        lies_there = str(self.place).startswith("hf://")
        return {
            "repository": repository if lies_there else None,
            "revision": commit.partition("/")[0] if lies_there else None,
            "tag": self.manifest.get("release"),
            "subset_hash": self.record["subset_hash"],
            "query": {},
        }


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode()
