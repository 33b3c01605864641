"""Geometries compared inside queries, by several threads at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import shapely

from catalog.geometry_sql import FUNCTIONS


def test_threads_that_meet_a_new_geometry_at_once_all_compare_rightly():
    """A prepared geometry that threads share crashes the process while its index is built."""
    rng = np.random.default_rng(0)
    points = shapely.points(rng.uniform(-2, 2, (20_000, 2)))
    outlines = pa.array(shapely.to_wkb(points), pa.binary())
    compare, start = FUNCTIONS["pwcat_intersects"][0], threading.Barrier(8)

    def ask(number: int) -> list[int]:
        counts = []
        for size in range(1, 11):
            start.wait()  # each round begins with a geometry that nobody has asked for
            wkt = shapely.to_wkt(shapely.Point(0, 0).buffer(size / 10, quad_segs=200))
            counts.append(int(compare(outlines, pa.array([wkt] * len(outlines))).to_numpy(zero_copy_only=False).sum()))
        return counts

    wanted = [int((shapely.distance(points, shapely.Point(0, 0)) <= size / 10).sum()) for size in range(1, 11)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert all(counts == found[0] for counts in found)
    np.testing.assert_allclose(found[0], wanted, rtol=0.01)
