"""From a published row back to pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwcat.errors import PublishError

__all__ = ["decode"]


def decode(row: Mapping[str, Any]) -> NDArray[Any]:
    """The chip of a published row as a writable array ``(time, band, y, x)``.

    Args:
        row: A row of the ``chips`` config as ``datasets`` gives it by default: ``pixels`` (bytes, C order), ``dtype``
            (with its byte order, as ``"<u2"``) and ``shape``.

    Raises:
        PublishError: The bytes are not as many as dtype and shape need. ``with_format("numpy")`` and
            ``with_format("torch")`` do this: NumPy's byte strings lose their trailing zero bytes.
    """
    pixels, dtype, shape = row["pixels"], np.dtype(str(row["dtype"])), tuple(int(size) for size in row["shape"])
    expected = math.prod(shape) * dtype.itemsize
    if not isinstance(pixels, bytes) or len(pixels) != expected:
        got = f"{len(pixels)} bytes" if isinstance(pixels, bytes) else type(pixels).__name__
        raise PublishError(
            f"the pixels of {row.get('id', 'this row')} are {got}, but {shape} of {dtype} are {expected} bytes: read the "
            'rows without with_format("numpy") or with_format("torch"), which cut trailing zero bytes off'
        )
    return np.frombuffer(pixels, dtype).reshape(shape).copy()
