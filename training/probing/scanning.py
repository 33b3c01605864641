"""What of a block of rounded products may be among the nearest, and which of that is, exactly.

A product of rounded vectors says of the exact one that it lies between two bounds. Kept of each query are the largest lower
bounds: whatever has its upper bound below the k-th of them is not among the k nearest. The rest is ranked by exact products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from training.probing.rounding import compiled

__all__ = ["LEAST", "Kept", "Wrong", "rank", "scan_bfloat16", "scan_float32", "scan_int8"]

# Of each query: the k largest lower bounds (M, k), descending; the upper bounds of what was kept (M, C); which references those
# are (M, C); and how many, or -1 where there were more than fit (M,).
Kept = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
# Of each reference what its product with the centre adds (n,), and how far the others of its products are off for a query of
# length 1 (n,); how long each query is (M,); and how far off any product may be besides (M,).
Wrong = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

LEAST = -4.0  # less than any cosine, by more than any product is off
STRIDE, PART = 64, 16  # compared at once before any is looked at by itself
HALF_STEP = np.float32(2.0**-8)  # a number rounded to bfloat16 is off by at most this share of what it became


def _ordered(function: Callable[..., Any]) -> Callable[..., Any]:
    """As :func:`compiled`, of numbers none of which is NaN."""
    return compiled(function, numbers=True)


@_ordered
def scan_float32(products: np.ndarray, first: int, wrong: Wrong, kept: Kept) -> None:
    """Keep what may be among the nearest of a block (M, n) of products, whose first column is reference ``first``.

    These products are exact but for ``besides``, and nothing is added to them.
    """
    along, off, length, besides = wrong
    lower, upper, rows, counts = kept
    for m in range(len(products)):
        counts[m] = _keep(
            products[m], first, along, off, length[m], np.float32(0), besides[m], lower[m], upper[m], rows[m], counts[m]
        )


@_ordered
def scan_bfloat16(products: np.ndarray, first: int, wrong: Wrong, kept: Kept) -> None:
    """As :func:`scan_float32`, of the bits of bfloat16 products as int16."""
    along, off, length, besides = wrong
    lower, upper, rows, counts = kept
    bits = np.empty(products.shape[1], np.int32)
    values, bounds = bits.view(np.float32), np.empty(products.shape[1], np.float32)
    for m in range(len(products)):
        for j in range(len(bits)):
            bits[j] = np.int32(products[m, j]) << np.int32(16)
        for j in range(len(bits)):
            bounds[j] = values[j] + HALF_STEP * abs(values[j]) + along[j] + length[m] * off[j]
        counts[m] = _keep(
            bounds, first, along, off, length[m], HALF_STEP, besides[m], lower[m], upper[m], rows[m], counts[m]
        )


@_ordered
def scan_int8(products: np.ndarray, first: int, steps: np.ndarray, step: np.ndarray, wrong: Wrong, kept: Kept) -> None:
    """As :func:`scan_float32`, of whole products of vectors in ``steps`` (M,) of queries and ``step`` (n,) of references."""
    along, off, length, besides = wrong
    lower, upper, rows, counts = kept
    bounds = np.empty(products.shape[1], np.float32)
    for m in range(len(products)):
        for j in range(len(bounds)):
            bounds[j] = np.float32(products[m, j]) * (steps[m] * step[j]) + along[j] + length[m] * off[j]
        counts[m] = _keep(
            bounds, first, along, off, length[m], np.float32(0), besides[m], lower[m], upper[m], rows[m], counts[m]
        )


@_ordered
def _keep(
    bounds: np.ndarray,
    first: int,
    along: np.ndarray,
    off: np.ndarray,
    length: float,
    share: float,
    besides: float,
    lower: np.ndarray,
    upper: np.ndarray,
    rows: np.ndarray,
    count: int,
) -> int:
    """Keep of a query's upper bounds those that reach its least; how many it has now."""
    n, least = len(bounds), lower[-1] - 2 * besides
    if count < 0:
        return count
    for start in range(0, n, STRIDE):
        if start + STRIDE <= n and _largest(bounds[start : start + STRIDE]) < least:
            continue
        for part in range(start, min(start + STRIDE, n), PART):
            end = min(part + PART, n)
            if end == part + PART and _largest(bounds[part:end]) < least:
                continue
            for j in range(part, end):
                if bounds[j] < least:
                    continue
                if count == len(upper):
                    count = _drop(upper, rows, least)
                    if 2 * count > len(upper):
                        return -1
                upper[count], rows[count] = bounds[j], first + j
                count += 1
                rest = bounds[j] - along[j] - length * off[j]  # the product and its own share
                low = bounds[j] - 2 * (length * off[j] + share * abs(rest) * (1 + 2 * share))
                if low > lower[-1]:
                    _insert(lower, low)
                    least = lower[-1] - 2 * besides
    return count


@_ordered
def _largest(values: np.ndarray) -> np.floating:
    top: np.floating = values[0]
    for j in range(len(values)):
        top = max(top, values[j])
    return top


@_ordered
def _drop(upper: np.ndarray, rows: np.ndarray, least: float) -> int:
    count = 0
    for c in range(len(upper)):
        if upper[c] >= least:
            upper[count], rows[count] = upper[c], rows[c]
            count += 1
    return count


@_ordered
def _insert(lower: np.ndarray, low: float) -> None:
    at = len(lower) - 1
    while at > 0 and lower[at - 1] < low:
        lower[at] = lower[at - 1]
        at -= 1
    lower[at] = low


@_ordered
def rank(
    queries: np.ndarray,
    query_lengths: np.ndarray,
    reference: np.ndarray,
    lengths: np.ndarray,
    besides: np.ndarray,
    kept: Kept,
    nearest: np.ndarray,
    similarity: np.ndarray,
) -> None:
    """The nearest (M, k) of what was kept and their cosines in double precision, best first, of equals the first.

    Args:
        queries: (M, D) as they came.
        query_lengths: (M,) of them.
        reference: (N, D).
        lengths: (N,).
        besides: see :data:`Wrong`.
        kept: see :data:`Kept`; what was kept of a query is in the order of the references.
        nearest: receives which references.
        similarity: receives their cosines.
    """
    lower, upper, rows, counts = kept
    query, k = np.empty(queries.shape[1], np.float64), nearest.shape[1]
    for m in range(len(queries)):
        least = lower[m, -1] - 2 * besides[m]
        for d in range(len(query)):
            query[d] = queries[m, d]
        similarity[m, :] = LEAST
        for c in range(counts[m]):
            if upper[m, c] < least:
                continue
            other, cosine = reference[rows[m, c]], 0.0
            for d in range(len(query)):
                cosine += query[d] * np.float64(other[d])
            cosine /= query_lengths[m] * lengths[rows[m, c]]
            at = k
            while at > 0 and similarity[m, at - 1] < cosine:
                at -= 1
                if at + 1 < k:
                    similarity[m, at + 1], nearest[m, at + 1] = similarity[m, at], nearest[m, at]
            if at < k:
                similarity[m, at], nearest[m, at] = cosine, rows[m, c]
