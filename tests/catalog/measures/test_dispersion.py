from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from catalog.measures.dispersion import (
    describe_dispersion,
    footprint_of,
    nearest_neighbour_km,
    uniform_globe_km,
    uniform_km,
)
from pwcat.geo.geodesy import EARTH_RADIUS_KM

place = st.tuples(st.floats(-180, 180), st.floats(-90, 90))


def uniform(n, rng, south=-90.0, north=90.0, west=-180.0, east=180.0):
    sines = rng.uniform(*np.sin(np.deg2rad([south, north])), n)
    return np.column_stack([rng.uniform(west, east, n), np.rad2deg(np.arcsin(sines))])


@settings(deadline=None)
@given(places=st.lists(place, min_size=2, max_size=25, unique=True))
def test_nearest_neighbours_are_those_of_every_geodesic(places):
    lonlat = np.array(places)
    i, j = (index.ravel() for index in np.indices((len(lonlat),) * 2))
    slow = np.array(Geod(ellps="WGS84").inv(*lonlat[i].T, *lonlat[j].T)[2]).reshape(len(lonlat), -1) / 1000
    np.fill_diagonal(slow, np.inf)
    np.testing.assert_allclose(nearest_neighbour_km(lonlat), slow.min(axis=1), rtol=2e-3, atol=1e-6)


def test_a_pair_is_as_far_as_its_geodesic_and_across_the_antimeridian():
    described = describe_dispersion(np.array([[179.5, 0], [-179.5, 0]]), num_samples=2)
    assert described["mean_km"] == pytest.approx(Geod(ellps="WGS84").inv(179.5, 0, -179.5, 0)[2] / 1000)
    assert described["footprint_cell_deg"] == 180
    assert described["uniform_km"] == described["globe_km"] == pytest.approx(EARTH_RADIUS_KM * np.pi / 2)


def test_the_mean_on_the_globe_is_its_closed_form():
    rng = np.random.default_rng(0)
    for n in (3, 40):
        drawn = [nearest_neighbour_km(uniform(n, rng)).mean() for _ in range(4000 // n)]
        assert np.mean(drawn) == pytest.approx(uniform_globe_km(n), rel=0.03)


def test_uniform_sites_have_a_ratio_of_one_wherever_they_lie_and_however_many_they_are():
    rng = np.random.default_rng(1)
    europe = {"south": 35, "north": 70, "west": -10, "east": 30}
    for n, ground in ((3000, {}), (500, {}), (30_000, europe)):
        described = describe_dispersion(uniform(n, rng, **ground), num_samples=n)
        assert described["ratio"] == pytest.approx(1, abs=0.06), (n, ground)
    assert described["globe_ratio"] < 0.3  # Europe is but a small part of the globe


def test_clusters_are_below_one_and_grids_above():
    rng = np.random.default_rng(2)
    cities = uniform(40, rng, south=-60, north=70)
    clustered = cities[rng.integers(40, size=2000)] + rng.normal(0, 0.2, size=(2000, 2))
    assert describe_dispersion(clustered, num_samples=2000)["ratio"] < 0.5
    grid = np.stack(np.meshgrid(np.arange(0, 20, 0.5), np.arange(-10, 10, 0.5)), axis=-1).reshape(-1, 2)
    assert describe_dispersion(grid, num_samples=len(grid))["ratio"] > 1.6


def test_samples_of_one_place_are_one_site():
    lonlat = np.array([[10.0, 50.0], [10.0, 50.0], [11.0, 50.0]])
    described = describe_dispersion(lonlat, num_samples=4)
    assert (described["num_samples"], described["num_sites"]) == (4, 2)
    assert described["median_km"] > 70


@pytest.mark.parametrize("lonlat", [np.empty((0, 2)), np.array([[3.0, 4.0], [3.0, 4.0]])])
def test_fewer_than_two_sites_have_no_distance(lonlat):
    described = describe_dispersion(lonlat, num_samples=2)
    assert [described[name] for name in ("mean_km", "ci_low", "uniform_km", "ratio", "globe_ratio")] == [None] * 5


def test_cells_cover_the_globe_and_draws_on_it_agree_with_its_closed_form():
    footprint = footprint_of(uniform(20_000, np.random.default_rng(3)))
    assert footprint.cell_deg == 5
    assert footprint.areas_km2.sum() == pytest.approx(4 * np.pi * EARTH_RADIUS_KM**2)
    assert uniform_km(footprint, 500) == pytest.approx(uniform_globe_km(500), rel=0.02)


def test_a_choice_of_very_many_sites_has_the_mean_of_all(monkeypatch):
    sites = uniform(5000, np.random.default_rng(4))
    whole = describe_dispersion(sites, num_samples=5000)
    monkeypatch.setattr("catalog.measures.dispersion.MEASURED", 2000)
    some = describe_dispersion(sites, num_samples=5000)
    assert (whole["num_measured"], some["num_measured"], some["num_sites"]) == (5000, 2000, 5000)
    assert some["mean_km"] == pytest.approx(whole["mean_km"], rel=0.03)
