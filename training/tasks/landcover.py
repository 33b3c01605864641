"""Majority land cover of a chip, or any other label that the catalog keeps a sample in a column."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pwcat.errors import TrainingError
from training.tasks.labels import Labels

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["LandcoverTask"]


@dataclass(frozen=True, kw_only=True)
class LandcoverTask:
    """Predict the class in a column of the catalog; classes with few samples are dropped, and said to be.

    Attributes:
        column: column of labels.
        min_samples: samples that a class needs to take part: with fewer, a score of it would be chance.
        name: name of the task.
    """

    column: str = "div:landcover"
    min_samples: int = 10
    name: str = "landcover"

    def labels(self, subset: Subset) -> Labels:
        """See :meth:`training.tasks.Task.labels`."""
        if self.column not in subset.table.column_names:
            raise TrainingError(
                f"task {self.name}: the subset has no column {self.column!r}; it has {', '.join(subset.table.column_names)}"
            )
        values = subset.column(self.column)
        known = np.array([value is not None for value in values], dtype=bool)
        counts = Counter(values[known].tolist())
        kept = {name: number for name, number in sorted(counts.items()) if number >= self.min_samples}
        dropped = {name: number for name, number in sorted(counts.items()) if number < self.min_samples}
        if len(kept) < 2:
            raise TrainingError(
                f"task {self.name}: {len(kept)} classes of {self.column} have at least {self.min_samples} samples, and two "
                f"are needed; there are {dict(counts)}. Evaluate on more samples, or lower min_samples"
            )
        rows = np.flatnonzero(np.array([value in kept for value in values]))
        return Labels(
            rows=rows,
            values=values[rows].astype(str),
            classes=kept,
            dropped=dropped,
            unlabelled=int((~known).sum()),
        )
