"""What can be asked of items, as JSON Schema: queryables and sortables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from catalog.query import Collection
from catalog.querying.beside import map_queryables
from catalog.querying.queryables import ALL, LAYERS, Queryable

__all__ = ["queryables", "sortables"]

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_KINDS: Mapping[str, dict[str, str]] = {
    "text": {"type": "string"},
    "number": {"type": "number"},
    "time": {"type": "string", "format": "date-time"},
    "geometry": {"$ref": "https://geojson.org/schema/Geometry.json"},
}


def queryables(collections: Iterable[Collection], *, address: str) -> dict[str, Any]:
    """Names that a filter may use on these collections, with the classes that there are."""
    members = list(collections)
    classes = _classes(members)
    properties = {name: _described(one) | _among(name, classes) for name, one in ALL.items()} | _beside(members)
    of_maps = {name: _described(one) for member in members for name, one in map_queryables(member.items).items()}
    return _schema("Queryables", properties | of_maps, address)


def sortables(collections: Iterable[Collection] = (), *, address: str) -> dict[str, Any]:
    """Names that these collections can be sorted by."""
    properties = {name: _described(one) for name, one in ALL.items() if one.kind != "geometry"}
    return _schema("Sortables", properties | _beside(collections), address)


def _beside(collections: Iterable[Collection]) -> dict[str, Any]:
    """The columns that are kept beside the items of some collections."""
    columns = {name: column for member in collections for name, column in member.columns.items()}
    return {name: _described(columns[name].queryable) for name in sorted(columns) if columns[name].kind != "vector"}


def _schema(title: str, properties: Mapping[str, Any], address: str) -> dict[str, Any]:
    return {
        "$schema": _DRAFT,
        "$id": address,
        "type": "object",
        "title": title,
        "properties": properties,
        "additionalProperties": False,
    }


def _described(one: Queryable) -> dict[str, Any]:
    return {"description": one.meaning, **_KINDS[one.kind]}


def _classes(collections: Sequence[Collection]) -> dict[str, list[str]]:
    return {layer: sorted({name for one in collections for name in one.classes(layer)}) for layer in LAYERS}


def _among(name: str, classes: Mapping[str, list[str]]) -> dict[str, Any]:
    known = classes.get(name.removeprefix("div:"))
    return {"enum": known} if known else {}
