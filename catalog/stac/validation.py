"""Whether a catalog is what it says: documents against their schemas, offline; items against documents, tallies and cubes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.extension import VERSIONS, diversity_schema, require_known_version, schema_uri
from catalog.measures.tally import Tally
from catalog.stac.features import features
from catalog.stac.mirror import read_items
from pwcat.cube import open_cube
from pwcat.errors import CatalogError, CubeError

__all__ = ["DocumentCheck", "Validation", "collections_of", "read_document", "read_tally", "validate_catalog"]

# Items of a collection that are validated, spread evenly over it; some 100 a second can be.
ITEMS = 100
MOST_WORDS = 300


@dataclass(kw_only=True)
class Validation:
    """What was looked at, and what is wrong.

    Attributes:
        documents: how many were validated: the catalog, its collections, and some of their items.
        items: items whose file was read, every byte.
        faults: what is wrong, a line each.
        unchecked: extensions whose fields were not validated, since their schemas are not at hand.
    """

    documents: int = 0
    items: int = 0
    faults: list[str] = field(default_factory=list)
    unchecked: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class DocumentCheck:
    """Validates STAC documents without a network.

    STAC's own schemas come with pystac, that of the diversity extension with this software; those of other extensions are
    read from a folder.

    Attributes:
        folder: with schemas as their extensions publish them, ``*.json``; ``None`` for none.
    """

    folder: Path | None = None

    @cached_property
    def schemas(self) -> dict[str, dict[str, Any]]:
        """Schemas by the identifier that documents name them by.

        Raises:
            CatalogError: a file of the folder is no schema.
        """
        known = {schema_uri(version): diversity_schema(version) for version in VERSIONS}
        if self.folder is None:
            return known
        if not self.folder.is_dir():
            raise CatalogError(f"{self.folder}: no folder of schemas there")
        for path in sorted(self.folder.glob("*.json")):
            schema = read_document(path)
            if "$id" not in schema:
                raise CatalogError(f"{path}: no schema of an extension: it has no $id")
            known[str(schema["$id"]).rstrip("#")] = schema
        return known

    def unknown(self, document: Mapping[str, Any]) -> set[str]:
        """Extensions that a document names and whose schemas are not at hand."""
        return {uri for uri in document.get("stac_extensions", []) if uri not in self.schemas}

    def faults(self, document: Mapping[str, Any]) -> Iterator[str]:
        """What is wrong with a document, a line each; nothing where it is valid."""
        import jsonschema
        import pystac
        from pystac.validation import validate_dict

        plain = json.loads(json.dumps(document))
        try:
            validate_dict({**plain, "stac_extensions": []})
        except (pystac.STACError, pystac.STACValidationError) as exc:
            yield _short(f"not STAC: {exc}")
        for uri in plain.get("stac_extensions", []):
            if uri in self.schemas:
                errors = jsonschema.Draft7Validator(self.schemas[uri]).iter_errors(plain)
                if (worst := jsonschema.exceptions.best_match(errors)) is not None:
                    where = "/".join(str(part) for part in worst.absolute_path)
                    yield _short(f"{uri}: {where or 'document'}: {worst.message}")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MOST_WORDS else line[: MOST_WORDS - 1] + "…"


def validate_catalog(
    path: Path,
    *,
    schemas: Path | None = None,
    items: int | None = ITEMS,
    progress: Callable[[str], None] = lambda name: None,
) -> Validation:
    """What is wrong with a catalog's folder, or with one collection's.

    Args:
        path: of the catalog or the collection.
        schemas: folder of schemas of extensions.
        items: items of each collection to validate against the schemas, spread over it; all where ``None``. The items' files
            are read as a whole in any case.
        progress: called with the name of each collection before it is looked at.

    Raises:
        CatalogError: there is no catalog, or ``schemas`` holds something else.
    """
    found, check = Validation(), DocumentCheck(schemas)
    _ = check.schemas  # a folder of something else is no fault of the catalog
    folders = collections_of(path)
    if folders != [path]:
        _validate_root(path, folders, check, found)
    for folder in folders:
        progress(folder.name)
        try:
            _validate_collection(folder, check, found, items)
        except (CatalogError, CubeError) as exc:
            found.faults.append(str(exc))
    return found


def _validate_root(path: Path, folders: list[Path], check: DocumentCheck, found: Validation) -> None:
    try:
        document = read_document(path / "catalog.json")
    except CatalogError as exc:
        found.faults.append(f"{exc}; `pwcat catalog build` of a collection writes it anew")
        return
    _note(found, check, document, path / "catalog.json")
    listed = {link.get("href") for link in document.get("links", []) if link.get("rel") == "child"}
    for folder in folders:
        if f"./{folder.name}/collection.json" not in listed:
            found.faults.append(f"{path / 'catalog.json'}: does not list {folder.name}")


def _note(found: Validation, check: DocumentCheck, document: Mapping[str, Any], where: object) -> None:
    found.documents += 1
    found.faults += [f"{where}: {fault}" for fault in check.faults(document)]
    found.unchecked |= check.unknown(document)


def _validate_collection(folder: Path, check: DocumentCheck, found: Validation, count: int | None) -> None:
    path = folder / "collection.json"
    document = read_document(path)
    require_known_version(document, where=str(path))
    _note(found, check, document, path)
    found.faults += [f"{path}: {fault}" for fault in _missing_files(folder, document)]
    if document.get("id") != folder.name:
        found.faults.append(f"{path}: describes {document.get('id')!r}, not {folder.name!r}")
    items = read_items(folder / "items.parquet")
    found.items += len(items)
    found.faults += [f"{folder / 'items.parquet'}: {fault}" for fault in _item_faults(items, folder, document)]
    found.faults += [f"{folder}: {fault}" for fault in _cube_faults(folder, items, document)]
    rows = np.arange(len(items))
    if count is not None and len(items):
        rows = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(np.int64))
    for feature in features(items.take(pa.array(rows))):
        _note(found, check, feature, f"{folder / 'items.parquet'}: item {feature['id']}")


def _missing_files(folder: Path, document: Mapping[str, Any]) -> Iterator[str]:
    for key, asset in document.get("assets", {}).items():
        href = str(asset.get("href"))
        if href.startswith(".") and not (folder / href).exists():
            yield f"its asset {key} is missing: {href}"


def _item_faults(items: pa.Table, folder: Path, document: Mapping[str, Any]) -> Iterator[str]:
    """Whether the items are those that were counted."""
    names = pc.unique(items["collection"]).to_pylist()
    if names != [folder.name]:
        yield f"its items are of {', '.join(map(repr, names))}, not of {folder.name!r}"
    if (repeated := len(items) - pc.count_distinct(items["id"]).as_py()) > 0:
        yield f"{repeated:,} ids occur more than once"
    statistics = document.get("div:statistics") or {}
    counted = {name: measured["counts"] for name, measured in statistics.items() if "counts" in measured}
    tally = Tally.of(items)
    for name, counts in counted.items():
        if f"div:{name}" in items.column_names and dict(tally.classes.get(name, {})) != dict(counts):
            yield f"its {name} classes are not those that the statistics count"
    if (kept := read_tally(folder)) is not None and (kept.num_samples, kept.classes) != (len(items), tally.classes):
        yield "its samples are not those of tally.json"


def _cube_faults(folder: Path, items: pa.Table, document: Mapping[str, Any]) -> Iterator[str]:
    """Whether the cube is of this dataset, and has a row for every item; nothing where there is no cube of ours."""
    if "cube" not in document.get("assets", {}):
        return
    cube = open_cube(folder / "cube.zarr")
    made_by, wanted = str(cube.attrs.get("recipe_hash")), str(document.get("pwcat:recipe_hash"))
    if made_by != wanted:
        yield f"its cube is of another dataset: made from recipe {made_by[:12]}, the collection from {wanted[:12]}"
    index = items["pwcat:index"].to_numpy()
    if len(index) and (index.min() < 0 or index.max() >= cube.num_samples):
        yield f"items have rows up to {index.max():,}, the cube has {cube.num_samples:,}"


def read_tally(folder: Path) -> Tally | None:
    """The tally of a collection; ``None`` where it was described before there were any.

    Raises:
        CatalogError: it cannot be read.
    """
    path = folder / "tally.json"
    if not path.is_file():
        return None
    document = read_document(path)
    try:
        return Tally.from_json(document["tally"])
    except (KeyError, CatalogError) as exc:
        raise CatalogError(f"{path}: {exc}") from exc


def collections_of(path: Path) -> list[Path]:
    """Folders of the collections of a catalog, or the one that the folder is, by name.

    Raises:
        CatalogError: it is neither.
    """
    if (path / "collection.json").is_file():
        return [path]
    if folders := sorted(found.parent for found in path.glob("*/collection.json")):
        return folders
    raise CatalogError(f"{path}: no catalog there: neither collection.json nor a folder that has one")


def read_document(path: Path) -> dict[str, Any]:
    """A JSON object in a file.

    Raises:
        CatalogError: there is none, or it cannot be read.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise CatalogError(f"{path}: cannot be read ({exc})") from exc
    if not isinstance(document, dict):
        raise CatalogError(f"{path}: is no JSON object")
    return document
