"""Numbers of any kind as the cube keeps them, uint16 with 0 for no data, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwcat.providers.records import Encoding

__all__ = ["AS_STORED", "decode", "encode"]

LEAST, MOST = 1, 2**16 - 1

# Of whole numbers that stay as they are: those below 1 are no data.
AS_STORED = Encoding(scale=1.0, offset=0.0, unit="1")


def encode(values: NDArray[np.floating[Any]], encoding: Encoding | None) -> NDArray[np.uint16]:
    """Numbers as the cube keeps them, of the same shape: ``round((value - offset) / scale)``, clipped to 1..65535.

    Args:
        values: of any shape; NaN and infinities are no data, and become 0.
        encoding: with ``decibel``, the value is ``10 log10`` of the number, and numbers that are not above 0 are no data.
            ``None`` keeps whole numbers as they are, 0 being no data.
    """
    if encoding is None:
        return _as_stored(values)
    valid = np.isfinite(values)
    if encoding.transform == "decibel":
        valid &= values > 0
    # In double precision: what a float32 is rounded to must not hang on the order of two float32 roundings
    numbers = np.where(valid, values, 1.0).astype(np.float64)
    if encoding.transform == "decibel":
        numbers = 10 * np.log10(numbers)
    stored = np.clip(np.rint((numbers - encoding.offset) / encoding.scale), LEAST, MOST)
    return np.where(valid, stored, 0).astype(np.uint16)


def decode(stored: NDArray[np.uint16], encoding: Encoding) -> NDArray[np.float32]:
    """Values of the unit of the encoding, ``stored * scale + offset``; NaN where there is no data. Decibels stay decibels."""
    values = stored.astype(np.float64) * encoding.scale + encoding.offset
    return np.where(stored == 0, np.nan, values).astype(np.float32)


def _as_stored(values: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    """Whole numbers from 0 to 65535 as they are."""
    return np.rint(np.where(np.isfinite(values), values, 0).clip(0, MOST)).astype(np.uint16)
