"""Geometries compared inside queries, by several threads at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import shapely

from catalog.querying.geometry_sql import _prepared


def test_no_two_threads_share_a_prepared_geometry():
    """One that is shared crashes the process where two threads build its index at once."""
    wkt, together = shapely.to_wkt(shapely.Point(0, 0).buffer(1)), threading.Barrier(3)

    def ask(number: int) -> int:
        together.wait()
        return id(_prepared(wkt, threading.get_ident()))

    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(ask, range(3)))) == 3
    assert _prepared(wkt, threading.get_ident()) is _prepared(wkt, threading.get_ident())
