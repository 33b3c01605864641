"""Numbers of official files as pwcat keeps pixels: reflectance times 10,000 in unsigned words, 0 where there is none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["HIGHEST", "digital"]

HIGHEST = 65535


def digital(values: NDArray[np.generic], *, scale: float = 1.0) -> NDArray[np.uint16]:
    """Digital numbers of values: multiplied and rounded, at least 1 where they are positive, else 0: no data.

    NaN, infinities, zero and negative reflectance, which atmospheric correction leaves in deep shadow, are no data.

    Args:
        values: of any shape and type.
        scale: what makes them reflectance times 10,000.
    """
    if values.dtype == np.uint16 and scale == 1:
        return np.asarray(values, dtype=np.uint16)
    if values.dtype == np.int16 and scale == 1:
        return np.asarray(np.maximum(values, 0)).view(np.uint16)
    numbers = np.multiply(values, np.float32(scale), dtype=np.float32)
    there = (numbers > 0) & (numbers < np.inf)
    kept = np.clip(np.rint(numbers, out=numbers), 1, HIGHEST, out=numbers)
    return np.where(there, kept, np.float32(0)).astype(np.uint16)
