"""Checkpoints of others, read as data: no class that a file names is looked up, and no code of it runs.

A ``.pth``, ``.pt`` or ``.ckpt`` is a pickle, which can name any function and have it called. Here names are not looked up:
those on a short list stand for known, harmless values, and a file with any other name is refused as a whole.
"""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pwcat.errors import TrainingError

__all__ = ["read_checkpoint", "rounding", "tensors_of"]

_AGAIN = "Is it whole, and a file of torch.save or a .safetensors? Fetch it again"
STATE_KEYS = ("model", "state_dict", "model_state_dict", "module")  # where training scripts keep the weights
PREFIXES = ("module.", "_orig_mod.", "model.")  # of DistributedDataParallel, torch.compile and Lightning

# What a file may name beside torch's own tensors and containers, and what each name is read as: plain values all.
# Paths are read as pure ones, which touch no disk; Lightning's dictionary as a plain one.
ALLOWED: dict[str, Any] = {
    "argparse.Namespace": argparse.Namespace,
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    **{f"numpy.dtypes.{type(np.dtype(name)).__name__}": type(np.dtype(name)) for name in ("b1", "u1", "i4", "i8", "f4", "f8")},
    **{f"numpy.{core}.multiarray.scalar": np.float64(0).__reduce__()[0] for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": np.empty(0).__reduce__()[0] for core in ("core", "_core")},
    **{f"pathlib{local}.{pure}PosixPath": PurePosixPath for local in ("", "._local") for pure in ("", "Pure")},
    **{f"pathlib{local}.{pure}WindowsPath": PureWindowsPath for local in ("", "._local") for pure in ("", "Pure")},
    "pytorch_lightning.utilities.parsing.AttributeDict": dict,
    "lightning_fabric.utilities.data.AttributeDict": dict,
    "lightning.fabric.utilities.data.AttributeDict": dict,
}  # fmt: skip


def read_checkpoint(path: str | Path) -> Mapping[str, Any]:
    """The values that a checkpoint keeps by name, tensors on the CPU.

    Args:
        path: a file of ``torch.save``, or a ``.safetensors``.

    Raises:
        TrainingError: there is no such file, it is damaged or no checkpoint, or it names foreign code; then nothing of
            it was run.
    """
    path = Path(path)
    if not path.is_file():
        raise TrainingError(
            f"{path} is no file: give the checkpoint itself, such as checkpoint.pth or model.safetensors"
        )
    loaded = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    if not isinstance(loaded, Mapping):
        raise TrainingError(
            f"{path} holds a {type(loaded).__name__}, not values by name: save the model's state_dict()"
        )
    return loaded


def tensors_of(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of a checkpoint by name, without what a wrapper put before every name.

    Raises:
        TrainingError: it holds no tensors, neither by themselves nor under one of the usual keys.
    """
    for held in (*(checkpoint.get(key) for key in STATE_KEYS), checkpoint):
        if isinstance(held, Mapping) and (weights := {k: v for k, v in held.items() if isinstance(v, Tensor)}):
            return _without_prefix(weights)
    raise TrainingError(
        f"the checkpoint holds no weights: it has {_listed(checkpoint)}, and weights are looked for under "
        + f"{', '.join(STATE_KEYS)} and at its top"
    )


def rounding(tensor: Tensor) -> float:
    """How far numbers of up to 1 may be off by the type that they are kept in; 0 for whole numbers."""
    return torch.finfo(tensor.dtype).eps if tensor.is_floating_point() else 0.0


def _without_prefix(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in weights):
            return _without_prefix({name.removeprefix(prefix): tensor for name, tensor in weights.items()})
    return weights


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as exc:
        raise TrainingError(f"{path} cannot be read as safetensors: {_plain(exc)}. {_AGAIN}") from exc
    return tensors


def _read_pickle(path: Path) -> Any:
    with torch.serialization.safe_globals([(value, name) for name, value in ALLOWED.items()]):
        try:
            # of a zip, which torch writes since 1.6, tensors are read when they are used: an optimiser's state never is
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)
        except Exception as exc:  # a foreign file fails in any way it likes
            foreign = _foreign_names(path, exc)
            if foreign:
                raise TrainingError(
                    f"{path} names code that a checkpoint has no need of ({', '.join(foreign)}); nothing of it was run. "
                    "Ask its authors for weights alone (a state_dict, or better a .safetensors); or, if you trust them, load "
                    "it with their own code and save the model's state_dict()"
                ) from exc
            raise TrainingError(f"{path} cannot be read as a checkpoint: {_plain(exc)}. {_AGAIN}") from exc


def _foreign_names(path: Path, exc: Exception) -> list[str]:
    """Names in the file that are on no list; read from its text, as nothing of it is looked up."""
    if "TorchScript" in str(exc):
        return ["it is a TorchScript program"]
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # of before torch 1.6, or damaged
        named = re.search(r"GLOBAL (\S+)", str(exc)) if isinstance(exc, pickle.UnpicklingError) else None
        return [named.group(1)] if named else []


def _plain(exc: Exception) -> str:
    """The first sentence of what the reader says, without its advice to trust the file."""
    said = re.sub(r"Weights only load failed\..*WeightsUnpickler error: ", "", " ".join(str(exc).split()))
    said = said.split(". ")[0].split(" Check the documentation")[0].removesuffix(".").strip()
    return said if " " in said else type(exc).__name__


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(list(map(str, values))[:8]) or "nothing"
