"""Edges of shapes: closed forms, and shapely as the oracle of who sees whom."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from training.osm.visibility import OUTLINE, SIGHT, edges_of

POINT, LINE, POLYGON = 0, 1, 2


def edges(*entities: tuple[int, list[list[tuple[float, float]]]]) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Outline edges and sights of entities, each a kind and its rings; every edge is checked to be there once, both ways."""
    rings = [ring for _, rings in entities for ring in rings]
    found, kinds = edges_of(
        np.array([xy for ring in rings for xy in ring], dtype=np.float32).reshape(-1, 2),
        np.repeat(np.arange(len(rings)), [len(ring) for ring in rings]),
        np.repeat(np.arange(len(entities)), [len(rings) for _, rings in entities]),
        np.array([kind for kind, _ in entities], dtype=np.int64),
    )
    assert found.dtype == kinds.dtype == np.int64
    assert np.all(np.diff(kinds) >= 0)
    pairs = [tuple(pair) for pair in found.T.tolist()]
    assert len(set(pairs)) == len(pairs)
    assert {(b, a) for a, b in pairs} == set(pairs)
    of = {kind: {pair for pair, k in zip(pairs, kinds, strict=True) if k == kind} for kind in (OUTLINE, SIGHT)}
    assert pairs == sorted(of[OUTLINE]) + sorted(of[SIGHT])
    return of[OUTLINE], of[SIGHT]


def both(*pairs: tuple[int, int]) -> set[tuple[int, int]]:
    return {*pairs, *((b, a) for a, b in pairs)}


SQUARE = [(0.1, 0.1), (0.3, 0.1), (0.3, 0.3), (0.1, 0.3)]


def test_a_point_has_no_edge_a_line_is_open_a_ring_closed_and_a_square_sees_its_corners() -> None:
    line = [(0.0, 0.0), (0.5, 0.1), (0.9, 0.0)]
    outline, sight = edges((POINT, [[(0.5, 0.5)]]), (LINE, [line, line[:2]]), (POLYGON, [SQUARE]))
    assert outline == both((1, 2), (2, 3), (4, 5), (6, 7), (7, 8), (8, 9), (6, 9))
    assert sight == both((6, 8), (7, 9))


def test_a_hole_stands_in_the_way_and_is_seen() -> None:
    hole = [(0.18, 0.18), (0.22, 0.18), (0.22, 0.22), (0.18, 0.22)]
    outline, sight = edges((POLYGON, [SQUARE, hole]))
    assert outline == both((0, 1), (1, 2), (2, 3), (0, 3), (4, 5), (5, 6), (6, 7), (4, 7))
    # each corner sees the hole's nearest corner and the two beside it, none across the hole
    assert sight == both(*((outer, 4 + hole) for outer in range(4) for hole in range(4) if (hole - outer) % 4 != 2))


def test_an_ell_does_not_see_through_its_corner_and_not_along_a_wall() -> None:
    ell = [(0.0, 0.0), (0.4, 0.0), (0.4, 0.2), (0.2, 0.2), (0.2, 0.4), (0.0, 0.4)]
    _, sight = edges((POLYGON, [ell]))
    assert sight == both((0, 2), (0, 3), (0, 4), (1, 3), (3, 5))  # 1 to 5 and 2 to 4 go outside; 1, 3, 5 lie in a line
    wall = [(0.0, 0.0), (0.1, 0.0), (0.2, 0.0), (0.2, 0.2), (0.0, 0.2)]
    _, sight = edges((POLYGON, [wall]))
    assert (0, 2) not in sight  # 1 is in the way


def random_star(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    angles = np.sort(rng.uniform(0, 2 * np.pi, n))
    return 0.5 + rng.uniform(0.1, 0.4, n)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


@pytest.mark.parametrize("seed", range(8))
def test_sights_are_those_that_shapely_has_within_the_polygon(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outer = random_star(rng, 14).astype(np.float32)
    hole = 0.5 + 0.04 * np.array([(0, 1), (1, -1), (-1, -1)], dtype=np.float32)
    polygon = shapely.Polygon(outer.astype(float), [hole.astype(float)])
    if not polygon.is_valid:
        polygon = shapely.Polygon(outer.astype(float))
        hole = hole[:0]
    rings = [outer.tolist(), *([hole.tolist()] if len(hole) else [])]
    outline, sight = edges((POLYGON, [[tuple(xy) for xy in ring] for ring in rings]))
    xy = np.concatenate([outer, hole]).astype(float)
    wanted = {
        (a, b)
        for a in range(len(xy))
        for b in range(len(xy))
        if a != b and (a, b) not in outline and polygon.covers(shapely.LineString([xy[a], xy[b]]))
    }
    assert sight == wanted
    assert len(wanted) > 10


def test_moved_turned_and_begun_elsewhere_a_shape_sees_the_same() -> None:
    star = random_star(np.random.default_rng(3), 20) * 0.3
    turn = np.array([[np.cos(1.0), -np.sin(1.0)], [np.sin(1.0), np.cos(1.0)]])
    _, here = edges((POLYGON, [star.tolist()]))
    _, there = edges((POLYGON, [((star - 0.15) @ turn.T + 0.6).tolist()]))
    _, later = edges((POLYGON, [np.roll(star, 5, axis=0).tolist()]))
    assert here == there == {((a - 5) % 20, (b - 5) % 20) for a, b in later}


def test_rings_that_cross_themselves_coincide_or_degenerate_go_through() -> None:
    bow = [(0.1, 0.1), (0.3, 0.3), (0.3, 0.1), (0.1, 0.3)]
    outline, sight = edges((POLYGON, [bow]))
    assert outline == both((0, 1), (1, 2), (2, 3), (0, 3))
    assert sight == set()  # what is left lies outside
    assert edges((POLYGON, [[(0.1, 0.1)] * 5]))[1] == set()
    assert edges((POLYGON, [[(0.1, 0.1), (0.2, 0.2)]]))[0] == both((0, 1))
    assert edges((POLYGON, [[(0.1, 0.1)]]), (POLYGON, []), (LINE, [[], [(0.5, 0.5)]])) == (set(), set())
    assert all(0 not in pair for pair in edges((POLYGON, [[(float("nan"), 0.1), *SQUARE]]))[1])
    assert edges() == (set(), set())
    twice = [SQUARE[0], SQUARE[0], *SQUARE[1:]]
    assert edges((POLYGON, [twice]))[1] == both((0, 3), (1, 3), (2, 4))


def test_of_a_large_polygon_some_look_around_far_from_each_other() -> None:
    angle = np.linspace(0, 2 * np.pi, 3000, endpoint=False)
    circle = 0.5 + 0.4 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    outline, sight = edges((POLYGON, [circle.tolist()]))
    assert len(outline) == 6000
    looking = np.unique([a for a, _ in sight])
    assert len(looking) == 36  # the root of 2 * 2,000,000 / 3,000
    assert np.diff(looking).max() <= 2 * 3000 / 32  # all around
    assert len(sight) == 36 * 35  # of a circle, all pairs
