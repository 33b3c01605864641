"""Embeddings that are nearly the same, and the bound from which that says anything."""

from __future__ import annotations

import numpy as np
import pytest
from pyproj import Geod

from pwcat.errors import TrainingError
from training.footprints import Footprints
from training.likeness import BLOCK, Vectors, choose_bound, compare_vectors


def points(lonlat: np.ndarray) -> Footprints:
    return Footprints(lonlat=lonlat, outlines=np.full(len(lonlat), None, dtype=object))


@pytest.fixture
def world():
    """200 samples and 5,000 others in clusters, with embeddings that go with the place."""
    rng = np.random.default_rng(0)
    centres = np.column_stack([rng.uniform(-180, 180, 30), rng.uniform(-60, 75, 30)])
    looks = rng.normal(size=(30, 16))

    def made(n):
        of = rng.integers(0, 30, n)
        return centres[of] + rng.normal(0, 0.3, (n, 2)), (looks[of] + 0.5 * rng.normal(size=(n, 16))).astype(np.float32)

    (here, mine), (there, theirs) = made(200), made(5000)
    return points(here), Vectors(values=mine), points(there), Vectors(values=theirs)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    return wide_a @ wide_b.T / np.linalg.norm(wide_a, axis=1)[:, None] / np.linalg.norm(wide_b, axis=1)


def far(a: np.ndarray, b: np.ndarray, km: float) -> np.ndarray:
    return np.stack([Geod(ellps="WGS84").inv(*np.repeat(p[None], len(b), axis=0).T, *b.T)[2] / 1000 >= km for p in a])


def test_the_bound_is_what_samples_far_away_reach(world):
    here, mine, there, theirs = world
    bound = choose_bound(mine, here, theirs, there, quantile=0.99)
    largest = np.where(far(here.lonlat, there.lonlat, 100), cosines(mine.values, theirs.values), -2).max(axis=1)
    assert bound.above == pytest.approx(np.sort(largest)[198], abs=3e-7)  # one in a hundred is above
    assert (bound.chosen, bound.samples) == ("null", 200)
    any_distance = cosines(mine.values, theirs.values).max(axis=1)
    assert (any_distance > bound.above).sum() > 20  # those of the same cluster look alike
    few = choose_bound(mine, here, theirs, there, quantile=0.99, most=50, seed=1)
    assert few.samples == 50
    assert few == choose_bound(mine, here, theirs, there, quantile=0.99, most=50, seed=1)


def test_in_a_narrow_cone_the_bound_is_what_is_reached():
    """Single precision would add some 1e-6, which is more than there is between them and 1."""
    rng = np.random.default_rng(0)
    looks = (np.ones(768) + 1e-3 * rng.normal(size=(800, 768))).astype(np.float32)
    places = points(np.column_stack([rng.uniform(-180, 180, 800), rng.uniform(-60, 70, 800)]))
    tests, others = np.arange(300), np.arange(300, 800)
    bound = choose_bound(
        Vectors(values=looks[tests]), places.only(tests), Vectors(values=looks[others]), places.only(others)
    )
    largest = np.where(
        far(places.lonlat[tests], places.lonlat[others], 100), cosines(looks[tests], looks[others]), -2
    ).max()
    assert bound.above == round(round(largest, 7) + 1e-7, 7)
    assert bound.above <= 1


def test_without_a_relation_to_place_a_thousandth_leaks():
    rng = np.random.default_rng(1)
    lonlat = np.column_stack([rng.uniform(-180, 180, 6000), rng.uniform(-60, 75, 6000)])
    values = rng.normal(size=(6000, 12)).astype(np.float32)
    places, vectors = points(lonlat), Vectors(values=values)
    tests, others = np.arange(4000), np.arange(4000, 6000)
    bound = choose_bound(vectors.only(tests), places.only(tests), vectors.only(others), places.only(others))
    found = compare_vectors(vectors.only(tests), vectors.only(others), above=bound.above)
    assert found.near.sum() <= 12  # 4 are expected


def test_a_bound_needs_places_far_away(world):
    here, mine, there, theirs = world
    with pytest.raises(TrainingError, match="no bound of similarity can be chosen, for no sample with coordinates"):
        choose_bound(mine, points(np.full((200, 2), np.nan)), theirs, there)
    with pytest.raises(TrainingError, match="others farther than 100 km: give one"):
        choose_bound(mine, points(np.zeros((200, 2))), theirs, points(np.zeros((5000, 2))))
    some = points(np.where(np.arange(5000)[:, None] < 4000, np.nan, there.lonlat))
    partly = choose_bound(mine, here, theirs, some)
    only = choose_bound(mine, here, theirs.only(np.arange(4000, 5000)), there.only(np.arange(4000, 5000)))
    assert partly == only  # of the others' places, those unknown are no null


def test_what_looks_the_same_everywhere_tells_nothing(world):
    here, _, there, _ = world
    same = Vectors(values=np.ones((200, 4), np.float32)), Vectors(values=np.ones((5000, 4), np.float32))
    bound = choose_bound(same[0], here, same[1], there)
    assert bound.above > 1
    assert not compare_vectors(*same, above=bound.above).near.any()


def test_like_ones_are_found_and_nothing_else(world):
    _, mine, _, theirs = world
    values = theirs.values.copy()
    values[4321] = 2.5 * mine.values[17]
    values[7] = np.nan
    values[8] = 0
    asked = mine.values.copy()
    asked[3] = 0
    others = Vectors(values=values)
    found = compare_vectors(Vectors(values=asked), others, above=0.97)
    with np.errstate(invalid="ignore"):
        exact = np.nan_to_num(np.round(cosines(asked, values), 7), nan=-2)
    np.testing.assert_array_equal(found.near, exact.max(axis=1) >= 0.97)
    np.testing.assert_array_equal(found.others, exact.max(axis=0) >= 0.97)
    near = np.flatnonzero(found.near)
    assert 1 <= len(near) < 200
    np.testing.assert_array_equal(found.nearest[near], exact.argmax(axis=1)[near])
    np.testing.assert_allclose(found.similarity[near], exact.max(axis=1)[near], atol=2e-7)
    assert found.nearest[17] == 4321
    assert found.similarity[17] == 1.0
    assert np.isnan(found.similarity[~found.near]).all()
    assert not Vectors(values=asked).known[3]
    with pytest.raises(TrainingError, match="embeddings of 16 numbers and of 4 are of other models"):
        compare_vectors(mine, Vectors(values=np.ones((5, 4), np.float32)), above=0.9)


def test_others_come_in_blocks():
    values = np.random.default_rng(0).normal(size=(BLOCK + 10, 2)).astype(np.float32)
    found = compare_vectors(Vectors(values=values[-3:]), Vectors(values=values), above=1.0)
    assert found.near.all()
    assert found.others[-3:].all()
