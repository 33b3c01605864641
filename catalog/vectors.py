"""Vectors that are kept beside items, such as embeddings: read a few at a time, so that any number of them can be gone through.

:meth:`catalog.subset.Subset.column` gives a column's vectors at once; here they come in blocks, or as one matrix of units.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from catalog.cosine import is_known, to_units
from catalog.querying.beside import Column, column_at, column_file, columns_at, matrix_of, require_fit
from catalog.querying.places import Folder
from pwcat.errors import CatalogError

if TYPE_CHECKING:
    from catalog.query import Collection
    from catalog.subset import Subset

__all__ = ["Units", "choose_column", "makers", "read_units", "unit_blocks", "vector_blocks"]

BLOCK_ROWS = 8_192


@dataclass(frozen=True, kw_only=True)
class Units:
    """The vectors of a subset's samples, at length 1.

    Attributes:
        rows: samples of the subset that have a vector with a direction, (K,), ascending.
        vectors: of each of these, (K, D) float32.
        without: samples that have none.
    """

    rows: NDArray[np.int64]
    vectors: NDArray[np.float32]
    without: int


def choose_column(subset: Subset, name: str | None = None) -> str:
    """The column of vectors of that name; the only one there is, where no name is given.

    Raises:
        CatalogError: there is none, or none of that name, or several to choose from, or vectors of several models.
    """
    known: dict[str, list[tuple[str, Column]]] = {}
    for member in subset.collections or subset.members.values():
        found = columns_at(member.place)
        if name is not None and name not in found and (one := column_at(member.place, name)) is not None:
            found = {**found, name: one}  # of a place far away, whose columns are not listed
        for column in found.values():
            if column.kind == "vector":
                known.setdefault(column.name, []).append((member.name, column))
    if name is None and len(known) == 1:
        (name,) = known
    if name is None or name not in known:
        wanted = "no column of vectors was named" if name is None else f"there is no column of vectors {name!r}"
        there = f"there are {', '.join(sorted(known))}" if known else "there is none: `pwcat embed RUN DATA` makes one"
        raise CatalogError(f"{wanted}; {there}")
    found_makers = {_maker(column) for _, column in known[name]}
    if len(found_makers) > 1:
        places, models = ", ".join(where for where, _ in known[name]), ", ".join(sorted(found_makers))
        raise CatalogError(
            f"column {name!r} of {places} is of several models ({models}), whose vectors cannot be compared: "
            "search one collection, or embed all by one model"
        )
    return name


def makers(subset: Subset, name: str) -> set[str]:
    """Which models made a column of a subset: the beginnings of the hashes of their weights, "" where that is not known."""
    found = (column_at(member.place, name) for member in subset.collections)
    return {_maker(column) for column in found if column is not None}


def _maker(column: Column) -> str:
    return str(column.made.get("weights_hash", ""))[:12]


def read_units(subset: Subset, column: str) -> Units:
    """The vectors of a column at length 1, as one matrix: 4 bytes a number, and a block beside it.

    Raises:
        CatalogError: there is no such column, or its vectors differ in length.
    """
    vectors: NDArray[np.float32] | None = None
    rows, count = np.empty(len(subset), dtype=np.int64), 0
    for block, units in unit_blocks(subset, column):
        if vectors is None:
            vectors = np.empty((len(subset), units.shape[1]), dtype=np.float32)
        rows[count : count + len(block)], vectors[count : count + len(block)] = block, units
        count += len(block)
    if vectors is None:
        return Units(rows=rows[:0], vectors=np.empty((0, 0), dtype=np.float32), without=len(subset))
    return Units(rows=rows[:count], vectors=vectors[:count], without=len(subset) - count)


def unit_blocks(subset: Subset, column: str) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Rows of a subset (n,), ascending, and their vectors at length 1 (n, D), a few at a time; those without are left out.

    Raises:
        CatalogError: there is no such column, or its vectors differ in length.
    """
    for rows, vectors in vector_blocks(subset, column):
        known = is_known(vectors)
        yield rows[known], to_units(vectors[known])


def vector_blocks(subset: Subset, column: str) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    """Rows of a subset (n,), ascending, and their vectors as they are kept (n, D), a few at a time; those without are left out.

    Raises:
        CatalogError: there is no such column, or its vectors differ in length.
    """
    choose_column(subset, column)
    width: tuple[int, str] | None = None
    for member, part in subset.parts():
        for places, vectors in _of_member(subset, member, part, column):
            there = ~np.isnan(vectors).any(axis=1)
            if not there.any() or not vectors.shape[1]:
                continue
            width = width or (vectors.shape[1], member.name)
            if vectors.shape[1] != width[0]:
                raise CatalogError(
                    f"column {column!r} has vectors of {width[0]} numbers in {width[1]} and of {vectors.shape[1]} in "
                    f"{member.name}: search one collection, or embed all by one model"
                )
            yield places[there], vectors[there]


def _of_member(
    subset: Subset, member: Collection, part: slice, name: str
) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    told = column_at(member.place, name)
    if told is None:
        return
    if isinstance(member.place, Folder) and require_fit(member.items, told):
        yield from _in_order(member.place, name, subset.row[part], first=part.start)
        return
    here = np.arange(part.start, part.stop)  # joined by id, or far away: DuckDB reads them, all at once
    yield here, subset.only(here).column(name)


def _in_order(
    place: Folder, name: str, rows: NDArray[np.int64], *, first: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    """The values of these rows of a file whose rows are the items', ascending; numbered from ``first``."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(place.address(column_file(name))) as file:
        start = 0
        for group in range(file.num_row_groups):
            stop = start + file.metadata.row_group(group).num_rows
            if np.searchsorted(rows, start) < np.searchsorted(rows, stop):
                for batch in file.iter_batches(BLOCK_ROWS, row_groups=[group], columns=["value"]):
                    low, high = np.searchsorted(rows, [start, start + len(batch)])
                    if low < high:
                        values = batch.column(0).take(pa.array(rows[low:high] - start))
                        yield np.arange(first + low, first + high), matrix_of(pa.chunked_array([values]))
                    start += len(batch)
            start = stop
