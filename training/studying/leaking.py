"""Test samples too near to any dataset of a study: told apart in all scores, the same ones whichever a model has seen.

Were each model spared the leaks of its own dataset alone, models would be tested on different samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from pwcat.atomic import replacing
from training.footprints import compare_places, footprints_of
from training.tasks import TaskData

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["find_leaks", "read_leaks"]

COLUMNS = ("task", "task_hash", "id", "dataset", "km", "nearest")


def find_leaks(datasets: Mapping[str, Subset], data: TaskData, *, km: float, path: Path) -> dict[str, int]:
    """Write the samples of a task that lie near to, or on, one of a dataset's chips.

    Counted are ``leaks``, those samples, and ``unknown``, those whose place is not known, which are taken not to leak.

    Args:
        datasets: that are pretrained on, by name.
        data: the task.
        km: geodesic distance between centres below which two are near.
        path: of the Parquet: a row a sample and dataset, with :data:`COLUMNS`; ``nearest`` names a sample of the dataset.
    """
    samples, rows = footprints_of(data), []
    for name, subset in datasets.items():
        found = compare_places(samples, footprints_of(subset), km=km)
        names = subset.column("id")
        for i in found.near.nonzero()[0]:
            near = {"dataset": name, "km": float(found.km[i]), "nearest": str(names[found.nearest[i]])}
            rows.append({"task": data.info.name, "task_hash": data.hash, "id": str(data.ids[i]), **near})
    schema = pa.schema([(name, pa.float64() if name == "km" else pa.string()) for name in COLUMNS])
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), part)
    return {"leaks": len({row["id"] for row in rows}), "unknown": len(samples) - len(samples.known)}


def read_leaks(path: Path) -> frozenset[str]:
    """Names of the samples that leak from any dataset."""
    return frozenset(pq.read_table(path, columns=["id"])["id"].to_pylist())
