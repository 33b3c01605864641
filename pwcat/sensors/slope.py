"""How steep the ground is, from elevations on a grid in metres."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["slope_degrees"]


def slope_degrees(elevation_YX: NDArray[np.floating[Any]], gsd_m: float) -> NDArray[np.float32]:
    """Slope of each cell in degrees, within ``[0, 90)``, of the grid's shape; NaN where there is no elevation.

    Horn's third-order finite difference, of the eight neighbours ``a b c / d e f / g h i``:
    ``dz/dx = ((c + 2f + i) - (a + 2d + g)) / 8 gsd``, ``dz/dy`` likewise, ``slope = arctan(sqrt(dz/dx^2 + dz/dy^2))``.
    A neighbour that is missing, as beyond the edge, continues the line from its opposite through the cell, so that a plane
    keeps its slope there. Where the opposite is missing too, one beside the cell is as high as that, and one at its corner as
    the two beside it say.

    Args:
        elevation_YX: metres above any one datum; NaN is no data.
        gsd_m: side of a cell, metres.

    Source: Horn (1981), Hill shading and the reflectance map, Proceedings of the IEEE 69; as gdaldem computes it.
    """
    z = elevation_YX.astype(np.float64)
    b, d, f, h = (_neighbour(z, row, column, otherwise=z) for row, column in ((-1, 0), (0, -1), (0, 1), (1, 0)))
    a, c = (_neighbour(z, -1, column, otherwise=b + side - z) for column, side in ((-1, d), (1, f)))
    g, i = (_neighbour(z, 1, column, otherwise=h + side - z) for column, side in ((-1, d), (1, f)))
    east = ((c + 2 * f + i) - (a + 2 * d + g)) / (8 * gsd_m)
    south = ((g + 2 * h + i) - (a + 2 * b + c)) / (8 * gsd_m)
    return np.degrees(np.arctan(np.hypot(east, south))).astype(np.float32)


def _neighbour(z: NDArray[np.float64], row: int, column: int, *, otherwise: NDArray[np.float64]) -> NDArray[np.float64]:
    """The neighbour of each cell in one direction, continued from its opposite where it is missing; NaN where the cell is."""
    there, opposite = _shifted(z, row, column), _shifted(z, -row, -column)
    beyond = np.where(np.isnan(opposite), otherwise, 2 * z - opposite)
    return np.where(np.isnan(z), np.nan, np.where(np.isnan(there), beyond, there))


def _shifted(z: NDArray[np.float64], row: int, column: int) -> NDArray[np.float64]:
    height, width = z.shape
    around = np.pad(z, 1, constant_values=np.nan)
    return around[1 + row : 1 + row + height, 1 + column : 1 + column + width]
