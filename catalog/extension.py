"""The STAC extension ``diversity`` (prefix ``div:``): its identifier, its schema, and the statistics it defines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np
import pyarrow as pa

from catalog.diversity import describe_classes
from catalog.spectral import describe_spectral

__all__ = ["CLASS_LAYERS", "SCHEMA_URI", "diversity_schema", "statistics_of"]

SCHEMA_URI = "https://pwcat.github.io/diversity/v0.1.0/schema.json"
CLASS_LAYERS = ("continent", "biome", "landcover")


def diversity_schema() -> dict[str, Any]:
    """The JSON Schema of the extension, for validating offline."""
    schema: dict[str, Any] = json.loads((files("catalog") / "json-schema" / "v0.1.0" / "schema.json").read_text())
    return schema


def statistics_of(items: pa.Table, *, layers: Mapping[str, str | None]) -> dict[str, Any]:
    """The four diversities of some items: ``div:statistics`` of a collection, ``statistics`` of ``stats.json``.

    Args:
        items: rows of ``items.parquet``.
        layers: source of each region layer.
    """
    statistics: dict[str, Any] = {}
    for name in CLASS_LAYERS:
        tally = items[f"div:{name}"].drop_null().value_counts()
        counts = {entry["values"].as_py(): entry["counts"].as_py() for entry in tally}
        statistics[name] = describe_classes(counts, num_samples=len(items), layer=layers.get(name))
    entropies = items["div:spectral_entropy"].to_numpy(zero_copy_only=False).astype(np.float64)
    statistics["spectral"] = describe_spectral(entropies)
    return statistics
