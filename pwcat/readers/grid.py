"""Where chips lie on a file's own grid of pixels, and how coarser pixels come onto the chips' grid: as GDAL's warper does it.

The sums are of whole numbers, so a chip is the same bytes whatever it is read together with. GDAL's are of floating point:
where a bilinear value ends in exactly one half, its answer hangs on the window that it was asked for. Here a half goes up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pwcat.recipe import Chip

__all__ = ["Grid", "Placement", "interpolate", "place"]

# Corners and pixel sizes come as floats: so far from a whole pixel still counts as on it.
TOLERANCE_PX = 1e-4


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The pixels of one file: upright, square.

    Attributes:
        epsg: CRS.
        left: easting of the upper-left corner.
        top: northing of it.
        gsd: side of a pixel, in units of the CRS.
        width: columns.
        height: rows.
        nodata: value of pixels without data.
    """

    epsg: int
    left: float
    top: float
    gsd: float
    width: int
    height: int
    nodata: int | None


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Which pixels of a file chips are made of.

    Attributes:
        rows: of the file, for each row that is read of each chip, ``(n, side)``; may lie outside the file.
        columns: the same.
        scale: pixels of the chip along a pixel of the file; 1 where the chip's are as large or larger.
        first_row: of each chip on a grid of the chip's pixels that begins where the file does, ``(n,)``.
        first_column: the same.
        bilinear: whether what is read is yet to be interpolated.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    scale: int
    first_row: NDArray[np.int64]
    first_column: NDArray[np.int64]
    bilinear: bool


def place(grid: Grid, corners: Sequence[tuple[float, float]], chip: Chip) -> Placement | None:
    """Chips on a file's grid; ``None`` where their pixels do not fit into one another, or only GDAL's filter would do.

    Args:
        grid: of the file, in the CRS of the corners.
        corners: easting and northing of each chip's upper-left corner.
        chip: size, resolution, resampling.
    """
    finer, coarser = grid.gsd / chip.resolution_m, chip.resolution_m / grid.gsd
    scale, step = _whole(finer), _whole(coarser)
    x, y = np.array(corners, dtype=np.float64).reshape(-1, 2).T
    side = chip.resolution_m
    across, down = (x - grid.left) / side, (grid.top - y) / side
    first_column, first_row = np.rint(across).astype(np.int64), np.rint(down).astype(np.int64)
    aligned = np.abs(np.concatenate([across - first_column, down - first_row])).max(initial=0.0) < TOLERANCE_PX
    if not aligned or (scale is None and step is None):
        return None
    bilinear = chip.resampling == "bilinear" and scale != 1
    if bilinear and scale is None:
        return None
    return Placement(
        rows=_indices(first_row, chip.size_px, scale, step, bilinear=bilinear),
        columns=_indices(first_column, chip.size_px, scale, step, bilinear=bilinear),
        scale=scale or 1,
        first_row=first_row,
        first_column=first_column,
        bilinear=bilinear,
    )


def _whole(ratio: float) -> int | None:
    whole = round(ratio)
    return whole if whole >= 1 and abs(ratio - whole) < TOLERANCE_PX / 100 else None


def _indices(
    first: NDArray[np.int64], size: int, scale: int | None, step: int | None, *, bilinear: bool
) -> NDArray[np.int64]:
    """Pixels of the file along one axis, ``(n, side)``, for chips that begin at ``first`` in their own pixels."""
    if scale is None:
        assert step is not None
        return np.asarray((first[:, None] + np.arange(size)) * step + step // 2)
    if bilinear:
        start = _left_of(first, scale)[0]
        return np.asarray(start[:, None] + np.arange((size - 1) // scale + 3))
    return np.asarray((first[:, None] + np.arange(size)) // scale)


def _left_of(position: NDArray[np.int64], scale: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The file's pixel whose centre is left of (or at) that of a chip's pixel, and how far: in ``2 * scale`` ths of a pixel."""
    return np.divmod(2 * position + 1 - scale, 2 * scale)


def interpolate(windows: NDArray[np.uint16], placement: Placement, *, grid: Grid, out: NDArray[np.uint16]) -> None:
    """Chips from windows of a file, bilinear.

    Pixels without data take no part; a chip's pixel whose nearest pixel has no data, or that lies outside the file, is 0.

    Args:
        windows: the pixels of ``placement``, ``(n, side, side)``; what lies outside the file may hold anything.
        placement: of the chips.
        grid: of the file.
        out: the chips, ``(n, size, size)``.
    """
    scale, size_px = placement.scale, out.shape[-1]
    for number, window in enumerate(windows):
        rows = _Axis.of(int(placement.first_row[number]), size_px, scale, grid.height)
        columns = _Axis.of(int(placement.first_column[number]), size_px, scale, grid.width)
        out[number] = _interpolate(window, rows, columns, grid.nodata)


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """How a chip's pixels lie between those of its window, along one axis, ``(size,)`` each.

    Attributes:
        near: index in the window of the pixel to the left.
        weights: whole numbers of that pixel and the next; none for pixels outside the file, ``(2, size)``.
        nearest: index in the window of the pixel that the chip's pixel lies in.
        inside: whether that is one of the file's.
    """

    near: NDArray[np.int64]
    weights: NDArray[np.int64]
    nearest: NDArray[np.int64]
    inside: NDArray[np.bool_]

    @classmethod
    def of(cls, first: int, size: int, scale: int, length: int) -> _Axis:
        position = first + np.arange(size, dtype=np.int64)
        left, part = _left_of(position, scale)
        start, holder = left[0], position // scale
        right = left + 1
        return cls(
            near=left - start,
            weights=np.stack(
                [(2 * scale - part) * ((left >= 0) & (left < length)), part * ((right >= 0) & (right < length))]
            ),
            nearest=holder - start,
            inside=(holder >= 0) & (holder < length),
        )


def _interpolate(window: NDArray[np.uint16], rows: _Axis, columns: _Axis, nodata: int | None) -> NDArray[np.uint16]:
    valid = np.ones(window.shape, dtype=np.int64) if nodata is None else (window != nodata).astype(np.int64)
    total = _weigh(window * valid, rows, columns)
    weight = _weigh(valid, rows, columns)
    kept = rows.inside[:, None] & columns.inside[None] & (valid[np.ix_(rows.nearest, columns.nearest)] > 0)
    value = (2 * total + weight) // np.maximum(2 * weight, 1)
    return np.where(kept, value, 0).astype(np.uint16)


def _weigh(values: NDArray[np.int64], rows: _Axis, columns: _Axis) -> NDArray[np.int64]:
    """Sums of the four pixels around each of a chip's, by their weights."""
    across = values[:, columns.near] * columns.weights[0] + values[:, columns.near + 1] * columns.weights[1]
    return across[rows.near] * rows.weights[0][:, None] + across[rows.near + 1] * rows.weights[1][:, None]
