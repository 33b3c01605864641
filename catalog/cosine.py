"""Cosine similarity of many vectors: the most similar to some, and all pairs above a bound; exactly, in bounded memory.

Vectors are brought to length 1 in float32. All pairs are too many products at full width: pairs are first compared by an upper
bound of their similarity. With an orthonormal basis ``B`` of a few directions, that hold most of the vectors' squared lengths,
``u . v <= (B u) . (B v) + |rest of u| |rest of v|`` (Cauchy and Schwarz), which is itself a product of short vectors. Those few
pairs that the bound leaves open are measured in full. How many directions are taken is chosen by what a sample of the vectors
would cost; the answer does not hang on it.

Shapes: N and M vectors, D numbers each, K directions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pwcat.errors import CatalogError

__all__ = ["Close", "best_of", "is_known", "most_similar", "near_largest", "pairs_above", "similarities", "to_units"]

BLOCK = 1024  # vectors on each side of a block of pairs: its similarities take 4 MB
MARGIN = 1e-5  # of float32 sums of products of units, generously
DIGITS = 7  # of a similarity that float32 vectors can tell
MOST_PAIRS = 20_000_000
FEW = 4096  # vectors that are in double precision at once
SAMPLE = 2048  # vectors that the basis is made of, and chosen by
WIDTHS = (16, 32, 64, 128, 256)
APART = 40  # pairs in a product of matrices cost as much as one that is measured by itself

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Close:
    """Pairs of vectors, by the first and then by the second.

    Attributes:
        first: which vector, (P,).
        second: which one it is similar to, (P,).
        similarity: their cosine, (P,) float64, to seven digits.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    similarity: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first)


def is_known(vectors_ND: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which vectors have a direction, (N,): all numbers are finite, and not all of them zero."""
    known = np.empty(len(vectors_ND), dtype=bool)
    for part in _slices(len(known), FEW):
        lengths = _lengths(vectors_ND[part])
        known[part] = np.isfinite(lengths) & (lengths > 0)
    return known


def to_units(vectors_ND: NDArray[np.floating]) -> NDArray[np.float32]:
    """The vectors at length 1, (N, D) float32; those without a direction are NaN."""
    units = np.empty(vectors_ND.shape, dtype=np.float32)
    for part in _slices(len(units), FEW):
        wide, lengths = vectors_ND[part].astype(np.float64), _lengths(vectors_ND[part])
        known = np.isfinite(lengths) & (lengths > 0)
        units[part] = wide / np.where(known, lengths, np.nan)[:, None]
    return units


def _lengths(vectors_ND: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = np.asarray(vectors_ND, dtype=np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(np.sqrt(np.einsum("nd,nd->n", wide, wide)))


def similarities(a_ND: NDArray[np.float32], b_ND: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine of each pair of rows, (N,), to seven digits."""
    found = np.empty(len(a_ND))
    for part in _slices(len(a_ND), FEW):
        a, b = a_ND[part].astype(np.float64), b_ND[part].astype(np.float64)
        dots, squares_a, squares_b = (np.einsum("nd,nd->n", one, other) for one, other in ((a, b), (a, a), (b, b)))
        found[part] = dots / np.sqrt(squares_a * squares_b)
    return np.clip(np.round(found, DIGITS), -1.0, 1.0)


def most_similar(
    queries_MD: NDArray[np.float32], blocks: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]], *, k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The most similar vectors of each query, best first: their numbers (M, k), and similarities (M, k).

    Of several as similar, that of the lowest number comes first. Where there are fewer than ``k``, -1 and NaN.

    Args:
        queries_MD: units.
        blocks: numbers (n,) of vectors, ascending, and these as units (n, D); one block is in memory at a time.
        k: how many.
    """
    numbers = np.full((len(queries_MD), k), -1, dtype=np.int64)
    best = np.full((len(queries_MD), k), -np.inf)
    for rows, units_nD in blocks:
        for part in _slices(len(queries_MD), BLOCK):
            asked, place, exact = near_largest(queries_MD[part], units_nD, k=k, best=best[part, -1])
            query = np.concatenate([np.repeat(np.arange(part.stop - part.start), k), asked])
            both = np.concatenate([best[part].ravel(), exact])
            names = np.concatenate([numbers[part].ravel(), rows[place]])
            order = np.lexsort((names, -both, query))
            first = np.searchsorted(query[order], np.arange(part.stop - part.start))
            taken = order[first[:, None] + np.arange(k)]
            best[part], numbers[part] = both[taken], names[taken]
    return numbers, np.where(numbers >= 0, best, np.nan)


def best_of(
    numbers_Mk: NDArray[np.int64], similarity_Mk: NDArray[np.float64], limit: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Of what several queries found, (M, k): each row once, at its best, with which query that is, and the similarity."""
    rows, similarity = numbers_Mk.ravel(), similarity_Mk.ravel()
    query = np.repeat(np.arange(len(numbers_Mk)), numbers_Mk.shape[1])
    order = np.lexsort((query, rows, -similarity))
    order = order[rows[order] >= 0]
    first = np.sort(np.unique(rows[order], return_index=True)[1])
    taken = order[first][:limit]
    return rows[taken], query[taken], similarity[taken]


def near_largest(
    a_ND: NDArray[np.float32],
    b_MD: NDArray[np.float32],
    *,
    k: int,
    best: NDArray[np.float64],
    apart: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Pairs that may be among the ``k`` most similar of a row of ``a``: numbers in ``a`` and in ``b``, and exact similarities.

    Products in single precision say which; in a narrow cone they cannot tell some millionths apart, so that all that come so
    near to the ``k``-th are measured.

    Args:
        a_ND: units.
        b_MD: units.
        k: how many are wanted of each row.
        best: what the ``k``-th of a row has in any case, (N,); -inf where nothing is known.
        apart: pairs that are left out, by their numbers in ``a`` and in ``b``.
    """
    found = a_ND @ b_MD.T
    if apart is not None:
        found[apart] = -np.inf
    kept = min(k, found.shape[1])
    least = np.partition(found, -kept, axis=1)[:, -kept] if kept > 1 else found.max(axis=1)
    open_ = found >= (np.maximum(least, best) - MARGIN)[:, None]
    open_ &= found > -np.inf
    i, j = np.nonzero(open_)
    if len(i) * APART > open_.size:
        return i, j, _products(a_ND, b_MD)[i, j]
    return i, j, _measured(a_ND, i, b_MD, j)


def _measured(
    a_ND: NDArray[np.float32], i: NDArray[np.int64], b_MD: NDArray[np.float32], j: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Similarities of some rows of ``a`` with some of ``b``, few of which are copied at once."""
    found = np.empty(len(i))
    for part in _slices(len(i), FEW):
        found[part] = similarities(a_ND[i[part]], b_MD[j[part]])
    return found


def _products(a_ND: NDArray[np.float32], b_MD: NDArray[np.float32]) -> NDArray[np.float64]:
    """Similarities of all with all, (N, M)."""
    a, b = a_ND.astype(np.float64), b_MD.astype(np.float64)
    found = a @ b.T
    found /= np.sqrt(np.einsum("nd,nd->n", a, a))[:, None]
    found /= np.sqrt(np.einsum("nd,nd->n", b, b))
    return np.clip(np.round(found, DIGITS), -1.0, 1.0)


def pairs_above(
    a_ND: NDArray[np.float32],
    b_MD: NDArray[np.float32] | None = None,
    *,
    above: float,
    most: int = MOST_PAIRS,
    progress: Progress = lambda done, total: None,
) -> Close:
    """All pairs whose cosine is at least ``above``: of ``a`` with ``b``, or of ``a`` with itself, each pair once, i < j.

    Args:
        a_ND: units.
        b_MD: units; ``None`` for ``a`` itself.
        above: at least so similar, -1 to 1.
        most: of pairs that may be found.
        progress: told how many blocks of pairs are done, and of how many.

    Raises:
        CatalogError: ``above`` is no cosine, or there are more pairs than ``most``.
    """
    if not -1 <= above <= 1:
        raise CatalogError(f"above={above:.7g}: a cosine similarity of -1 to 1 is wanted, as in .99")
    other_MD = a_ND if b_MD is None else b_MD
    if not len(a_ND) or not len(other_MD):
        return Close(first=np.empty(0, np.int64), second=np.empty(0, np.int64), similarity=np.empty(0))
    scan = _Scan(a_ND, other_MD, above=above, itself=b_MD is None)
    blocks = [
        (one, two)
        for one in _slices(len(a_ND), BLOCK)
        for two in _slices(len(other_MD), BLOCK)
        if b_MD is not None or two.start >= one.start
    ]
    found, count = [], 0
    with _single_products(), ThreadPoolExecutor(_cores()) as pool:
        for done, pairs in enumerate(_in_turn(pool, scan.block, blocks)):
            found.append(pairs)
            count += len(pairs)
            if count > most:
                raise CatalogError(
                    f"more than {most:,} pairs are {above:.7g} or more similar: ask for a higher similarity than that, for "
                    "these vectors are all alike at it"
                )
            progress(done + 1, len(blocks))
    first, second = (np.concatenate([getattr(one, name) for one in found]) for name in ("first", "second"))
    order = np.lexsort((second, first))
    similarity = np.concatenate([one.similarity for one in found])[order]
    return Close(first=first[order], second=second[order], similarity=similarity)


class _Scan:
    """What is known of two sets of vectors before their pairs are looked at: short vectors that bound the similarities."""

    def __init__(self, a_ND: NDArray[np.float32], b_MD: NDArray[np.float32], *, above: float, itself: bool) -> None:
        self.a, self.b, self.above, self.itself = a_ND, b_MD, above, itself
        basis_DK = _basis(a_ND, b_MD, above=above)
        self.short_a = a_ND if basis_DK is None else _shortened(a_ND, basis_DK)
        self.short_b = self.short_a if itself else b_MD if basis_DK is None else _shortened(b_MD, basis_DK)
        self.exact = basis_DK is None

    def block(self, one: slice, two: slice) -> Close:
        """The pairs of a block."""
        bound = self.short_a[one] @ self.short_b[two].T
        open_ = bound >= self.above - MARGIN
        count = int(np.count_nonzero(open_))
        if not self.exact and count * APART > open_.size:
            np.greater_equal(self.a[one] @ self.b[two].T, self.above - MARGIN, out=open_)
        places = np.flatnonzero(open_) if count else np.empty(0, np.int64)
        i, j = np.divmod(places, open_.shape[1])
        i, j = i + one.start, j + two.start
        if self.itself:
            i, j = i[i < j], j[i < j]
        similarity = _measured(self.a, i, self.b, j)
        kept = similarity >= self.above
        return Close(first=i[kept], second=j[kept], similarity=similarity[kept])


def _basis(a_ND: NDArray[np.float32], b_MD: NDArray[np.float32], *, above: float) -> NDArray[np.float32] | None:
    """Directions (D, K) by whose bound the pairs cost least, judged by a sample; ``None`` to compare them in full."""
    made_of = np.concatenate([each[_spread(len(each), 0.0)] for each in (a_ND, b_MD)]).astype(np.float64)
    directions = np.linalg.eigh(made_of.T @ made_of)[1][:, ::-1].astype(np.float32)
    judges_a, judges_b = (
        a_ND[_spread(len(a_ND), 0.3)],
        b_MD[_spread(len(b_MD), 0.7)],
    )  # it fits those it is made of better
    width = a_ND.shape[1]
    cheapest, chosen = float(width), None  # numbers multiplied a pair, beside that its product is looked at
    for k in (k for k in WIDTHS if 2 * k < width):
        basis_DK = np.ascontiguousarray(directions[:, :k])
        bound = _shortened(judges_a, basis_DK) @ _shortened(judges_b, basis_DK).T
        share = float(np.mean(bound >= above - MARGIN))
        cost = k + min(share * APART, 1.0) * width
        if cost < cheapest:
            cheapest, chosen = cost, basis_DK
    return chosen


def _spread(count: int, offset: float) -> NDArray[np.int64]:
    """At most :data:`SAMPLE` rows of so many, evenly apart."""
    taken = min(count, SAMPLE)
    return ((np.arange(taken) + offset) * (count / taken)).astype(np.int64)


def _shortened(units_ND: NDArray[np.float32], basis_DK: NDArray[np.float32]) -> NDArray[np.float32]:
    """Short vectors (N, K + 1) whose products are not below the units': within the basis, and the length of what is left."""
    short = np.empty((len(units_ND), basis_DK.shape[1] + 1), dtype=np.float32)
    for part in _slices(len(units_ND), 1 << 14):
        np.matmul(units_ND[part], basis_DK, out=short[part, :-1])
        within = np.einsum("nk,nk->n", short[part, :-1], short[part, :-1], dtype=np.float64)
        short[part, -1] = np.sqrt(np.maximum(1 - within, 0) + MARGIN / 4)
    return short


def _in_turn(
    pool: ThreadPoolExecutor, work: Callable[[slice, slice], Close], blocks: list[tuple[slice, slice]]
) -> Iterator[Close]:
    """What blocks give, in their order; few are waiting at a time."""
    ahead = 8 * _cores()
    for start in range(0, len(blocks), ahead):
        yield from pool.map(lambda each: work(*each), blocks[start : start + ahead])


def _single_products() -> AbstractContextManager[object]:
    """Products of matrices on one thread each, for threads of ours; where that cannot be told them, they share."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    return threadpool_limits(1, user_api="blas")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
