"""Checkpoints of a run: ``checkpoints/step-NNNNNNNN``, each a model folder with the optimiser's state beside it.

A folder appears whole, by renaming, or not at all. Where a run keeps an average of its weights, that is the model of the
folder (``model.safetensors``), and the weights that training goes on with are beside it (``trained.safetensors``).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import torch

from pwcat.errors import TrainingError
from training.models import Model, config_of
from training.models import folder as model_folder
from training.models.folder import CONFIG, WEIGHTS, load_weights, save_model_folder, save_weights

__all__ = [
    "latest_checkpoint",
    "load_model_folder",
    "load_state",
    "load_trained",
    "prune_checkpoints",
    "save_checkpoint",
    "step_of",
]

STATE, TRAINED = "state.pt", "trained.safetensors"
PART = ".part"  # half-written, or half-removed


def load_model_folder(path: str | Path) -> Model:
    """The model of a model folder, or of the last checkpoint of a run folder, in eval mode, on the CPU.

    Raises:
        TrainingError: the folder holds no such model, one of an unknown architecture, or one whose weights do not fit.
    """
    path = Path(path)
    return model_folder.load_model_folder(path if (path / CONFIG).is_file() else latest_checkpoint(path) or path)


def save_checkpoint(
    run_dir: Path, *, model: Model, state: dict[str, Any], step: int, trained: Model | None = None
) -> Path:
    """Write a checkpoint whole; its path. One that is there of this step is that of the same weights, and stays.

    Args:
        run_dir: folder of the run.
        model: what evaluation is to load, as it is after ``step``.
        state: the optimiser's state and counters: tensors, numbers, strings, lists and dicts only.
        step: steps done.
        trained: the model that training goes on with, where it is another one (of an average of weights).
    """
    final = run_dir / "checkpoints" / f"step-{step:08d}"
    if final.is_dir():
        return final
    part = final.with_suffix(PART)
    shutil.rmtree(part, ignore_errors=True)
    try:
        save_model_folder(model, part)
        if trained is not None:
            save_weights(trained, part / TRAINED)
        torch.save(state, part / STATE)
        for file in part.iterdir():
            _to_disk(file)
        part.rename(final)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return final


def prune_checkpoints(run_dir: Path, *, keep: int | Literal["all"], always: Collection[int] = ()) -> None:
    """Remove the earlier checkpoints of a run, and what was left half-written.

    Args:
        run_dir: folder of the run.
        keep: how many of the last stay.
        always: steps whose checkpoints stay anyway.
    """
    for path in (run_dir / "checkpoints").glob(f"*{PART}"):
        shutil.rmtree(path, ignore_errors=True)
    last = len(_checkpoints(run_dir)) if keep == "all" else keep
    for path in _checkpoints(run_dir)[:-last]:
        if step_of(path) not in always:
            doomed = path.rename(
                path.with_suffix(PART)
            )  # a removal that is interrupted leaves nothing that looks whole
            shutil.rmtree(doomed)


def latest_checkpoint(run_dir: Path) -> Path | None:
    """The last whole checkpoint of a run; ``None`` before the first."""
    return max(_checkpoints(run_dir), default=None)


def load_trained(checkpoint: Path, model: Model) -> None:
    """Give a model the weights that training went on with.

    Raises:
        TrainingError: they are those of another model, such as one with a tower whose origin has changed since.
    """
    kept, now = (json.loads(text) for text in ((checkpoint / CONFIG).read_text(), json.dumps(config_of(model))))
    if others := sorted(name for name in now if kept["config"].get(name, now[name]) != now[name]):
        raise TrainingError(
            f"checkpoint {checkpoint} is of another model than the recipe's now: {', '.join(others)} differ. Give back what "
            "the recipe names, or train into another folder"
        )
    path = checkpoint / TRAINED
    load_weights(model, path if path.is_file() else checkpoint / WEIGHTS)


def load_state(checkpoint: Path) -> dict[str, Any]:
    """The optimiser's state and counters of a checkpoint, on the CPU, read without running code from the file."""
    state: dict[str, Any] = torch.load(checkpoint / STATE, map_location="cpu", weights_only=True)
    return state


def _checkpoints(run_dir: Path) -> list[Path]:
    return sorted(path for path in (run_dir / "checkpoints").glob("step-*") if not path.suffix)


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written."""
    return int(checkpoint.name.removeprefix("step-"))


def _to_disk(file: Path) -> None:
    """Wait until a file would survive a loss of power: the renaming that follows may reach the disk before it."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
