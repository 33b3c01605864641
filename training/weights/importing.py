"""From a released checkpoint to a model folder; to add a family, write its ``convert`` and name it in ``FAMILIES``."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pwcat.errors import TrainingError
from training.models import build_model
from training.models.base import Model
from training.models.folder import save_model_folder
from training.weights.converted import Converted
from training.weights.reading import read_checkpoint

__all__ = ["FAMILIES", "ORIGIN", "Family", "Imported", "convert", "file_hash", "import_weights", "recognise"]

HALVES = (torch.float16, torch.bfloat16)
HALF = "The file keeps numbers in {}, so that weights have fewer digits than they were trained with; codes are exact"
ORIGIN = "origin.json"  # beside the weights: the file that they come from


@dataclass(frozen=True, kw_only=True)
class Family:
    """Released weights of one architecture.

    Attributes:
        module: has ``convert(checkpoint: Mapping[str, Any]) -> Converted``; a tuple of config and state dict does, too.
        sign: part of a name of a tensor that weights of this family have, and those of no other.
        license: SPDX identifier of the released weights; empty where it is not known here.
    """

    module: str
    sign: str
    license: str = ""


FAMILIES: dict[str, Family] = {
    "satmae": Family(module="training.weights.satmae", sign="patch_embed.0.proj.weight"),
    "presto": Family(module="training.weights.presto", sign="eo_patch_embed.S2_RGB.weight", license="MIT"),
    "satclip": Family(module="training.weights.satclip", sign="location.nnet.", license="MIT"),
}


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What came of an import.

    Attributes:
        path: the model folder.
        model: the model, in eval mode.
        notes: what to know of the conversion, a sentence each.
    """

    path: Path
    model: Model
    notes: tuple[str, ...]


def import_weights(
    architecture: str, file: str | Path, folder: str | Path, *, overrides: Mapping[str, Any] | None = None
) -> Imported:
    """Make a model folder of a released checkpoint, reading it as data.

    Args:
        architecture: a name in ``FAMILIES``.
        file: ``.pth``, ``.pt``, ``.ckpt`` or ``.safetensors``.
        folder: to be made; it must not hold anything yet.
        overrides: fields of the config that the checkpoint cannot tell or tells wrongly.

    Raises:
        TrainingError: the file cannot be read safely or is of another family, its tensors do not fit (all misfits are
            listed), or the folder holds something.
    """
    file, folder = Path(file), Path(folder)
    if architecture not in FAMILIES:
        raise TrainingError(f"weights of {architecture!r} cannot be imported; those of {', '.join(FAMILIES)} can")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TrainingError(f"{folder} holds something already: give a new folder")
    checkpoint = read_checkpoint(file)
    if (other := recognise(checkpoint)) not in (None, architecture):
        raise TrainingError(f"{file} holds weights of {other}: `pwcat weights import {other} {file} -o {folder}`")
    converted = convert(architecture, checkpoint)
    model = _build(architecture, converted, overrides=overrides or {}, file=file)
    _write(model, folder, origin={"file": file.name, "sha256": file_hash(file), "notes": converted.notes})
    return Imported(path=folder, model=model, notes=converted.notes)


def convert(architecture: str, checkpoint: Mapping[str, Any]) -> Converted:
    """A checkpoint in this project's words, by the converter of its family.

    Raises:
        TrainingError: the checkpoint is not what the family's converter knows.
    """
    converter = importlib.import_module(FAMILIES[architecture].module)
    try:
        found = Converted(*converter.convert(checkpoint))
    except (ValueError, TypeError, IndexError, RuntimeError) as exc:  # of shapes and options that no released file has
        raise TrainingError(
            f"this is not what {architecture}'s released checkpoints are: {str(exc).splitlines()[0]}"
        ) from exc
    kept = sorted({_name(tensor.dtype) for tensor in found.state.values() if tensor.dtype in HALVES})
    return found._replace(notes=(*found.notes, HALF.format(", ".join(kept)))) if kept else found


def recognise(checkpoint: Mapping[str, Any]) -> str | None:
    """The family that a checkpoint's names are of; ``None`` where they tell none."""
    names = list(_names(checkpoint))
    return next((key for key, family in FAMILIES.items() if any(family.sign in name for name in names)), None)


def file_hash(file: Path) -> str:
    """SHA-256 of a file, hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _names(values: Mapping[Any, Any], *, depth: int = 0) -> Iterable[str]:
    """Names of the tensors in a checkpoint, which keeps them by themselves or one level down."""
    for key, value in values.items():
        if isinstance(value, Tensor):
            yield str(key)
        elif isinstance(value, Mapping) and depth == 0:
            yield from _names(value, depth=1)


def _build(architecture: str, converted: Converted, *, overrides: Mapping[str, Any], file: Path) -> Model:
    config = {**converted.config, **overrides}
    with torch.random.fork_rng(devices=[]):  # the fresh weights are replaced at once
        model = build_model(architecture, config, normalization=converted.normalization)
    own = model.state_dict()
    faults = [f"{name} missing" for name in own if name not in converted.state]
    faults += [f"{name} unknown" for name in converted.state if name not in own]
    faults += [
        fault for name in converted.state if name in own and (fault := _fault(name, converted.state[name], own[name]))
    ]
    if faults:
        raise TrainingError(f"the weights in {file} do not fit {architecture}: " + "; ".join(faults))
    model.load_state_dict(converted.state)
    return model.eval()


def _fault(name: str, tensor: Tensor, own: Tensor) -> str:
    """Why a tensor cannot be that of the model; empty where it can."""
    if tensor.shape != own.shape:
        return f"{name} is {tuple(tensor.shape)}, not {tuple(own.shape)}"
    if not tensor.is_floating_point():
        return f"{name} is {_name(tensor.dtype)}, no weight"
    return "" if bool(tensor.isfinite().all()) else f"{name} holds values that are no numbers"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _write(model: Model, folder: Path, *, origin: Mapping[str, Any]) -> None:
    """Write the folder whole or not at all."""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        save_model_folder(model, part)
        (part / ORIGIN).write_text(json.dumps(origin, indent=2) + "\n")
        if folder.exists():
            folder.rmdir()
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
