"""From a published row back to pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pwcat.errors import PublishError

__all__ = ["decode"]

# NumPy's byte strings, which these formats make of bytes.
_INSTEAD = (
    'read the rows without with_format("numpy") or with_format("torch"), which cut trailing zero bytes off '
    '(with_format("arrow") keeps them)'
)


def decode(row: Mapping[str, Any] | pa.Table | pa.RecordBatch) -> NDArray[Any]:
    """The chip of a published row as a writable array ``(time, band, y, x)``.

    Args:
        row: A row of the ``chips`` config as ``datasets`` gives it by default, or in its format ``"arrow"``: ``pixels``
            (bytes, C order), ``dtype`` (with its byte order, as ``"<u2"``) and ``shape``.

    Raises:
        PublishError: It is no single row, the dtype is none of numbers, or the bytes are not as many as dtype and shape
            need, or may be cut: ``with_format("numpy")`` and ``with_format("torch")`` do this, as NumPy's byte strings
            lose their trailing zero bytes.
    """
    values = _values(row)
    name = values.get("id", "this row")
    dtype, shape = _dtype(values["dtype"], name), tuple(int(size) for size in values["shape"])
    pixels, expected = values["pixels"], math.prod(shape) * dtype.itemsize
    told = f"the pixels of {name} are"
    if isinstance(pixels, np.bytes_) or not isinstance(pixels, bytes | bytearray | memoryview):
        raise PublishError(f"{told} {type(pixels).__name__}, but plain bytes are due: {_INSTEAD}")
    if len(pixels) != expected:
        raise PublishError(f"{told} {len(pixels)} bytes, but {shape} of {dtype} are {expected} bytes: {_INSTEAD}")
    return np.frombuffer(pixels, dtype).reshape(shape).copy()


def _values(row: Mapping[str, Any] | pa.Table | pa.RecordBatch) -> dict[str, Any]:
    """What is needed of a row, as Python's own values.

    Raises:
        PublishError: It is not one row, or lacks some of it.
    """
    columns = list(row.column_names) if isinstance(row, pa.Table | pa.RecordBatch) else list(row)
    if missing := [name for name in ("pixels", "dtype", "shape") if name not in columns]:
        raise PublishError(
            f"a row has pixels, dtype and shape, and this one lacks {', '.join(missing)}: read these columns too"
        )
    asked = [name for name in ("id", "pixels", "dtype", "shape") if name in columns]
    if isinstance(row, pa.Table | pa.RecordBatch):
        if row.num_rows != 1:
            raise PublishError(
                f"decode takes one row at a time, and this table has {row.num_rows}: give table.slice(i, 1)"
            )
        return {name: row.column(name)[0].as_py() for name in asked}
    return {name: row[name].as_py() if isinstance(row[name], pa.Scalar) else row[name] for name in asked}


def _dtype(text: Any, name: Any) -> np.dtype[Any]:
    """The type of the pixels.

    Raises:
        PublishError: It is none of numbers of a known byte order.
    """
    try:
        dtype = np.dtype(str(text))
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "iuf":
        raise PublishError(f"the pixels of {name} are said to be {text!r}: known are integers and floats such as '<u2'")
    return dtype
