"""What a study's tables say of a dataset: its diversity with intervals, clouds, valid pixels, samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pwcat.errors import CatalogError

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["MEASURES", "describe_samples"]

LAYERS = ("continent", "biome", "landcover")
MEASURES = (*LAYERS, "spectral")


def describe_samples(place: Path, subset: Subset, *, whole: bool) -> dict[str, Any]:
    """Entropies in nats with their 95 % intervals; mean cloud cover in per cent, mean share of valid pixels.

    Args:
        place: where the samples lie.
        subset: the samples.
        whole: whether they are all that lie there, so that a collection's own statistics are theirs.
    """
    kept = place / "stats.json"
    statistics = (
        json.loads(kept.read_text(encoding="utf-8"))["statistics"] if whole and kept.is_file() else subset.stats()
    )
    row: dict[str, Any] = {}
    for measure in MEASURES:
        found = statistics.get(measure) or {}
        row[measure] = found.get("shannon", found.get("mean"))
        row[f"{measure}_low"], row[f"{measure}_high"] = found.get("ci_low"), found.get("ci_high")
    valid = _mean(subset.column("div:valid_fraction")) if "div:valid_fraction" in subset.table.column_names else None
    return row | {"cloud": _cloud(subset), "valid": valid}


def _cloud(subset: Subset) -> float | None:
    from catalog.subsets.factors import cloud_cover

    try:
        return _mean(cloud_cover(subset))
    except CatalogError:  # a dataset from elsewhere, of which scenes are not known
        return None


def _mean(values: NDArray[Any]) -> float | None:
    numbers = values.astype(np.float64)
    known = numbers[np.isfinite(numbers)]
    return float(known.mean()) if len(known) else None
