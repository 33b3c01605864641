"""The global grid of 0.05° on which layers say where their classes can lie: row 0 in the north, column 0 at 180° west."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["CELL_DEG", "SHAPE", "cell_of", "grow", "row_weights"]

CELL_DEG = 0.05
SHAPE = (3600, 7200)

# The least radius of curvature of WGS84 (of the meridian at the equator): angles from it are never too small.
LEAST_RADIUS_KM = 6335.4

# Part of a cell that a distance is taken for longer, so that rounding loses no cell.
ROUNDING = 1e-6


def cell_of(lonlat: NDArray[np.float64]) -> NDArray[np.int64]:
    """Flat index of the cell of each point, ``(n,)``; a point on an edge counts to the east and south, or to the last cell.

    Args:
        lonlat: ``(n, 2)``, EPSG:4326, finite; what lies outside the grid is given the nearest cell.
    """
    columns = np.clip(np.floor((lonlat[:, 0] + 180) / CELL_DEG), 0, SHAPE[1] - 1).astype(np.int64)
    rows = np.clip(np.floor((90 - lonlat[:, 1]) / CELL_DEG), 0, SHAPE[0] - 1).astype(np.int64)
    return rows * SHAPE[1] + columns


def row_weights() -> NDArray[np.float64]:
    """Area of one cell of each row on the unit sphere, ``(3600,)``."""
    edges = np.sin(np.deg2rad(90 - CELL_DEG * np.arange(SHAPE[0] + 1)))
    return np.asarray((edges[:-1] - edges[1:]) * np.deg2rad(CELL_DEG))


def grow(mask: NDArray[np.bool_], km: float) -> NDArray[np.bool_]:
    """The mask, and every cell that has a point within ``km`` of one of its cells; never less, at most a cell more.

    Longitudes wrap around the antimeridian, and shrink towards the poles: each row is widened by what its poleward edge
    needs, ``sin(dlon) = sin(km / R) / cos(lat)``, and by the whole circle where the distance reaches the pole.

    Args:
        mask: ``(3600, 7200)``.
        km: 0 or more.
    """
    if km <= 0:
        return mask
    angle = km / LEAST_RADIUS_KM
    widths = _half_widths(angle)
    wide = np.zeros_like(mask)
    rows = np.flatnonzero(mask.any(axis=1))
    for width in np.unique(widths[rows]):
        chosen = rows[widths[rows] == width]
        around = np.pad(mask[chosen], ((0, 0), (width, width)), mode="wrap")
        wide[chosen] = _any_of(around.T, 2 * int(width) + 1).T
    reach = min(int(np.ceil(np.rad2deg(angle) / CELL_DEG + ROUNDING)), SHAPE[0])
    return _any_of(np.pad(wide, ((reach, reach), (0, 0))), 2 * reach + 1)


def _half_widths(angle: float) -> NDArray[np.int64]:
    """Cells to widen each row by to the east and west, ``(3600,)``; the whole circle is half of its cells."""
    edges = np.abs(90 - CELL_DEG * np.arange(SHAPE[0] + 1))
    cosine = np.cos(np.deg2rad(np.maximum(edges[:-1], edges[1:])))
    sine = np.sin(min(angle, np.pi / 2))
    widths = np.full(SHAPE[0], SHAPE[1] // 2)
    far = cosine > sine
    degrees = np.rad2deg(np.arcsin(sine / cosine[far]))
    widths[far] = np.minimum(np.ceil(degrees / CELL_DEG + ROUNDING), SHAPE[1] // 2)
    return widths


def _any_of(mask: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """True where one of ``count`` rows from each one on is, for every row that has as many; by doubling."""
    covered = 1
    while covered < count:
        step = min(covered, count - covered)
        mask = mask[:-step] | mask[step:]
        covered += step
    return mask
