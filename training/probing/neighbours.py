"""Nearest neighbours by cosine similarity, exactly.

On a CPU products of rounded vectors find candidates, block by block while they are in the cache, in threads that each take
blocks of queries; the candidates are ranked by exact products. How far a rounded product is off at most is known from what
rounding took of each vector, and everything that so much could make a neighbour is a candidate, so that the answer is the same
whatever the vectors are rounded to: products of bfloat16 take half as long as those of float32, and of int8 a quarter.

Shapes: M queries and N references of length D.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pwcat.errors import TrainingError
from training.probing.rounding import Bits, Rounded, measure_lengths, round_to
from training.probing.scanning import LEAST, Kept, Wrong, rank, scan_bfloat16, scan_float32, scan_int8

__all__ = ["Precision", "nearest"]

Precision = Literal["auto", "float32", "bfloat16", "int8"]

BLOCK, REFERENCES = 512, 2048  # of a block on a CPU: its products stay in the cache
CANDIDATES = 1024  # room for those of a query; where more are needed, it is searched in another way
DEVICE_NUMBERS = 1 << 28  # of a block on another device
SPARE = 16  # candidates there beyond the k nearest, of equals and of what float32 takes for such
PRODUCTS: dict[Bits, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int32}
SHORTEST = 1e-12  # a shorter vector has no direction
UNIT = 2.0**-24  # by this share of itself a number is off at most when it is rounded to float32
ROUNDING = 16 * UNIT  # of the few sums and products of numbers up to about 1 that a bound takes


def nearest(
    queries_MD: Tensor, reference_ND: Tensor, *, k: int, precision: Precision = "auto"
) -> tuple[Tensor, Tensor]:
    """Positions (M, k) of the ``k`` most similar references of each query, best first, and their cosine similarities.

    They are those of double precision, of equals the first; on a CPU certainly, on another device but where more than 16 others
    are as near as float32 can tell.

    Args:
        queries_MD: vectors, float32.
        reference_ND: vectors to search in, at least ``k``.
        k: neighbours.
        precision: what candidates are found by, on a CPU: the answer is the same. "auto" is int8 on CPUs that have
            instructions for it, and float32 on others.

    A vector of zeros has similarity 0 to everything.

    Raises:
        TrainingError: vectors hold NaN or infinity (on a CPU), or this machine has no exact products of int8.
    """
    if queries_MD.device.type != "cpu":
        queries, reference = (functional.normalize(each.float(), dim=1) for each in (queries_MD, reference_ND))
        return _on_device(queries, reference, k=k)
    with _threads() as pool:
        asked, stored = _Vectors.of(pool, queries_MD), _Vectors.of(pool, reference_ND)
        rows_Mk, similarity_Mk = _searched(pool, asked, stored, k=k, bits=_bits(precision))
    return torch.from_numpy(rows_Mk), torch.from_numpy(similarity_Mk.astype(np.float32))


def _on_device(queries_MD: Tensor, reference_ND: Tensor, *, k: int) -> tuple[Tensor, Tensor]:
    candidates = min(k + SPARE, len(reference_ND))
    block = max(1, DEVICE_NUMBERS // max(len(reference_ND), candidates * reference_ND.shape[1]))
    found = [_ranked(part, reference_ND, k=k, candidates=candidates) for part in torch.split(queries_MD, block)]
    return torch.cat([rows for rows, _ in found]), torch.cat([similarity for _, similarity in found])


def _ranked(queries_MD: Tensor, reference_ND: Tensor, *, k: int, candidates: int) -> tuple[Tensor, Tensor]:
    """The best of the candidates of float32, in double precision, of equals the first."""
    rows_MC = (queries_MD @ reference_ND.T).topk(candidates, dim=1, sorted=False).indices.sort(dim=1).values
    similarity_MC = (reference_ND[rows_MC].double() @ queries_MD.double()[:, :, None])[:, :, 0]
    ranked_MC = similarity_MC.sort(dim=1, descending=True, stable=True)
    return rows_MC.gather(1, ranked_MC.indices[:, :k]), ranked_MC.values[:, :k].float()


@dataclass(frozen=True, kw_only=True)
class _Vectors:
    """Vectors as they came, and their lengths in double precision."""

    values_ND: np.ndarray
    lengths_N: np.ndarray

    @classmethod
    def of(cls, pool: ThreadPoolExecutor, vectors: Tensor) -> _Vectors:
        values, lengths = vectors.detach().float().contiguous().numpy(), np.empty(len(vectors))
        _each_block(pool, len(values), lambda here: measure_lengths(values[here], lengths[here]))
        if not np.isfinite(lengths).all():
            raise TrainingError(
                f"{int((~np.isfinite(lengths)).sum())} of {len(lengths)} embeddings hold numbers that are NaN or infinite: "
                "they have no neighbours; look at the model that gave them"
            )
        return cls(values_ND=values, lengths_N=lengths.clip(min=SHORTEST))

    def __getitem__(self, rows: slice | np.ndarray) -> _Vectors:
        return _Vectors(values_ND=self.values_ND[rows], lengths_N=self.lengths_N[rows])

    def __len__(self) -> int:
        return len(self.values_ND)

    def mean(self) -> np.ndarray:
        """Of the vectors made as long as 1."""
        inverse_N = torch.from_numpy(1 / self.lengths_N).float()
        mean: np.ndarray = (torch.mv(torch.from_numpy(self.values_ND).T, inverse_N) / len(self)).numpy()
        return mean


def _searched(
    pool: ThreadPoolExecutor, queries: _Vectors, reference: _Vectors, *, k: int, bits: Bits
) -> tuple[np.ndarray, np.ndarray]:
    rows_Mk = np.zeros((len(queries), k), dtype=np.int64)
    similarity_Mk = np.zeros((len(queries), k))
    search = _Search.of(pool, queries, reference, k=k, bits=bits)

    def work(here: slice) -> None:
        search.block(here, rows_Mk[here], similarity_Mk[here])

    _each_block(pool, len(queries), work)
    left = np.flatnonzero(~search.sure_M)
    if len(left) and bits != "float32":
        rows_Mk[left], similarity_Mk[left] = _searched(pool, queries[left], reference, k=k, bits="float32")
    elif len(left):
        rows_Mk[left], similarity_Mk[left] = _all_ranked(pool, queries[left], reference, k=k)
    return rows_Mk, similarity_Mk


@dataclass(frozen=True, kw_only=True)
class _Search:
    """A search by products of rounded vectors.

    Attributes:
        queries: of M vectors.
        reference: of N vectors.
        bits: what they are rounded to.
        centre_D: what references lie around: without it they are shorter, and less is lost.
        asked: the queries rounded: about the centre too, unless to float32.
        stored: the references rounded.
        besides_M: how far a product may be off besides what rounding took of the vectors.
        sure_M: receives whether nothing can have been missed.
    """

    queries: _Vectors
    reference: _Vectors
    bits: Bits
    asked: Rounded
    stored: Rounded
    besides_M: np.ndarray
    sure_M: np.ndarray

    @classmethod
    def of(cls, pool: ThreadPoolExecutor, queries: _Vectors, reference: _Vectors, *, k: int, bits: Bits) -> _Search:
        centre_D = reference.mean()
        stored = _rounded(pool, reference, centre_D, bits)
        asked = _rounded(pool, queries, np.zeros_like(centre_D) if bits == "float32" else centre_D, bits)
        # Sums of D products, in any order, each with its own rounding (Higham 2002, section 3.1); those of int8 are exact.
        sums = 0.0 if bits == "int8" else 2 * len(centre_D) * UNIT * float(stored.rounded_N.max())
        return cls(
            queries=queries,
            reference=reference,
            bits=bits,
            asked=asked,
            stored=stored,
            besides_M=(ROUNDING + sums * asked.rounded_N).astype(np.float32),
            sure_M=np.zeros(len(queries), dtype=bool),
        )

    def block(self, here: slice, rows_Mk: np.ndarray, similarity_Mk: np.ndarray) -> None:
        """Find the nearest of some queries."""
        kept, off_N = _room(*rows_Mk.shape), self._off(here)
        memory = torch.empty(len(rows_Mk) * REFERENCES, dtype=PRODUCTS[self.bits])
        for first in range(0, len(self.reference), REFERENCES):
            there = slice(first, min(first + REFERENCES, len(self.reference)))
            wrong = self.stored.along_N[there], off_N[there], self.asked.length_N[here], self.besides_M[here]
            self._scan(here, there, memory, wrong, kept)
            if 2 * np.count_nonzero(kept[3] < 0) > len(rows_Mk):  # vectors too much alike for so few bits
                return
        self.sure_M[here] = kept[3] >= 0
        _rank(self.queries[here], self.reference, self.besides_M[here], kept, rows_Mk, similarity_Mk)

    def _off(self, here: slice) -> np.ndarray:
        """How far the product of each reference and a query of length 1 is off at most: (N,)."""
        lost_M, length_M = self.asked.lost_N[here], self.asked.length_N[here]
        share = float(np.divide(lost_M, length_M, out=np.zeros_like(lost_M), where=length_M > 0).max())
        # The lengths are sums of float32 themselves.
        off: np.ndarray = (self.stored.lost_N + np.float32(share) * self.stored.rounded_N) * np.float32(1.001)
        return off

    def _scan(self, here: slice, there: slice, memory: Tensor, wrong: Wrong, kept: Kept) -> None:
        asked, stored = self.asked.values_ND[here], self.stored.values_ND[there]
        products = memory[: len(asked) * len(stored)].view(len(asked), len(stored))
        if self.bits == "float32":
            np.matmul(asked.numpy(), stored.numpy().T, out=products.numpy())
            scan_float32(products.numpy(), there.start, wrong, kept)
        elif self.bits == "bfloat16":
            torch.mm(asked, stored.T, out=products)
            scan_bfloat16(products.view(torch.int16).numpy(), there.start, wrong, kept)
        else:
            torch._int_mm(asked, stored.T, out=products)
            steps = self.asked.step_N[here], self.stored.step_N[there]
            scan_int8(products.numpy(), there.start, *steps, wrong, kept)


def _room(queries: int, k: int) -> Kept:
    candidates = max(CANDIDATES, 8 * k)
    return (
        np.full((queries, k), LEAST, dtype=np.float32),
        np.empty((queries, candidates), dtype=np.float32),
        np.empty((queries, candidates), dtype=np.int64),
        np.zeros(queries, dtype=np.int64),
    )


def _rank(
    queries: _Vectors,
    reference: _Vectors,
    besides_M: np.ndarray,
    kept: Kept,
    rows_Mk: np.ndarray,
    similarity_Mk: np.ndarray,
) -> None:
    asked, stored = (queries.values_ND, queries.lengths_N), (reference.values_ND, reference.lengths_N)
    rank(*asked, *stored, besides_M, kept, rows_Mk, similarity_Mk)


def _all_ranked(
    pool: ThreadPoolExecutor, queries: _Vectors, reference: _Vectors, *, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`_searched`, by exact products of everything: of vectors that are all but the same."""
    rows_Mk, similarity_Mk = np.zeros((len(queries), k), dtype=np.int64), np.zeros((len(queries), k))
    everything = np.arange(len(reference))[None]

    def work(here: slice) -> None:
        for m in range(here.start, here.stop):
            one = slice(m, m + 1)
            kept = (
                np.full((1, k), LEAST, np.float32),
                np.zeros(everything.shape, np.float32),
                everything,
                np.array([everything.size]),
            )
            _rank(queries[one], reference, np.zeros(1, np.float32), kept, rows_Mk[one], similarity_Mk[one])

    _each_block(pool, len(queries), work)
    return rows_Mk, similarity_Mk


def _rounded(pool: ThreadPoolExecutor, vectors: _Vectors, centre_D: np.ndarray, bits: Bits) -> Rounded:
    into = Rounded.empty(vectors.values_ND.shape, bits)
    _each_block(
        pool, len(vectors), lambda here: round_to(bits, here, into, vectors.values_ND, vectors.lengths_N, centre_D)
    )
    return into


def _bits(precision: Precision) -> Bits:
    if precision == "auto":
        fast = getattr(torch.cpu, "_is_vnni_supported", lambda: False)()
        return "int8" if fast and _whole_products() else "float32"
    if precision == "int8" and not _whole_products():
        raise TrainingError("products of int8 are not exact on this machine: search with float32 or bfloat16")
    return precision


@cache
def _whole_products() -> bool:
    """Whether products of int8 are exact here: without instructions for them, some libraries let sums of two overflow."""
    large = torch.full((BLOCK, 768), 127, dtype=torch.int8)
    found = [torch._int_mm(one, other.T) for one in (large, -large) for other in (large, -large)]
    return all(bool((each.abs() == 127 * 127 * 768).all()) for each in found)


def _each_block(pool: ThreadPoolExecutor, count: int, work: Callable[[slice], None]) -> None:
    size = min(BLOCK, -(-count // pool._max_workers)) or 1
    list(pool.map(work, (slice(start, min(start + size, count)) for start in range(0, count, size))))


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """As many threads as torch has, each of whose products of matrices are on that thread alone."""
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        # A new thread has all cores for its products until it is told itself, whatever the one that made it was told.
        alone = partial(torch.set_num_threads, 1)
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(before, initializer=alone) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)
