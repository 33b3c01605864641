"""Rows of items as STAC Items: GeoJSON features, made when somebody asks for them, a batch at a time."""

from __future__ import annotations

import json
import math
import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import shapely

from catalog.items import ITEM_SCHEMA, complete_items

__all__ = ["Whereabouts", "features"]

BATCH = 1_000
# Columns of items that are members of a feature, and not among its properties.
_MEMBERS: Final = ("type", "stac_version", "stac_extensions", "id", "geometry", "bbox", "links", "assets", "collection")
# Properties that are told even where they are null.
_ALWAYS: Final = frozenset({"datetime", "div:continent", "div:biome", "div:landcover"})


@dataclass(frozen=True, kw_only=True)
class Whereabouts:
    """Where the files of a collection are, for whoever reads an item of it.

    Attributes:
        document: href of the collection's document.
        folder: what relative hrefs of assets start from, without a slash at the end: a path or a URL; they stay where it
            is empty.
        links: more links of an item, by its id; that to its collection is there anyway.
    """

    document: str = "./collection.json"
    folder: str = ""
    links: Callable[[str], Sequence[dict[str, Any]]] = lambda sample: ()


def features(
    table: pa.Table, *, collection_of: Callable[[str], Whereabouts] = lambda name: Whereabouts()
) -> Iterator[dict[str, Any]]:
    """The items of a table one by one, valid STAC 1.1 Items, in its order.

    Args:
        table: columns of :data:`catalog.items.ITEM_SCHEMA`, at least ``id``, ``collection``, ``geometry``, ``bbox`` and
            ``datetime``; the labels that it lacks are null.
            Columns of other names become properties of these names.
        collection_of: where the files of a collection are, by its name. Asked once for each collection.
    """
    places: dict[str, Whereabouts] = {}
    for start in range(0, len(table), BATCH):
        rows = table.slice(start, BATCH)
        shapes = shapely.from_wkb(rows["geometry"].to_numpy(zero_copy_only=False))
        outlines = shapely.to_geojson(np.asarray(shapes, dtype=object))
        documents = _completed(rows).drop_columns(["geometry"]).to_pylist()
        for row, outline in zip(documents, outlines, strict=True):
            name = row["collection"]
            if name not in places:
                places[name] = collection_of(name)
            yield _feature(row, json.loads(outline), places[name])


def _completed(rows: pa.Table) -> pa.Table:
    """All columns that an item needs; one that was not asked for is null, or what is common to all items."""
    names = [field.name for field in ITEM_SCHEMA if field.name in rows.column_names or field.name in _MEMBERS]
    needed = [*dict.fromkeys([*names, *_ALWAYS])]
    others = [name for name in rows.column_names if name not in ITEM_SCHEMA.names]
    return complete_items(rows, collection="").select([*needed, *others])


def _feature(row: dict[str, Any], outline: dict[str, Any], place: Whereabouts) -> dict[str, Any]:
    properties = {
        name: _plain(value)
        for name, value in row.items()
        if name not in _MEMBERS and (name in _ALWAYS or not _is_missing(value))
    }
    link = {"rel": "collection", "href": place.document, "type": "application/json"}
    box = row["bbox"]
    return {
        "type": "Feature",
        "stac_version": row["stac_version"],
        "stac_extensions": row["stac_extensions"],
        "id": row["id"],
        "collection": row["collection"],
        "geometry": outline,
        "bbox": [box["xmin"], box["ymin"], box["xmax"], box["ymax"]],
        "properties": properties,
        "links": [link, *place.links(row["id"])],
        "assets": {key: _asset(asset, place.folder) for key, asset in row["assets"].items() if asset is not None},
    }


def _asset(asset: dict[str, Any], folder: str) -> dict[str, Any]:
    """An asset, found from wherever its item is read."""
    told = {name: value for name, value in asset.items() if value is not None}
    href = str(told["href"])
    if folder and href.startswith("."):
        told["href"] = _joined(folder, href)
    return told


def _joined(folder: str, href: str) -> str:
    """A relative href told from a folder: of a URL no further up than its host, of a relative path as far as it takes."""
    scheme, mark, path = folder.rpartition("://")
    if not mark:
        return posixpath.normpath(f"{folder}/{href}")
    host, _, path = path.partition("/")
    return f"{scheme}://{host}{posixpath.normpath(f'/{path}/{href}')}"


def _is_missing(value: Any) -> bool:
    """Whether there is nothing to tell: null, or a number that is none, as older catalogs have it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _plain(value: Any) -> Any:
    """A value as JSON has it; times are told in UTC, RFC 3339."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value
