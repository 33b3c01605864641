"""How a task's samples are drawn: as the catalog or the release divides them, anew in blocks, or few of them many times."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from pwcat.errors import TrainingError
from training.resampling import Draw, FewShot, Official, Resampling, Sampling
from training.tasks.base import TaskData
from training.tasks.chips import SubsetChips

__all__ = ["default_sampling", "described", "draws_of", "key_of"]

NAMES = {FewShot: "few-shot", Official: "official"}


def default_sampling(data: TaskData) -> Sampling:
    """Repeated draws of four fifths of the training samples of a catalog's task; the released sides of a benchmark."""
    return Resampling() if isinstance(data.chips, SubsetChips) else Official()


def draws_of(data: TaskData, sampling: Sampling) -> list[Draw]:
    """Which samples are learnt from, chosen on and tested on, draw by draw.

    Raises:
        TrainingError: there is nothing to learn from or to test on, or the task lacks what the sampling needs.
    """
    if isinstance(sampling, Official):
        draws = sampling.draws(lonlat=data.lonlat, sides_N=data.splits)
    elif isinstance(sampling, FewShot):
        needed = sampling.within_groups or sampling.per == "group"
        groups_N = _groups(data, sampling.grouping) if needed else None
        draws = sampling.draws(data.targets, lonlat=data.lonlat, sides_N=data.splits, groups_N=groups_N)
    else:
        tested = "test" if (data.splits == "test").any() else "val"
        sides_N = np.where(data.splits == tested, "val", "train").astype(object)
        draws = sampling.draws(data.targets, lonlat=data.lonlat, sides_N=sides_N)
    if not draws:
        raise TrainingError("no draws were asked for: at least one repeat is needed")
    return draws


def described(sampling: Sampling) -> dict[str, Any]:
    """A sampling as JSON values: how, and its settings."""
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(sampling).items()}
    how = sampling.split if isinstance(sampling, Resampling) else NAMES[type(sampling)]
    return {"how": how, **{name: value for name, value in values.items() if name != "split"}}


def key_of(sampling: dict[str, Any]) -> tuple[Any, ...]:
    """What tells ways of drawing apart, of which a folder keeps the last scores each; of what :func:`described` gave."""
    within = sampling.get("grouping") if sampling.get("within_groups") else None
    return sampling["how"], sampling.get("per"), within


def _groups(data: TaskData, grouping: str) -> np.ndarray:
    found = data.groups.get(grouping)
    if found is None or all(each is None for each in found):
        there = [name for name, group in data.groups.items() if any(each is not None for each in group)]
        raise TrainingError(
            f"task {data.info.name}: no sample has a known {grouping}, and draws by {grouping} need it; known are: "
            f"{', '.join(there) or 'none'}. Give the layers of a recipe or catalog (--regions)"
        )
    return np.asarray(found)
