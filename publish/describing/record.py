"""``stats/diversity.json``: all that is recorded of a published dataset, for programs and for reading it back.

What a catalog's collection knows of itself beside its items and pixels stands here for each collection that samples come
from: its ``stats.json``, of the samples that are published, and what its cube says of its chips and bands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from catalog.published.layout import RECIPES_FOLDER
from catalog.query import Collection
from catalog.subset import Subset
from publish.describing.facts import Band, DatasetFacts
from pwcat.cube import NODATA

__all__ = ["RECORD_VERSION", "record_of"]

RECORD_VERSION = 1
ABOUT = frozenset({"title", "description", "license", "providers", "sci:citation", "sci:publications"})


def record_of(subset: Subset, facts: DatasetFacts) -> dict[str, Any]:
    """The document, as JSON.

    ``collections`` and ``chip`` say what reading back needs: by name of each collection its ``recipe_hash``, its cube's
    ``attributes`` and those of its array of chips, and ``statistics`` as in ``stats.json``, of the samples that are here.
    ``about`` and ``layers`` are its own, of the whole collection: what it says of itself, and the source of each layer.
    ``own_columns`` are those of the items that were made for this subset, and are part of its hash.
    """
    return {
        "record_version": RECORD_VERSION,
        "name": facts.name,
        "title": facts.title,
        "subset_hash": facts.subset_hash,
        "query": facts.query,
        "own_columns": sorted(subset.own),
        "num_samples": facts.num_samples,
        "splits": dict(facts.splits),
        "collections": {
            collection.name: _collection(collection, subset, facts, rows) for collection, rows in subset.parts()
        },
        "chip": {
            "shape": list(facts.chip_shape),
            "dtype": "uint16",
            "nodata": NODATA,
            "scale": facts.scale,
            "offset": facts.offset,
            "resolution_m": facts.resolution_m,
            "bands": [_band(band) for band in facts.bands],
        },
        "separation": [dict(between) for between in facts.separation],
        "papers": [
            {"recipe": one.recipe, "title": one.paper.title, "arxiv": one.paper.arxiv, "changed": list(one.changed)}
            for one in facts.papers
        ],
        "statistics": dict(facts.statistics),
    }


def _collection(collection: Collection, subset: Subset, facts: DatasetFacts, rows: slice) -> dict[str, Any]:
    """What is known of one of the collections, and of its samples that are here."""
    recipe, count = facts.recipes[collection.name], rows.stop - rows.start
    own = collection.stats["statistics"]
    alone = count == len(subset)
    return {
        "title": recipe["title"],
        "recipe": f"{RECIPES_FOLDER}/{collection.name}.yaml",
        "recipe_hash": collection.recipe_hash,
        "license": recipe["license"],
        "attribution": facts.attributions[collection.name],
        "num_samples": count,
        "num_samples_whole": collection.stats["num_samples"],
        "providers": [provider.to_dict() for provider in collection.metadata.providers or []],
        "about": {name: value for name, value in collection.document.items() if _is_about(name)},
        "gsd": collection.document.get("summaries", {}).get("gsd"),
        "layers": {name: told.get("layer") for name, told in own.items() if told},
        "codebook": (own.get("spectral_codebook") or {}).get("codebook"),
        "attributes": _plain(collection.cube.attrs),
        "chips_attributes": _plain(collection.cube.chips_attrs),
        "statistics": dict(facts.statistics) if alone else subset.only(np.arange(rows.start, rows.stop)).stats(),
    }


def _is_about(name: str) -> bool:
    """Whether a member of a collection's document says what it is, rather than where its files lie."""
    return name in ABOUT or name.startswith("pwcat:")


def _band(band: Band) -> dict[str, Any]:
    """A band; ``sensor`` is empty for those of the main source."""
    return {
        "name": band.name,
        "wavelength_nm": band.wavelength_nm,
        "gsd_m": band.gsd_m,
        "sensor": band.sensor,
        "scale": band.scale,
        "offset": band.offset,
        "unit": band.unit,
    }


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as JSON has them: what is not a number is null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in attributes.items()
    }
