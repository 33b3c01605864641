"""Functions of NumPy arrays made machine code: at their first call, and kept for later processes where that can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

__all__ = ["compiled"]


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """The function, compiled at its first call, without the interpreter's lock.

    Args:
        function: of NumPy arrays and numbers.
        options: of ``numba.njit``, besides.
    """
    try:
        kept: Callable[..., Any] = numba.njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        kept = numba.njit(nogil=True, **options)(function)
    return kept
