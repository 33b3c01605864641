"""Samples that are like others: the nearest by cosine similarity of a column of vectors, and near duplicates.

Every similarity is exact to seven digits. To find the nearest, vectors are read a few at a time; of all pairs, each vector is
held once, in float32, and nothing else grows with their number but what is found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from catalog.cosine import MOST_PAIRS, best_of, is_known, most_similar, pairs_above, to_units
from catalog.vectors import choose_column, makers, read_units, unit_blocks
from pwcat.errors import CatalogError
from pwcat.geo.geodesy import geodesic_km

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["Duplicates", "Neighbours", "near_duplicates", "nearest", "nearest_to"]

ROUND = 64  # samples near a place that are looked at for a vector at once


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighbours:
    """Samples like some others, the most similar first.

    Attributes:
        subset: that was searched.
        rows: samples of it, (n,).
        similarity: the largest cosine that each has with one of those it is to be like, (n,).
        like: which of those that is, (n,).
        km: from that one by the geodesic, (n,); NaN where vectors were given, which have no place.
    """

    subset: Subset
    rows: NDArray[np.int64]
    similarity: NDArray[np.float64]
    like: NDArray[np.int64]
    km: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)

    def samples(self) -> Subset:
        """These as a subset: in its own order, not in that of similarity."""
        return self.subset.select(self.rows)


def nearest(subset: Subset, column: str, like: Subset | NDArray[Any], *, limit: int = 10) -> Neighbours:
    """The samples of a subset that are most like some others.

    Args:
        subset: to search in; samples without a vector are not found.
        column: of vectors, such as ``emb:europe``.
        like: samples that have such a vector, which are left out of the answer; or vectors, ``(D,)`` or ``(M, D)``.
        limit: how many to find.

    Raises:
        CatalogError: there is no such column, or nothing with a direction to be like, or that is of another length.
    """
    if limit < 1:
        raise CatalogError(f"limit={limit}: at least one sample is wanted")
    queries_MD, lonlat_M2, own = _asked(subset, column, like)

    def blocks() -> Any:
        for rows, units_nD in unit_blocks(subset, column):
            if units_nD.shape[1] != queries_MD.shape[1]:
                raise CatalogError(
                    f"column {column!r} has vectors of {units_nD.shape[1]} numbers, and those to be like have "
                    f"{queries_MD.shape[1]}: they are of another model"
                )
            wanted = ~np.isin(rows, own)
            if wanted.any():
                yield rows[wanted], units_nD[wanted]

    numbers_Mk, similarity_Mk = most_similar(queries_MD, blocks(), k=limit)
    rows, like_n, similarity = best_of(numbers_Mk, similarity_Mk, limit)
    km = geodesic_km(lonlat_M2[like_n], _lonlat(subset, rows))
    return Neighbours(subset=subset, rows=rows, similarity=similarity, like=like_n, km=km)


def _asked(
    subset: Subset, column: str, like: Subset | NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int64]]:
    """Units (M, D) to be like, where they are (M, 2), and rows of the subset that they are themselves."""
    if isinstance(like, np.ndarray):
        vectors = np.atleast_2d(like)
        if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or not len(vectors) or not is_known(vectors).all():
            raise CatalogError(
                f"vectors of shape {like.shape} and type {like.dtype}: (D,) or (M, D) numbers are wanted, none of them "
                "all zeros and none without a value"
            )
        return to_units(vectors), np.full((len(vectors), 2), np.nan), np.empty(0, dtype=np.int64)
    _require_one_model(subset, like, column)
    units = read_units(like, choose_column(like, column))
    if not len(units.rows):
        raise CatalogError(f"none of the {len(like):,} samples to be like has a vector in column {column!r}")
    return units.vectors, like.lonlat[units.rows], _rows_of(subset, like)


def _rows_of(subset: Subset, others: Subset) -> NDArray[np.int64]:
    """Rows of a subset that are samples of another one: of a collection of the same name and recipe, and the same id."""
    theirs = {member.name: (member.recipe_hash, others.rows["id"][rows]) for member, rows in others.parts()}
    found = [np.empty(0, dtype=np.int64)]
    for member, rows in subset.parts():
        recipe, ids = theirs.get(member.name, ("", None))
        if ids is not None and recipe == member.recipe_hash:
            mine = pc.is_in(subset.rows["id"][rows.start : rows.stop], ids.combine_chunks())
            found.append(rows.start + np.flatnonzero(mine.to_numpy()))
    return np.concatenate(found)


def _lonlat(subset: Subset, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Places of some rows in any order, (n, 2); only what belongs to them is read."""
    chosen, back = np.unique(rows, return_inverse=True)
    return subset.only(chosen).lonlat[back]


def nearest_to(subset: Subset, column: str, lon: float, lat: float) -> tuple[Subset, float]:
    """The sample nearest to a place among those that have a vector, and how far it is, in kilometres.

    Raises:
        CatalogError: the place is none, or no sample has a vector.
    """
    if not (-180 <= lon <= 180 and -90 <= lat <= 90):
        raise CatalogError(f"a longitude and a latitude in degrees are wanted, got {lon:g}, {lat:g}")
    km = geodesic_km(np.repeat([[lon, lat]], len(subset), axis=0).reshape(-1, 2), subset.lonlat)
    order = np.argsort(km, kind="stable")
    for start in range(0, len(order), ROUND):
        some = order[start : start + ROUND]
        known = np.unique(some)[read_units(subset.only(some), column).rows]
        there = some[np.isin(some, known)]
        if len(there):
            return subset.only(there[:1]), float(km[there[0]])
    raise CatalogError(f"none of {len(subset):,} samples has a vector in column {column!r}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Duplicates:
    """Pairs of samples whose vectors are nearly the same.

    Attributes:
        subset: whose samples come first.
        other: whose samples come second; ``None`` where pairs are within the subset, each once.
        column: of vectors.
        above: pairs are at least so similar.
        first: rows of the subset, (P,), ascending.
        second: rows of the other, (P,).
        similarity: cosine of each pair, (P,), to seven digits.
        km: between their places by the geodesic, (P,).
        without: samples of the subset that have no vector; they are near duplicates of nothing.
    """

    subset: Subset
    other: Subset | None
    column: str
    above: float
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    similarity: NDArray[np.float64]
    km: NDArray[np.float64]
    without: int

    def __len__(self) -> int:
        return len(self.first)

    @cached_property
    def groups(self) -> list[NDArray[np.int64]]:
        """Rows of the subset that pairs connect, directly or through others; the largest group first.

        Raises:
            CatalogError: the pairs are with another subset.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        if self.other is not None:
            raise CatalogError("pairs with another subset make no groups: look for duplicates within one")
        rows = np.unique(np.concatenate([self.first, self.second]))
        ends = (np.searchsorted(rows, self.first), np.searchsorted(rows, self.second))
        graph = coo_array((np.ones(len(self), dtype=bool), ends), shape=(len(rows), len(rows)))
        labels = connected_components(graph, directed=False)[1] if len(rows) else np.empty(0, dtype=np.int64)
        order = np.argsort(labels, kind="stable")
        parts = np.split(rows[order], np.flatnonzero(np.diff(labels[order])) + 1) if len(rows) else []
        return sorted(parts, key=lambda part: (-len(part), part[0]))

    @cached_property
    def left_out(self) -> NDArray[np.int64]:
        """Rows that have to go so that no pair is left: each is nearly the same as one that stays, or as one of the other.

        Within a subset the first of its samples stays, and those that are like it go; then the next that is still there.
        """
        if self.other is not None:
            return np.unique(self.first)
        gone: set[int] = set()
        for first, second in zip(self.first.tolist(), self.second.tolist(), strict=True):  # by the first, ascending
            if first not in gone:
                gone.add(second)
        return np.array(sorted(gone), dtype=np.int64)

    def remaining(self) -> Subset:
        """The subset without :attr:`left_out`."""
        kept = np.ones(len(self.subset), dtype=bool)
        kept[self.left_out] = False
        told = {"column": self.column, "above": self.above, "left_out": len(self.left_out)}
        return replace(self.subset.only(kept), query={**self.subset.query, "without_duplicates": told})

    def table(self) -> pa.Table:
        """The pairs: collection and id of both, similarity, km; the most similar first."""
        order = np.lexsort((self.second, self.first, -self.similarity))
        columns: dict[str, Any] = {}
        sides = (("", self.subset, self.first), ("like_", self.other or self.subset, self.second))
        for prefix, subset, rows in sides:
            chosen, back = np.unique(rows[order], return_inverse=True)
            keys = subset.only(chosen).columns(["collection", "id"])
            columns |= {f"{prefix}{name}": keys[name].take(pa.array(back)) for name in keys.column_names}
        return pa.table({**columns, "similarity": self.similarity[order], "km": self.km[order]})


def near_duplicates(
    subset: Subset,
    column: str,
    *,
    above: float,
    other: Subset | None = None,
    most: int = MOST_PAIRS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Duplicates:
    """All pairs of samples whose vectors have a cosine of at least ``above``.

    Args:
        subset: the samples.
        column: of vectors, such as ``emb:europe``.
        above: at least so similar, up to 1.
        other: samples that those of the subset are compared with; a sample that both have is a pair with itself. By default the
            subset's own, each pair once, and none with itself.
        most: of pairs that may be found.
        progress: told how many blocks of pairs are done, and of how many.

    Raises:
        CatalogError: there is no such column, or the vectors are of several models, or more than ``most`` pairs are so similar.
    """
    mine = read_units(subset, choose_column(subset, column))
    if other is not None:
        _require_one_model(subset, other, column)
    theirs = mine if other is None else read_units(other, choose_column(other, column))
    if len(mine.rows) and len(theirs.rows):
        _require_alike(mine.vectors, theirs.vectors, column)
        found = pairs_above(mine.vectors, None if other is None else theirs.vectors, above=above, most=most,
                            progress=progress)  # fmt: skip
        first, second, similarity = mine.rows[found.first], theirs.rows[found.second], found.similarity
    else:
        first, second, similarity = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    km = geodesic_km(_lonlat(subset, first), _lonlat(subset if other is None else other, second))
    return Duplicates(
        subset=subset,
        other=other,
        column=column,
        above=above,
        first=first,
        second=second,
        similarity=similarity,
        km=km,
        without=mine.without,
    )


def _require_one_model(subset: Subset, other: Subset, column: str) -> None:
    here, there = (one - {""} for one in (makers(subset, column), makers(other, column)))
    if here and there and here != there:
        models = " and ".join(
            f"of model {', '.join(sorted(one))} {where}" for one, where in ((here, "here"), (there, "there"))
        )
        raise CatalogError(
            f"column {column!r} is {models}, whose vectors cannot be compared: embed both by one model (`pwcat embed`)"
        )


def _require_alike(a: NDArray[np.float32], b: NDArray[np.float32], column: str) -> None:
    if a.shape[1] != b.shape[1]:
        raise CatalogError(
            f"column {column!r} has vectors of {a.shape[1]} numbers here and of {b.shape[1]} there: they are of other models"
        )
