"""A catalog as static JSON: a file an item, for STAC Browser and whatever else walks links. For samples by the thousand."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from catalog.extension import require_known_version
from catalog.items import STAC_VERSION
from catalog.stac.features import Whereabouts, features
from catalog.stac.mirror import open_items, read_items
from catalog.stac.validation import collections_of, read_document
from pwcat.errors import CatalogError

__all__ = ["MOST_ITEMS", "Exported", "export_static"]

# A collection's document has a link an item, and a browser reads it whole: 5,000 make half a megabyte.
MOST_ITEMS: Final = 5_000
_JSON: Final = "application/json"
_GEOJSON: Final = "application/geo+json"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What :func:`export_static` leaves behind.

    Attributes:
        folder: of the static catalog.
        items: of each collection, by its name: how many are there, and of how many.
    """

    folder: Path
    items: dict[str, tuple[int, int]]


def export_static(
    catalog: Path,
    *,
    to: Path,
    collections: Sequence[str] = (),
    sample: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Write a catalog, or a collection, as static JSON: ``catalog.json``, collections, and a file an item.

    Pixels stay where they are: assets are told by relative paths.

    Args:
        catalog: folder of the catalog or the collection.
        to: folder that is to be made; it appears whole or not at all.
        collections: only these.
        sample: at most so many items of each, spread evenly over it; all where ``None``.
        progress: called with items written and items in all.

    Raises:
        CatalogError: there is no catalog, a collection is not there or cannot be read, ``to`` is there already, or there
            are more than 5,000 items.
    """
    folders = _chosen(catalog, collections)
    counts = {folder: _count(folder) for folder in folders}
    taken = {folder: min(count, sample) if sample is not None else count for folder, count in counts.items()}
    if (total := sum(taken.values())) > MOST_ITEMS:
        raise CatalogError(
            f"{catalog}: {total:,} items, and a static catalog has {MOST_ITEMS:,} at most: take a spread of each collection "
            f"with --sample {max(1, MOST_ITEMS // len(folders))}, fewer collections, or `pwcat serve`"
        )
    if to.exists():
        raise CatalogError(f"{to}: is there already; name a folder that is not, or remove it")
    to.parent.mkdir(parents=True, exist_ok=True)
    partial = to.with_name(f".{to.name}.{os.getpid()}.partial")
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, partial, ignore_errors=True)
        done = 0
        for folder in folders:
            for _ in _export_collection(folder, partial / folder.name, to / folder.name, taken[folder]):
                progress(done := done + 1, total)
        _write(partial / "catalog.json", _root(catalog, folders))
        partial.rename(to)
    return Exported(folder=to, items={folder.name: (taken[folder], counts[folder]) for folder in folders})


def _chosen(catalog: Path, names: Sequence[str]) -> list[Path]:
    folders = collections_of(catalog)
    known = {folder.name: folder for folder in folders}
    if unknown := [name for name in names if name not in known]:
        raise CatalogError(f"{catalog}: no collection {', '.join(map(repr, unknown))}; there are {', '.join(known)}")
    return [known[name] for name in names] or folders


def _count(folder: Path) -> int:
    with open_items(folder / "items.parquet") as file:
        return int(file.metadata.num_rows)


def _export_collection(folder: Path, here: Path, final: Path, count: int) -> Any:
    """Write one collection and its items; yields after each item.

    Args:
        folder: the collection's.
        here: where it is written.
        final: where it will be.
        count: items of it that are taken.
    """
    document = read_document(folder / "collection.json")
    require_known_version(document, where=str(folder / "collection.json"))
    items = read_items(folder / "items.parquet")
    rows = np.unique(np.linspace(0, len(items) - 1, count).round().astype(np.int64))
    back = Whereabouts(document="../collection.json", folder=_relative(folder, final / "items"), links=_item_links)
    links = []
    (here / "items").mkdir(parents=True)
    for feature in features(items.take(pa.array(rows)), collection_of=lambda name: back):
        file = _file_name(feature["id"])
        _write(here / "items" / file, feature)
        links.append({"rel": "item", "href": f"./items/{file}", "type": _GEOJSON})
        yield
    _write(here / "collection.json", _moved(document, _relative(folder, final), links))


def _item_links(sample: str) -> list[dict[str, Any]]:
    parent = {"rel": "parent", "href": "../collection.json", "type": _JSON}
    return [{"rel": "root", "href": "../../catalog.json", "type": _JSON}, parent]


def _relative(folder: Path, start: Path) -> str:
    return os.path.relpath(folder.resolve(), start.resolve()).replace(os.sep, "/")


def _moved(document: Mapping[str, Any], way: str, links: list[dict[str, Any]]) -> dict[str, Any]:
    """A collection's document as it is told from elsewhere: its assets where they are, its items as links."""
    assets = {key: {**asset, "href": _followed(way, str(asset["href"]))} for key, asset in document["assets"].items()}
    kept = [link for link in document["links"] if link["rel"] in ("root", "parent")]
    return {**document, "assets": assets, "links": [*kept, *links]}


def _followed(way: str, href: str) -> str:
    return f"{way}/{href.removeprefix('./')}" if href.startswith(".") else href


def _file_name(sample: str) -> str:
    """A file's name for a sample: its id, where that can be one."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", sample).lstrip(".")[:100]
    return f"{plain}.json" if plain == sample else f"{plain}-{sha256(sample.encode()).hexdigest()[:8]}.json"


def _root(catalog: Path, folders: Sequence[Path]) -> dict[str, Any]:
    links = [{"rel": "root", "href": "./catalog.json", "type": _JSON}]
    for folder in folders:
        title = str(read_document(folder / "collection.json").get("title") or folder.name)
        links.append({"rel": "child", "href": f"./{folder.name}/collection.json", "type": _JSON, "title": title})
    return {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": catalog.resolve().name,
        "description": "Datasets made by pwcat, with their diversity.",
        "links": links,
    }


def _write(path: Path, document: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
