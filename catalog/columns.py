"""Columns added to the items of collections: a loss, a cluster, an embedding of each sample; kept beside the items, by name.

A column is a Parquet file ``columns/<prefix>.<name>.parquet`` in its collection's folder; the items' own file is never written.
It can be asked for as any other column, by its name ``<prefix>:<name>``: see :mod:`catalog.querying.beside`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from catalog.querying.beside import (
    COLUMNS,
    NOTES,
    Column,
    column_at,
    column_file,
    fitting,
    is_column_name,
    matrix_of,
    require_fit,
)
from catalog.querying.engine import Items
from pwcat.atomic import remove_leftovers, replacing
from pwcat.errors import CatalogError

if TYPE_CHECKING:
    from catalog.query import Catalog, Collection
    from catalog.subset import Subset

__all__ = [
    "Column",
    "add_column",
    "attach_column",
    "misfits",
    "refit_columns",
    "remove_column",
    "require_room",
    "save_column",
]

ROW_GROUP_ROWS = 50_000  # as of items, so that the same rows are passed over
VECTOR_ROWS = 8_192  # of vectors: 25 MB where they have 768 numbers


def add_column(
    subset: Subset,
    name: str,
    values: ArrayLike | Sequence[str | None],
    *,
    meaning: str,
    unit: str = "",
    made: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Keep a value of each sample of a subset as a column of its collections; samples that are not in it have none.

    Args:
        subset: the samples.
        name: of the column: what it is, a colon, and what of, in lower case, such as ``loss:europe``.
        values: of each sample: numbers ``(n,)`` or vectors ``(n, D)``, NaN where there is none, or texts.
        meaning: in a few words.
        unit: of the values.
        made: who made it: JSON values. The date is added.
        overwrite: let it take the place of a column of that name, whoever made it.

    Returns:
        The files, one for each collection of the subset.

    Raises:
        CatalogError: the name is none or taken, the values do not fit the samples, a collection lies elsewhere, or its items
            were written anew since they were searched. Then nothing is written.
    """
    require_room(subset, name, overwrite=overwrite)
    told = _Values.of(values, len(subset), name)
    about = {"date": datetime.now(UTC).isoformat(timespec="seconds"), **(made or {})}
    whole: list[tuple[Collection, pa.ChunkedArray, NDArray[np.int64], Column]] = []
    for member, rows in subset.parts():
        ids, place = _places(member.items, subset.row[rows], subset.rows["id"][rows.start : rows.stop])
        notes = Column(
            name=name,
            kind=told.kind,
            meaning=meaning,
            unit=unit,
            samples=told.known(rows),
            items=member.items.read_digest(),
            recipe_hash=member.recipe_hash,
            made=about,
        )
        whole.append((member, ids, np.where(place < 0, -1, place + rows.start), notes))
    return [
        _write(member.path / column_file(name), {"id": ids}, told, place, notes.to_notes())
        for member, ids, place, notes in whole
    ]


def save_column(
    subset: Subset,
    path: Path,
    name: str,
    values: ArrayLike | Sequence[str | None],
    *,
    meaning: str,
    unit: str = "",
    made: Mapping[str, Any] | None = None,
) -> Path:
    """As :func:`add_column`, to a file of its own: collection, id and value of each sample, which :func:`attach_column` reads.

    Raises:
        CatalogError: the name is none, the values do not fit the samples, or something else lies at that path.
    """

    _require_name(name)
    if path.is_dir() or (path.exists() and NOTES not in (_notes_of(path) or {})):
        raise CatalogError(f"{path}: is there already and is no column; take another name")
    told = _Values.of(values, len(subset), name)
    recipes = {member.name: member.recipe_hash for member in subset.collections}
    about = {"date": datetime.now(UTC).isoformat(timespec="seconds"), **(made or {})}
    notes = {"version": 1, "name": name, "meaning": meaning, "unit": unit, "made": about, "recipes": recipes}
    keys = subset.columns(["collection", "id"])
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = {key: keys[key] for key in keys.column_names}
    return _write(path, beside, told, np.arange(len(subset)), json.dumps(notes).encode())


def _notes_of(path: Path) -> Mapping[bytes, bytes] | None:
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(path).metadata
    except (pa.ArrowException, OSError):
        return None


def attach_column(catalog: Catalog, path: Path, *, overwrite: bool = False) -> list[Path]:
    """Add the column of a file that :func:`save_column` wrote to the collections of a catalog that it is of.

    Raises:
        CatalogError: it is no such file, is of collections or samples that the catalog has not, or the name is taken.
    """
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        notes = dict(json.loads((table.schema.metadata or {})[NOTES]))
        recipes, ids, names = dict(notes["recipes"]), table["id"], table["collection"].cast(pa.string())
    except (pa.ArrowException, OSError, KeyError, ValueError) as exc:
        raise CatalogError(f"{path}: no column that `pwcat losses --out` wrote") from exc
    if others := [name for name, made in recipes.items() if catalog.collection(name).recipe_hash != made]:
        raise CatalogError(f"{path}: is of {', '.join(others)} of another recipe than the catalog's")
    found = catalog.search(collections=list(recipes))
    rows = np.full(len(found), -1, dtype=np.int64)
    for member, part in found.parts():
        mine = np.flatnonzero(pc.equal(names, member.name).to_numpy())
        place = pc.index_in(found.rows["id"][part.start : part.stop], ids.take(pa.array(mine)).combine_chunks())
        known = np.flatnonzero(place.is_valid().to_numpy())
        rows[part.start + known] = mine[place.drop_null().to_numpy()]
    if gone := len(table) - int((rows >= 0).sum()):
        raise CatalogError(f"{path}: {gone:,} of its {len(table):,} samples are not in {catalog.place}")
    there = np.flatnonzero(rows >= 0)
    values = table["value"].take(pa.array(rows[there]))
    lists = pa.types.is_list(values.type)
    return add_column(
        found.only(there),
        str(notes["name"]),
        matrix_of(values) if lists else values.to_numpy(zero_copy_only=False),
        meaning=str(notes["meaning"]),
        unit=str(notes["unit"]),
        made=notes["made"],
        overwrite=overwrite,
    )


def require_room(subset: Subset, name: str, *, overwrite: bool = False) -> None:
    """See that a column of that name can be added, before its values are made.

    Raises:
        CatalogError: it cannot; says why.
    """
    _require_name(name)
    for member in subset.collections:
        place = member.place.local("to add columns, the items")
        if name in member.items.columns:
            raise CatalogError(f"{place}: the items have a column {name!r} already; take another name")
        there = None if overwrite else column_at(member.place, name)
        if there is not None:
            raise CatalogError(
                f"{place}: there is a column {name!r} already ({_told(there)}); take another name, or say that it is to be "
                "replaced (overwrite=True, --replace)"
            )


def _require_name(name: str) -> None:
    if not is_column_name(name):
        raise CatalogError(
            f"{name!r} is no name for a column: what it is, a colon and what of are wanted, in lower case, digits, '.', '_' "
            "and '-', as in loss:europe; div:, pwcat: and proj: are the items' own"
        )


def _told(column: Column) -> str:
    made = ", ".join(f"{key} {value}" for key, value in column.made.items() if isinstance(value, str | int | float))
    return f"{column.meaning} of {column.samples:,} samples; {made}"


def remove_column(collection: Collection, name: str) -> None:
    """Remove a column.

    Raises:
        CatalogError: there is none of that name; lists those there are.
    """
    path = collection.path / column_file(name)
    if not is_column_name(name) or not path.is_file():
        there = ", ".join(collection.columns) or "none"
        raise CatalogError(f"{collection.place}: no column {name!r} to remove; there are {there}")
    path.unlink()
    if not any(path.parent.iterdir()):
        path.parent.rmdir()


def misfits(collection: Collection) -> dict[str, str]:
    """Columns of a collection that are refused, by name, and why."""
    found = {}
    for name, column in collection.columns.items():
        try:
            require_fit(collection.items, column)
        except CatalogError as exc:
            found[name] = str(exc)
    return found


def refit_columns(folder: Path) -> None:
    """Put the columns of a collection whose items were written anew into the order of these, so that joins stay cheap.

    Those that belong to other items are left as they are, and refused when they are asked for; that is logged.
    """
    from catalog.query import open_catalog

    if not (folder / COLUMNS).is_dir():
        return
    remove_leftovers(folder / COLUMNS)
    member = next(iter(open_catalog(folder).members.values()))
    digest = member.items.read_digest()
    for name, column in fitting(member.items).items():
        if column.items != digest:
            read = member.engine.table(
                f'SELECT id, "{name}" AS value FROM {member.items.source_with({name: column.kind})} '  # noqa: S608
                "ORDER BY file_row_number"
            )
            samples = len(read) - read["value"].null_count
            notes = replace(column, items=digest, samples=samples).to_notes()
            told = _Values(array=read["value"].combine_chunks(), kind=column.kind)
            _write(folder / column_file(name), {"id": read["id"]}, told, np.arange(len(read)), notes)


@dataclass(frozen=True, kw_only=True)
class _Values:
    """A value of each sample, as it was given: many vectors are made into a column's lists a few at a time.

    Attributes:
        array: Arrow values (n,), or vectors (n, D), NaN where there is none.
        kind: what a value is.
    """

    array: pa.Array | NDArray[Any]
    kind: Literal["number", "text", "vector"]

    @classmethod
    def of(cls, values: ArrayLike | Sequence[str | None], count: int, name: str) -> _Values:
        """Values of so many samples; what is no number is null.

        Raises:
            CatalogError: they are neither numbers, vectors nor texts, or not as many as there are samples.
        """
        array = np.asarray(values)
        if len(array) != count or array.ndim not in (1, 2):
            raise CatalogError(
                f"column {name!r}: values of shape {array.shape} for {count:,} samples; one a sample is wanted"
            )
        if array.ndim == 2 and array.dtype.kind == "f":
            return cls(array=array, kind="vector")
        if array.ndim == 1 and array.dtype.kind in "fiu":
            return cls(array=pa.array(array, from_pandas=True), kind="number")
        try:
            if array.ndim == 1:
                return cls(array=pa.array(array.tolist(), pa.string()), kind="text")
        except (pa.ArrowException, TypeError):
            pass
        raise CatalogError(
            f"column {name!r}: values of type {array.dtype} are neither numbers, vectors of them, nor texts"
        )

    def known(self, rows: slice) -> int:
        """How many of these samples have a value."""
        if not isinstance(self.array, np.ndarray):
            part = self.array[rows.start : rows.stop]
            return len(part) - part.null_count
        starts = range(rows.start, rows.stop, VECTOR_ROWS)
        return sum(int(_is_whole(self.array[k : min(k + VECTOR_ROWS, rows.stop)]).sum()) for k in starts)

    def taken(self, rows: NDArray[np.int64]) -> pa.Array:
        """The values of some samples, null where the row is -1."""
        if not isinstance(self.array, np.ndarray):
            return self.array.take(pa.array(rows, mask=rows < 0))
        there = np.flatnonzero(rows >= 0)
        vectors = self.array[rows[there]]
        whole = _is_whole(vectors)
        lengths = np.zeros(len(rows) + 1, dtype=np.int32)
        lengths[there[whole] + 1] = vectors.shape[1]
        flat = pa.array(np.ascontiguousarray(vectors[whole]).ravel())
        without = np.ones(len(rows), dtype=bool)
        without[there[whole]] = False
        return pa.ListArray.from_arrays(pa.array(np.cumsum(lengths, dtype=np.int32)), flat, mask=pa.array(without))


def _is_whole(vectors: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(~np.isnan(vectors).any(axis=1))


def _places(items: Items, rows: NDArray[np.int64], ids: pa.ChunkedArray) -> tuple[pa.ChunkedArray, NDArray[np.int64]]:
    """The id of each item in the order of their file, and which of the samples it is, -1 where it is none of them.

    Raises:
        CatalogError: the items are not those that the samples were found among.
    """
    there = items.engine.table(f"SELECT id FROM {items.source} ORDER BY file_row_number")["id"]  # noqa: S608
    if len(rows) and (rows[-1] >= len(there) or not there.take(pa.array(rows)).equals(ids.cast(there.type))):
        raise CatalogError(f"{items.place}: the items have changed since they were searched; search again")
    place = np.full(len(there), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    return there, place


def _write(
    path: Path, beside: Mapping[str, pa.ChunkedArray], values: _Values, rows: NDArray[np.int64], notes: bytes
) -> Path:
    """Write a column: what stands beside its values, and the values of these rows, null where the row is -1."""
    import pyarrow.parquet as pq

    kind = values.taken(np.empty(0, np.int64)).type
    schema = pa.schema([*((name, column.type) for name, column in beside.items()), ("value", kind)], {NOTES: notes})
    step = VECTOR_ROWS if values.kind == "vector" else ROW_GROUP_ROWS
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(
            temporary, schema, compression="zstd", write_page_checksum=True, use_dictionary=values.kind != "vector"
        ) as writer,
    ):
        for start in range(0, len(rows), step):
            names = {name: column[start : start + step] for name, column in beside.items()}
            part = pa.table({**names, "value": values.taken(rows[start : start + step])}, schema=schema)
            writer.write_table(part, row_group_size=step)
    return path
