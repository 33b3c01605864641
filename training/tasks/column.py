"""A column of the catalog as a task: a class, or a number, that the catalog keeps of each sample."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pwcat.errors import TrainingError
from training.tasks.base import TaskData, TaskInfo
from training.tasks.chips import SubsetChips

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["CATALOG_TASKS", "ColumnTask"]

GROUPS = {"continent": "div:continent", "biome": "div:biome", "landcover": "div:landcover"}


@dataclass(frozen=True, kw_only=True)
class ColumnTask:
    """Predict a column of the catalog; samples without a value, and classes of few samples, are left out and counted.

    Attributes:
        name: of the task.
        column: such as ``div:landcover``.
        kind: "classification" of words, or "regression" of numbers.
        metric: that tables show; accuracy or R² by default.
        min_samples: samples that a class needs to take part: with fewer, a score of it would be chance.
    """

    name: str
    column: str
    kind: Literal["classification", "regression"] = "classification"
    metric: str = ""
    min_samples: int = 10

    def open(self, subset: Subset) -> TaskData:
        """See :meth:`training.tasks.base.CatalogTask.open`."""
        if self.column not in subset.table.column_names:
            raise TrainingError(
                f"task {self.name}: the subset has no column {self.column!r}; it has {', '.join(subset.table.column_names)}"
            )
        values = subset.column(self.column)
        targets: NDArray[np.generic]
        if self.kind == "regression":
            kept, targets, classes, left_out = self._numbers(values)
        else:
            kept, targets, classes, left_out = self._classes(values)
        labelled = subset.only(kept)
        info = TaskInfo(
            name=self.name,
            title=f"{self.column} of {', '.join(c.name for c in subset.collections)}",
            kind=self.kind,
            metric=self.metric or ("accuracy" if self.kind == "classification" else "r2"),
            classes=classes,
            fit="crop",
            source=", ".join(c.name for c in subset.collections),
        )
        digest = hashlib.sha256(f"{subset.hash}\n{self}".encode())
        digest.update(np.ascontiguousarray(targets).tobytes())
        return TaskData(
            info=info,
            ids=labelled.column("id"),
            lonlat=labelled.lonlat,
            splits=np.where(labelled.column("pwcat:split") == "val", "test", "train").astype(object),
            targets=targets,
            chips=SubsetChips(subset=labelled),
            hash=digest.hexdigest(),
            groups={name: labelled.column(of) for name, of in GROUPS.items() if of in labelled.table.column_names},
            left_out=left_out,
        )

    def _numbers(
        self, values: NDArray[np.generic]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], tuple[str, ...], dict[str, int]]:
        try:
            numbers = values.astype(np.float64)
        except (TypeError, ValueError) as exc:
            raise TrainingError(
                f"task {self.name}: column {self.column!r} holds no numbers: kind='classification'"
            ) from exc
        kept = np.flatnonzero(np.isfinite(numbers))
        return kept, numbers[kept], (), {"no value": len(numbers) - len(kept)} if len(kept) < len(numbers) else {}

    def _classes(
        self, values: NDArray[np.generic]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...], dict[str, int]]:
        counts = Counter(str(value) for value in values if value is not None)
        classes = tuple(sorted(name for name, number in counts.items() if number >= self.min_samples))
        if len(classes) < 2:
            raise TrainingError(
                f"task {self.name}: {len(classes)} classes of {self.column} have at least {self.min_samples} samples, and two "
                f"are needed; there are {dict(counts)}. Evaluate on more samples, or lower min_samples"
            )
        codes = {name: code for code, name in enumerate(classes)}
        of = np.array([codes.get(str(value), -1) if value is not None else -2 for value in values], dtype=np.int64)
        rare = {f"{name}: fewer than {self.min_samples}": n for name, n in sorted(counts.items()) if name not in codes}
        unlabelled = {"no label": int((of == -2).sum())} if (of == -2).any() else {}
        kept = np.flatnonzero(of >= 0)
        return kept, of[kept], classes, {**rare, **unlabelled}


CATALOG_TASKS = {
    "landcover": ColumnTask(name="landcover", column="div:landcover"),
    "biome": ColumnTask(name="biome", column="div:biome"),
    "continent": ColumnTask(name="continent", column="div:continent"),
}
