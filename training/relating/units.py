"""From a table to datasets: rows of one dataset (its seeds) are averaged, for datasets are what differs.

Shapes: N datasets, S rows of the one that has most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pwcat.errors import TrainingError

__all__ = ["Units", "units_of"]

UNIT = "dataset"  # the column that names datasets where none is said


@dataclass(frozen=True, kw_only=True)
class Units:
    """Datasets, one a row, and the rows that each is the mean of.

    Attributes:
        table: one row a dataset, named by the index: numbers averaged over its rows, words as they are.
        rows: the rows as they came.
        of_row: which dataset each of them belongs to.
    """

    table: pd.DataFrame
    rows: pd.DataFrame
    of_row: np.ndarray

    @property
    def repeated(self) -> int:
        """Datasets of more than one row."""
        return int((np.bincount(self.of_row, minlength=len(self.table)) > 1).sum())

    def with_values(self, columns: Sequence[str]) -> Units:
        """Those datasets alone that have a value in each of the columns, and of their rows those that have."""
        held = self.rows[columns].notna().all(axis=1).to_numpy()
        if held.all():
            return self
        kept, of_row = np.unique(self.of_row[held], return_inverse=True)
        rows = self.rows[held]
        names = self.table.index[kept]
        return Units(table=_averaged(rows, names[of_row]).loc[names], rows=rows, of_row=of_row)

    def differing(self, columns: Sequence[str]) -> dict[str, list[str]]:
        """Columns of words, and the datasets in whose rows the words differ, so that none stands for the dataset."""
        found = {}
        for column in columns:
            if not pd.api.types.is_numeric_dtype(self.rows[column]) or pd.api.types.is_bool_dtype(self.rows[column]):
                several = self.rows[column].groupby(self.of_row).nunique().to_numpy() > 1
                found[column] = [str(name) for name in self.table.index[several]]
        return {column: names for column, names in found.items() if names}

    def deviations(self, column: str) -> tuple[float, ...]:
        """The standard deviation over the rows of each dataset (n - 1); NaN of a single row."""
        return tuple(self.rows[column].groupby(self.of_row).std().tolist())

    def members(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows of each dataset, (N, S), the rest filled up with its first, and how many there are, (N,)."""
        counts = np.bincount(self.of_row, minlength=len(self.table))
        members_NS = np.zeros((len(counts), int(counts.max(initial=1))), dtype=np.int64)
        for unit in range(len(counts)):
            own = np.flatnonzero(self.of_row == unit)
            members_NS[unit] = own[0]
            members_NS[unit, : len(own)] = own
        return members_NS, counts


def units_of(table: pd.DataFrame, *, unit: str | None = None) -> Units:
    """The datasets of a table.

    Args:
        table: a row a dataset, or several (one a seed).
        unit: the column that names the dataset; by default ``dataset`` where there is such a column, and otherwise every
            row is a dataset.

    Raises:
        TrainingError: there is no such column, or a row has no name in it.
    """
    if unit is not None and unit not in table:
        raise TrainingError(
            f"the table has no column {unit!r} that would name the datasets. Its columns are {', '.join(map(str, table))}"
        )
    name = unit or (UNIT if UNIT in table else None)
    if name is None:
        names = pd.Index([f"row {i + 1}" for i in range(len(table))])
    elif table[name].isna().any():
        nameless = ", ".join(str(i + 1) for i in np.flatnonzero(table[name].isna()))
        raise TrainingError(f"rows {nameless} have no name in the column {name!r}: name them, or leave them out")
    else:
        names = pd.Index(table[name].astype(str))
    averaged = _averaged(table, names)
    return Units(table=averaged, rows=table.reset_index(drop=True), of_row=averaged.index.get_indexer(names))


def _averaged(rows: pd.DataFrame, names: pd.Index) -> pd.DataFrame:
    """One row a name, in the order they first came: means of numbers, the first of everything else."""
    rows = rows.set_axis(names, axis=0)
    first = rows.groupby(level=0, sort=False).first()
    numbers = [c for c in rows if pd.api.types.is_numeric_dtype(rows[c]) and not pd.api.types.is_bool_dtype(rows[c])]
    away = (
        rows[numbers] - first[numbers].loc[names]
    )  # so that the mean of equal numbers is that number, and ties stay ties
    return first.assign(**(first[numbers] + away.groupby(level=0, sort=False).mean()))
