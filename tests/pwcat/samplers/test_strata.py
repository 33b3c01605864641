"""Quotas and places of the strategies that draw by area: uniform, one_hot, stratified, mixture."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from pwcat.entropy import shannon_entropy
from pwcat.errors import RegionError
from pwcat.regions import Regions
from pwcat.samplers import apportion
from pwcat.samplers.one_hot import OneHot
from pwcat.samplers.uniform import Uniform
from pwcat.samplers.world import World

SIGNIFICANCE = 1e-4
SIX = ["Africa", "Asia", "Europe", "North America", "Oceania", "South America"]


def labels(sites, regions, layer):
    names = [*regions.layers[layer].classes, None]
    return [names[code] for code in sites.codes[layer]]


@given(n=st.integers(0, 10_000), shares=st.lists(st.floats(0.01, 100), min_size=1, max_size=30))
def test_quotas_add_up_and_are_within_one_of_their_share(n, shares):
    quotas = apportion(n, shares)
    assert sum(quotas) == n
    exact = n * np.array(shares) / sum(shares)
    assert (np.abs(quotas - exact) < 1 + 1e-6).all()


def test_equal_quotas_are_equal_where_they_can_be_and_else_differ_by_one():
    assert apportion(12, [1.0] * 6) == [2] * 6
    assert apportion(700_000, [1.0] * 6) == [116_667] * 4 + [116_666] * 2
    assert apportion(10, [0.1, 0.2, 0.7]) == [1, 2, 7]


def polygon_area(polygons, box):
    """Area in the plane of longitude and sine of latitude, of polygons within a box; edges cut fine before they bend."""
    cut = shapely.intersection(polygons, box)
    fine = shapely.segmentize(cut[~shapely.is_empty(cut)], 0.1)
    flat = shapely.transform(fine, lambda xy: np.column_stack([xy[:, 0], np.rad2deg(np.sin(np.deg2rad(xy[:, 1])))]))
    return shapely.area(flat).sum()


@pytest.mark.kit
def test_uniform_on_land_has_the_true_area_share_of_land_in_every_equal_area_cell(earth, chosen):
    _, sites, _ = chosen({"strategy": "uniform"}, 20_000, earth)
    assert None not in labels(sites, earth, "continent")
    columns, rows = 24, 12
    counts, _, _ = np.histogram2d(
        sites.lonlat[:, 0], np.sin(np.deg2rad(sites.lonlat[:, 1])), bins=(columns, rows), range=((-180, 180), (-1, 1))
    )
    polygons = shapely.make_valid(earth.layers["continent"].polygons)
    south = np.rad2deg(np.arcsin(np.linspace(-1, 1, rows + 1)))
    west = np.linspace(-180, 180, columns + 1)
    areas = np.array(
        [[polygon_area(polygons, shapely.box(west[c], south[r], west[c + 1], south[r + 1])) for r in range(rows)]
         for c in range(columns)]
    )  # fmt: skip
    expected = 20_000 * areas / areas.sum()
    assert counts[expected == 0].sum() == 0
    large = expected >= 5  # as the test of Pearson wants; the small ones together are one more
    observed = [*counts[large], counts[~large].sum()]
    wanted = [*expected[large], expected[~large].sum()]
    assert len(observed) > 100
    assert chisquare(observed, wanted).pvalue > SIGNIFICANCE
    # and the test would notice sites drawn by degrees instead
    degrees = np.random.default_rng(0).choice(np.flatnonzero(sites.lonlat[:, 1] > 45), 5000)
    assert chisquare(np.histogram(sites.lonlat[degrees, 1], bins=9, range=(45, 90))[0]).pvalue < SIGNIFICANCE


@pytest.mark.kit
def test_the_papers_global_set_has_equal_shares_of_six_continents(earth, chosen):
    sampler = {"strategy": "stratified", "by": ["continent"], "exclude": ["antarctica", "Seven seas (open ocean)"]}
    strata, sites, _ = chosen(sampler, 1_200, earth)
    counts = Counter(labels(sites, earth, "continent"))
    assert counts == dict.fromkeys(SIX, 200)
    assert {stratum.name: stratum.wanted for stratum in strata} == counts
    assert shannon_entropy(list(counts.values())) == pytest.approx(np.log(6), abs=1e-12)
    assert round(np.log(6), 4) == 1.7918


@pytest.mark.kit
def test_every_class_that_occurs_gets_its_quota_exactly(earth, chosen):
    for by in (["biome"], ["landcover"], ["continent", "biome"]):
        strata, sites, _ = chosen({"strategy": "stratified", "by": by}, 640, earth)
        found = Counter(zip(*(labels(sites, earth, layer) for layer in by), strict=True))
        assert {" × ".join(key): count for key, count in found.items()} == {s.name: s.wanted for s in strata}
        assert max(found.values()) - min(found.values()) <= 1
        assert len(found) >= {1: 13, 2: 50}[len(by)]


@pytest.mark.kit
def test_quotas_follow_area_or_its_root_or_what_is_given(earth, chosen):
    area = earth.layers["continent"]
    weights = {
        name: polygon_area(shapely.make_valid(area.polygons[area.class_of == name]), shapely.box(-180, -90, 180, 90))
        for name in area.classes
    }
    shares = {name: weight / sum(weights.values()) for name, weight in weights.items()}
    strata, _, _ = chosen({"strategy": "stratified", "by": ["continent"], "quotas": "proportional"}, 5_000, earth)
    for stratum in strata:
        assert stratum.wanted / 5_000 == pytest.approx(shares[stratum.name], abs=0.002)
    strata, _, _ = chosen({"strategy": "stratified", "by": ["continent"], "quotas": "square_root"}, 5_000, earth)
    roots = sum(np.sqrt(list(shares.values())))
    for stratum in strata:
        assert stratum.wanted / 5_000 == pytest.approx(np.sqrt(shares[stratum.name]) / roots, abs=0.002)
    given = {"strategy": "stratified", "by": ["continent"], "quotas": {"Europe": 3, "asia": 1}}
    strata, sites, _ = chosen(given, 100, earth)
    assert Counter(labels(sites, earth, "continent")) == {"Europe": 75, "Asia": 25}
    crossed = {
        "strategy": "stratified",
        "by": ["continent", "biome"],
        "quotas": [{"classes": ["Europe", "Tundra"], "weight": 1}, {"classes": ["Africa", "mangroves"], "weight": 4}],
    }
    strata, sites, _ = chosen(crossed, 50, earth)
    assert Counter(zip(labels(sites, earth, "continent"), labels(sites, earth, "biome"), strict=True)) == {
        ("Europe", "Tundra"): 10,
        ("Africa", "Mangroves"): 40,
    }


@pytest.mark.kit
def test_a_mixture_holds_its_parts_by_weight(earth, chosen):
    half = {
        "strategy": "mixture",
        "parts": [
            {"weight": 50, "sampler": {"strategy": "one_hot", "layer": "continent", "value": "Europe"}},
            {"weight": 50, "sampler": {"strategy": "uniform"}},
        ],
    }
    strata, sites, _ = chosen(half, 1_001, earth)
    assert [(stratum.name, stratum.wanted) for stratum in strata] == [("Europe", 501), ("uniform", 500)]
    first = np.array(labels(sites, earth, "continent"), dtype=object)[sites.stratum == 0]
    assert set(first) == {"Europe"}
    assert len(set(labels(sites, earth, "continent"))) == 7
    twice = {"strategy": "mixture", "parts": [{"weight": 1, "sampler": {"strategy": "uniform"}}] * 2}
    strata, sites, _ = chosen(twice, 100, earth)
    assert [stratum.name for stratum in strata] == ["uniform", "uniform (2)"]
    assert len(np.unique(sites.lonlat, axis=0)) == 100


@pytest.mark.kit
def test_one_seed_is_one_draw_and_another_another(earth, chosen):
    sampler = {"strategy": "stratified", "by": ["biome"]}
    first, again, other = (chosen(sampler, 280, earth, seed=seed)[1] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.lonlat, again.lonlat)
    assert not set(map(tuple, first.lonlat)) & set(map(tuple, other.lonlat))


@pytest.mark.kit
def test_within_a_class_sites_are_uniform_by_area(earth, chosen):
    _, sites, _ = chosen({"strategy": "one_hot", "layer": "biome", "value": "Tundra"}, 3_000, earth)
    layer = earth.layers["biome"]
    land = shapely.union_all(shapely.make_valid(earth.layers["continent"].polygons))
    tundra = shapely.intersection(shapely.make_valid(layer.polygons[layer.class_of == "Tundra"]), land)
    edges = [-180, -150, -120, -90, -60, 0, 60, 75, 90, 105, 120, 150, 180]
    areas = np.array([polygon_area(tundra, shapely.box(a, -90, b, 90)) for a, b in pairwise(edges)])
    counts, _ = np.histogram(sites.lonlat[:, 0], bins=edges)
    assert chisquare(counts, counts.sum() * areas / areas.sum()).pvalue > SIGNIFICANCE


def test_one_hot_keeps_one_class_alone(boxes, chosen):
    regions = Regions(
        layers={"continent": boxes(Asia=(60, 0, 120, 50), Europe=(0, 40, 60, 70), Asia_=(120, 0, 140, 30))}
    )
    _, sites, _ = chosen({"strategy": "one_hot", "layer": "continent", "value": "asia"}, 500, regions)
    assert set(labels(sites, regions, "continent")) == {"Asia"}
    assert (sites.lonlat[:, 0] > 120).any()
    assert (sites.lonlat[:, 0] < 120).any()


def test_where_scenes_are_only_footprints_that_touch_the_class_are_drawn_from(boxes, tmp_path):
    regions = Regions(layers={"continent": boxes(Asia=(60, 0, 120, 50), Europe=(0, 40, 60, 70))})
    footprints = [shapely.box(50, 10, 70, 50), shapely.box(10, 45, 12, 47), shapely.box(50, 10, 70, 50)]
    world = World(regions=regions, footprints=footprints, base_dir=tmp_path, chip_km=1)
    (stratum,) = OneHot(strategy="one_hot", layer="continent", value="Asia", domain="scenes").strata(5, world=world)
    points = np.concatenate(
        [lot for lot, _ in zip(stratum.candidates(np.random.default_rng(0)), range(3), strict=False)]
    )
    assert shapely.intersects_xy(footprints[0], *points.T).all()
    assert stratum.labels == {"continent": ("Asia",)}
    shares = world.area_shares("scenes", ["continent"]).of
    europe = np.deg2rad(2) * (np.sin(np.deg2rad(47)) - np.sin(np.deg2rad(45)))
    europe += np.deg2rad(10) * (np.sin(np.deg2rad(50)) - np.sin(np.deg2rad(40)))
    asia = np.deg2rad(10) * (np.sin(np.deg2rad(50)) - np.sin(np.deg2rad(10)))
    assert shares[("Asia",)] == pytest.approx(asia / (asia + europe), abs=0.005)
    nowhere = World(regions=regions, footprints=[shapely.box(-50, 0, -40, 5)], base_dir=tmp_path, chip_km=1)
    with pytest.raises(RegionError, match="no scene of the source lies where continent 'Asia' is: nothing to sample"):
        OneHot(strategy="one_hot", layer="continent", value="Asia", domain="scenes").strata(5, world=nowhere)


def test_inside_takes_several_classes_of_several_layers(boxes, chosen):
    regions = Regions(
        layers={
            "continent": boxes(Asia=(60, 0, 120, 50), Europe=(0, 40, 60, 70)),
            "biome": boxes("biome", Tundra=(0, 45, 120, 70), Taiga=(0, 30, 120, 45), Desert=(0, 0, 120, 30)),
        }
    )
    inside = {"biome": ["tundra", "Desert"], "continent": "Asia"}
    strata, sites, _ = chosen({"strategy": "uniform", "inside": inside}, 300, regions)
    assert strata[0].name == "Tundra or Desert × Asia"
    assert set(labels(sites, regions, "continent")) == {"Asia"}
    assert set(labels(sites, regions, "biome")) == {"Tundra", "Desert"}


def test_unknown_classes_are_told_with_those_there_are(boxes, tmp_path):
    regions = Regions(layers={"continent": boxes(Asia=(60, 0, 120, 50), Europe=(0, 40, 60, 70))})
    world = World(regions=regions, footprints=[], base_dir=tmp_path, chip_km=1)
    with pytest.raises(RegionError, match="unknown continent 'Erope': did you mean 'Europe'\\? Known: Asia, Europe"):
        OneHot(strategy="one_hot", layer="continent", value="Erope").strata(1, world=world)
    with pytest.raises(RegionError, match=r"the layer 'biome' is not given \(there are: continent\)"):
        Uniform(strategy="uniform", inside={"biome": "Tundra"}).strata(1, world=world)


def test_a_class_that_is_weighted_twice_is_an_error_and_one_that_gets_nothing_is_told(boxes, chosen, caplog):
    regions = Regions(
        layers={"continent": boxes(Asia=(60, 0, 120, 50), Europe=(0, 40, 60, 70), Oceania=(120, 0, 121, 1))}
    )
    twice = {"strategy": "stratified", "by": ["continent"], "quotas": {"Asia": 1, "asia": 2}}
    with pytest.raises(RegionError, match=r"sampler\.quotas names Asia more than once"):
        chosen(twice, 10, regions)
    _, sites, _ = chosen({"strategy": "stratified", "by": ["continent"]}, 2, regions)
    assert len(sites) == 2
    assert "2 sites are too few for every class: nothing is drawn of Oceania" in caplog.text
