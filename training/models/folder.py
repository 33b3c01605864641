"""Model folders: ``model.safetensors`` and ``config.json``, nothing that runs code when it is opened."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pwcat.errors import TrainingError
from training.models import build_model, config_of
from training.models.base import Model
from training.normalize import Normalization

__all__ = [
    "CONFIG",
    "PICKLES",
    "WEIGHTS",
    "load_model_folder",
    "load_weights",
    "save_model_folder",
    "save_weights",
    "weights_hash",
]

WEIGHTS, CONFIG = "model.safetensors", "config.json"
FORMAT = "pwcat-model/1"
PICKLES = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"}


def save_model_folder(model: Model, path: str | Path) -> Path:
    """Write a model's weights and config to a folder, which is made; its path."""
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(model, folder / WEIGHTS)
    document = {
        "format": FORMAT,
        "architecture": model.architecture,
        "config": config_of(model),
        "normalization": model.normalization.to_json() if model.normalization else None,
    }
    (folder / CONFIG).write_text(json.dumps(document, indent=2) + "\n")
    return folder


def load_model_folder(path: str | Path) -> Model:
    """The model of a model folder, in eval mode, on the CPU.

    Raises:
        TrainingError: the folder holds no such model, one of an unknown architecture, or one whose weights do not fit.
    """
    folder = Path(path)
    _require_model(folder)
    document = _read_config(folder)
    normalization = _normalization(document, folder)
    with torch.random.fork_rng(devices=[]):  # the fresh weights are replaced at once: leave the caller's draws alone
        model = build_model(document["architecture"], document["config"], normalization=normalization)
    load_weights(model, folder / WEIGHTS)
    model.eval()
    return model


def save_weights(model: Model, path: Path) -> None:
    """Write a model's weights as safetensors."""
    # a table that two parts share has two names, and safetensors keeps no memory twice: each name gets its own
    weights = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    save_file(weights, path, metadata={"format": "pt"})


def load_weights(model: Model, path: Path) -> None:
    """Give a model the weights of a safetensors file.

    Raises:
        TrainingError: they are those of another model.
    """
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as exc:
        reason = " ".join(str(exc).split())
        raise TrainingError(f"the weights in {path.parent} do not fit its {CONFIG}: {reason}") from exc


def weights_hash(model: Model) -> str:
    """SHA-256 of all weights and of the config that gives them their meaning, hex; the same for equal models."""
    digest = hashlib.sha256(json.dumps([model.architecture, config_of(model)], sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _require_model(path: Path) -> None:
    if path.suffix in PICKLES:
        raise TrainingError(
            f"{path} is a pickle, which can run code when it is opened, and is not read here: `pwcat weights import` "
            f"converts released weights to a folder of {WEIGHTS} and {CONFIG}"
        )
    missing = [name for name in (CONFIG, WEIGHTS) if not (path / name).is_file()]
    if missing:
        raise TrainingError(
            f"{path} is no model: {' and '.join(missing)} missing. Give a run folder, or a folder of "
            f"{WEIGHTS} and {CONFIG}"
        )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as exc:  # it may be of anybody: of no text, or nested without end
        raise TrainingError(f"{path} is not JSON: {exc}") from exc
    told = document if isinstance(document, dict) else {}
    wrong = [name for name, kind in (("architecture", str), ("config", dict)) if not isinstance(told.get(name), kind)]
    if wrong:
        raise TrainingError(
            f"{path} is not a config of this project: {' and '.join(wrong)} missing, or of another kind"
        )
    if (form := told.get("format", FORMAT)) != FORMAT:
        raise TrainingError(
            f"{path} is of the format {form!r}, and this version of pwcat reads {FORMAT!r}: use the one that wrote it"
        )
    return dict(told)


def _normalization(document: dict[str, Any], folder: Path) -> Normalization | None:
    told = document.get("normalization")
    if not told:
        return None
    try:
        return Normalization.from_json(told)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise TrainingError(
            f"the normalization in {folder / CONFIG} cannot be read ({type(exc).__name__}: {exc}): get the folder again"
        ) from exc
