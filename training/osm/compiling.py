"""Loops over numbers, compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numba

__all__ = ["compiled"]

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """The function without the interpreter's lock; its machine code is kept for later processes where that can be."""
    try:
        kept: F = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        kept = numba.njit(nogil=True)(function)
    return kept
