"""The largest of each row of a block of similarities, kept beside those of earlier blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

__all__ = ["LEAST", "keep_largest", "rank_again"]

LEAST = -2.0  # less than any cosine

STRIDE = 64  # compared at once before any is looked at by itself


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function without the interpreter's lock; its machine code is kept for later processes where that can be.

    Sums and largest values may be taken in any order, as there are no numbers that are none.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": {"nnan", "nsz", "reassoc", "contract"}}
    try:
        kept: Callable[..., Any] = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        kept = numba.njit(**options)(function)
    return kept


def _keep_largest(block: np.ndarray, first: int, best: np.ndarray, rows: np.ndarray) -> None:
    """Take what is larger than the last of ``best`` (M, k), descending, from ``block`` (M, n), whose first column is ``first``.

    ``rows`` (M, k) receives the columns. Floats, or int16.
    """
    k, n = best.shape[1], block.shape[1]
    for m in range(len(block)):
        values, largest, columns = block[m], best[m], rows[m]
        for stride in range((n + STRIDE - 1) // STRIDE):
            start, stop = stride * STRIDE, (stride + 1) * STRIDE
            if stop <= n:
                top = values[start]
                for j in range(STRIDE):
                    top = max(top, values[start + j])
                if top <= largest[k - 1]:
                    continue
            for j in range(start, min(stop, n)):
                value = values[j]
                if value > largest[k - 1]:
                    at = k - 1
                    while at > 0 and largest[at - 1] < value:
                        largest[at] = largest[at - 1]
                        columns[at] = columns[at - 1]
                        at -= 1
                    largest[at] = value
                    columns[at] = first + j


def _rank_again(
    queries: np.ndarray,
    reference: np.ndarray,
    rounded: np.ndarray,
    rows: np.ndarray,
    best: np.ndarray,
    sure: np.ndarray,
    wrong: np.ndarray,
    half_bit: float,
) -> None:
    """Order candidates by exact products, best first, and say where none can have been missed.

    Args:
        queries: (M, D).
        reference: (N, D).
        rounded: (M, C) rounded products of the candidates, descending; negative where there are fewer.
        rows: (M, C) the candidates; their first k are the neighbours afterwards.
        best: (M, k) receives the exact products.
        sure: (M,) receives whether anything outside the candidates is certainly less than the last neighbour.
        wrong: (M,) how far a rounded product is at most from the exact one, apart from its own rounding.
        half_bit: the share of itself by which a product was rounded, at most.
    """
    k, candidates = best.shape[1], rows.shape[1]
    for m in range(len(queries)):
        if not rounded[m, candidates - 1] >= 0:
            sure[m] = False
            continue
        best[m, :] = LEAST
        kept = np.zeros(k, dtype=np.int64)
        seen = candidates
        for c in range(candidates):
            # The exact product of anything from here on is at most this.
            limit = rounded[m, c] * (1 + 2 * half_bit) + wrong[m]
            if c >= k and limit < best[m, k - 1]:
                seen = c
                break
            value = np.float32(0)
            query, other = queries[m], reference[rows[m, c]]
            for d in range(len(query)):
                value += query[d] * other[d]
            if value > best[m, k - 1]:
                at = k - 1
                while at > 0 and best[m, at - 1] < value:
                    best[m, at] = best[m, at - 1]
                    kept[at] = kept[at - 1]
                    at -= 1
                best[m, at] = value
                kept[at] = rows[m, c]
        sure[m] = seen < candidates
        rows[m, :k] = kept


keep_largest = _compiled(_keep_largest)
rank_again = _compiled(_rank_again)
