from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer

from pwcat.geo.geodesy import SiteIndex, chord_bounds_m, destination, ecef_m, geodesic_km

GEOD = Geod(ellps="WGS84")

# Places where longitudes wrap or stop meaning anything, and what lies about them.
AWKWARD = [(180.0, 0.0), (-180.0, 0.0), (179.999, 10.0), (-179.999, 10.0), (0.0, 90.0), (77.0, 90.0), (13.0, -90.0)]
place = st.one_of(
    st.sampled_from(AWKWARD),
    st.tuples(st.floats(-180, 180), st.floats(-90, 90)),
    st.tuples(st.floats(179.9, 180), st.floats(-0.1, 0.1)),
    st.tuples(st.floats(-180, 180), st.floats(89.9, 90)),
)
places = st.lists(place, min_size=1, max_size=25).map(np.array)
distance = st.one_of(st.floats(0.001, 50), st.floats(50, 21_000))


def on_the_sphere(n: int, rng: np.random.Generator) -> np.ndarray:
    return np.column_stack([rng.uniform(-180, 180, n), np.rad2deg(np.arcsin(rng.uniform(-1, 1, n)))])


def all_distances_km(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    i, j = np.divmod(np.arange(len(a) * len(b)), len(b))
    return (np.array(GEOD.inv(*a[i].T, *b[j].T)[2]) / 1000).reshape(len(a), len(b))


def pairs_by_brute_force(lonlat: np.ndarray, km: float) -> np.ndarray:
    return np.argwhere(np.triu(all_distances_km(lonlat, lonlat) < km, 1))


def test_geodesics_of_known_length():
    a, b = np.array([[0.0, 0.0], [0.0, 0.0]]), np.array([[0.0, 90.0], [180.0, 0.0]])
    # A quarter of the meridian is 10,001.966 km; half way round, the shortest way leads over a pole.
    assert geodesic_km(a, b) == pytest.approx([10_001.965729, 20_003.931459], abs=1e-6)


def test_geocentric_coordinates_are_those_of_proj():
    lonlat = np.concatenate([on_the_sphere(200, np.random.default_rng(0)), AWKWARD])
    expected = Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True).transform(
        *lonlat.T, np.zeros(len(lonlat))
    )
    np.testing.assert_allclose(ecef_m(lonlat), np.column_stack(expected), atol=1e-6)


@given(places, st.floats(0, 360), st.floats(0, 19_000))
def test_one_arrives_as_far_away_as_one_went(starts, azimuth, km):
    ends = destination(starts, np.full(len(starts), azimuth), np.full(len(starts), km))
    assert geodesic_km(starts, ends) == pytest.approx(np.full(len(starts), km), abs=1e-6)


@given(places, distance)
def test_a_chord_between_the_bounds_is_all_that_must_be_measured(lonlat, km):
    sure, reach = chord_bounds_m(km)
    chords = np.linalg.norm(ecef_m(lonlat)[:, None] - ecef_m(lonlat)[None], axis=-1)
    geodesics = all_distances_km(lonlat, lonlat)
    assert (geodesics[chords < sure] < km).all()
    assert (geodesics[chords > reach] > km).all()


@given(places, distance)
def test_pairs_are_those_of_brute_force(lonlat, km):
    np.testing.assert_array_equal(SiteIndex(lonlat).pairs_within(km), pairs_by_brute_force(lonlat, km))


@given(places, places, distance)
def test_neighbours_are_those_of_brute_force(sites, queries, km):
    indptr, indices = SiteIndex(sites).near(queries, km)
    rows, columns = np.nonzero(all_distances_km(queries, sites) < km)
    np.testing.assert_array_equal(np.repeat(np.arange(len(queries)), np.diff(indptr)), rows)
    np.testing.assert_array_equal(indices, columns)


@given(places, places)
def test_the_nearest_is_that_of_brute_force(sites, queries):
    expected = all_distances_km(queries, sites).min(axis=1)
    np.testing.assert_allclose(SiteIndex(sites).nearest_km(queries), expected, atol=1e-9)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_the_nearest_of_far_sites_need_not_have_the_shortest_chord(seed):
    # A ring of sites some 9,000 km from the queries: chord and geodesic order them differently.
    rng = np.random.default_rng(seed)
    queries = np.column_stack([rng.uniform(-180, 180, 20), rng.uniform(-89, -85, 20)])
    sites = np.column_stack([rng.uniform(-180, 180, 200), rng.uniform(-1, 1, 200)])
    expected = all_distances_km(queries, sites).min(axis=1)
    np.testing.assert_allclose(SiteIndex(sites).nearest_km(queries), expected, atol=1e-9)


def test_pairs_of_ten_thousand_sites_are_those_of_brute_force():
    rng = np.random.default_rng(0)
    clustered = np.array([[179.9, 65.0]]) + rng.normal(0, 0.2, (2000, 2))
    lonlat = np.concatenate([on_the_sphere(8000, rng), clustered])
    lonlat[:, 0] = (lonlat[:, 0] + 180) % 360 - 180
    i, j = np.concatenate(
        [np.argwhere(row) @ [[0, 1]] + [[n, n + 1]] for n, row in enumerate(_roughly_near(lonlat, 10.2))]
    ).T
    expected = np.column_stack([i, j])[geodesic_km(lonlat[i], lonlat[j]) < 10]
    assert len(expected) > 100_000
    np.testing.assert_array_equal(SiteIndex(lonlat).pairs_within(10), expected)


def _roughly_near(lonlat, km):
    """For each site, which of those after it are nearer than ``km`` on a sphere; it is within 0.6 % of the ellipsoid."""
    lon, lat = np.deg2rad(lonlat).T
    for n in range(len(lonlat) - 1):
        dlon, dlat = lon[n + 1 :] - lon[n], lat[n + 1 :] - lat[n]
        haversine = np.sin(dlat / 2) ** 2 + np.cos(lat[n]) * np.cos(lat[n + 1 :]) * np.sin(dlon / 2) ** 2
        yield 2 * 6371.0 * np.arcsin(np.sqrt(haversine)) < km


@pytest.mark.parametrize("km", [1.0, 25.0])
def test_a_pair_at_the_distance_itself_is_not_within_it(km):
    start = np.array([[10.0, 50.0]])
    lonlat = np.concatenate([start, destination(start, np.array([30.0]), np.array([km]))])
    exact = float(geodesic_km(lonlat[:1], lonlat[1:])[0])
    assert len(SiteIndex(lonlat).pairs_within(exact)) == 0
    assert SiteIndex(lonlat).pairs_within(np.nextafter(exact, np.inf)).tolist() == [[0, 1]]


def test_duplicates_are_sites_of_their_own():
    index = SiteIndex(np.array([[5.0, 5.0]] * 3))
    assert index.pairs_within(0.001).tolist() == [[0, 1], [0, 2], [1, 2]]
    assert index.near(np.array([[5.0, 5.0]]), 0.001)[1].tolist() == [0, 1, 2]


def test_no_sites_are_near_nothing():
    index = SiteIndex(np.empty((0, 2)))
    assert index.pairs_within(10).shape == (0, 2)
    assert index.nearest_km(np.array([[0.0, 0.0]])).tolist() == [np.inf]
    indptr, indices = index.near(np.array([[0.0, 0.0]]), 10)
    assert indptr.tolist() == [0, 0]
    assert len(indices) == 0


def test_no_queries_have_no_answers():
    index = SiteIndex(np.array([[0.0, 0.0]]))
    assert index.near(np.empty((0, 2)), 10)[0].tolist() == [0]
    assert index.nearest_km(np.empty((0, 2))).shape == (0,)


def test_a_tolerance_is_kept_near_and_far():
    rng = np.random.default_rng(0)
    towns = rng.uniform([-180, -80], [180, 80], (12, 2))
    sites = np.concatenate([town + rng.normal(size=(200, 2)) * 0.02 for town in towns])
    queries = np.concatenate([rng.uniform([-180, -90], [180, 90], (150, 2)), sites[::60] + 0.001])
    exact, about = SiteIndex(sites).nearest_km(queries), SiteIndex(sites).nearest_km(queries, tolerance=0.001)
    assert exact.max() > 5000
    assert (about >= exact * (1 - 1e-12)).all()
    assert (about <= exact * 1.001).all()


def test_the_nearest_site_is_the_first_of_those_as_near():
    rng = np.random.default_rng(3)
    sites = np.column_stack([rng.uniform(-180, 180, 60), rng.uniform(-90, 90, 60)])
    sites = np.concatenate([sites, sites[:40], sites[:40]])  # triplets
    queries = np.concatenate([np.column_stack([rng.uniform(-180, 180, 80), rng.uniform(-90, 90, 80)]), sites[50:70]])
    found, km = SiteIndex(sites).nearest(queries)
    for query, site, distance in zip(queries, found, km, strict=True):
        distances = geodesic_km(np.tile(query, (len(sites), 1)), sites)
        assert site == np.argmin(distances)
        assert distance == distances.min()
    found, km = SiteIndex(np.empty((0, 2))).nearest(queries)
    assert (found == -1).all()
    assert np.isinf(km).all()
