"""Pickles of strangers read as data: nothing that they name is imported, and nothing of theirs is run.

GEO-Bench keeps what is known of a sample as a pickle, which could run any code when it is opened. Here each class that such a
pickle names becomes a :class:`Named`, which keeps what it is given and does nothing with it; a pickle that names anything else
than the benchmark's own classes and those of numbers, dates and places is refused.
"""

from __future__ import annotations

import ast
import io
import math
import pickle
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwcat.errors import TrainingError

__all__ = ["Named", "array_of", "day_of", "numbers_of", "read_pickle", "read_text_pickle"]

MOST_BYTES = 4 << 20

# Packages under whose names the benchmark's classes have been written.
PACKAGES = ("geobench", "ccb", "make_benchmark")
OTHERS = {
    ("affine", "Affine"),
    ("rasterio.crs", "CRS"),
    ("rasterio._crs", "_CRS"),
    ("datetime", "date"),
    ("datetime", "datetime"),
    ("collections", "OrderedDict"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}


class Named:
    """An object of a pickle, as what the pickle says of it.

    Attributes:
        of: module and name of its class or function, joined by a dot.
        arguments: that it was made of.
        state: that it was given.
    """

    of = ""
    arguments: tuple[Any, ...] = ()
    state: Any = None

    def __new__(cls, *arguments: Any, **_: Any) -> Named:
        """Made by some pickles, which never call ``__init__``."""
        made = super().__new__(cls)
        made.arguments = arguments
        return made

    def __init__(self, *arguments: Any, **_: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """An ordered dictionary's items; nothing here needs them."""

    def get(self, name: str, default: Any = None) -> Any:
        """A field of an object whose state is its fields."""
        return self.state.get(name, default) if isinstance(self.state, dict) else default


def _encoded(text: object, kind: object = "latin1") -> bytes:
    """Bytes, as old pickles write them."""
    if not isinstance(text, str) or kind != "latin1":
        raise pickle.UnpicklingError("it encodes what is no text")
    return text.encode("latin1")


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """What stands for a class or function of this name; nothing is looked for, or imported."""
        if (module, name) == ("_codecs", "encode"):
            return _encoded
        if module.partition(".")[0] not in PACKAGES and (module, name) not in OTHERS:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return type("Named", (Named,), {"of": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Any:
        """Refused: such pickles are not whole by themselves."""
        raise pickle.UnpicklingError("it names things outside itself")


def read_pickle(data: bytes, *, what: str) -> Any:
    """What a pickle holds: plain values, and :class:`Named` for all else.

    Args:
        data: the pickle.
        what: it is, for the error.

    Raises:
        TrainingError: it is damaged, or names what is none of the benchmark's.
    """
    if len(data) > MOST_BYTES:
        raise TrainingError(f"{what} is {len(data):,} bytes long, and the official ones are below {MOST_BYTES:,}")
    try:
        return _Reader(io.BytesIO(data)).load()
    except Exception as exc:  # a damaged pickle raises anything
        raise TrainingError(
            f"{what} is damaged, or not the official one: {exc}; it was read as data, and nothing was run"
        ) from exc


def read_text_pickle(text: object, *, what: str) -> Any:
    """The same of a pickle that was written as Python writes bytes.

    Raises:
        TrainingError: see :func:`read_pickle`.
    """
    if isinstance(text, bytes | np.bytes_):
        text = bytes(text).decode("ascii", errors="replace")
    if not isinstance(text, str) or len(text) > 4 * MOST_BYTES:
        raise TrainingError(f"{what} is no text, or too long to be the official one")
    try:
        data = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as exc:
        raise TrainingError(f"{what} is damaged, or not the official one: it is no bytes literal") from exc
    if not isinstance(data, bytes):
        raise TrainingError(f"{what} is damaged, or not the official one: it is no bytes literal")
    return read_pickle(data, what=what)


def numbers_of(value: Any, count: int) -> tuple[float, ...] | None:
    """The first numbers that an object was made of, such as those of an affine transform; ``None`` where it has none."""
    given = value.arguments if isinstance(value, Named) else value
    if isinstance(given, tuple | list) and len(given) >= count:
        first = given[:count]
        if all(isinstance(one, int | float) and math.isfinite(one) for one in first):
            return tuple(float(one) for one in first)
    return None


def array_of(value: Any) -> NDArray[np.generic] | None:
    """A NumPy array or number of plain type, or a list, as an array; ``None`` where it is none."""
    if isinstance(value, bool | int | float | list | tuple):
        try:
            return np.asarray(value)
        except ValueError:
            return None
    if not isinstance(value, Named):
        return None
    if value.of.endswith("multiarray.scalar") and len(value.arguments) == 2:
        kind, data = _dtype(value.arguments[0]), value.arguments[1]
        return np.frombuffer(data, dtype=kind)[0] if kind is not None and isinstance(data, bytes) else None
    if value.of.endswith("_frombuffer") and len(value.arguments) == 4:
        data, described, shape, order = value.arguments
        return _array(data, described, shape, fortran=order == "F")
    if value.of.endswith("_reconstruct") and isinstance(value.state, tuple) and len(value.state) == 5:
        _, shape, described, fortran, data = value.state
        return _array(data, described, shape, fortran=bool(fortran))
    return None


def _array(data: Any, described: Any, shape: Any, *, fortran: bool) -> NDArray[np.generic] | None:
    kind = _dtype(described)
    if kind is None or not isinstance(data, bytes | bytearray) or not isinstance(shape, tuple):
        return None
    if not all(isinstance(side, int) and side >= 0 for side in shape) or len(data) != kind.itemsize * math.prod(shape):
        return None
    return np.frombuffer(data, dtype=kind).reshape(shape, order="F" if fortran else "C")


def _dtype(value: Any) -> np.dtype[Any] | None:
    if not isinstance(value, Named) or value.of != "numpy.dtype" or not value.arguments:
        return None
    name = value.arguments[0]
    if not isinstance(name, str) or name[:1] not in "biuf" or not name[1:].isdigit():
        return None
    big = isinstance(value.state, tuple) and len(value.state) > 1 and value.state[1] == ">"
    return np.dtype(f"{'>' if big else '<'}{name}")


def day_of(value: Any) -> int | None:
    """Seconds from 1970-01-01 UTC to the midnight of a date; ``None`` where it is none."""
    if not isinstance(value, Named) or value.of not in ("datetime.date", "datetime.datetime") or not value.arguments:
        return None
    data = value.arguments[0]
    if not isinstance(data, bytes) or len(data) < 4:
        return None
    try:
        return int(datetime(data[0] * 256 + data[1], data[2] & 0x7F, data[3], tzinfo=UTC).timestamp())
    except ValueError:
        return None
