"""The smallest rotated rectangles around shapes."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.compiling import compiled

__all__ = ["smallest_boxes"]

# Areas and sums that differ by less are the same: the first counts, the more northern corner counts.
SAME = 1e-9


def smallest_boxes(geometries: NDArray[np.object_], origins_N2: NDArray[np.float64]) -> NDArray[np.float32]:
    """``(n, 4, 2)`` corners of the rectangle of the smallest area around each shape, in any direction.

    Corners go clockwise on the map (y to the south), from the one that lies furthest to the north-west, by ``x + y``. That
    of a point is the point four times; that of a straight line has no width.

    One side of the smallest rectangle lies on a side of the convex hull (Freeman and Shapira, 1975): each is tried.

    Args:
        geometries: ``(n,)`` points, lines or polygons in world coordinates, none of them empty.
        origins_N2: ``(n, 2)`` what is taken from x and y: the tiles' corners.
    """
    hulls, owner = shapely.get_coordinates(shapely.convex_hull(geometries), return_index=True)
    offsets = np.searchsorted(owner, np.arange(len(geometries) + 1))
    boxes = np.empty((len(geometries), 4, 2))
    _fill(hulls - origins_N2[owner], offsets, boxes)
    return boxes.astype(np.float32)


@compiled
def _fill(hulls_P2: NDArray[np.float64], offsets: NDArray[np.int64], boxes_N42: NDArray[np.float64]) -> None:
    for n in range(len(boxes_N42)):
        hull = hulls_P2[offsets[n] : offsets[n + 1]]
        box = boxes_N42[n]
        for corner in range(4):
            box[corner] = hull[0]
        least = np.inf
        for k in range(len(hull) - 1):
            length = np.hypot(hull[k + 1, 0] - hull[k, 0], hull[k + 1, 1] - hull[k, 1])
            if length > 0:
                ux, uy = (hull[k + 1, 0] - hull[k, 0]) / length, (hull[k + 1, 1] - hull[k, 1]) / length
                least = _try_side(hull, k, ux, uy, least, box)
        _begin_in_north_west(box)


@compiled
def _try_side(hull: NDArray[np.float64], k: int, ux: float, uy: float, least: float, box: NDArray[np.float64]) -> float:
    """Take the rectangle along a side of the hull for the box, if it is smaller; return the least area so far."""
    u0, u1, v0, v1 = 0.0, 0.0, 0.0, 0.0
    for p in range(len(hull)):
        dx, dy = hull[p, 0] - hull[k, 0], hull[p, 1] - hull[k, 1]
        u, v = dx * ux + dy * uy, dy * ux - dx * uy
        u0, u1, v0, v1 = min(u0, u), max(u1, u), min(v0, v), max(v1, v)
    area = (u1 - u0) * (v1 - v0)
    if area >= least * (1 - SAME):
        return least
    for corner, (u, v) in enumerate(((u0, v0), (u1, v0), (u1, v1), (u0, v1))):
        box[corner, 0] = hull[k, 0] + u * ux - v * uy
        box[corner, 1] = hull[k, 1] + u * uy + v * ux
    return area


@compiled
def _begin_in_north_west(box: NDArray[np.float64]) -> None:
    first = 0
    for corner in range(1, 4):
        ahead = box[corner].sum() - box[first].sum()
        if ahead < -SAME or (ahead < SAME and box[corner, 1] < box[first, 1] - SAME):
            first = corner
    turned = box.copy()
    for corner in range(4):
        box[corner] = turned[(first + corner) % 4]
