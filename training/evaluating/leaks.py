"""Samples of a task that a model has all but seen in its pretraining, by the list of an audit."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from catalog.subset import load_subset
from pwcat.errors import TrainingError
from training.osm.reading import holds_entities
from training.tasks.base import TaskData
from training.tasks.chips import SubsetChips

__all__ = ["CLEAN", "GROUPING", "Leaks", "leaks_of", "warn_of_maps_seen", "with_leaks"]

log = logging.getLogger(__name__)

# Samples in group "leaks=none" are those that scores without leaks are of.
GROUPING, CLEAN, LEAKING = "leaks", "none", "some"
NEEDED = ("task", "id")
AUDIT = b"pwcat:audit"  # what an audit says of itself in the schema of its list
Leaks = str | Path | Collection[str]


def leaks_of(leaks: Leaks, data: TaskData, *, pretraining: str = "") -> frozenset[str]:
    """Names of a task's samples that leak.

    Args:
        leaks: the names, or a Parquet with columns ``task`` and ``id``, as ``pwcat audit`` writes.
        data: the task.
        pretraining: hash of the samples of the model's pretraining; empty where that is not known.

    Raises:
        TrainingError: the file is missing or of other columns, or its names are none of this task's.
    """
    named = (
        frozenset(map(str, _read(Path(leaks), data, pretraining)))
        if isinstance(leaks, str | Path)
        else frozenset(leaks)
    )
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


def warn_of_maps_seen(data: TaskData, pretraining: str) -> None:
    """Say where a model was pretrained on whole maps of the tiles that it is tested on, which tell what is taken off them.

    It is known of runs on all tiles of a collection, whose hash is that of the run's samples.
    """
    if not pretraining or not isinstance(data.chips, SubsetChips) or not holds_entities(data.chips.subset):
        return
    for collection in data.chips.subset.collections:
        if load_subset(collection.path).hash == pretraining:
            log.warning(
                "the model was pretrained on all tiles of %s, those it is tested on among them, with the tags that tell the "
                "answer: pretrain on the others (`pwcat search CATALOG --split train --save FILE`)",
                collection.name,
            )


def _read(path: Path, data: TaskData, pretraining: str) -> NDArray[np.object_]:
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
    _warn(path, data, _audited(table, here), json.loads((table.schema.metadata or {}).get(AUDIT, b"{}")), pretraining)
    ids: NDArray[np.object_] = np.array(table["id"].to_pylist(), dtype=object)[here]
    return ids


def _audited(table: pa.Table, here: NDArray[np.bool_]) -> set[str]:
    """Hashes of the task's samples that were audited."""
    told = table["task_hash"].to_pylist() if "task_hash" in table.column_names else []
    return {str(each) for each, is_here in zip(told, here, strict=False) if is_here}


def _warn(path: Path, data: TaskData, hashes: set[str], audit: Mapping[str, Any], pretraining: str) -> None:
    """Say where a list may be of something else than what is scored."""
    hashes |= {each["task_hash"] for each in audit.get("overlaps", ()) if each["task"] == data.info.name}
    if not hashes:
        log.warning("%s names no sample of task %s: none of them leaks, or it was not audited", path, data.info.name)
    elif hashes - {data.hash}:
        log.warning("%s was made of another choice of samples of task %s: audit it again", path, data.info.name)
    if pretraining and audit.get("data_hash") not in {None, pretraining}:
        log.warning("%s is of other samples than those that the model was pretrained on: audit those", path)
