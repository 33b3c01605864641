import numpy as np
import pytest
import shapely
import shapely.affinity

from pwcat.osm.boxes import smallest_boxes


def boxes(*geometries, origin=(0.0, 0.0)):
    origins = np.tile(np.array(origin, dtype=np.float64), (len(geometries), 1))
    return smallest_boxes(np.array(geometries, dtype=object), origins)


def test_of_a_point_it_is_the_point():
    np.testing.assert_array_equal(boxes(shapely.Point(5.25, 7.5), origin=(5, 7))[0], [[0.25, 0.5]] * 4)


def test_of_a_straight_line_it_has_no_width():
    box = boxes(shapely.LineString([(0, 1), (0.5, 0.5), (1, 0)]))[0]
    assert shapely.Polygon(box).area < 1e-7
    assert {tuple(corner) for corner in box.round(6).tolist()} == {(0.0, 1.0), (1.0, 0.0)}


def test_corners_go_clockwise_on_the_map_from_the_north_west():
    np.testing.assert_allclose(
        boxes(shapely.box(0.1, 0.2, 0.5, 0.9))[0], [[0.1, 0.2], [0.5, 0.2], [0.5, 0.9], [0.1, 0.9]], rtol=1e-6
    )
    # Of a square on its tip, north and west are equally far to the north-west: the northern corner begins
    diamond = boxes(shapely.Polygon([(0.5, 0.2), (0.8, 0.5), (0.5, 0.8), (0.2, 0.5)]))[0]
    np.testing.assert_allclose(diamond, [[0.5, 0.2], [0.8, 0.5], [0.5, 0.8], [0.2, 0.5]], rtol=1e-6)


def test_it_is_the_smallest_as_by_geos():
    if shapely.geos_version < (3, 12, 0):
        pytest.skip("before 3.12 GEOS took the rectangle of the smallest width")
    rng = np.random.default_rng(0)
    clouds = np.array([shapely.MultiPoint(rng.random((k, 2))) for k in range(3, 60)], dtype=object)
    found = smallest_boxes(clouds, np.zeros((len(clouds), 2)))
    areas = shapely.area(shapely.polygons(found))
    np.testing.assert_allclose(areas, shapely.area(shapely.minimum_rotated_rectangle(clouds)), rtol=1e-5)
    assert shapely.covers(shapely.buffer(shapely.polygons(found), 1e-6), clouds).all()
    clockwise = ((found - np.roll(found, 1, axis=1)) @ [[0, 1], [1, 0]] * [-1, 1] * np.roll(found, -1, axis=1)).sum(
        (1, 2)
    )
    assert (np.sign(clockwise) == np.sign(clockwise[0])).all()
    assert (found[:, 0].sum(axis=1)[:, None] <= found.sum(axis=2) + 1e-6).all()


def test_a_shape_that_is_turned_has_its_box_turned():
    shape = shapely.Polygon([(0.2, 0.2), (0.7, 0.2), (0.7, 0.4), (0.2, 0.4)])
    turned = shapely.affinity.rotate(shape, 30, origin=(0.5, 0.5))
    box = shapely.Polygon(boxes(turned)[0])
    assert box.symmetric_difference(turned).area < 1e-6
