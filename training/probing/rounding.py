"""Unit vectors in few bits, about the point they lie around, and what rounding took of each.

Shapes: N vectors of length D.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numba
import numpy as np
import torch
from torch import Tensor

__all__ = ["Bits", "Rounded", "compiled", "measure_lengths", "round_to"]

# What products are of: bfloat16 keeps 8 bits of each number, int8 seven and a sign of each number by the vector's largest.
Bits = Literal["float32", "bfloat16", "int8"]
TYPES: dict[Bits, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """Vectors ``v - c`` about a centre ``c``, rounded.

    Attributes:
        values_ND: the rounded vectors; int8 in steps of ``step_N``.
        step_N: of a vector of int8; 1 of the others.
        lost_N: length of what rounding took of each.
        rounded_N: length of each rounded vector.
        length_N: length of each before.
        along_N: its product with the centre.
    """

    values_ND: Tensor
    step_N: np.ndarray
    lost_N: np.ndarray
    rounded_N: np.ndarray
    length_N: np.ndarray
    along_N: np.ndarray

    @classmethod
    def empty(cls, shape: tuple[int, int], bits: Bits) -> Rounded:
        """Room for vectors, to be filled by :func:`round_to`."""
        step, lost, rounded, length, along = np.ones((5, shape[0]), dtype=np.float32)
        return cls(
            values_ND=torch.empty(shape, dtype=TYPES[bits]),
            step_N=step,
            lost_N=lost,
            rounded_N=rounded,
            length_N=length,
            along_N=along,
        )

    @property
    def numbers_ND(self) -> np.ndarray:
        """The rounded vectors as NumPy holds them: bfloat16 by its bits, as int16."""
        halves = self.values_ND.dtype == torch.bfloat16
        return (self.values_ND.view(torch.int16) if halves else self.values_ND).numpy()


def compiled(function: Callable[..., Any], *, numbers: bool = False) -> Callable[..., Any]:
    """The function without the interpreter's lock; its machine code is kept for later processes where that can be.

    Args:
        function: of NumPy arrays and numbers. Sums may be taken in any order.
        numbers: that nothing is NaN may be relied on.
    """
    fastmath = {"nsz", "reassoc", "contract"} | ({"nnan"} if numbers else set())
    options: dict[str, Any] = {"nogil": True, "fastmath": fastmath}
    try:
        kept: Callable[..., Any] = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        kept = numba.njit(**options)(function)
    return kept


def round_to(
    bits: Bits, here: slice, into: Rounded, vectors_ND: np.ndarray, lengths_N: np.ndarray, centre_D: np.ndarray
) -> None:
    """Fill some rows of ``into`` with these vectors made as long as 1, less the centre, in so many bits."""
    inverse_N = (1 / lengths_N[here]).astype(np.float32)
    about = (into.lost_N[here], into.rounded_N[here], into.length_N[here], into.along_N[here])
    numbers = into.numbers_ND[here]
    if bits == "float32":
        _to_float32(vectors_ND[here], inverse_N, centre_D, numbers, about)
    elif bits == "bfloat16":
        _to_bfloat16(vectors_ND[here], inverse_N, centre_D, numbers, about)
    else:
        _to_int8(vectors_ND[here], inverse_N, centre_D, numbers, into.step_N[here], about)


@compiled
def measure_lengths(vectors: np.ndarray, lengths: np.ndarray) -> None:
    """Lengths of vectors, in double precision."""
    for n in range(len(vectors)):
        total = 0.0
        for d in range(vectors.shape[1]):
            total += np.float64(vectors[n, d]) * np.float64(vectors[n, d])
        lengths[n] = np.sqrt(total)


@compiled
def _centred(vector: np.ndarray, inverse: float, centre: np.ndarray, row: np.ndarray) -> tuple[float, float]:
    length, along = np.float32(0), 0.0
    for d in range(len(row)):
        value = vector[d] * inverse - centre[d]
        row[d] = value
        length += value * value
        along += np.float64(value) * np.float64(centre[d])
    return np.sqrt(length), along


@compiled
def _to_float32(
    vectors: np.ndarray,
    inverse: np.ndarray,
    centre: np.ndarray,
    numbers: np.ndarray,
    about: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    lost, rounded, length, along = about
    for n in range(len(vectors)):
        length[n], along[n] = _centred(vectors[n], inverse[n], centre, numbers[n])
        lost[n], rounded[n] = 0, length[n]


@compiled
def _to_bfloat16(
    vectors: np.ndarray,
    inverse: np.ndarray,
    centre: np.ndarray,
    numbers: np.ndarray,
    about: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    lost, rounded, length, along = about
    row, back = np.empty(vectors.shape[1], np.float32), np.empty(vectors.shape[1], np.float32)
    row_bits, back_bits = row.view(np.int32), back.view(np.int32)
    for n in range(len(vectors)):
        length[n], along[n] = _centred(vectors[n], inverse[n], centre, row)
        for d in range(len(row)):  # to the nearest of the numbers whose lower 16 bits are 0, of two the even one
            kept = (row_bits[d] + np.int32(0x7FFF) + ((row_bits[d] >> np.int32(16)) & np.int32(1))) >> np.int32(16)
            numbers[n, d] = np.int16(kept)
            back_bits[d] = kept << np.int32(16)
        lost[n], rounded[n] = _apart(row, back), _apart(back, np.zeros_like(back))


@compiled
def _to_int8(
    vectors: np.ndarray,
    inverse: np.ndarray,
    centre: np.ndarray,
    numbers: np.ndarray,
    step: np.ndarray,
    about: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    lost, rounded, length, along = about
    row, back = np.empty(vectors.shape[1], np.float32), np.empty(vectors.shape[1], np.float32)
    for n in range(len(vectors)):
        length[n], along[n] = _centred(vectors[n], inverse[n], centre, row)
        largest = np.float32(0)
        for d in range(len(row)):
            largest = max(largest, abs(row[d]))
        step[n] = largest / np.float32(127) if largest > 0 else np.float32(1)
        for d in range(len(row)):
            kept = np.rint(row[d] / step[n])
            numbers[n, d] = np.int8(kept)
            back[d] = kept * step[n]
        lost[n], rounded[n] = _apart(row, back), _apart(back, np.zeros_like(back))


@compiled
def _apart(one: np.ndarray, other: np.ndarray) -> np.floating:
    total = np.float32(0)
    for d in range(len(one)):
        total += (one[d] - other[d]) * (one[d] - other[d])
    length: np.floating = np.sqrt(total)
    return length
