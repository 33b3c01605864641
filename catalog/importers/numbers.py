"""Numbers of foreign datasets as the cube has them: uint16 DN, reflectance times 10,000, and 0 where there is no data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["UnlikelyValuesError", "remove_offset", "to_dn", "valid_fraction"]

# Reflectance stored as a fraction hardly exceeds this; DN of a chip whose brightest pixel is darker are no image.
MOST_REFLECTANCE = 10.0


class UnlikelyValuesError(ValueError):
    """Values that cannot be DN: fractions, most likely, which need a scale."""


def to_dn(
    values: NDArray[np.generic], *, nodata: float | None = None, scale: float | None = None
) -> NDArray[np.uint16]:
    """Values of any type as uint16 DN; NaN, ``nodata`` and what is negative become 0, no data.

    Args:
        values: of any shape.
        nodata: the value that stands for no data, beside 0.
        scale: what values are multiplied by.

    Raises:
        UnlikelyValuesError: they are fractions with a part behind the point, and no scale is given.
    """
    if np.issubdtype(values.dtype, np.integer) and scale in (None, 1.0):
        dn: NDArray[np.uint16] = np.asarray(np.clip(values, 0, 2**16 - 1), dtype=np.uint16)
        if nodata not in (None, 0):
            dn[values == nodata] = 0
        return dn
    numbers = values.astype(np.float64)
    gone = ~np.isfinite(numbers) | (numbers == nodata) if nodata is not None else ~np.isfinite(numbers)
    numbers[gone] = 0
    if scale is None and np.issubdtype(values.dtype, np.floating):
        most = float(numbers.max(initial=0.0))
        if 0 < most <= MOST_REFLECTANCE and (numbers % 1).any():
            raise UnlikelyValuesError("values are fractions, not numbers of 0 to 10,000: give --scale 10000")
    return np.clip(np.rint(numbers * (scale or 1.0)), 0, 2**16 - 1).astype(np.uint16)


def remove_offset(dn: NDArray[np.uint16], offset: int) -> NDArray[np.uint16]:
    """DN without an offset, as builds remove it: what is not above it becomes 0, no data."""
    return np.where(dn > offset, dn - np.uint16(offset), 0).astype(np.uint16) if offset else dn


def valid_fraction(chip_TBHW: NDArray[np.uint16]) -> float:
    """Share of pixels that have data in every band and date, as builds tell it."""
    return float((chip_TBHW > 0).all(axis=(0, 1)).mean())
