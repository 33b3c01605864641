"""Questions that cover sites bring the same items as one question a site."""

from __future__ import annotations

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pwcat.search.questions import DENSE, cover_sites

lonlat = st.tuples(st.floats(-180, 180), st.floats(-90, 90))


@given(
    spread=st.lists(lonlat, max_size=30),
    dense=st.lists(st.tuples(lonlat, st.floats(0, 0.6), st.integers(1, 40)), max_size=4),
    footprints=st.lists(st.tuples(lonlat, st.floats(0, 2), st.floats(0, 2)), max_size=25),
    positions=st.integers(1, 60),
    seed=st.integers(0, 99),
)
@settings(max_examples=60)
def test_no_site_s_item_is_missed_and_no_other_is_kept(spread, dense, footprints, positions, seed):
    rng = np.random.default_rng(seed)
    parts = [np.array(spread).reshape(-1, 2)]
    parts += [np.array(centre) + rng.uniform(-side, side, (count, 2)) for centre, side, count in dense]
    sites = np.clip(np.concatenate(parts), [-180, -90], [180, 90])
    boxes = [shapely.box(x - w, y - h, x + w, y + h) for (x, y), w, h in footprints]
    boxes += [shapely.box(x, y, x + 0.3, y + 0.3) for x, y in sites[:5]]  # whose corners are sites
    wanted = {k for k, box in enumerate(boxes) if len(sites) and shapely.intersects_xy(box, sites).any()}
    questions = cover_sites(sites, positions=positions)
    found = set()
    for question in questions:
        area = shapely.geometry.shape(question.geometry)
        assert area.is_valid
        assert not area.is_empty
        assert shapely.get_num_coordinates(area) <= max(positions, 5) + 5 or question.boxes is not None
        for k, box in enumerate(boxes):
            if area.intersects(box) and question.wants(shapely.geometry.mapping(box)):
                found.add(k)
    assert found == wanted
    asked = [tuple(site) for question in questions for site in question.sites]
    assert sorted(asked) == sorted({tuple(site) for site in sites.tolist()})


def test_dense_cells_are_boxes_and_others_points():
    rng = np.random.default_rng(0)
    crowd = np.array([10.1, 45.1]) + rng.uniform(0, 0.3, (DENSE, 2))
    few = np.array([20.1, 45.1]) + rng.uniform(0, 0.3, (DENSE - 1, 2))
    points, boxes = cover_sites(np.concatenate([crowd, few, crowd]))
    assert points.geometry["type"] == "MultiPoint"
    assert len(points.sites) == DENSE - 1
    assert shapely.geometry.shape(boxes.geometry).bounds == (
        *crowd.min(axis=0) - 1e-5,
        *crowd.max(axis=0) + 1e-5,
    )
    assert not boxes.wants(shapely.geometry.mapping(shapely.box(10.0, 45.0, 10.1, 45.1)))  # touches no site
    assert boxes.wants(shapely.geometry.mapping(shapely.box(-180, 40, 180, 41)))  # who knows what it means


def test_halves_are_the_whole_down_to_one_site():
    sites = np.random.default_rng(1).uniform([0, 0], [2, 2], (400, 2))
    left, lone = list(cover_sites(sites)), []
    while left:
        question = left.pop()
        halves = question.halves()
        assert not halves or sum(len(half.sites) for half in halves) == len(question.sites)
        left += halves
        lone += [] if halves else [tuple(question.sites[0])]
    assert sorted(lone) == sorted(map(tuple, sites.tolist()))
