"""A study of seconds: two datasets, a SatMAE of a few thousand weights, one task, two probes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

SMALL = {
    "model.image_size": 16,
    "model.patch_size": 8,
    "model.dim": 32,
    "model.depth": 1,
    "model.heads": 2,
    "model.group_dim": 16,
    "model.decoder_dim": 32,
    "model.decoder_heads": 2,
    "model.decoder_group_dim": 16,
    "epochs": 2,
    "batch_size": 16,
    "optimizer.warmup_epochs": 1,
    "checkpoint.every_steps": 1,
}


@pytest.fixture(scope="session")
def small_document(tiny_catalog: Path, archive_dir: Path):
    """The document of that study, with some keys replaced."""

    def make(**changes: Any) -> dict[str, Any]:
        document: dict[str, Any] = {
            "name": "small",
            "title": "A small study",
            "datasets": [
                {"name": "here", "data": str(tiny_catalog / "everywhere")},
                {"name": "built", "recipe": "tiny"},
            ],
            "recipes": {"tiny": recipe_document(archive_dir)},
            "labelled": [{"name": "labelled", "data": str(tiny_catalog)}],
            "models": [{"name": "tiny", "recipe": "satmae-tiny", "set": SMALL}],
            "tasks": [{"task": "landcover", "data": "labelled", "min_samples": 5}],
            "probes": ["knn", "ridge", "logistic"],
            "samplings": [{"name": "blocks", "kind": "resampling", "split": "blocks", "seeds": 2}],
            "threads": 1,
        }
        return {**document, **changes}

    return make


@pytest.fixture
def write_study(tmp_path: Path, small_document):
    """The path of the study's file, with some keys replaced."""

    def write(name: str = "study.yaml", **changes: Any) -> Path:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(small_document(**changes), sort_keys=False))
        return path

    return write


def recipe_document(archive: Path) -> dict[str, Any]:
    layers = archive / "regions"
    return {
        "title": "Built",
        "license": "CC0-1.0",
        "num_samples": 16,
        "sampler": {"strategy": "uniform", "domain": "scenes"},
        "source": {"provider": "archive", "path": str(archive), "collection": "s2-l2a-synthetic"},
        "when": {"start": "2021-01-01", "end": "2024-12-31", "max_cloud_cover": 60},
        "chip": {"size_px": 16, "bands": ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]},
        "regions": {
            "continent": {"path": str(layers / "continent.fgb"), "field": "continent"},
            "biome": {"path": str(layers / "biome.fgb"), "field": "biome"},
            "landcover": {"collection": "landcover-synthetic"},
        },
    }
