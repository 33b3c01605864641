import itertools

import numpy as np
import shapely

from pwcat.osm.rings import DEGREE, assemble_area


def way(*places):
    return np.array(places, dtype=np.int32) * 1_000


def ring(x0, y0, x1, y1):
    return way((x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0))


def area_of(assembled):
    return round(assembled.geometry.area * (DEGREE / 1_000) ** 2, 6)


def test_a_ring_inside_is_a_hole_and_one_inside_that_is_land_again():
    found = assemble_area([ring(0, 0, 10, 10), ring(2, 2, 8, 8), ring(4, 4, 6, 6)])
    assert area_of(found) == 100 - 36 + 4
    assert sorted(len(part.interiors) for part in found.geometry.geoms) == [0, 1]
    assert not found.is_open
    assert not found.is_crossed


def test_a_hole_that_shares_a_stretch_with_the_outer_ring():
    corner = way((0, 0), (5, 0), (5, 5), (0, 5), (0, 0))
    outer = way((0, 0), (5, 0), (10, 0), (10, 10), (0, 10), (0, 5), (0, 0))
    found = assemble_area([outer, corner])
    assert area_of(found) == 75
    assert not found.is_crossed


def test_a_hole_that_touches_the_outer_ring_twice_leaves_two_parts():
    outer = way((0, 0), (10, 0), (10, 5), (10, 10), (0, 10), (0, 5), (0, 0))
    found = assemble_area([outer, way((0, 5), (5, 2), (10, 5), (5, 8), (0, 5))])
    assert len(found.geometry.geoms) == 2
    assert area_of(found) == 70


def test_two_outer_rings_side_by_side_are_one_area():
    found = assemble_area([way((0, 0), (5, 0), (5, 5), (0, 5), (0, 0)), way((5, 0), (10, 0), (10, 5), (5, 5), (5, 0))])
    assert len(found.geometry.geoms) == 1
    assert area_of(found) == 50


def test_a_ring_of_several_ways_in_whatever_order_and_direction():
    parts = [way((0, 0), (10, 0), (10, 10)), way((0, 10), (10, 10)), way((0, 10), (0, 0))]
    found = {assemble_area(list(order)).geometry.wkb for order in itertools.permutations(parts)}
    assert len(found) == 1
    assert area_of(assemble_area(parts)) == 100


def test_lines_that_cross_are_cut_where_they_cross():
    eight = assemble_area([way((0, 0), (10, 10), (10, 0), (0, 10), (0, 0))])
    assert eight.is_crossed
    assert area_of(eight) == 50
    both = assemble_area([ring(0, 0, 6, 6), ring(3, 3, 9, 9)])
    assert both.is_crossed
    assert area_of(both) == 36 + 36 - 2 * 9
    assert shapely.is_valid(both.geometry)


def test_what_does_not_close_is_open_and_the_rest_is_kept():
    open_ring = way((20, 0), (30, 0), (30, 10), (20, 10))
    assert assemble_area([open_ring]).geometry.is_empty
    found = assemble_area([open_ring, ring(0, 0, 10, 10)])
    assert found.is_open
    assert area_of(found) == 100


def test_no_ways_and_ways_of_one_place_bound_nothing():
    for ways in ([], [way((1, 1))], [way((1, 1), (1, 1))]):
        assert assemble_area(ways).geometry.is_empty
