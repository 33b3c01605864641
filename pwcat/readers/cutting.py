"""Tiles of a file cut into the chips that touch them, one by one, so that no more than one tile need be held."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwcat.readers.grid import Grid, Placement, interpolate

__all__ = ["Cuts"]


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """A part of a tile that goes into a chip: pixels along each axis, counted in the tile, and where they go."""

    chip: int
    rows: slice | NDArray[np.int64]
    columns: slice | NDArray[np.int64]
    target: tuple[slice, slice]


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """How some chips lie in files of one grid and tiling.

    Attributes:
        placement: of the chips on the grid.
        grid: of the files.
        of_tile: cuts by tile, tiles counted row by row.
    """

    placement: Placement
    grid: Grid
    of_tile: dict[int, list[_Cut]]

    @classmethod
    def plan(cls, placement: Placement, grid: Grid, tile: tuple[int, int]) -> Cuts:
        """The cuts of files with tiles of so many rows and columns."""
        of_tile: dict[int, list[_Cut]] = {}
        tiles_across = -(-grid.width // tile[1])
        for chip in range(len(placement.rows)):
            down = _parts(placement.rows[chip], tile[0], grid.height)
            across = _parts(placement.columns[chip], tile[1], grid.width)
            for row, rows, into_rows in down:
                for column, columns, into_columns in across:
                    cut = _Cut(chip=chip, rows=rows, columns=columns, target=(into_rows, into_columns))
                    of_tile.setdefault(row * tiles_across + column, []).append(cut)
        return cls(placement=placement, grid=grid, of_tile=of_tile)

    def target(self, chips: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """What tiles are to be cut into: the chips themselves, ``(n, y, x)``, or windows that are yet to be interpolated."""
        if not self.placement.bilinear:
            return chips
        side = self.placement.rows.shape[1]
        return np.zeros((len(chips), side, side), dtype=np.uint16)

    def rows(self, tile: int) -> slice:
        """Rows of a tile from the first that is wanted to the last."""
        ends = [_ends(cut.rows) for cut in self.of_tile[tile]]
        return slice(min(first for first, _ in ends), max(last for _, last in ends) + 1)

    def cut(self, tile: int, pixels: NDArray[Any], *, into: NDArray[np.uint16], first: int = 0) -> None:
        """Copy the parts of a tile to where they go; pixels without data become 0, unless interpolation is to see them.

        Args:
            tile: its number.
            pixels: of the tile from a row on, ``(y, x)``.
            into: what :meth:`target` gave.
            first: that row.
        """
        nodata = self.grid.nodata
        for cut in self.of_tile[tile]:
            part = pixels[_less(cut.rows, first)][:, cut.columns]
            if nodata and not self.placement.bilinear:
                part = np.where(part == nodata, 0, part)
            into[cut.chip][cut.target] = part

    def finish(self, target: NDArray[np.uint16], chips: NDArray[np.uint16]) -> None:
        """Make chips of windows, once all tiles are cut."""
        if self.placement.bilinear:
            interpolate(target, self.placement, grid=self.grid, out=chips)


def _parts(index: NDArray[np.int64], tile: int, length: int) -> list[tuple[int, slice | NDArray[np.int64], slice]]:
    """Rising pixel indices by tile: the tile, the indices counted in it, and their places; those outside are left out."""
    start, stop = np.searchsorted(index, (0, length))
    if start == stop:
        return []
    tiles = np.arange(index[start] // tile, index[stop - 1] // tile + 1)
    edges = [start, *np.searchsorted(index[:stop], tiles[1:] * tile), stop]
    return [
        (int(number), _slice(index[a:b] - number * tile), slice(int(a), int(b)))
        for number, (a, b) in zip(tiles, pairwise(edges), strict=True)
        if a < b
    ]


def _ends(rows: slice | NDArray[np.int64]) -> tuple[int, int]:
    """The first and the last of some rows."""
    numbers = range(rows.stop)[rows] if isinstance(rows, slice) else rows
    return int(numbers[0]), int(numbers[-1])


def _less(rows: slice | NDArray[np.int64], first: int) -> slice | NDArray[np.int64]:
    """The same rows, counted from another."""
    return slice(rows.start - first, rows.stop - first, rows.step) if isinstance(rows, slice) else rows - first


def _slice(index: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """Indices as a slice where they go up by one step; that is faster."""
    step = int(index[1] - index[0]) if len(index) > 1 else 1
    first, last = int(index[0]), int(index[-1])
    even = step > 0 and last - first == step * (len(index) - 1) and bool((np.diff(index) == step).all())
    return slice(first, last + 1, step) if even else index
