"""The STAC extension ``diversity`` (prefix ``div:``): its identifier, its schema, and the statistics it defines."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pwcat.errors import CatalogError

if TYPE_CHECKING:
    from catalog.measures.statistics import statistics_from, statistics_of

__all__ = [
    "CLASS_LAYERS",
    "SCHEMA_URI",
    "VERSIONS",
    "diversity_schema",
    "require_known_version",
    "schema_uri",
    "statistics_from",
    "statistics_of",
]
# Handed on lazily: a search asks for the version of a dataset's extension, and need not wait for SciPy.
_STATISTICS = ("statistics_from", "statistics_of")


def __getattr__(name: str) -> Any:
    if name not in _STATISTICS:
        raise AttributeError(f"module 'catalog.extension' has no attribute {name!r}")
    return getattr(import_module("catalog.measures.statistics"), name)


# Versions that are read; the last is the one that is written.
VERSIONS = ("v0.1.0", "v0.2.0", "v0.3.0")
_BASE = "https://pwcat.github.io/diversity"


def schema_uri(version: str) -> str:
    """Identifier of a version of the extension, as ``stac_extensions`` names it."""
    return f"{_BASE}/{version}/schema.json"


SCHEMA_URI = schema_uri(VERSIONS[-1])
CLASS_LAYERS = ("continent", "biome", "landcover")


def diversity_schema(version: str = VERSIONS[-1]) -> dict[str, Any]:
    """The JSON Schema of a version of the extension, for validating offline."""
    text = (files("catalog") / "json-schema" / version / "schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def require_known_version(document: Mapping[str, Any], *, where: str) -> str | None:
    """The version of the extension that a STAC document names; ``None`` where it names none.

    Args:
        document: an item or a collection.
        where: what the document is, for the message.

    Raises:
        CatalogError: it is of a version that this software does not know.
    """
    named = [match[1] for uri in document.get("stac_extensions") or [] if (match := _VERSIONED.fullmatch(str(uri)))]
    if unknown := [version for version in named if version not in VERSIONS]:
        raise CatalogError(
            f"{where}: made with the diversity extension {unknown[0]}, this pwcat reads {', '.join(VERSIONS)}; "
            "update pwcat, or describe the dataset again with `pwcat catalog build`"
        )
    return named[-1] if named else None


_VERSIONED = re.compile(rf"{re.escape(_BASE)}/(v[^/]+)/schema\.json")
