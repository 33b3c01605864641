"""Recipes of the demo: seven datasets and a held-out one over the synthetic archive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pwcat.cube import SENTINEL2_BANDS

__all__ = ["DATASETS", "HELD_OUT", "DemoOptions", "held_out_places", "write_recipes"]

# name: the continent it is drawn from, or None for all of them
DATASETS: Mapping[str, str | None] = {
    "africa": "Africa",
    "asia": "Asia",
    "europe": "Europe",
    "north-america": "North America",
    "oceania": "Oceania",
    "south-america": "South America",
    "global": None,
}
HELD_OUT = "held-out"


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """How large the demo is; the defaults take a few minutes on two cores.

    Attributes:
        chips: samples a dataset.
        test_chips: samples of the held-out, labelled dataset.
        places: places of the archive a continent; half as many more, and at least three, are held out.
        epochs: of each pretraining.
    """

    chips: int = 128
    test_chips: int = 384
    places: int = 4
    epochs: int = 20


def held_out_places(options: DemoOptions) -> int:
    """Places a continent that no model is pretrained on."""
    return max(3, options.places // 2)


def write_recipes(folder: Path, *, archive: str, options: DemoOptions) -> dict[str, Path]:
    """Write the recipes of the demo, one a dataset and one for the held-out places; their paths by name.

    Args:
        folder: gets the files.
        archive: the archive's folder, relative to ``folder``.
        options: sizes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    documents = {
        name: _recipe(name, continent, archive=archive, collection="s2-l2a-synthetic", chips=options.chips, seed=0)
        for name, continent in DATASETS.items()
    }
    documents[HELD_OUT] = _recipe(
        HELD_OUT, None, archive=archive, collection="s2-l2a-synthetic-test", chips=options.test_chips, seed=1
    )
    # Places lie a degree and more apart, so that blocks of 50 km put whole places on one side.
    documents[HELD_OUT]["split"] = {"val_fraction": 0.4, "block_km": 50}
    paths = {}
    for name, document in documents.items():
        paths[name] = folder / f"{name}.yaml"
        paths[name].write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return paths


def _recipe(
    name: str, continent: str | None, *, archive: str, collection: str, chips: int, seed: int
) -> dict[str, Any]:
    one_hot = {"strategy": "one_hot", "layer": "continent", "value": continent, "domain": "scenes"}
    return {
        "name": name,
        "title": f"{continent or ('Held-out places' if name == HELD_OUT else 'Global')}, synthetic miniature",
        "license": "CC0-1.0",
        "attribution": "pwcat, synthetic scenes",
        "num_samples": chips,
        "seed": seed,
        "sampler": one_hot if continent else {"strategy": "uniform", "domain": "scenes"},
        "source": {"provider": "archive", "path": archive, "collection": collection},
        "when": {"start": "2021-01-01", "end": "2024-12-31", "max_cloud_cover": 40},
        "chip": {"size_px": 96, "bands": [band for band in SENTINEL2_BANDS if band != "B10"]},
        "regions": {
            "continent": {"path": f"{archive}/regions/continent.fgb", "field": "continent"},
            "biome": {"path": f"{archive}/regions/biome.fgb", "field": "biome"},
            "landcover": {"collection": "landcover-synthetic"},
        },
        "split": {"val_fraction": 0.1, "block_km": 2},
    }
