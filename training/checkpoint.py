"""Checkpoints of a run: ``checkpoints/step-NNNNNNNN``, each a model folder with the optimiser's state beside it.

A folder appears whole, by renaming, or not at all.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from training.models import Model
from training.models import folder as model_folder
from training.models.folder import CONFIG, save_model_folder

__all__ = ["latest_checkpoint", "load_model_folder", "load_state", "save_checkpoint"]

STATE = "state.pt"


def load_model_folder(path: str | Path) -> Model:
    """The model of a model folder, or of the last checkpoint of a run folder, in eval mode, on the CPU.

    Raises:
        TrainingError: the folder holds no such model, one of an unknown architecture, or one whose weights do not fit.
    """
    path = Path(path)
    return model_folder.load_model_folder(path if (path / CONFIG).is_file() else latest_checkpoint(path) or path)


def save_checkpoint(run_dir: Path, *, model: Model, state: dict[str, Any], step: int) -> Path:
    """Write a checkpoint whole, then remove the earlier ones; its path.

    Args:
        run_dir: folder of the run.
        model: the model as it is after ``step``.
        state: the optimiser's state and counters: tensors, numbers, strings, lists and dicts only.
        step: steps done.
    """
    final = run_dir / "checkpoints" / f"step-{step:08d}"
    part = final.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    save_model_folder(model, part)
    torch.save(state, part / STATE)
    shutil.rmtree(final, ignore_errors=True)  # left by a run of another recipe, or written twice at the same step
    part.rename(final)
    for earlier in final.parent.iterdir():
        if earlier != final:
            shutil.rmtree(earlier)
    return final


def latest_checkpoint(run_dir: Path) -> Path | None:
    """The last whole checkpoint of a run; ``None`` before the first."""
    folders = [path for path in (run_dir / "checkpoints").glob("step-*") if not path.suffix]
    return max(folders, default=None)


def load_state(checkpoint: Path) -> dict[str, Any]:
    """The optimiser's state and counters of a checkpoint, on the CPU, read without running code from the file."""
    state: dict[str, Any] = torch.load(checkpoint / STATE, map_location="cpu", weights_only=True)
    return state
