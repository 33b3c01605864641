import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pwcat.osm.cutting import AT_ONCE, Window, cut_shapes
from pwcat.osm.shapes import LINE, POINT, POLYGON, Shapes

EVERYWHERE = Window(x0=0, y0=0, x1=2**16 - 1, y1=2**16 - 1)


def cut(kind, *geometries, window=EVERYWHERE):
    shapes = Shapes(kind=kind, owner=np.arange(len(geometries)), geometry=np.array(geometries, dtype=object))
    return [
        (int(owner), tuple(tile.tolist()), geometry, bool(was_cut))
        for pieces in cut_shapes(shapes, window)
        for owner, tile, geometry, was_cut in zip(pieces.owner, pieces.tiles, pieces.geometry, pieces.cut, strict=True)
    ]


def star(rng, size):
    """A polygon of many spikes; cut, it falls into many parts."""
    angles = np.sort(rng.random(rng.integers(5, 40))) * 2 * np.pi
    radius = (rng.random(len(angles)) * 0.95 + 0.05) * size
    middle = 100 + rng.random(2)
    return shapely.Polygon(middle + np.column_stack([np.cos(angles), np.sin(angles)]) * radius[:, None]).buffer(0)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.2, 1.0, 4.0]))
@settings(max_examples=25, deadline=None)
def test_each_tile_has_what_it_shares_with_a_polygon(seed, size):
    polygons = shapely.get_parts(star(np.random.default_rng(seed), size))
    of_tile = {}
    for owner, tile, piece, was_cut in cut(POLYGON, *polygons):
        assert piece.is_valid
        assert shapely.box(*tile, tile[0] + 1, tile[1] + 1).covers(piece)
        assert was_cut or piece.equals(polygons[owner])
        of_tile[owner, tile] = of_tile.get((owner, tile), 0) + piece.area
    for (owner, (x, y)), area in of_tile.items():
        assert area == pytest.approx(polygons[owner].intersection(shapely.box(x, y, x + 1, y + 1)).area, abs=1e-9)
    assert sum(of_tile.values()) == pytest.approx(shapely.area(polygons).sum(), abs=1e-7)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.2, 1.0, 8.0]))
@settings(max_examples=25, deadline=None)
def test_pieces_of_a_line_are_the_line(seed, size):
    rng = np.random.default_rng(seed)
    line = shapely.LineString(100 + rng.random((rng.integers(2, 15), 2)) * size)
    pieces = cut(LINE, line)
    for _, tile, piece, was_cut in pieces:
        assert shapely.box(*tile, tile[0] + 1, tile[1] + 1).covers(piece)
        assert was_cut == (len(pieces) > 1)
    ends = [place for _, _, piece, _ in pieces for place in piece.coords]
    along = [place for n, place in enumerate(ends) if n == 0 or place != ends[n - 1]]
    assert [place for place in along if place in set(line.coords)] == list(line.coords)
    assert sum(piece.length for _, _, piece, _ in pieces) == pytest.approx(line.length)


def test_a_line_through_a_corner_is_on_two_tiles():
    assert [tile for _, tile, _, _ in cut(LINE, shapely.LineString([(1, 1), (3, 3)]))] == [(1, 1), (2, 2)]


def test_a_line_along_an_edge_is_on_the_tile_east_or_south():
    assert [tile for _, tile, _, _ in cut(LINE, shapely.LineString([(2, 0.25), (2, 0.75)]))] == [(2, 0)]
    assert [tile for _, tile, _, _ in cut(LINE, shapely.LineString([(0.25, 2), (0.75, 2)]))] == [(0, 2)]


def test_what_touches_an_edge_is_not_cut():
    ((_, tile, piece, was_cut),) = cut(LINE, shapely.LineString([(0.5, 0.5), (1, 0.7), (0.2, 0.9)]))
    assert (tile, was_cut, len(piece.coords)) == ((0, 0), False, 3)
    ((_, tile, _, was_cut),) = cut(POLYGON, shapely.box(1, 1, 2, 2))
    assert (tile, was_cut) == ((1, 1), False)


def test_points_on_an_edge_lie_east_and_south():
    assert [tile for _, tile, _, _ in cut(POINT, shapely.Point(1, 2), shapely.Point(0.99, 1.99))] == [(1, 2), (0, 1)]


def test_a_ring_that_leaves_a_tile_and_comes_back_has_several_pieces_there():
    u = shapely.Polygon(
        [(0.2, 0.2), (1.5, 0.2), (1.5, 0.8), (0.2, 0.8), (0.2, 0.6), (1.2, 0.6), (1.2, 0.4), (0.2, 0.4)]
    )
    assert sorted(tile for _, tile, _, _ in cut(POLYGON, u)) == [(0, 0), (0, 0), (1, 0)]


def test_a_hole_stays_a_hole():
    ring = shapely.box(0.5, 0.5, 2.5, 2.5).difference(shapely.box(1.25, 1.25, 1.75, 1.75))
    pieces = {tile: piece for _, tile, piece, _ in cut(POLYGON, ring)}
    assert len(pieces) == 9
    assert len(pieces[1, 1].interiors) == 1
    assert pieces[1, 1].area == 0.75


def test_a_country_fills_its_tiles_some_thousand_at_a_time():
    country = shapely.box(10.5, 10.5, 210.5, 210.5).difference(shapely.box(100.2, 100.2, 100.8, 100.8))
    shapes = Shapes(kind=POLYGON, owner=np.zeros(1, dtype=np.int64), geometry=np.array([country], dtype=object))
    found = list(cut_shapes(shapes, EVERYWHERE))
    tiles = np.concatenate([pieces.tiles for pieces in found])
    assert len(tiles) == len(np.unique(tiles, axis=0)) == 201**2
    assert max(map(len, found)) <= AT_ONCE
    assert sum(shapely.area(pieces.geometry).sum() for pieces in found) == pytest.approx(country.area)


def test_only_tiles_of_the_window_are_there():
    window = Window(x0=2, y0=1, x1=3, y1=1)
    expected = {(2, 1), (3, 1)}
    assert {tile for _, tile, _, _ in cut(POLYGON, shapely.box(0.5, 0.5, 9.5, 9.5), window=window)} == expected
    assert {tile for _, tile, _, _ in cut(LINE, shapely.LineString([(0, 1.5), (9, 1.5)]), window=window)} == expected
    assert not cut(POINT, shapely.Point(4.5, 1.5), window=window)
