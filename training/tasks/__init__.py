"""Downstream tasks, by name. To add one: write a class that meets :class:`Task`, and name it in ``TASKS``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pwcat.errors import TrainingError
from training.tasks.labels import Labels
from training.tasks.landcover import LandcoverTask

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["TASKS", "Labels", "Task", "make_task"]


class Task(Protocol):
    """A classification of chips."""

    @property
    def name(self) -> str:
        """Its name in scores and tables."""

    def labels(self, subset: Subset) -> Labels:
        """The labels of a subset's samples.

        Raises:
            TrainingError: fewer than two classes are left to tell apart.
        """


TASKS: dict[str, Callable[..., Task]] = {
    "landcover": LandcoverTask,
    "biome": partial(LandcoverTask, column="div:biome", name="biome"),  # what SatCLIP's embeddings are scored on
}


def make_task(name: str, **options: Any) -> Task:
    """The task of this name, with its options (such as ``min_samples``).

    Raises:
        TrainingError: the name is unknown, or the task has no such option.
    """
    if name not in TASKS:
        raise TrainingError(f"unknown task {name!r}: choose from {', '.join(TASKS)}")
    try:
        return TASKS[name](**options)
    except TypeError as exc:
        raise TrainingError(f"task {name!r} does not take {', '.join(options)}: {exc}") from exc
