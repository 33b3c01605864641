"""A model as a STAC item of the Machine Learning Model extension (MLM 1.5)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from publish.manifest import FileRecord, describe_file
from training.models import Model, config_of
from training.run import Run

__all__ = ["mlm_item"]

MLM_URI = "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"
FILE_URI = "https://stac-extensions.github.io/file/v2.1.0/schema.json"

# A model applies anywhere and at any time; these are the bounds that MLM's best practices give for that.
WHOLE_EARTH = [-180.0, -90.0, 180.0, 90.0]
ALWAYS = ("1900-01-01T00:00:00Z", "9999-12-31T23:59:59Z")

# MLM 1.5 has no task for embeddings; searching by their similarity is the one they serve as they are.
TASKS = ["similarity-search"]


def mlm_item(name: str, model: Model, run: Run, *, weights: Path) -> dict[str, Any]:
    """The item as JSON values.

    Args:
        name: Name of the model.
        model: The model, for its shapes.
        run: The run it comes from.
        weights: The file of weights, for its size and checksum.
    """
    record = describe_file(weights)
    west, south, east, north = WHOLE_EARTH
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [MLM_URI, FILE_URI],
        "id": name,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": WHOLE_EARTH,
        "properties": _properties(name, model, run, weights=record),
        "links": [],
        "assets": _assets(model, record),
    }


def _properties(name: str, model: Model, run: Run, *, weights: FileRecord) -> dict[str, Any]:
    return {
        "datetime": None,
        "start_datetime": ALWAYS[0],
        "end_datetime": ALWAYS[1],
        "bands": [{"name": band} for band in model.bands],
        "mlm:name": _mlm_name(name),
        "mlm:architecture": model.architecture,
        "mlm:tasks": TASKS,
        "mlm:framework": "PyTorch",
        "mlm:framework_version": run.versions["torch"],
        "mlm:total_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "mlm:memory_size": weights.bytes,
        "mlm:pretrained": True,
        "mlm:pretrained_source": f"pwcat subset {run.data['hash']} of {', '.join(run.data['collections'])}",
        "mlm:accelerator": None,
        "mlm:hyperparameters": _hyperparameters(run, model),
        "mlm:input": [_input(model)],
        "mlm:output": [_output(model)],
    }


def _mlm_name(name: str) -> str:
    # The schema wants a letter first, a letter or digit last, and three characters at least.
    cleaned = re.sub(r"[^a-zA-Z0-9_.\-\s]", "-", name).strip("_.- ")
    return cleaned if re.match(r"[a-zA-Z].+[a-zA-Z0-9]$", cleaned) else f"model-{cleaned or 'unnamed'}"


def _hyperparameters(run: Run, model: Model) -> dict[str, Any]:
    keep = ("epochs", "batch_size", "accumulate", "optimizer", "augment", "seed", "precision")
    recipe: Mapping[str, Any] = run.recipe
    return {**{key: recipe[key] for key in keep if key in recipe}, "model": config_of(model)}


def _unit(model: Model) -> str:
    """What digital numbers are; of sensors beside the source, band by band."""
    plain = "reflectance times 10,000"
    _, *sensors = model.normalization.unit.split("; ") if model.normalization is not None else [plain]
    return "; ".join([plain, *sensors])


def _input(model: Model) -> dict[str, Any]:
    size = model.image_size
    shape = [-1, len(model.bands), size, size]
    structure = {"shape": shape, "dim_order": ["batch", "bands", "height", "width"], "data_type": "uint16"}
    out = {
        "name": "chips",
        "description": f"Chips in digital numbers ({_unit(model)}), which the model scales itself, clipped to 0..1.",
        "bands": list(model.bands),
        "input": structure,
        "resize_type": None,
    }
    if model.normalization is None:
        return out
    pairs = zip(model.normalization.mean, model.normalization.std, strict=True)
    scaling = [{"type": "min-max", "minimum": mean - 2 * std, "maximum": mean + 2 * std} for mean, std in pairs]
    return {**out, "value_scaling": scaling}


def _output(model: Model) -> dict[str, Any]:
    result = {"shape": [-1, model.embedding_dim], "dim_order": ["batch", "embedding"], "data_type": "float32"}
    return {"name": "embeddings", "tasks": TASKS, "result": result}


def _assets(model: Model, weights: FileRecord) -> dict[str, Any]:
    return {
        "weights": {
            "href": "./model.safetensors",
            "type": "application/octet-stream; framework=safetensors",
            "title": "Weights",
            "roles": ["mlm:model", "mlm:weights"],
            "mlm:artifact_type": "safetensors.torch.save_file",
            "bands": [{"name": band} for band in model.bands],  # STAC 1.1: in an asset, if in the properties
            "file:size": weights.bytes,
            "file:checksum": f"1220{weights.sha256}",  # multihash: SHA-256, 32 bytes
        },
        "config": {
            "href": "./config.json",
            "type": "application/json",
            "title": "Configuration",
            "roles": ["metadata"],
        },
        "preprocessing": {
            "href": "./preprocessing.json",
            "type": "application/json",
            "title": "Bands, units and scaling",
            "roles": ["metadata"],
        },
    }
