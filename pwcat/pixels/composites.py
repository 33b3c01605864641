"""Dates that are made of several scenes: which scenes these are, and the median of their pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["Stacks", "columns_to_read", "median", "scenes_by_date", "scenes_by_row", "usable"]


def columns_to_read(table: pa.Table) -> list[str]:
    """Columns of a plan that say what is read: the scenes, those of composites where there are any, and the corner."""
    return [name for name in ("scene_ids", "composite_ids", "x0", "y0") if name in table.column_names]


def scenes_by_date(row: Mapping[str, Any]) -> list[list[str]]:
    """All scenes of each date of a plan's row, the nearest first."""
    composites: list[list[str]] | None = row.get("composite_ids")
    return [[name] for name in row["scene_ids"]] if composites is None else composites


def scenes_by_row(table: pa.Table) -> tuple[pa.Array, NDArray[np.int64]]:
    """Ids of all scenes of a plan's rows, one after the other, and how many each row has, ``(n,)``."""
    rows = table["composite_ids" if "composite_ids" in table.column_names else "scene_ids"].combine_chunks()
    ends = np.concatenate([[0], np.cumsum(rows.value_lengths().to_numpy())])
    names = rows.flatten()
    if pa.types.is_list(names.type):
        ends = np.concatenate([[0], np.cumsum(names.value_lengths().to_numpy())])[ends]
        names = names.flatten()
    return names, np.diff(ends)


def usable(dn: NDArray[np.uint16], *, offset: int, clear: NDArray[np.bool_] | None) -> NDArray[np.uint16]:
    """Harmonised pixels of one scene; 0 where they are not to count, because there is no data or the view is not clear.

    Args:
        dn: ``(band, y, x)`` as stored.
        offset: to be removed.
        clear: ``(y, x)`` where neither cloud nor shadow is; everywhere where ``None``.
    """
    kept = dn > offset if clear is None else (dn > offset) & clear
    return np.where(kept, dn - offset, 0).astype(np.uint16)


def median(stack: Sequence[NDArray[np.uint16]]) -> NDArray[np.uint16]:
    """The median of scenes, pixel by pixel and band by band, 0 being no data; of the shape of each.

    Of an even number of values it is the mean of the two in the middle, a half rounded up: ``(a + b + 1) // 2``. It does not
    hang on the order of the scenes. Where no scene has data it is 0.
    """
    ordered = np.sort(np.stack(stack), axis=0)  # what has no data first
    blank = (ordered == 0).sum(axis=0)
    low = np.minimum(blank + (len(ordered) - blank - 1) // 2, len(ordered) - 1)
    high = np.minimum(blank + (len(ordered) - blank) // 2, len(ordered) - 1)
    pair = [np.take_along_axis(ordered, index[None], axis=0)[0].astype(np.uint32) for index in (low, high)]
    return ((pair[0] + pair[1] + 1) // 2).astype(np.uint16)


class Stacks:
    """Scenes of the dates of some samples as they come in, kept until a date has all of its.

    Args:
        rows: of the plan.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._wanted = [[len(names) for names in scenes_by_date(row)] for row in rows]
        self._there: dict[tuple[int, int], list[NDArray[np.uint16]]] = {}

    def add(self, row: int, date: int, pixels: NDArray[np.uint16]) -> NDArray[np.uint16] | None:
        """The median of a sample's date, once this was the last of its scenes.

        Args:
            row: of the sample.
            date: which of its dates.
            pixels: ``(band, y, x)`` of :func:`usable`.
        """
        stack = self._there.setdefault((row, date), [])
        stack.append(pixels)
        if len(stack) < self._wanted[row][date]:
            return None
        return median(self._there.pop((row, date)))

    def forget(self, row: int) -> None:
        """Drop what there is of a sample that will not be finished."""
        for key in [key for key in self._there if key[0] == row]:
            del self._there[key]
