"""Rows sorted outside of memory: runs that are sorted by themselves on disk, read again by stretches of the order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["RUN_BYTES", "STRETCH_BYTES", "Sorter", "Stretch"]

# Of rows in memory: a run is twice there while it is sorted, a stretch some times while it is sorted, numbered and counted.
RUN_BYTES: Final = 32 * 2**20
STRETCH_BYTES: Final = 16 * 2**20
BATCH_ROWS: Final = 128  # the least that is read of a run, of which a country has a thousand
LAST: Final = np.iinfo(np.int64).max


@dataclass(frozen=True, kw_only=True, eq=False)
class Stretch:
    """Rows of a stretch of the order, sorted.

    Attributes:
        start: all rows whose first column is at least this, and
        stop: less than that, are here.
        rows: they.
    """

    start: int
    stop: int
    rows: pa.Table


@dataclass(frozen=True, kw_only=True, eq=False)
class _Run:
    """A sorted file: the first column's first and last value in each batch, and the bytes of each in memory."""

    path: Path
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    sizes: NDArray[np.int64]


class Sorter:
    """Takes tables, and gives their rows back in order; memory holds no more than some runs' length of them.

    Rows that differ in no column of the order are the same: one of them is given back.

    Args:
        folder: where runs are written; it is there, and whoever made it removes it.
        schema: of the tables.
        order: columns that are sorted by, numbers; rows that share the value of the first are never apart.
        run_bytes: of rows that are sorted at a time.
        stretch_bytes: of rows that are given back at a time, about.
    """

    def __init__(
        self,
        folder: Path,
        schema: pa.Schema,
        order: Sequence[str],
        *,
        run_bytes: int = RUN_BYTES,
        stretch_bytes: int = STRETCH_BYTES,
    ) -> None:
        self._folder = folder
        self._schema = schema
        self._order = tuple(order)
        self._run_bytes = run_bytes
        self._stretch_bytes = stretch_bytes
        self._waiting: list[pa.Table] = []
        self._bytes = 0
        self._runs: list[_Run] = []

    def add(self, table: pa.Table) -> None:
        """Take some rows, in any order."""
        self._waiting.append(table)
        self._bytes += table.nbytes
        if self._bytes >= self._run_bytes:
            self._write_run()

    def stretches(self) -> Iterator[Stretch]:
        """All rows in order, by stretches that do not overlap and leave nothing out; one at least, which may be empty."""
        if self._waiting:
            self._write_run()
        bounds = self._bounds()
        for start, stop in pairwise(bounds):
            parts = [part for run in self._runs for part in self._read(run, start, stop)]
            table = pa.Table.from_batches(parts, schema=self._schema).combine_chunks()
            del parts
            rows = table.take(self._places(table)).combine_chunks()
            del table
            yield Stretch(start=start, stop=stop, rows=_distinct(rows, self._order))
            del rows
            pa.default_memory_pool().release_unused()

    def _write_run(self) -> None:
        table = pa.concat_tables(self._waiting).combine_chunks()
        self._waiting, self._bytes = [], 0
        path = self._folder / f"run-{len(self._runs):06d}.arrow"
        places = self._places(table)
        first, last, sizes = [], [], []
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, self._schema, options=options) as writer:
            for start in range(0, len(table), BATCH_ROWS):
                (batch,) = table.take(places.slice(start, BATCH_ROWS)).combine_chunks().to_batches()
                writer.write_batch(batch)
                first.append(batch[self._order[0]][0].as_py())
                last.append(batch[self._order[0]][-1].as_py())
                sizes.append(batch.nbytes)
        self._runs.append(_Run(path=path, first=np.array(first), last=np.array(last), sizes=np.array(sizes)))
        del table
        pa.default_memory_pool().release_unused()

    def _places(self, table: pa.Table) -> pa.Array:
        """Where the rows lie in the order that they are sorted into."""
        return pa.array(np.lexsort([table[name].to_numpy() for name in reversed(self._order)]))

    def _bounds(self) -> list[int]:
        """Where stretches begin and end."""
        if not self._runs:
            return [0, LAST]
        first = np.concatenate([run.first for run in self._runs])
        order = np.argsort(first, kind="stable")
        taken = np.cumsum(np.concatenate([run.sizes for run in self._runs])[order])
        ends = np.searchsorted(taken, np.arange(self._stretch_bytes, taken[-1], self._stretch_bytes))
        inner = np.unique(first[order][np.minimum(ends, len(order) - 1)])
        return [0, *(int(bound) for bound in inner if bound > 0), LAST]

    def _read(self, run: _Run, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        wanted = np.flatnonzero((run.last >= start) & (run.first < stop))
        if not len(wanted):
            return
        with pa.OSFile(str(run.path)) as source, pa.ipc.open_file(source) as reader:
            for number in wanted.tolist():
                batch = reader.get_batch(number)
                low, high = np.searchsorted(batch[self._order[0]].to_numpy(), [start, stop])
                yield batch.slice(low, high - low)


def _distinct(table: pa.Table, order: Sequence[str]) -> pa.Table:
    """A sorted table without rows that differ from the one before in no column of the order."""
    if len(table) < 2:
        return table
    differs = np.zeros(len(table), dtype=bool)
    differs[0] = True
    for name in order:
        values = table[name].to_numpy()
        differs[1:] |= values[1:] != values[:-1]
    return table if differs.all() else table.filter(pa.array(differs))
