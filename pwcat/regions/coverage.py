"""Cells of the global grid that pixels of a raster touch: along parallels and meridians, through a projection, or at most."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray

from pwcat.regions.cells import CELL_DEG, SHAPE, cell_of

__all__ = ["cells_of_upright", "cells_through", "cells_under"]

# Part of a pixel by which it is taken for smaller when it is laid on cells, so that rounding makes it touch no neighbour.
SLACK = 1e-6

# Squares of the globe that are held against a raster, by side in cells: 1°, 0.25° and the cells themselves.
SIDES = (20, 5, 1)

# Squares of one side that are held against a raster at most, a second or two; where there would be more, the coarser ones
# stand. All of 0.25° may be.
MOST_SQUARES = 1_100_000

# Part of a square's image by which it is taken for larger: edges are curved, and a map may be cut within the square.
MARGIN, MARGIN_WHERE_UNKNOWN = 0.1, 0.25

# Corners of a square and middles of its edges, in sides; and a lattice, for a square of which a part has no image.
RIM = np.array([(0, 0), (0.5, 0), (1, 0), (1, 0.5), (1, 1), (0.5, 1), (0, 1), (0, 0.5)])
LATTICE = np.stack(np.meshgrid(np.linspace(0, 1, 9), np.linspace(0, 1, 9)), axis=2).reshape(-1, 2)

# Longitudes end a little before ±180°, so that a square beside the antimeridian has its image on one side of the map.
FARTHEST_EAST = 180 - 1e-9

# Blocks of pixels that are kept apart, at most; of a larger raster several pixels make a block.
MOST_BLOCKS = 4_000_000


# Columns and rows of points.
Find = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def cells_of_upright(marked: NDArray[np.bool_], transform: rasterio.Affine) -> NDArray[np.bool_]:
    """Cells that a marked pixel overlaps, ``(3600, 7200)``, of a raster whose rows are parallels and columns meridians.

    Args:
        marked: ``(h, w)``.
        transform: from columns and rows to degrees; longitudes may pass 180°.
    """
    height, width = marked.shape
    tops = (90 - (transform.f + transform.e * np.arange(height + 1))) / CELL_DEG
    lefts = ((transform.c + 180) % 360 + transform.a * np.arange(width + 1)) / CELL_DEG
    rows = _overlapped(marked, tops, SHAPE[0], slack=SLACK * abs(transform.e) / CELL_DEG)
    turned = np.ascontiguousarray(rows.T)
    around = _overlapped(turned, lefts, 2 * SHAPE[1], slack=SLACK * abs(transform.a) / CELL_DEG).T  # east of 180°, too
    return np.asarray(around[:, : SHAPE[1]] | around[:, SHAPE[1] :])


def _overlapped(mask: NDArray[np.bool_], edges: NDArray[np.float64], cells: int, *, slack: float) -> NDArray[np.bool_]:
    """True in each of ``cells`` rows that one of the rows of the mask between ``edges`` overlaps and is True in."""
    if edges[0] > edges[-1]:
        mask, edges = mask[::-1], edges[::-1]
    first = np.clip(np.searchsorted(edges[1:] - slack, np.arange(cells), side="right"), 0, len(mask))
    last = np.clip(np.searchsorted(edges[:-1] + slack, np.arange(1, cells + 1), side="left"), 0, len(mask))
    result = np.zeros((cells, mask.shape[1]), dtype=bool)
    for further in range(int((last - first).max(initial=0))):
        some = np.flatnonzero(first + further < last)
        result[some] |= mask[first[some] + further]
    return result


def cells_through(marked: NDArray[np.bool_], find: Find) -> NDArray[np.bool_]:
    """Cells that a marked pixel may touch, ``(3600, 7200)``; never less, and some beside them.

    The globe is cut into squares, and those whose image in the raster meets a marked pixel are cut again. The image is
    taken the way that points are looked up, so poles and the antimeridian, rotation and shear need no case of their own.

    Args:
        marked: ``(h, w)``.
        find: columns and rows ``(n, 2)``, whole at pixels' corners, of points ``(n, 2)`` in EPSG:4326; NaN where the
            projection has none.
    """
    blocks, factor = _blocks(marked)
    sums = np.pad(np.cumsum(np.cumsum(blocks, axis=0, dtype=np.int32), axis=1, dtype=np.int32), ((1, 0), (1, 0)))
    squares = np.zeros((1, 2), dtype=np.int32)
    coarser = SHAPE
    for side in SIDES:
        if len(squares) * (coarser[0] // side) * (coarser[1] // side) > MOST_SQUARES:
            break
        squares = _cut(squares, coarser, side)
        squares = squares[_meets(sums, *_images(squares, side, find), factor=factor)]
        coarser = (side, side)
    return _painted(squares, coarser[0])


def _blocks(marked: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int]:
    """The mask in blocks of pixels, True where any is, and their side."""
    factor = int(np.ceil(np.sqrt(max(marked.size / MOST_BLOCKS, 1))))
    if factor == 1:
        return marked, 1
    height, width = (-(-side // factor) for side in marked.shape)
    padding = [(0, whole * factor - side) for whole, side in zip((height, width), marked.shape, strict=True)]
    blocks = np.pad(marked, padding).reshape(height, factor, width, factor)
    return np.asarray(blocks.any(axis=(1, 3))), factor


def _cut(squares: NDArray[np.int32], coarser: tuple[int, int], side: int) -> NDArray[np.int32]:
    """Squares ``(m, 2)``, by their first row and column, cut into those of a smaller side."""
    rows, columns = np.meshgrid(np.arange(0, coarser[0], side), np.arange(0, coarser[1], side), indexing="ij")
    inner = np.column_stack([rows.ravel(), columns.ravel()]).astype(np.int32)
    return np.asarray((squares[:, None] + inner).reshape(-1, 2))


def _images(squares: NDArray[np.int32], side: int, find: Find) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least and greatest column and row of each square's image, ``(m, 2)`` each; not finite where it has none."""
    low, high, known = _extremes(squares, side, RIM, find)
    margin = np.full((len(squares), 1), MARGIN)
    part = np.flatnonzero((known > 0) & (known < 1))
    low[part], high[part], _ = _extremes(squares[part], side, LATTICE, find)
    margin[part] = MARGIN_WHERE_UNKNOWN
    some = known[:, None] > 0
    more = np.where(some, margin * np.subtract(high, low, out=np.zeros_like(low), where=some) + SLACK, 0)
    return low - more, high + more


def _extremes(
    squares: NDArray[np.int32], side: int, of: NDArray[np.float64], find: Find
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Least and greatest column and row, ``(m, 2)`` each, of these points of squares; and the share that has an image."""
    points = squares[:, None] + side * of
    lon = np.clip(points[..., 1] * CELL_DEG - 180, -FARTHEST_EAST, FARTHEST_EAST)
    lat = 90 - points[..., 0] * CELL_DEG
    images = find(np.column_stack([lon.ravel(), lat.ravel()])).reshape(len(squares), len(of), 2)
    known = np.isfinite(images[..., :1]) & np.isfinite(images[..., 1:])
    low = np.where(known, images, np.inf).min(axis=1)
    high = np.where(known, images, -np.inf).max(axis=1)
    return low, high, known[..., 0].mean(axis=1)


def _meets(
    sums: NDArray[np.int32], low: NDArray[np.float64], high: NDArray[np.float64], *, factor: int
) -> NDArray[np.bool_]:
    """Which boxes hold a part of a marked block, ``(m,)``; by its summed-area table, one larger than the mask."""
    some: NDArray[np.bool_] = np.asarray(np.isfinite(low).all(axis=1))
    ends = np.array(sums.shape[::-1]) - 1
    first = np.clip(np.floor(np.where(some[:, None], low, 0) / factor), 0, ends).astype(np.int64)
    last = np.clip(np.floor(np.where(some[:, None], high, 0) / factor) + 1, 0, ends).astype(np.int64)
    (left, top), (right, bottom) = first.T, last.T
    inside = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return np.asarray(some & (inside > 0))


def _painted(squares: NDArray[np.int32], side: int) -> NDArray[np.bool_]:
    """The cells of squares, ``(3600, 7200)``."""
    mask = np.zeros((SHAPE[0] // side, SHAPE[1] // side), dtype=bool)
    mask[squares[:, 0] // side, squares[:, 1] // side] = True
    return mask if side == 1 else mask.repeat(side, axis=0).repeat(side, axis=1)


def cells_under(polygons: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Cells that the bounding boxes of polygons touch, ``(3600, 7200)``.

    Args:
        polygons: ``(m,)``, EPSG:4326; of what lies beyond ±180° nothing is seen.
    """
    bounds = np.unique(shapely.bounds(polygons).reshape(-1, 4), axis=0)
    bounds = bounds[(bounds[:, 0] <= 180) & (bounds[:, 2] >= -180)]
    top, left = np.divmod(cell_of(bounds[:, [0, 3]]), SHAPE[1])
    bottom, right = np.divmod(cell_of(bounds[:, [2, 1]]), SHAPE[1])
    mask = np.zeros(SHAPE, dtype=bool)
    for row, last_row, column, last_column in zip(top, bottom, left, right, strict=True):
        mask[row : last_row + 1, column : last_column + 1] = True
    return mask
