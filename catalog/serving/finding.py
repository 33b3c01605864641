"""A search, answered: which items meet it, how many, and one page of them in order."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import pyarrow as pa

from catalog.items import ITEM_SCHEMA
from catalog.querying.beside import Beside, columns_at, fitting
from catalog.querying.conditions import Condition
from catalog.querying.engine import Items
from catalog.querying.queryables import QUERYABLES, Queryable
from catalog.serving.asked import Search
from catalog.serving.conditions import condition_of, require_modest
from catalog.serving.database import Database, Session
from catalog.serving.fields import Wanted
from catalog.serving.limits import Limits
from catalog.serving.paging import Position, SortKey, after, read_token, sort_keys, write_token
from catalog.serving.refusals import RefusedError

__all__ = ["SORTABLES", "Finder", "Found"]

SORTABLES: Mapping[str, str] = {name: sql for name, sql in QUERYABLES.items() if name != "geometry"}


@dataclass(frozen=True, kw_only=True)
class Found:
    """A page of items.

    Attributes:
        rows: of the items' columns that are wanted, in order; tables, because collections may differ in columns.
        matched: items that meet the search, on all pages.
        token: of the next page; ``None`` on the last one.
    """

    rows: list[pa.Table]
    matched: int
    token: str | None


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The items of one collection that meet a search."""

    name: str
    items: Items
    condition: Condition
    beside: Mapping[str, str] = field(default_factory=dict)  # columns beside the items that it is sorted by

    def select(self, what: str, more: Condition | None = None) -> Condition:
        """SQL for columns of them, and the values that it binds."""
        parts = [self.condition, more] if more else [self.condition]
        source = self.items.source_with({**self.beside, **self.condition.beside})
        # Only names of columns and operators of ours are in the text; what the client gave is bound.
        sql = f"SELECT {what} FROM {source} WHERE {' AND '.join(one.sql for one in parts)}"  # noqa: S608
        return Condition(sql, [value for one in parts for value in one.values])


@dataclass(frozen=True, kw_only=True)
class Finder:
    """Answers searches over the collections of a catalog."""

    database: Database
    members: Mapping[str, Items]
    limits: Limits

    @property
    def columns(self) -> set[str]:
        """Columns that items of the catalog have."""
        there = self.members.values()
        return {name for items in there for name in (*items.columns, *ITEM_SCHEMA.names, *columns_at(items.place))}

    def search(self, asked: Search, wanted: Wanted) -> Found:
        """A page of the items that meet a search.

        Raises:
            RefusedError: it asks for what is not known, or too much.
            CatalogError: its filter does.
        """
        require_modest(asked, self.limits)
        names = sorted(set(asked.collections or self.members))
        if unknown := [name for name in names if name not in self.members]:
            raise RefusedError(f"collections: no {unknown[0]!r}; there are {', '.join(self.members)}")
        beside = Beside(tuple(self.members[name] for name in names))
        sorted_by = _sorted_by(asked, beside)
        keys = sort_keys(asked.sortby or [], {**SORTABLES, **{name: one.sql for name, one in sorted_by.items()}})
        position = read_token(asked, keys=len(keys))
        limit = min(asked.limit or self.limits.default_page, self.limits.page)
        with self.database.session() as session:
            parts = [_part(name, self.members[name], asked, sorted_by, more=beside) for name in names]
            matched = _count(session, parts)
            page, further = _page(session, parts, keys, position, limit) if matched else ([], None)
            rows = [_fetch(session, part, rows, wanted) for part, rows in _runs(page)]
        return Found(rows=rows, matched=matched, token=write_token(asked, further) if further else None)

    def item(self, collection: str, item: str) -> pa.Table | None:
        """One item; ``None`` where there is none of that id."""
        with self.database.session() as session:
            part = _Part(name=collection, items=self.members[collection], condition=Condition("id = ?", [item]))
            beside = _beside(part.items)
            part = replace(part, beside=beside)
            query = part.select(_listed(Wanted().columns([*part.items.columns, *beside])))
            found = session.read(f"{query.sql} LIMIT 1", query.values)
        return found if len(found) else None


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)


def _part(name: str, items: Items, asked: Search, sorted_by: Mapping[str, Queryable], *, more: Beside) -> _Part:
    crossing = (asked.bbox or asked.intersects or asked.filter) is not None and items.may_cross
    condition = condition_of(asked, crossing=crossing, more=more)
    return _Part(name=name, items=items, condition=condition, beside={key: one.kind for key, one in sorted_by.items()})


def _sorted_by(asked: Search, beside: Beside) -> dict[str, Queryable]:
    """The columns beside the items that a search is sorted by."""
    names = [one.field.removeprefix("properties.") for one in asked.sortby or []]
    return beside.find(name for name in names if name not in SORTABLES)


def _beside(items: Items) -> dict[str, str]:
    """The columns beside the items that are told of an item, each with its kind; vectors are too long for that."""
    return {name: column.kind for name, column in fitting(items).items() if column.kind != "vector"}


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where one item of a page is."""

    part: _Part
    row: int


def _count(session: Session, parts: Sequence[_Part]) -> int:
    selects = [part.select("count(*) AS n") for part in parts]
    sql = f"SELECT sum(n)::BIGINT AS n FROM ({_union(selects)})"  # noqa: S608
    return int(session.read(sql, _values(selects))["n"][0].as_py())


def _page(
    session: Session, parts: Sequence[_Part], keys: Sequence[SortKey], position: Position | None, limit: int
) -> tuple[list[_Place], Position | None]:
    """Places of the items of a page, and after which of them the next one begins."""
    columns = "".join(f", {key.sql} AS key_{number}" for number, key in enumerate(keys))
    selects = [
        part.select(
            f"{number} AS part, id, file_row_number AS row{columns}",
            after(keys, position, collection=part.name) if position else None,
        )
        for number, part in enumerate(parts)
    ]
    order = "".join(
        f"key_{number} {'DESC' if key.descending else 'ASC'} NULLS LAST, " for number, key in enumerate(keys)
    )
    sql = f"SELECT * FROM ({_union(selects)}) ORDER BY {order}part, id LIMIT {limit + 1}"  # noqa: S608
    rows = session.read(sql, _values(selects)).to_pylist()
    places = [_Place(part=parts[row["part"]], row=row["row"]) for row in rows[:limit]]
    if len(rows) <= limit:
        return places, None
    last = rows[limit - 1]
    values = tuple(last[f"key_{number}"] for number in range(len(keys)))
    return places, Position(values=values, collection=parts[last["part"]].name, id=last["id"])


def _runs(places: Sequence[_Place]) -> Iterator[tuple[_Part, list[int]]]:
    """Neighbours of the same collection, together."""
    for _, run in itertools.groupby(places, key=lambda place: place.part.name):
        found = list(run)
        yield found[0].part, [place.row for place in found]


def _fetch(session: Session, part: _Part, rows: Sequence[int], wanted: Wanted) -> pa.Table:
    """The wanted columns of some rows of a collection, in the order given."""
    beside = _beside(part.items)
    columns = wanted.columns([*part.items.columns, *beside])
    source = part.items.source_with({name: kind for name, kind in beside.items() if name in columns})
    listed = ", ".join(map(str, rows))
    # The bounds let row groups that hold none of them be passed over.
    table = session.read(
        f"SELECT {_listed(columns)}, file_row_number FROM {source} "  # noqa: S608
        f"WHERE file_row_number BETWEEN {min(rows)} AND {max(rows)} AND file_row_number IN ({listed})",
        [],
    )
    there = {row: number for number, row in enumerate(table["file_row_number"].to_pylist())}
    if len(there) != len(rows):
        raise RefusedError(f"{part.name!r} was built again meanwhile; search anew", status=HTTPStatus.CONFLICT)
    return table.drop_columns(["file_row_number"]).take(pa.array([there[row] for row in rows]))


def _union(selects: Iterable[Condition]) -> str:
    return " UNION ALL ".join(f"({select.sql})" for select in selects)


def _values(selects: Iterable[Condition]) -> list[Any]:
    return [value for select in selects for value in select.values]
