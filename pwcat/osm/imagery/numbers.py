"""Numbers of images as the cube keeps them: uint16, 0 for no data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwcat.cube import OFFSET, SCALE
from pwcat.errors import SourceError

__all__ = ["as_stored", "meaning_of", "require_depth"]

_DTYPES = {8: ("uint8",), 16: ("uint8", "uint16")}


def meaning_of(depth: int) -> tuple[float, float]:
    """Scale and offset by which a cube's numbers become values: of 8 bits from 0 to 1, of 16 as reflectance is kept."""
    return (1 / 255, -1 / 255) if depth == 8 else (SCALE, OFFSET)


def as_stored(values: NDArray[np.floating[Any]], depth: int) -> NDArray[np.uint16]:
    """Numbers of images, NaN where there is no data, as the cube keeps them.

    Black is a number as any other where there are 8 bits: each is kept one higher. Of 16 bits 0 is no data.
    """
    shift = 1 if depth == 8 else 0
    numbers = np.rint(np.where(np.isfinite(values), values, -shift)) + shift
    return np.asarray(numbers.clip(0, 2**depth - 1 + shift), dtype=np.uint16)


def require_depth(dtype: str, depth: int, *, where: str) -> None:
    """See that a file's numbers are of as many bits as the recipe says.

    Raises:
        SourceError: they are not.
    """
    if dtype not in _DTYPES[depth]:
        other = next((bits for bits, kinds in _DTYPES.items() if dtype in kinds), None)
        todo = f"say `depth: {other}`" if other else "make it uint8 or uint16"
        raise SourceError(f"{where}: its numbers are {dtype}, and `images.depth` is {depth}; {todo}")
