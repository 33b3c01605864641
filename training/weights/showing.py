"""What is in a model folder or in a checkpoint, without changing it."""

from __future__ import annotations

import importlib
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pwcat.errors import TrainingError
from training.checkpoint import load_model_folder
from training.models import ARCHITECTURES
from training.models.folder import weights_hash
from training.weights.importing import FAMILIES, convert, file_hash, recognise
from training.weights.reading import read_checkpoint, tensors_of

__all__ = ["describe"]


def describe(path: str | Path) -> dict[str, Any]:
    """What a model folder, a run folder or a checkpoint of others holds, as JSON values.

    Raises:
        TrainingError: it holds no model, or cannot be read safely.
    """
    path = Path(path)
    return _describe_folder(path) if path.is_dir() else _describe_file(path)


def _describe_folder(path: Path) -> dict[str, Any]:
    model = load_model_folder(path)
    normalization = model.normalization
    return {
        "path": str(path),
        "architecture": model.architecture,
        "parameters": sum(tensor.numel() for tensor in model.state_dict().values()),
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "tensors": len(model.state_dict()),
        "bands": list(model.bands),
        "image_size": model.image_size,
        "embedding_dim": model.embedding_dim,
        "normalised_on": normalization.data_hash if normalization else None,
        "unit": normalization.unit if normalization else None,
        "hash": weights_hash(model),
        "config": model.config_json(),
    }


def _describe_file(path: Path) -> dict[str, Any]:
    checkpoint = read_checkpoint(path)
    weights = tensors_of(checkpoint)
    options = checkpoint.get("args")
    family = recognise(checkpoint)
    bands, can_be_imported = _as_imported(checkpoint, family)
    return {
        "path": str(path),
        "architecture": family,
        "parameters": sum(tensor.numel() for tensor in weights.values()),
        "tensors": len(weights),
        "dtypes": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in weights.values()}),
        "holds": [str(key) for key, value in checkpoint.items() if not isinstance(value, Tensor)],
        "bands": bands,
        "can_be_imported": can_be_imported,
        "sha256": file_hash(path),
        "args": {key: str(value) for key, value in vars(options).items()} if isinstance(options, Namespace) else {},
    }


def _as_imported(checkpoint: Mapping[str, Any], family: str | None) -> tuple[list[str], str]:
    """Bands of the model that would come of it, and whether one would."""
    if family is None:
        return [], f"no: its names are those of no known family ({', '.join(FAMILIES)})"
    try:
        config = convert(family, checkpoint).config
    except TrainingError as exc:
        return [], f"no: {exc}"
    module, name = ARCHITECTURES[family]
    whole = getattr(importlib.import_module(module), name).config_class(**config)
    return list(getattr(whole, "bands", ())), f"yes: pwcat weights import {family}"
