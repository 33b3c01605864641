"""Some of a subset's samples, drawn at random or class by class; the same each time, and more of them hold the fewer."""

from __future__ import annotations

from hashlib import sha256
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from catalog.querying.queryables import LAYERS, QUERYABLES
from pwcat.errors import CatalogError

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["classes_of", "draw", "draw_keys", "fair_quotas", "ranks"]

STRATA = (*LAYERS, "split", "collection")


def draw(subset: Subset, limit: int | None, *, by: str | None = None, seed: int = 0) -> Subset:
    """At most ``limit`` samples; see :meth:`catalog.subset.Subset.sample`.

    Raises:
        CatalogError: the limit is missing or below 1, or the classes are unknown.
    """
    if limit is None:
        raise CatalogError("limit_by says how a limit is shared out, and needs one: give limit")
    if not isinstance(limit, Integral) or limit < 1:
        raise CatalogError(f"limit is a whole number of at least 1, got {limit!r}")
    told = {"limit": limit, **({"limit_by": by} if by else {}), **({"seed": seed} if seed else {})}
    keys = draw_keys(subset, seed=seed)
    if by is None:
        first = np.arange(len(keys)) if len(keys) <= limit else np.argpartition(keys, limit - 1)[:limit]
        return _noted(subset, first, told)
    codes, names = classes_of(subset, by)
    quotas = fair_quotas(np.bincount(codes[codes >= 0], minlength=len(names)), limit)
    taken = (codes >= 0) & (ranks(codes, keys) < np.append(quotas, 0)[codes])
    return _noted(subset, np.flatnonzero(taken), told)


def _noted(subset: Subset, rows: NDArray[np.intp], told: dict[str, Any]) -> Subset:
    from dataclasses import replace

    return replace(subset.only(rows), query={**subset.query, **told})


def draw_keys(subset: Subset, *, seed: int) -> NDArray[np.uint64]:
    """A number for each sample, ``(n,)``, as if at random: the samples with the smallest are drawn first.

    It hangs on the seed, the collection's name and the sample's row among its items alone: SplitMix64 (Steele et al. 2014).
    """
    starts = {member.name: sha256(f"{member.name}\0{seed}".encode()).digest()[:8] for member in subset.collections}
    keys = np.empty(len(subset), dtype=np.uint64)
    for member, rows in subset.parts():
        start = np.frombuffer(starts[member.name], dtype="<u8")[0]
        keys[rows] = _mixed(subset.row[rows].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + start)
    return keys


def _mixed(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))


def classes_of(subset: Subset, name: str) -> tuple[NDArray[np.int64], list[str]]:
    """Class of each sample, ``(n,)``, as its place in the sorted list of names; -1 where it has none.

    Raises:
        CatalogError: ``name`` is neither a layer nor another column of classes.
    """
    if name not in STRATA:
        raise CatalogError(f"classes of {name!r} are unknown; there are {', '.join(STRATA)}")
    column = QUERYABLES[name].strip('"')
    encoded = subset.columns([column])[column].combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    names = encoded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=lambda k: names[k])
    place = np.empty(len(names) + 1, dtype=np.int64)
    place[order], place[-1] = np.arange(len(names)), -1
    codes = pc.fill_null(encoded.indices, len(names)).to_numpy(zero_copy_only=False)
    return place[codes], [names[k] for k in order]


def fair_quotas(counts_K: NDArray[np.integer[Any]], total: int) -> NDArray[np.int64]:
    """How many of each class, ``(K,)``, so that they are ``total`` together: as many of each, or all there are of it.

    What does not divide goes to the first classes. More in all is never fewer of a class.
    """
    counts = np.asarray(counts_K, dtype=np.int64)
    low, high = 0, int(counts.max(initial=0))
    while low < high:  # the largest level to which all classes can be filled
        level = (low + high + 1) // 2
        low, high = (level, high) if np.minimum(counts, level).sum() <= total else (low, level - 1)
    quotas = np.minimum(counts, low)
    more = np.flatnonzero(counts > low)[: total - int(quotas.sum())]
    quotas[more] += 1
    return quotas


def ranks(codes: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Place of each sample among those of its class, ``(n,)`` from 0, in the order of their keys."""
    order = np.lexsort((keys, codes))
    found = np.empty(len(codes), dtype=np.int64)
    starts = np.flatnonzero(np.diff(codes[order], prepend=np.iinfo(np.int64).min))
    lengths = np.diff(np.append(starts, len(codes)))
    found[order] = np.arange(len(codes)) - np.repeat(starts, lengths)
    return found
