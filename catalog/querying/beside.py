"""Columns kept beside a collection's items, one file each: found by name, checked against the items, joined where named.

A column's file has a row for each item, in the order of the items' file, of an id and a value; its notes say what it is, who
made it, and of which items. While the items are those, rows are joined by their number. Where the items were written anew, by
id, if no sample that has a value is gone and the recipe is the same: as saved subsets do. Else the column is refused.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from catalog.querying.places import Folder, Place, read_json
from catalog.querying.queryables import Queryable
from pwcat.errors import CatalogError

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from catalog.querying.engine import Items

__all__ = [
    "COLUMNS",
    "NOTES",
    "Beside",
    "Column",
    "column_at",
    "column_file",
    "columns_at",
    "fitting",
    "is_column_name",
    "joined",
    "map_queryables",
    "matrix_of",
    "require_fit",
]

log = logging.getLogger(__name__)

COLUMNS = "columns"  # folder in a collection's
NOTES = b"pwcat:column"
VERSION = 1
# What it is, and of what: `loss:europe`. Lower case, for names of columns in SQL and of files differ in more than case.
_NAME = re.compile(r"([a-z][a-z0-9_]{0,31}):([a-z0-9][a-z0-9_.-]{0,95})")
_RESERVED = frozenset({"div", "pwcat", "proj"})  # prefixes of the items' own columns
_TYPES: Mapping[str, str] = {"number": "DOUBLE", "text": "VARCHAR", "vector": "FLOAT[]"}


@dataclass(frozen=True, kw_only=True)
class Column:
    """What is known of a column without reading its values.

    Attributes:
        name: as filters have it, such as ``loss:europe``.
        kind: what a value is: a number, a text, or a vector of numbers, which no filter compares.
        meaning: in a few words.
        unit: of its values; empty where they have none.
        samples: items that have a value.
        items: hash of the items' file that its rows are in the order of.
        recipe_hash: of the collection that it was made for.
        made: who made it, and when: JSON values.
    """

    name: str
    kind: Literal["number", "text", "vector"]
    meaning: str
    unit: str
    samples: int
    items: str
    recipe_hash: str
    made: Mapping[str, Any] = field(default_factory=dict)

    def to_notes(self) -> bytes:
        """As the file's metadata has it."""
        return json.dumps({"version": VERSION, **asdict(self)}, default=str).encode()

    @property
    def queryable(self) -> Queryable:
        """What a filter may do with it.

        Raises:
            CatalogError: it holds vectors.
        """
        if self.kind == "vector":
            raise CatalogError(f"column {self.name!r} holds vectors, which no filter compares")
        told = f"{self.meaning}, {self.unit}" if self.unit else self.meaning
        return Queryable(sql=f'"{self.name}"', kind=self.kind, meaning=told)


def is_column_name(name: Any) -> bool:
    """Whether a column beside items may be called so: a prefix that says what it is, a colon, and what of."""
    found = _NAME.fullmatch(name) if isinstance(name, str) else None
    return found is not None and found[1] not in _RESERVED


def column_file(name: str) -> str:
    """The file of a column, in its collection's folder."""
    return f"{COLUMNS}/{name.replace(':', '.', 1)}.parquet"


def column_at(place: Place, name: str) -> Column | None:
    """A column by its name; ``None`` where the collection has none of it.

    Raises:
        CatalogError: its file is damaged, or of a later version.
    """
    if not place.has(column_file(name)):
        return None
    return _read(place, name)


def columns_at(place: Place) -> dict[str, Column]:
    """The columns of a collection, by name. Of a place far away, whose files are not listed, there are none to see here.

    Raises:
        CatalogError: a file is damaged.
    """
    if not isinstance(place, Folder):
        return {}
    stems = sorted(path.stem for path in (place.path / COLUMNS).glob("[!.]*.parquet"))
    names = [stem.replace(".", ":", 1) for stem in stems]
    return {name: _read(place, name) for name in names if is_column_name(name)}


def _read(place: Place, name: str) -> Column:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = column_file(name)
    try:
        end = place.tail(file, 8)
        footer = place.tail(file, int.from_bytes(end[:4], "little") + 8)
        notes = dict(json.loads((pq.read_metadata(pa.BufferReader(footer)).metadata or {})[NOTES]))
        if int(notes.pop("version")) > VERSION:
            raise CatalogError(f"{place.name}/{file}: written by a later pwcat; upgrade this one")
        column = Column(**notes)
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as exc:
        first = (str(exc).splitlines() or [type(exc).__name__])[0]
        raise CatalogError(
            f"{place.name}/{file}: no column of items ({first}); remove the file, or make it again"
        ) from exc
    if column.name != name:
        raise CatalogError(f"{place.name}/{file}: holds column {column.name!r}; give the file its name back")
    return column


def fitting(items: Items) -> dict[str, Column]:
    """The columns of a collection that belong to its items as they are; of others it is logged, once, why they are left out."""
    found = {}
    for name, column in columns_at(items.place).items():
        known = len(items.fits)
        try:
            require_fit(items, column)
        except CatalogError as exc:
            log.log(logging.WARNING if len(items.fits) > known else logging.DEBUG, "%s", exc)
        else:
            found[name] = column
    return found


def require_fit(items: Items, column: Column) -> bool:
    """Whether a column's rows are in the order of the items.

    Raises:
        CatalogError: its samples are not all there any more, or were made from another recipe.
    """
    digest = items.read_digest()
    if column.items == digest:
        return True
    if (column.name, column.items, digest) not in items.fits:
        items.fits[column.name, column.items, digest] = _misfit(items, column)
    if fault := items.fits[column.name, column.items, digest]:
        raise CatalogError(
            f"column {column.name!r} of {items.place.name} is of other items: {fault}; make it again, or remove it with "
            f"`pwcat catalog columns {items.place.name} --remove {column.name}`"
        )
    return False


def _misfit(items: Items, column: Column) -> str:
    """Why a column of items that were written anew since does not belong to them; empty where it does."""
    now = str(read_json(items.place, "stats.json").get("recipe_hash") or "")
    if now != column.recipe_hash:
        return f"they were made from recipe {now[:12]} since, not {column.recipe_hash[:12]}"
    gone = items.engine.table(
        f"SELECT count(*) AS n, min(id) AS first FROM {_file(items, column.name)} "  # noqa: S608
        f"WHERE value IS NOT NULL AND id NOT IN (SELECT id FROM {items.source})"
    ).to_pylist()[0]
    if not gone["n"]:
        return ""
    return f"{gone['n']:,} of its {column.samples:,} samples are not there any more (gone: {gone['first']}, …)"


def _file(items: Items, name: str) -> str:
    from catalog.querying.engine import quoted

    return f"read_parquet({quoted(items.place.address(column_file(name)))})"


def joined(items: Items, names: Mapping[str, str]) -> str:
    """What stands behind ``FROM``: the items, and beside them these columns; null where the collection has no such column.

    Args:
        items: of the collection.
        names: of the columns, each with what kind of value it is.

    Raises:
        CatalogError: a column is damaged, or of other items.
    """
    selected, joins = [], []
    for number, name in enumerate(sorted(set(names) - set(items.columns))):
        column = column_at(items.place, name)
        if column is None:
            selected.append(f'NULL::{_TYPES[names[name]]} AS "{name}"')
            continue
        on = ("file_row_number", "file_row_number") if require_fit(items, column) else ("id", "id")
        selected.append(f'beside_{number}.value AS "{name}"')
        joins.append(
            f"LEFT JOIN (SELECT {on[0]} AS place, value FROM {_file(items, name)}) AS beside_{number} "  # noqa: S608
            f"ON beside_{number}.place = items.{on[1]}"
        )
    base = items.source
    if not selected:
        return base
    rows = "items.*" if base.startswith("(") else "items.*, items.file_row_number"
    return f"(SELECT {rows}, {', '.join(selected)} FROM {base} AS items {' '.join(joins)})"  # noqa: S608


def matrix_of(column: pa.ChunkedArray) -> NDArray[Any]:
    """A column of lists of one length as a matrix, NaN where there is none."""
    import numpy as np

    lists = column.combine_chunks()
    known = lists.is_valid().to_numpy(zero_copy_only=False)
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    width = len(flat) // known.sum() if known.any() else 0
    matrix: NDArray[Any] = np.full((len(lists), width), np.nan, dtype=flat.dtype)
    matrix[known] = flat.reshape(-1, width) if width else 0
    return matrix


def _is_of_map(name: str) -> bool:
    """Whether a column is one that items of map tiles have behind those of all items."""
    return name.startswith("map:")


def map_queryables(items: Items) -> dict[str, Queryable]:
    """What filters may name of map tiles besides: those of the items' columns that only such have."""
    return {name: _of_map(name, kind) for name, kind in sorted(items.columns.items()) if _is_of_map(name)}


def _of_map(name: str, kind: str) -> Queryable:
    """What a filter may do with such a column, whose type in SQL is given."""
    from catalog.items import MAP_MEANINGS

    of_text = kind == "VARCHAR"
    return Queryable(sql=f'"{name}"', kind="text" if of_text else "number", meaning=MAP_MEANINGS.get(name, name))


@dataclass(frozen=True)
class Beside:
    """Columns that filters over some collections may name beside the items' own; looked for when one is named."""

    items: tuple[Items, ...]

    def names(self) -> list[str]:
        """Those that filters may name."""
        found = [column for one in self.items for column in columns_at(one.place).values()]
        own = {name for one in self.items for name in one.columns if _is_of_map(name)}
        return sorted({column.name for column in found if column.kind != "vector"} | own)

    def find(self, names: Iterable[str]) -> dict[str, Queryable]:
        """What these names stand for, as far as they are columns of a collection.

        Raises:
            CatalogError: one holds numbers in one collection and texts in another, or vectors, or is damaged.
        """
        found: dict[str, Queryable] = {}
        for name in filter(is_column_name, names):
            told = [column.queryable for one in self.items if (column := column_at(one.place, name)) is not None]
            told += [_of_map(name, one.columns[name]) for one in self.items if _is_of_map(name) and name in one.columns]
            if len({one.kind for one in told}) > 1:
                raise CatalogError(
                    f"column {name!r} holds a {told[0].kind} in one collection and another kind in the next: ask of one of them"
                )
            if told:
                found[name] = told[0]
        return found
