"""The folder of a run: whose it is, and what is in it already."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pwcat.errors import TrainingError
from training.checkpoint import latest_checkpoint, step_of
from training.features import FEATURES
from training.looping.records import METRICS, TENSORBOARD
from training.osm.reading import EntityReader
from training.recipe import WITHOUT_BEARING, TrainRecipe
from training.run import RUN, Run, load_run

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["LOCK", "clear", "earlier_run", "require_own_folder"]

LOCK = ".lock"  # held by the process that trains


def require_own_folder(run_dir: Path) -> None:
    """Raise a :class:`TrainingError` where a folder holds something, and that is no run, nor the beginning of one."""
    if run_dir.is_dir() and any(run_dir.iterdir()) and not (run_dir / RUN).is_file():
        known = {"checkpoints", METRICS, TENSORBOARD, LOCK, FEATURES, "scores.json", "embeddings", "geometry"}
        if {path.name for path in run_dir.iterdir()} - known:
            raise TrainingError(f"{run_dir} holds other files and no run: give a folder of its own")


def earlier_run(run_dir: Path, *, subset: Subset, recipe: TrainRecipe) -> Run | None:
    """The run that is in a folder, to go on with; ``None`` where there is none. Without its last checkpoint it is not finished.

    Raises:
        TrainingError: it is one of another recipe or of other data.
    """
    if not (run_dir / RUN).is_file():
        return None
    run = load_run(run_dir)
    others = [
        name
        for name, old, new in (
            ("recipe", run.recipe_hash, recipe.hash),
            ("data", run.data["hash"], subset.hash),
            ("map", run.data.get("map_hash"), _map_hash(run, subset)),
        )
        if old != new
    ]
    if others:
        keys = _differing(run.recipe, recipe.told())
        told = f" ({', '.join(keys)})" if "recipe" in others and keys else ""
        raise TrainingError(
            f"{run_dir} holds a run of another {' and other '.join(others)}{told}: train into another folder, or start this "
            "one over with resume=False (--restart)"
        )
    checkpoint = latest_checkpoint(run_dir)
    return replace(run, finished=run.finished and checkpoint is not None and step_of(checkpoint) == run.total_steps)


def _map_hash(run: Run, subset: Subset) -> str | None:
    """Of the maps that the samples are tiles of now, where the run has read them.

    A subset's hash says nothing of what lies on its tiles: of another extract, the same recipe makes another map.
    """
    if run.data.get("map_hash") is None or subset.hash != run.data["hash"]:
        return run.data.get("map_hash")
    return EntityReader(subset).fingerprint


def _differing(kept: Mapping[str, Any], now: Mapping[str, Any], *, prefix: str = "") -> list[str]:
    """Keys of a recipe that have another value now, as ``epochs was 4, is 5``; those without a bearing left out."""
    found = []
    for key in sorted({*kept, *now} - WITHOUT_BEARING):
        old, new = kept.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += _differing(old, new, prefix=f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key} was {json.dumps(old)}, is {json.dumps(new)}")
    return found


def clear(run_dir: Path) -> None:
    """Remove what is of a run that another one replaces.

    Its description goes first: whoever is killed here leaves a folder without a run, not half of one that is said to be whole.
    """
    (run_dir / RUN).unlink(missing_ok=True)
    for folder in ("checkpoints", TENSORBOARD):
        if (run_dir / folder).is_dir():
            shutil.rmtree(run_dir / folder)
