"""The graph of a shape: edges along its outlines, and edges between vertices of a polygon that see each other.

Two vertices of a polygon, of one ring or of two, see each other where the open segment between them lies inside the polygon
and meets neither an edge nor a vertex of it; neighbours along an outline have that edge instead. Inside is what an odd number
of rings is around, so that a ring that crosses itself needs no care: its crossings stop a view, and its doubly wound parts are
outside. A vertex that lies on a segment, within ``TOUCH``, is in the way; vertices that coincide do not see each other.

Work is bounded: of a polygon of more than ``MOST`` vertices, ``MOST`` of them look around, fewer where its edges are so many
that more than ``TESTS`` pairs of a view and an edge would be looked at. Those that do are far from each other: first the one
farthest from the middle of all vertices, then each time the one farthest from those that were taken, the earlier of two at
the same distance. All vertices keep their outline edges, and all edges stand in the way of a view.

Source: Yu et al., PolyGNN: visibility graphs of polygons with holes; the visibility graph is that of Lozano-Pérez and Wesley
(1979). Compiled by numba, without Python's lock. 300 outlines of 4 to 12 vertices, a tile of a town, take 0.9 ms on one core;
one shape of thousands of vertices 3 to 8 ms.

Shapes: P vertices, N rings, E entities, R edges; within a polygon n vertices, k that look around.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST", "OUTLINE", "SIGHT", "TESTS", "edges_of"]

OUTLINE, SIGHT = 0, 1  # kinds of edges
MOST: Final = 64  # vertices of a polygon that look around
TESTS: Final = 2_000_000  # of a view with an edge, in a polygon
TOUCH: Final = 1e-6  # of a tile, half a millimetre at zoom 16; a vertex's float32 is rounded to some 3e-8
LINE, POLYGON = 1, 2  # places in pwcat.osm.schema.KINDS


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled at its first call, and kept on disk where that can be written to."""
    try:
        kept: Callable[..., Any] = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        kept = numba.njit(nogil=True)(function)
    return kept


def edges_of(
    vertices_P2: NDArray[np.float32],
    vertex_ring: NDArray[np.int64],
    ring_entity: NDArray[np.int64],
    entity_kind: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Edges (2, R) from vertex to vertex, each both ways, and their kinds (R,): along outlines, then by sight.

    Within each kind they are ordered by the vertex that they start from, then by the one that they lead to.

    Args:
        vertices_P2: tile coordinates.
        vertex_ring: ring or line of each vertex, (P,), ascending.
        ring_entity: entity of each ring, (N,), ascending; the outer ring of a polygon before its holes.
        entity_kind: of each entity, (E,), its place in :data:`pwcat.osm.schema.KINDS`.

    A ring is closed, from its last vertex to its first; a line is open; a point has no edge. Of two vertices that follow each
    other twice, as in a ring of two, one edge each way is kept. A vertex without a finite place sees nothing.
    """
    xy_P2 = np.ascontiguousarray(vertices_P2, dtype=np.float64).reshape(-1, 2)
    ring_starts = np.searchsorted(vertex_ring, np.arange(len(ring_entity) + 1)).astype(np.int64)
    ring_kind = np.asarray(entity_kind, dtype=np.int64)[np.asarray(ring_entity, dtype=np.int64)]
    before, after = _neighbours(ring_starts, ring_kind, len(xy_P2))
    outline = _outline(before, after)
    entity_starts = np.searchsorted(ring_entity, np.arange(len(entity_kind) + 1))
    bounds = ring_starts[entity_starts][np.stack([np.arange(len(entity_kind)), np.arange(1, len(entity_kind) + 1)])]
    polygons = bounds.T[np.asarray(entity_kind) == POLYGON]
    sight = _sights(xy_P2, after, before, polygons, MOST, TESTS, TOUCH)
    kinds = np.repeat(np.array([OUTLINE, SIGHT], dtype=np.int64), [outline.shape[1], sight.shape[1]])
    return np.concatenate([outline, sight], axis=1), kinds


def _neighbours(
    ring_starts: NDArray[np.int64], ring_kind: NDArray[np.int64], vertices: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The vertices before and after each along its outline, (P,) each; -1 where there is none."""
    before, after = np.arange(vertices) - 1, np.arange(vertices) + 1
    full = np.diff(ring_starts) > 0
    firsts, lasts, kinds = ring_starts[:-1][full], ring_starts[1:][full] - 1, ring_kind[full]
    closed = (kinds == POLYGON) & (lasts > firsts)
    before[firsts], after[lasts] = np.where(closed, lasts, -1), np.where(closed, firsts, -1)
    of_points = np.repeat(~np.isin(kinds, (LINE, POLYGON)), lasts - firsts + 1)
    before[of_points] = after[of_points] = -1
    return before, after


def _outline(before: NDArray[np.int64], after: NDArray[np.int64]) -> NDArray[np.int64]:
    """Edges (2, R) to the vertices before and after each."""
    vertex = np.arange(len(before))
    low, high = np.minimum(before, after), np.maximum(before, after)
    low = np.where(low == high, -1, low)  # of a ring of two vertices, once
    ends = np.stack([low, high], axis=1)
    there = ends >= 0
    return np.stack([np.repeat(vertex, 2)[there.ravel()], ends.ravel()[there.ravel()]])


@_compiled
def _sights(
    xy: NDArray[np.float64],
    after: NDArray[np.int64],
    before: NDArray[np.int64],
    polygons: NDArray[np.int64],
    most: int,
    tests: int,
    touch: float,
) -> NDArray[np.int64]:  # pragma: no cover
    """Edges (2, R) between vertices that see each other, of polygons whose vertices run from the first to before the second."""
    found = np.empty((2, 1024), dtype=np.int64)
    count = 0
    for p in range(len(polygons)):
        first, last = polygons[p, 0], polygons[p, 1]
        n = last - first
        k = min(n, most, int(np.sqrt(2.0 * tests / max(n, 1))))
        if n < 4 or k < 2:
            continue
        chosen = _spread(xy[first:last], k)
        seen = np.zeros((k, k), dtype=np.bool_)
        total = 0
        for i in range(k):
            a = first + chosen[i]
            for j in range(i + 1, k):
                b = first + chosen[j]
                if after[a] != b and before[a] != b and _sees(xy, after, first, last, a, b, touch):
                    seen[i, j] = seen[j, i] = True
                    total += 2
        while count + total > found.shape[1]:
            wider = np.empty((2, 2 * found.shape[1]), dtype=np.int64)
            wider[:, :count] = found[:, :count]
            found = wider
        for i in range(k):
            for j in range(k):
                if seen[i, j]:
                    found[0, count], found[1, count] = first + chosen[i], first + chosen[j]
                    count += 1
    return found[:, :count].copy()


@_compiled
def _spread(xy: NDArray[np.float64], k: int) -> NDArray[np.int64]:  # pragma: no cover
    """Places of k vertices that are far from each other, (k,), ascending; all where there are no more."""
    n = len(xy)
    if n <= k:
        return np.arange(n)
    x, y = xy[:, 0].mean(), xy[:, 1].mean()
    far = -((xy[:, 0] - x) ** 2 + (xy[:, 1] - y) ** 2)  # less itself: the farthest is taken first
    chosen = np.empty(k, dtype=np.int64)
    place = int(np.argmin(far))
    far[:] = np.inf
    for i in range(k):
        chosen[i] = place
        far[place] = -1.0
        farthest = -1.0
        following = 0
        for v in range(n):
            if far[v] < 0:
                continue
            square = (xy[v, 0] - xy[place, 0]) ** 2 + (xy[v, 1] - xy[place, 1]) ** 2
            far[v] = min(far[v], square)
            if far[v] > farthest:
                farthest, following = far[v], v
        place = following
    chosen.sort()
    return chosen


@_compiled
def _sees(
    xy: NDArray[np.float64], after: NDArray[np.int64], first: int, last: int, a: int, b: int, touch: float
) -> bool:  # pragma: no cover
    """Whether vertices a and b of a polygon see each other."""
    ax, ay, bx, by = xy[a, 0], xy[a, 1], xy[b, 0], xy[b, 1]
    dx, dy = bx - ax, by - ay
    length = np.sqrt(dx * dx + dy * dy)
    if not length > touch:  # they coincide, or are nowhere
        return False
    ux, uy = dx / length, dy / length
    mx, my = 0.5 * (ax + bx), 0.5 * (ay + by)
    inside = False
    for v in range(first, last):
        w = after[v]
        if w < 0:
            continue
        px, py, qx, qy = xy[v, 0], xy[v, 1], xy[w, 0], xy[w, 1]
        if (py > my) != (qy > my) and px + (my - py) / (qy - py) * (qx - px) > mx:  # a ray to the east from the middle
            inside = not inside
        along, ahead = (px - ax) * ux + (py - ay) * uy, (qx - ax) * ux + (qy - ay) * uy
        across, beyond = (px - ax) * uy - (py - ay) * ux, (qx - ax) * uy - (qy - ay) * ux
        if abs(across) <= touch and touch < along < length - touch:
            return False  # a vertex is in the way
        if abs(across) <= touch and abs(beyond) <= touch:
            if min(max(along, ahead), length) - max(min(along, ahead), 0.0) > touch:
                return False  # an edge lies along
        elif (across > touch and beyond < -touch) or (across < -touch and beyond > touch):
            crossing = along + (ahead - along) * across / (across - beyond)
            if touch < crossing < length - touch:
                return False
    return inside
