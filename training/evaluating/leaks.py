"""Samples of a task that a model has all but seen in its pretraining, by the list of an audit."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pwcat.errors import TrainingError
from training.tasks.base import TaskData

__all__ = ["CLEAN", "GROUPING", "Leaks", "leaks_of", "with_leaks"]

log = logging.getLogger(__name__)

# Samples in group "leaks=none" are those that scores without leaks are of.
GROUPING, CLEAN, LEAKING = "leaks", "none", "some"
NEEDED = ("task", "id")
Leaks = str | Path | Collection[str]


def leaks_of(leaks: Leaks, data: TaskData) -> frozenset[str]:
    """Names of a task's samples that leak.

    Args:
        leaks: the names, or a Parquet with columns ``task`` and ``id``, as ``pwcat audit`` writes.
        data: the task.

    Raises:
        TrainingError: the file is missing or of other columns, or its names are none of this task's.
    """
    named = frozenset(map(str, _read(Path(leaks), data))) if isinstance(leaks, str | Path) else frozenset(leaks)
    own = frozenset(map(str, data.ids))
    if named and not named & own:
        raise TrainingError(
            f"none of {len(named)} leaking samples, such as {min(named)!r}, is one of task {data.info.name}, whose are like "
            f"{data.ids[0]!r}: they are of other data; audit this task again"
        )
    return named & own


def with_leaks(data: TaskData, leaking: Collection[str]) -> TaskData:
    """The task with its samples in groups "leaks=none" and "leaks=some"."""
    of_N = np.array([LEAKING if str(each) in leaking else CLEAN for each in data.ids], dtype=object)
    return data.with_groups({GROUPING: of_N})


def _read(path: Path, data: TaskData) -> NDArray[np.object_]:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as exc:
        raise TrainingError(f"{path}: no list of leaking samples can be read: {' '.join(str(exc).split())}") from exc
    if missing := [name for name in NEEDED if name not in table.column_names]:
        raise TrainingError(
            f"{path}: a list of leaking samples has columns {', '.join(NEEDED)}; {', '.join(missing)} missing, there are "
            f"{', '.join(table.column_names)}"
        )
    here = np.array([name == data.info.name for name in table["task"].to_pylist()], dtype=bool)
    if not here.any():
        log.warning("%s names no sample of task %s: none of them leaks, or it was not audited", path, data.info.name)
    if "task_hash" in table.column_names:
        hashes = set(np.array(table["task_hash"].to_pylist(), dtype=object)[here])
        if hashes - {data.hash}:
            log.warning("%s was made of another choice of samples of task %s: audit it again", path, data.info.name)
    ids: NDArray[np.object_] = np.array(table["id"].to_pylist(), dtype=object)[here]
    return ids
