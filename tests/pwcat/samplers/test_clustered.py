from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from scipy.stats import chisquare, kstest

from pwcat.errors import RegionError
from pwcat.geo.geodesy import SiteIndex, geodesic_km
from pwcat.samplers.clustered import Clustered

SIGNIFICANCE = 1e-4
CITIES = [("A", 10.0, 50.0, 1), ("B", -70.0, -33.0, 3), ("C", 179.9, 0.0, 0), ("D", 0.0, 89.5, 4)]

EITHER = r"either those of a file \(`path`\) or of a `dataset`"


@pytest.fixture
def world(anywhere, tmp_path):
    pd.DataFrame(CITIES, columns=["name", "lon", "lat", "people"]).to_csv(tmp_path / "cities.csv", index=False)
    return anywhere


def document(**changes):
    around = {"strategy": "clustered", "around": {"path": "cities.csv"}, "radius_km": 50, "domain": "globe"}
    return Clustered.model_validate({**around, **changes})


def draw(clustered, world, n=16_000, seed=0):
    (stratum,) = clustered.strata(n, world=world)
    return next(iter(stratum.candidates(np.random.default_rng(seed))))[:n]


def nearest(lonlat):
    centres = np.array([[lon, lat] for _, lon, lat, _ in CITIES])
    km = np.stack([geodesic_km(lonlat, np.broadcast_to(centre, lonlat.shape)) for centre in centres])
    return km.argmin(axis=0), km.min(axis=0)


@pytest.mark.parametrize("radius_km", [1, 50, 1000])
def test_sites_are_uniform_by_area_in_the_disc(world, radius_km):
    _, km = nearest(draw(document(radius_km=radius_km), world))
    area = (1 - np.cos(km / 6371.0072)) / (1 - np.cos(radius_km / 6371.0072))
    assert kstest(area, "uniform").pvalue > SIGNIFICANCE
    # Half of a disc's area lies within r / √2 of its middle.
    assert np.median(km) == pytest.approx(radius_km / np.sqrt(2), rel=0.01)


def test_places_are_drawn_alike_or_in_proportion_to_their_weight(world):
    cities, _ = nearest(draw(document(), world))
    assert chisquare(np.bincount(cities, minlength=4)).pvalue > SIGNIFICANCE
    weighted = document(around={"path": "cities.csv", "weight": "people"})
    cities, _ = nearest(draw(weighted, world))
    counts = np.bincount(cities, minlength=4)
    assert counts[2] == 0
    assert chisquare(counts[[0, 1, 3]], 16_000 * np.array([1, 3, 4]) / 8).pvalue > SIGNIFICANCE


def test_sites_lie_all_around(world):
    lonlat = draw(document(around={"path": "cities.csv", "weight": "people"}), world)
    south = lonlat[nearest(lonlat)[0] == 1]
    quadrant = (south[:, 0] > -70).astype(int) * 2 + (south[:, 1] > -33)
    assert chisquare(np.bincount(quadrant, minlength=4)).pvalue > SIGNIFICANCE


@pytest.mark.kit
def test_the_median_site_lies_where_geometry_says_from_the_nearest_city(kit, anywhere):
    path = str(kit / "vectors/natural_earth/ne_110m_populated_places_simple.geojson")
    around = {"path": path, "weight": "pop_max"}
    lonlat = draw(document(around=around, radius_km=20), anywhere)
    cities = SiteIndex(np.unique(_centres(path), axis=0))
    isolated = cities.near(_centres(path), 40)[0]
    assert np.diff(isolated).max() < 4  # hardly any discs overlap: their middles are nearly all alone
    assert np.median(cities.nearest_km(lonlat)) == pytest.approx(20 / np.sqrt(2), rel=0.02)


def _centres(path):
    import geopandas as gpd

    points = gpd.read_file(path).geometry
    return np.column_stack([points.x, points.y])


def test_the_seed_fixes_the_sites(world):
    np.testing.assert_array_equal(draw(document(), world, seed=3), draw(document(), world, seed=3))
    assert not np.array_equal(draw(document(), world, seed=3), draw(document(), world, seed=4))


@pytest.mark.parametrize(
    ("domain", "touches"),
    [
        ("scenes", r"a scene of the source \(domain `scenes`\); .* or ask for the scenes of other dates"),
        (
            "land",
            r"land \(domain `land`\); see that longitude and latitude are not exchanged, raise `radius_km`, or take",
        ),
    ],
)
def test_discs_that_all_miss_the_domain_are_told(domain, touches, two_continents, tmp_path):
    pd.DataFrame({"lon": [-100.0, 90.0], "lat": [40.0, 0.0]}).to_csv(tmp_path / "far.csv", index=False)
    clustered = document(around={"path": str(tmp_path / "far.csv")}, domain=domain)
    with pytest.raises(RegionError, match=rf"no disc of 50 km around the 2 places of \S*far\.csv touches {touches}"):
        clustered.strata(3, world=two_continents)


def test_discs_that_miss_the_domain_by_a_little_are_told_when_they_are_drawn(two_continents, tmp_path):
    pd.DataFrame({"lon": [15.06], "lat": [52.0]}).to_csv(tmp_path / "near.csv", index=False)
    clustered = document(around={"path": str(tmp_path / "near.csv")}, radius_km=0.1, domain="scenes")
    (stratum,) = clustered.strata(3, world=two_continents)
    with pytest.raises(RegionError, match=r"no disc of 0\.1 km around the place of \S+ touches a scene"):
        next(iter(stratum.candidates(np.random.default_rng(0))))


def test_discs_far_from_the_domain_are_not_drawn_in_vain(two_continents, tmp_path):
    far = pd.DataFrame({"lon": np.linspace(-170, -20, 100_000), "lat": 0.0})
    near = pd.DataFrame({"lon": [7.0], "lat": [47.0]})
    pd.concat([far, near]).to_csv(tmp_path / "many.csv", index=False)
    clustered = document(around={"path": str(tmp_path / "many.csv")}, domain="scenes")
    lonlat = draw(clustered, two_continents)
    assert len(lonlat) > 10_000  # of the first draw, where .16 would have fallen near the scene
    assert geodesic_km(lonlat, np.tile([7.0, 47.0], (len(lonlat), 1))).max() < 50.001


def test_on_land_the_sea_is_left_out(two_continents, tmp_path):
    pd.DataFrame({"lon": [0.0], "lat": [50.0]}).to_csv(tmp_path / "coast.csv", index=False)
    clustered = document(around={"path": str(tmp_path / "coast.csv")}, domain="land")
    (stratum,) = clustered.strata(3, world=two_continents)
    assert stratum.labels == {"continent": ("Antarctica", "Europe")}
    lonlat = next(iter(stratum.candidates(np.random.default_rng(0))))
    assert (lonlat[:, 0] > -0.1).all()  # a cell of the mask is 0.05°
    assert clustered.layers() == [("continent", "the domain `land`")]


def test_a_mask_is_its_classes(two_continents):
    clustered = document(around=None, radius_km=None, mask={"layer": "continent", "values": ["europe"]}, domain="globe")
    (stratum,) = clustered.strata(3, world=two_continents)
    assert stratum.name == "Europe"
    assert stratum.labels == {"continent": ("Europe",)}
    lonlat = next(iter(stratum.candidates(np.random.default_rng(0))))
    assert ((lonlat >= [-0.1, 39.9]) & (lonlat <= [20.1, 60.1])).all()
    assert clustered.layers() == [("continent", "the mask of clustered")]


def test_a_class_that_is_unknown_lists_what_is_near(two_continents):
    clustered = document(around=None, radius_km=None, mask={"layer": "continent", "values": ["Urope"]})
    with pytest.raises(
        RegionError, match=r"unknown continent 'Urope': did you mean 'Europe'\? Known: Antarctica, Europe"
    ):
        clustered.strata(3, world=two_continents)


@pytest.mark.parametrize(
    ("weight", "fault"),
    [
        ("name", r"the weight 'name' is not a column of numbers"),
        ("none", r"the weight 'none' is nowhere above zero"),
        ("gone", r"no column 'gone'; its columns: lon, lat, name, none"),
    ],
)
def test_weights_that_are_none(anywhere, tmp_path, weight, fault):
    table = {"lon": [0, 1, 2], "lat": [0, 1, 2], "name": ["a", "b", "c"], "none": 0}
    pd.DataFrame(table).to_csv(tmp_path / "places.csv", index=False)
    with pytest.raises(RegionError, match=rf"places\.csv: {fault}"):
        document(around={"path": "places.csv", "weight": weight}).strata(3, world=anywhere)


def test_a_weight_that_is_not_known_is_told_and_gets_no_sites(anywhere, tmp_path, caplog):
    table = {"lon": [0, 90, 180], "lat": [0, 0, 0], "people": [1.0, np.nan, -99]}
    pd.DataFrame(table).to_csv(tmp_path / "places.csv", index=False)
    lonlat = draw(document(around={"path": "places.csv", "weight": "people"}), anywhere)
    assert np.abs(lonlat).max() < 1
    assert "'people' is missing or negative in 2 of 3 rows: these get no sites" in caplog.text


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"radius_km": None}, "`around` and `radius_km` belong together"),
        ({"around": None}, "`around` and `radius_km` belong together"),
        ({"around": None, "radius_km": None}, "clusters lie either `around` places or in a `mask`"),
        ({"mask": {"layer": "biome", "values": ["Tundra"]}}, "clusters lie either `around` places or in a `mask`"),
        (
            {"around": {"path": "a.csv", "dataset": "ne-populated-places"}},
            r"either those of a file \(`path`\) or of a `dataset`",
        ),
        ({"around": {}}, EITHER),
        ({"around": {"path": "a.csv", "lon": "x"}}, "give both `lon` and `lat`, or neither"),
    ],
)
def test_documents_that_contradict_themselves(changes, fault):
    with pytest.raises(ValidationError, match=fault):
        document(**changes)


@pytest.mark.kit
def test_sites_around_cities_lie_on_land_and_near_them(kit, earth, chosen):
    path = str(kit / "vectors/natural_earth/ne_110m_populated_places_simple.geojson")
    around = {"strategy": "clustered", "around": {"path": path, "weight": "pop_max"}, "radius_km": 25}
    _, sites, _ = chosen(around, 2_000, earth)
    assert (sites.codes["continent"] >= 0).all()
    km = SiteIndex(_centres(path)).nearest_km(sites.lonlat)
    assert km.max() <= 25.1  # the disc is one of the sphere
    assert np.median(km) == pytest.approx(25 / np.sqrt(2), rel=0.04)


@pytest.mark.kit
def test_sites_of_a_mask_have_its_classes(earth, chosen):
    values = ["mixed_forest", "deciduous needleleaf forest"]
    _, sites, _ = chosen({"strategy": "clustered", "mask": {"layer": "landcover", "values": values}}, 500, earth)
    classes = earth.require("landcover").classes
    assert {classes[code] for code in sites.codes["landcover"]} == {"mixed_forest", "deciduous_needleleaf_forest"}
