"""Subsets as sets: their union, what they share, and what one has that the other has not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pwcat.errors import CatalogError

if TYPE_CHECKING:
    from catalog.query import Collection
    from catalog.subset import Subset

__all__ = ["difference", "intersection", "overlap", "union"]

# Rows of a collection's items are below this: a sample is one number, its collection's above its row.
_ROWS = 1 << 40


def union(a: Subset, b: Subset) -> Subset:
    """The samples of either; where both have a split of their own for a sample, the first one's holds.

    Raises:
        CatalogError: both have a collection of the same name, and these are not the same.
    """
    members = _merged(a, b)
    names = list(members)
    keys_a, keys_b = _keys(a, names), _keys(b, names)
    keys, first = np.unique(np.concatenate([keys_a, keys_b]), return_index=True)
    taken = pa.array(first)
    ids = pa.chunked_array([*a.rows["id"].chunks, *b.rows["id"].chunks], type=pa.string()).take(taken)
    own = {
        name: pa.chunked_array([*a.columns([name])[name].chunks, *b.columns([name])[name].chunks]).take(taken)
        for name in {*a.own, *b.own}
    }
    rows = pa.table(
        {"part": pa.array((keys // _ROWS).astype(np.int32)), "row": pa.array(keys % _ROWS), "id": ids},
        schema=a.rows.schema,
    )
    return replace(a, members=members, rows=rows, own=own, query=_told("union", a, b), _kept={})


def intersection(a: Subset, b: Subset) -> Subset:
    """The samples that both have.

    Raises:
        CatalogError: as for :func:`union`.
    """
    return replace(a.only(_shared(a, b)), query=_told("intersection", a, b))


def difference(a: Subset, b: Subset) -> Subset:
    """The samples of the first that the second has not.

    Raises:
        CatalogError: as for :func:`union`.
    """
    return replace(a.only(~_shared(a, b)), query=_told("difference", a, b))


def overlap(a: Subset, b: Subset) -> int:
    """How many samples both have."""
    return int(_shared(a, b).sum())


def _shared(a: Subset, b: Subset) -> NDArray[np.bool_]:
    names = list(_merged(a, b))
    return np.isin(_keys(a, names), _keys(b, names), assume_unique=True)


def _merged(a: Subset, b: Subset) -> Mapping[str, Collection]:
    for name in a.members.keys() & b.members.keys():
        one, other = a.members[name], b.members[name]
        if str(one.place) != str(other.place) and not _alike(one, other):
            raise CatalogError(
                f"both have a collection {name!r}, and these differ: {one.place} and {other.place}; "
                "search both in one catalog, or rename one"
            )
    return dict(sorted({**b.members, **a.members}.items()))


def _alike(one: Collection, other: Collection) -> bool:
    """Whether rows of one are the same samples as those of the other: a copy, or the same as it was published."""
    if one.items.digest == other.items.digest:
        return True
    if one.recipe_hash != other.recipe_hash or one.items.num_rows != other.items.num_rows:
        return False
    asked = "SELECT id, file_row_number AS row FROM"
    here, there = (member.engine.table(f"{asked} {member.items.source}").sort_by("row") for member in (one, other))
    return bool(here.equals(there))


def _keys(subset: Subset, names: list[str]) -> NDArray[np.int64]:
    """One number a sample, ``(n,)``; ascending where the subset's members are in the order of ``names``."""
    place = np.array([names.index(name) for name in subset.members], dtype=np.int64)
    return place[subset.part] * _ROWS + subset.row


def _told(how: str, a: Subset, b: Subset) -> dict[str, Any]:
    return {how: [a.query, b.query]}
