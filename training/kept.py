"""A matrix that is computed once, a few rows at a time: what was done is kept, so that a killed process is gone on with.

Rows are written to parts as they come, some seconds apart, and joined when all are there; no more than a part is in memory.
Several processes may make the same matrix at once: each part appears whole, and whoever is first has made it for all.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pwcat.atomic import remove_leftovers, replacing

__all__ = ["kept_matrix"]

PART_ROWS = 16_384
PART_SECONDS = 10.0  # of work that a kill may lose


def kept_matrix(
    path: Path,
    compute: Callable[[int], Iterator[NDArray[np.float32]]],
    *,
    shape: tuple[int, int],
    part_rows: int = PART_ROWS,
    part_seconds: float = PART_SECONDS,
) -> NDArray[np.float32]:
    """The matrix of a file, computed where it is not there yet; read as it is used, and changes to it stay in memory.

    Args:
        path: of the file, ``.npy``.
        compute: gives rows from this one on, some at a time, to the last.
        shape: (N, D) of the whole.
        part_rows: rows of a part, at the most.
        part_seconds: work after which a part is written, even if it is smaller.
    """
    parts = path.with_name(f"{path.stem}.parts")
    while not path.is_file():
        parts.mkdir(parents=True, exist_ok=True)
        remove_leftovers(parts)
        try:
            done = sum(len(part) for part in _parts(parts))
            if done < shape[0]:
                assert _fill(parts, compute, done, part_rows=part_rows, part_seconds=part_seconds) > done
            else:
                _join(parts, path, shape)
        except FileNotFoundError:
            if not path.is_file():  # another process has joined the parts, and removed them
                raise
    shutil.rmtree(parts, ignore_errors=True)
    return np.asarray(np.load(path, mmap_mode="c" if shape[0] and shape[1] else None, allow_pickle=False))


def _parts(folder: Path) -> Iterator[NDArray[np.float32]]:
    """The parts that follow each other from the first row on; each is named by its first row."""
    start = 0
    while (path := folder / f"{start:012d}.npy").is_file():
        part = np.load(path, mmap_mode="r", allow_pickle=False)
        yield part
        start += len(part)


def _fill(
    folder: Path,
    compute: Callable[[int], Iterator[NDArray[np.float32]]],
    start: int,
    *,
    part_rows: int,
    part_seconds: float,
) -> int:
    """Write parts from a row on; the row after the last."""
    held: list[NDArray[np.float32]] = []
    since = time.monotonic()

    def write() -> int:
        whole = np.concatenate(held)
        with replacing(folder / f"{start:012d}.npy") as part, part.open("wb") as file:
            np.save(file, whole)
        held.clear()
        return start + len(whole)

    for rows in compute(start):
        held.append(rows)
        if sum(map(len, held)) >= part_rows or time.monotonic() - since >= part_seconds:
            start, since = write(), time.monotonic()
    return write() if held else start


def _join(folder: Path, path: Path, shape: tuple[int, int]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for part in _parts(folder):
            file.write(np.ascontiguousarray(part, dtype="<f4").data)
