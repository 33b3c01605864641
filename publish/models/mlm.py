"""A model as a STAC item of the Machine Learning Model extension (MLM 1.5)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from publish.manifest import FileRecord, describe_file
from publish.models.links import DataLink
from publish.models.origin import Origin
from training.models import Model
from training.models.base import ModelInput

__all__ = ["mlm_item"]

MLM_URI = "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"
FILE_URI = "https://stac-extensions.github.io/file/v2.1.0/schema.json"

# A model applies anywhere and at any time; these are the bounds that MLM's best practices give for that.
WHOLE_EARTH = [-180.0, -90.0, 180.0, 90.0]
ALWAYS = ("1900-01-01T00:00:00Z", "9999-12-31T23:59:59Z")

SENTINEL = "DN, reflectance*10000"  # the unit of pwcat's own cubes

# Data types of the raster extension 1.1, which MLM takes; strings are none of them.
DATA_TYPES = frozenset(
    ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"]
)

# MLM 1.5 has no task for embeddings; searching by their similarity is the one they serve as they are.
TASKS = ["similarity-search"]


def mlm_item(name: str, model: Model, origin: Origin, *, weights: Path) -> dict[str, Any]:
    """The item as JSON values.

    Args:
        name: Name of the model.
        model: The model, for what it takes and gives.
        origin: Where its weights come from.
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
        "properties": _properties(name, model, origin, weights=record),
        "links": [_link(link) for link in origin.links],
        "assets": _assets(model, record),
    }


def _properties(name: str, model: Model, origin: Origin, *, weights: FileRecord) -> dict[str, Any]:
    return {
        "datetime": None,
        "start_datetime": ALWAYS[0],
        "end_datetime": ALWAYS[1],
        **_bands(model),
        "mlm:name": _mlm_name(name),
        "mlm:architecture": model.architecture,
        "mlm:tasks": TASKS,
        "mlm:framework": "PyTorch",
        "mlm:framework_version": origin.versions["torch"],
        "mlm:total_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "mlm:memory_size": weights.bytes,
        "mlm:pretrained": origin.run is not None or origin.released is not None,
        "mlm:pretrained_source": origin.source,
        "mlm:accelerator": None,
        "mlm:hyperparameters": origin.hyperparameters(model),
        "mlm:input": [_input(model, one) for one in model.inputs()],
        "mlm:output": [_output(model)],
    }


def _link(link: DataLink) -> dict[str, str]:
    """To the STAC Collection of a dataset that it was trained on, as MLM's best practices link training data."""
    title = f"{link.repo}{f' {link.tag}' if link.tag else ''} at {link.commit[:12]}: {link.extent}"
    return {"rel": "derived_from", "type": "application/json", "href": link.collection_url, "title": title}


def _mlm_name(name: str) -> str:
    # The schema wants a letter first, a letter or digit last, and three characters at least.
    cleaned = re.sub(r"[^a-zA-Z0-9_.\-\s]", "-", name).strip("_.- ")
    return cleaned if re.match(r"[a-zA-Z].+[a-zA-Z0-9]$", cleaned) else f"model-{cleaned or 'unnamed'}"


def _bands(model: Model) -> dict[str, list[dict[str, str]]]:
    """The bands of all inputs; nothing, where none has any."""
    names = dict.fromkeys(band for one in model.inputs() for band in one.bands)
    return {"bands": [{"name": name} for name in names]} if names else {}


def _unit(model: Model) -> str:
    """What digital numbers are; of sensors beside the source, band by band."""
    told, *sensors = model.normalization.unit.split("; ") if model.normalization is not None else [SENTINEL]
    return "; ".join(["reflectance times 10,000" if told == SENTINEL else told, *sensors])


def _input(model: Model, one: ModelInput) -> dict[str, Any]:
    """An input; where its bands are scaled by statistics of the pretraining's data, these too."""
    out: dict[str, Any] = {
        "name": one.name,
        "description": one.description,
        "input": {
            "shape": [*one.shape],
            "dim_order": [*one.dim_order],
            "data_type": one.dtype if one.dtype in DATA_TYPES else "other",
        },
    }
    if not one.bands:
        return out
    out |= {"bands": [*one.bands], "resize_type": None}
    normalization = model.normalization
    if model.scales_itself or normalization is None or normalization.bands != one.bands:
        return out | {"description": f"{one.description} Scaling: {model.facts().scaling}."}
    pairs = zip(normalization.mean, normalization.std, strict=True)
    scaling = [{"type": "min-max", "minimum": mean - 2 * std, "maximum": mean + 2 * std} for mean, std in pairs]
    return out | {"description": f"{one.description} Digital numbers: {_unit(model)}.", "value_scaling": scaling}


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
            **_bands(model),  # STAC 1.1: in an asset, if in the properties
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
