"""One class against all others: a classification of many classes as one of two, such as crop or not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pwcat.errors import TrainingError
from training.studying.job import hash_of
from training.tasks import TaskData

__all__ = ["against_rest"]


def against_rest(data: TaskData, positive: str) -> TaskData:
    """The same samples with two classes, this one and the rest, scored by the F1 of this one.

    Raises:
        TrainingError: the task is no classification, or has no such class.
    """
    info = data.info
    if info.kind != "classification" or positive not in info.classes:
        raise TrainingError(
            f"task {info.name}: no class {positive!r} to tell from the rest; it is a {info.kind} of "
            f"{', '.join(info.classes) or 'no classes'}"
        )
    return replace(
        data,
        info=replace(info, classes=("other", positive), metric="f1"),
        targets=(np.asarray(data.targets) == info.classes.index(positive)).astype(np.int64),
        hash=hash_of(data.hash, "against the rest", positive),
    )
