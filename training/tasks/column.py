"""A column of the catalog as a task: a class, or a number, that the catalog keeps of each sample."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pwcat.errors import CatalogError, TrainingError
from pwcat.osm.targets import TARGETS, TagRule
from training.tasks.base import TaskData, TaskInfo
from training.tasks.chips import SubsetChips
from training.tasks.sides import sides_of

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["CATALOG_TASKS", "ColumnTask"]

MOST_TOLD = 12  # classes in a message
# Of maps, what would tell the answer; the whole map is for tasks whose names say so (-leaky).
RULES = {target.column: TagRule(target=name) for name, target in TARGETS.items()}
GROUPS = {"continent": "div:continent", "biome": "div:biome", "landcover": "div:landcover"}


@dataclass(frozen=True, kw_only=True)
class ColumnTask:
    """Predict a column of the catalog; samples without a value, and classes of few samples, are left out and counted.

    Of a column that is counted of a map's tags, such as ``map:building_count``, inputs lack these tags.

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
        values = self._values(subset)
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
            splits=sides_of(labelled),
            targets=targets,
            chips=SubsetChips(subset=labelled, removing=RULES.get(self.column)),
            hash=digest.hexdigest(),
            groups={name: labelled.column(of) for name, of in GROUPS.items()},
            left_out=left_out,
        )

    def _values(self, subset: Subset) -> NDArray[np.generic]:
        try:
            values = subset.column(self.column)
        except CatalogError as exc:
            raise TrainingError(f"task {self.name}: {exc}") from exc
        if values.ndim > 1:
            raise TrainingError(
                f"task {self.name}: {self.column} holds vectors, and a task predicts a class or a number"
            )
        return values

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
        if len(np.unique(numbers[kept])) < 2:
            raise TrainingError(
                f"task {self.name}: {len(kept)} of {len(numbers)} samples have a number in {self.column}, and two that "
                "differ are needed"
            )
        return kept, numbers[kept], (), {"no value": len(numbers) - len(kept)} if len(kept) < len(numbers) else {}

    def _classes(
        self, values: NDArray[np.generic]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...], dict[str, int]]:
        known = np.array([value is not None and value == value for value in values], dtype=bool)  # NaN is no class
        counts = Counter(_name(value) for value in values[known])
        classes = tuple(sorted(name for name, number in counts.items() if number >= self.min_samples))
        if len(classes) < 2:
            raise TrainingError(
                f"task {self.name}: {len(classes)} classes of {self.column} have at least {self.min_samples} samples, and two "
                f"are needed; there are {_told(counts)}. Evaluate on more samples, or lower min_samples"
                + ("; numbers are a regression (number:NAME)" if isinstance(values[0], float | np.floating) else "")
            )
        codes = {name: code for code, name in enumerate(classes)}
        of = np.array(
            [codes.get(_name(v), -1) if k else -2 for v, k in zip(values, known, strict=True)], dtype=np.int64
        )
        rare = {f"{name}: fewer than {self.min_samples}": n for name, n in sorted(counts.items()) if name not in codes}
        unlabelled = {"no label": int((of == -2).sum())} if (of == -2).any() else {}
        kept = np.flatnonzero(of >= 0)
        return kept, of[kept], classes, {**rare, **unlabelled}


def _name(value: object) -> str:
    """A class as a word; whole numbers without a fraction, which a column has that lacks some."""
    return str(int(value)) if isinstance(value, float | np.floating) and float(value).is_integer() else str(value)


def _told(counts: Counter[str]) -> str:
    """The commonest classes with their samples."""
    told = ", ".join(f"{name} ({count})" for name, count in counts.most_common(MOST_TOLD))
    return told + (f" and {len(counts) - MOST_TOLD} more" if len(counts) > MOST_TOLD else "") if counts else "none"


CATALOG_TASKS = {
    "landcover": ColumnTask(name="landcover", column="div:landcover"),
    "biome": ColumnTask(name="biome", column="div:biome"),
    "continent": ColumnTask(name="continent", column="div:continent"),
}
