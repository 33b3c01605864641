"""Whether what describes a dataset's samples is there, can be read, and is of these samples."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["description_faults", "listing_fault"]


def description_faults(folder: Path, *, name: str, recipe_hash: str, ids: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Files of a collection's folder that do not describe its samples, and what is wrong with each, in words.

    Args:
        folder: of the collection.
        name: of the collection.
        recipe_hash: of the plan's recipe.
        ids: of the samples that have pixels.
    """
    if fault := _items_fault(folder / "items.parquet", ids):
        yield folder / "items.parquet", fault
    expected: dict[str, dict[str, Any]] = {
        "stats.json": {"recipe_hash": recipe_hash, "num_samples": len(ids)},
        "collection.json": {"id": name, "pwcat:recipe_hash": recipe_hash},
    }
    for file, values in expected.items():
        if fault := _json_fault(folder / file, values):
            yield folder / file, fault


def listing_fault(folder: Path, name: str) -> tuple[Path, str] | None:
    """What is wrong with the catalog that a collection's folder lies in; ``None`` where it lists the collection."""
    path = folder.parent / "catalog.json"
    if fault := _json_fault(path, {"type": "Catalog"}):
        return path, fault
    links = json.loads(path.read_text(encoding="utf-8")).get("links")
    listed = [link.get("href") for link in links if isinstance(link, dict)] if isinstance(links, list) else []
    return None if f"./{name}/collection.json" in listed else (path, "does not list the dataset")


def _items_fault(path: Path, ids: Sequence[str]) -> str | None:
    """Reads every byte: pages have checksums."""
    if not path.is_file():
        return _absent(path)
    found: list[str] = []
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for batch in file.iter_batches(use_threads=False):
                found += batch["id"].to_pylist()
    except (pa.ArrowException, OSError, KeyError) as exc:
        return f"cannot be read ({exc})"
    if len(found) != len(ids):
        return f"has {len(found):,} samples, not {len(ids):,}"
    return None if sorted(found) == sorted(ids) else "has other samples than the ledger"


def _json_fault(path: Path, expected: dict[str, Any]) -> str | None:
    if not path.is_file():
        return _absent(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        return f"cannot be read ({exc})"
    if not isinstance(document, dict):
        return "is no JSON object"
    strange = [key for key, value in expected.items() if document.get(key) != value]
    return f"is not of this dataset: it says {_said(document, strange)}" if strange else None


def _said(document: dict[str, Any], keys: Sequence[str]) -> str:
    return ", ".join(f"{key} {str(document.get(key))[:12]!r}" for key in keys)


def _absent(path: Path) -> str:
    return "is no file" if path.exists() else "is missing"
