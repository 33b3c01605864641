"""Nearest neighbours by cosine similarity, exactly, and what they vote for.

On a CPU the similarities of a block are scanned while they are in its cache, by threads that each take blocks of queries. With
``precision="bfloat16"`` candidates come of similarities in bfloat16, at twice the speed, and are ranked again in float32; how
wrong bfloat16 can be is known from what rounding took of each vector, so queries for which a neighbour may have been missed are
found, and searched anew in float32. The answer is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.probing.scanning import LEAST, keep_largest, rank_again

__all__ = ["Precision", "nearest"]

Precision = Literal["float32", "bfloat16"]

BLOCK, REFERENCES = 1024, 2048  # of a block on a CPU: its similarities stay in the cache
DEVICE_NUMBERS = 1 << 28  # similarities of a block on another device
# bfloat16 keeps 8 bits: a rounded number is off by at most this share of itself.
HALF_BIT = 2.0**-8 / 2
ROUNDING = 1e-5  # of sums of float32 products of unit vectors, generously


def nearest(
    queries_MD: Tensor, reference_ND: Tensor, *, k: int, precision: Precision = "float32"
) -> tuple[Tensor, Tensor]:
    """Positions (M, k) of the ``k`` most similar references of each query, best first, and their cosine similarities.

    Args:
        queries_MD: vectors, float32.
        reference_ND: vectors to search in, at least ``k``.
        k: neighbours.
        precision: of the first look at the similarities; what comes back is exact to float32 either way.

    A vector of zeros has similarity 0 to everything.
    """
    if queries_MD.device.type != "cpu":
        queries, reference = (functional.normalize(each.float(), dim=1) for each in (queries_MD, reference_ND))
        return _on_device(queries, reference, k=k)
    with _single_products(), ThreadPoolExecutor(torch.get_num_threads()) as pool:
        if precision == "float32" or len(reference_ND) < 4 * _candidates(k):
            return _exact(pool, _unit(pool, queries_MD), _unit(pool, reference_ND), k=k)
        return _rounded_first(pool, _unit(pool, queries_MD), _unit(pool, reference_ND), k=k)


def _candidates(k: int) -> int:
    return 2 * k + 60


def _on_device(queries_MD: Tensor, reference_ND: Tensor, *, k: int) -> tuple[Tensor, Tensor]:
    found = [
        (block @ reference_ND.T).topk(k, dim=1)
        for block in torch.split(queries_MD, max(1, DEVICE_NUMBERS // len(reference_ND)))
    ]
    return torch.cat([each.indices for each in found]), torch.cat([each.values for each in found])


def _each_block(pool: ThreadPoolExecutor, count: int, work: Callable[[slice], None]) -> None:
    list(pool.map(work, (slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK))))


def _unit(pool: ThreadPoolExecutor, vectors: Tensor) -> Tensor:
    unit = torch.empty(vectors.shape, dtype=torch.float32)

    def scale(here: slice) -> None:
        functional.normalize(vectors[here].float(), dim=1, out=unit[here])

    _each_block(pool, len(vectors), scale)
    return unit


def _exact(pool: ThreadPoolExecutor, queries_MD: Tensor, reference_ND: Tensor, *, k: int) -> tuple[Tensor, Tensor]:
    queries, reference = queries_MD.numpy(), reference_ND.numpy()
    best = np.full((len(queries), k), LEAST, dtype=np.float32)
    rows = np.zeros((len(queries), k), dtype=np.int64)

    def search(here: slice) -> None:
        memory = np.empty(BLOCK * REFERENCES, dtype=np.float32)
        for first in range(0, len(reference), REFERENCES):
            part = reference[first : first + REFERENCES]
            similarity = memory[: (here.stop - here.start) * len(part)].reshape(-1, len(part))
            np.matmul(queries[here], part.T, out=similarity)
            keep_largest(similarity, first, best[here], rows[here])

    _each_block(pool, len(queries), search)
    return torch.from_numpy(rows), torch.from_numpy(best)


def _rounded_first(
    pool: ThreadPoolExecutor, queries_MD: Tensor, reference_ND: Tensor, *, k: int
) -> tuple[Tensor, Tensor]:
    # Without the mean, which ranks nothing for a query, the references are shorter and their rounding is less.
    mean_D = reference_ND.mean(dim=0)
    rounded_ND, lost, longest = _rounded(pool, reference_ND, mean_D)
    rounded_MD, _, _ = _rounded(pool, queries_MD, torch.zeros_like(mean_D))
    wrong_M = (lost + longest * (queries_MD - rounded_MD.float()).norm(dim=1) + ROUNDING).numpy()
    queries, centred = queries_MD.numpy(), reference_ND.numpy()  # _rounded has taken the mean from it
    bits = np.full((len(queries), _candidates(k)), -1, dtype=np.int16)
    rows = np.zeros(bits.shape, dtype=np.int64)
    best = np.empty((len(queries), k), dtype=np.float32)
    sure = np.zeros(len(queries), dtype=bool)

    def search(here: slice) -> None:
        memory = torch.empty(BLOCK * REFERENCES, dtype=torch.bfloat16)
        for first in range(0, len(centred), REFERENCES):
            part = rounded_ND[first : first + REFERENCES]
            product = memory[: (here.stop - here.start) * len(part)].view(-1, len(part))
            torch.mm(rounded_MD[here], part.T, out=product)
            # The bits of positive bfloat16 numbers are in their order; negative ones come after all of those.
            keep_largest(product.view(torch.int16).numpy(), first, bits[here], rows[here])
        values = torch.from_numpy(bits[here]).view(torch.bfloat16).float().nan_to_num(-1.0).numpy()
        rank_again(queries[here], centred, values, rows[here], best[here], sure[here], wrong_M[here], HALF_BIT)

    _each_block(pool, len(queries), search)
    found_Mk, ranked_Mk = torch.from_numpy(rows[:, :k].copy()), torch.from_numpy(best)
    ranked_Mk += (queries_MD @ mean_D)[:, None]
    if not sure.all():
        unsure = torch.from_numpy(~sure)
        found_Mk[unsure], ranked_Mk[unsure] = _exact(pool, queries_MD[unsure], reference_ND + mean_D, k=k)
    return found_Mk, ranked_Mk


def _rounded(pool: ThreadPoolExecutor, vectors: Tensor, mean_D: Tensor) -> tuple[Tensor, float, float]:
    """The vectors without the mean, in bfloat16; the length of the most that rounding took of one; the longest.

    The mean is taken from ``vectors`` in place.
    """
    rounded = torch.empty(vectors.shape, dtype=torch.bfloat16)
    lost, longest = [], []

    def prepare(here: slice) -> None:
        block = vectors[here].sub_(mean_D)
        rounded[here] = block
        lost.append(float((block - rounded[here].float()).norm(dim=1).max()))
        longest.append(float(block.norm(dim=1).max()))

    _each_block(pool, len(vectors), prepare)
    return rounded, max(lost), max(longest) + max(lost)


@contextmanager
def _single_products() -> Iterator[None]:
    """Products of matrices on one thread each, for threads of ours."""
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)
