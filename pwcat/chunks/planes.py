"""Bit planes back into numbers: what blosc's bit shuffle did, undone at the speed of memory.

The blosc that comes with numcodecs does this without the wide registers of today's processors, and takes as long for it
as for LZ4. Compiled here for the processor at hand, hundreds of numbers at a time, it costs a fraction. Of each eight
numbers, a plane holds one bit of each in one byte, the first number's in the lowest bit; planes 0 to 7 are those of the low
bytes.

Source of the layout: Masui et al. (2015), A compression scheme for radio data in high performance computing, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["merge_planes"]

Word = Any  # of 64 bits

# Shifts and masks of the three steps that turn eight rows of eight bits each, or of eight bytes, into columns (Warren,
# Hacker's Delight, section 7-3): rows change places that are four apart, two, one.
S1, S2, S4, S8, S16, S32 = (np.uint64(n) for n in (1, 2, 4, 8, 16, 32))
ONES, PAIRS, NIBBLES = (np.uint64(n) for n in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F))
BYTES, WORDS, HALVES = (np.uint64(n) for n in (0x00FF00FF00FF00FF, 0x0000FFFF0000FFFF, 0x00000000FFFFFFFF))


def _swapped(x: Word, y: Word, shift: Word, mask: Word) -> tuple[Word, Word]:
    t = ((x >> shift) ^ y) & mask
    return x ^ (t << shift), y ^ t


def _turned(
    a: Word, b: Word, c: Word, d: Word, e: Word, f: Word, g: Word, h: Word,
    s4: Word, m4: Word, s2: Word, m2: Word, s1: Word, m1: Word,
) -> tuple[Word, ...]:  # fmt: skip
    a, e = swapped(a, e, s4, m4)
    b, f = swapped(b, f, s4, m4)
    c, g = swapped(c, g, s4, m4)
    d, h = swapped(d, h, s4, m4)
    a, c = swapped(a, c, s2, m2)
    b, d = swapped(b, d, s2, m2)
    e, g = swapped(e, g, s2, m2)
    f, h = swapped(f, h, s2, m2)
    a, b = swapped(a, b, s1, m1)
    c, d = swapped(c, d, s1, m1)
    e, f = swapped(e, f, s1, m1)
    g, h = swapped(g, h, s1, m1)
    return a, b, c, d, e, f, g, h


def _merge_planes(low: NDArray[np.uint8], high: NDArray[np.uint8], out: NDArray[np.uint16]) -> None:
    """Fill ``out``, ``(n,)`` with ``n`` a multiple of 64, from eight planes of ``n / 8`` bytes each of both of its bytes."""
    p, q, words = low.view(np.uint64), high.view(np.uint64), out.view(np.uint64)
    n = p.shape[0] // 8
    for i in range(n):  # no loops within, and no part of it elsewhere: so the compiler takes four rounds at once
        x = turned(
            p[i], p[n + i], p[2 * n + i], p[3 * n + i], p[4 * n + i], p[5 * n + i], p[6 * n + i], p[7 * n + i],
            S4, NIBBLES, S2, PAIRS, S1, ONES,
        )  # fmt: skip
        y = turned(
            q[i], q[n + i], q[2 * n + i], q[3 * n + i], q[4 * n + i], q[5 * n + i], q[6 * n + i], q[7 * n + i],
            S4, NIBBLES, S2, PAIRS, S1, ONES,
        )  # fmt: skip
        a = turned(x[0], y[0], x[1], y[1], x[2], y[2], x[3], y[3], S32, HALVES, S16, WORDS, S8, BYTES)
        b = turned(x[4], y[4], x[5], y[5], x[6], y[6], x[7], y[7], S32, HALVES, S16, WORDS, S8, BYTES)
        k = 16 * i
        words[k], words[k + 1], words[k + 2], words[k + 3] = a[0], b[0], a[1], b[1]
        words[k + 4], words[k + 5], words[k + 6], words[k + 7] = a[2], b[2], a[3], b[3]
        words[k + 8], words[k + 9], words[k + 10], words[k + 11] = a[4], b[4], a[5], b[5]
        words[k + 12], words[k + 13], words[k + 14], words[k + 15] = a[6], b[6], a[7], b[7]


def _compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """The function, compiled at its first call; its machine code is kept for later processes where that can be."""
    try:
        return numba.njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return numba.njit(nogil=True, **options)(function)


swapped = _compiled(_swapped)
turned = _compiled(_turned)
merge_planes = _compiled(_merge_planes)
