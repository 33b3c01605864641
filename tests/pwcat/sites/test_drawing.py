"""What holds for every strategy: spacing, land, zones, sites a scene, a reserve, and what is said when it cannot be had."""

from __future__ import annotations

from collections import Counter

import geopandas as gpd
import numpy as np
import pytest
import shapely
from pyproj import Geod

from pwcat.errors import RegionError
from pwcat.recipe import Chip
from pwcat.regions import Regions
from pwcat.sites.placing import chip_points

GEOD = Geod(ellps="WGS84")


def distances_km(lonlat):
    """Geodesic distances of every pair, kilometres."""
    i, j = np.triu_indices(len(lonlat), 1)
    return GEOD.inv(*lonlat[i].T, *lonlat[j].T)[2] / 1000


@pytest.mark.kit
def test_no_two_of_ten_thousand_sites_are_nearer_than_the_spacing(earth, chosen):
    _, sites, _ = chosen({"strategy": "uniform"}, 10_000, earth, constraints={"min_spacing_km": 40})
    assert len(sites) == 10_000
    nearest = np.inf
    for start in range(0, 10_000, 500):  # every pair, without a tree
        lot = sites.lonlat[start : start + 500]
        i, j = np.divmod(np.arange(len(lot) * 10_000), 10_000)
        other = i + start < j
        # a degree of latitude is 110 km and more: farther than half a degree apart is farther than 40 km
        near = other & (np.abs(lot[i, 1] - sites.lonlat[j, 1]) < 0.5)
        nearest = min(nearest, GEOD.inv(*lot[i[near]].T, *sites.lonlat[j[near]].T)[2].min() / 1000)
    assert 40 <= nearest < 41  # kept, and no more than that
    _, free, _ = chosen({"strategy": "uniform"}, 500, earth)
    assert distances_km(free.lonlat).min() < 40


def test_spacing_holds_over_rounds_strata_the_antimeridian_and_the_pole(boxes, chosen):
    regions = Regions(layers={"continent": boxes(West=(-180, 84, -179, 90), East=(179, 84, 180, 90))})
    sampler = {"strategy": "stratified", "by": ["continent"]}
    _, sites, reserve = chosen(sampler, 40, regions, constraints={"min_spacing_km": 9, "reserve_fraction": 0.1})
    every = np.concatenate([sites.lonlat, reserve.lonlat])
    assert len(every) == 44
    assert distances_km(every).min() >= 9


def test_a_chip_holds_as_much_land_as_is_wanted(boxes, chosen):
    regions = Regions(layers={"continent": boxes(Isle=(10, 0, 10.02, 0.02))})  # 2.2 km a side
    anywhere = {"strategy": "uniform"}
    _, some, _ = chosen(anywhere, 300, regions)
    _, most, _ = chosen(anywhere, 300, regions, constraints={"min_land_fraction": 0.9})
    layer, chip = regions.layers["continent"], Chip(size_px=96, bands=["B02"])

    def least(sites):
        return (layer.codes(chip_points(sites.placements, chip, points=40)) >= 0).mean(axis=1).min()

    assert least(some) < 0.5
    assert least(most) > 0.87


def test_no_chip_touches_a_zone_or_its_buffer(boxes, chosen, tmp_path):
    tested = shapely.box(1.0, 1.0, 1.2, 1.2)
    gpd.GeoDataFrame(geometry=[tested], crs="EPSG:4326").to_file(tmp_path / "test.gpkg")
    (tmp_path / "more.csv").write_text("lon,lat\n0.5,0.5\n")
    regions = Regions(layers={"continent": boxes(Land=(0, 0, 2, 2))})
    exclude = [{"path": "test.gpkg", "buffer_km": 10}, {"path": "more.csv", "buffer_km": 20}]
    _, sites, _ = chosen({"strategy": "uniform"}, 2_000, regions, constraints={"exclude": exclude}, base_dir=tmp_path)
    corners = chip_points(sites.placements, Chip(size_px=96, bands=["B02"]), points=32)[:, [0, 31, 992, 1023]]
    point = GEOD.inv(np.full(len(sites), 0.5), np.full(len(sites), 0.5), *sites.lonlat.T)[2] / 1000
    assert point.min() >= 20 + 0.48
    metres = shapely.transform(tested, lambda xy: xy * [111_194.9 * np.cos(np.deg2rad(1.1)), 110_574.0])
    flat = corners * [111_194.9 * np.cos(np.deg2rad(1.1)), 110_574.0]
    away = shapely.distance(metres, shapely.points(flat)).min() / 1000
    assert 9.9 < away < 12  # near a degree from the equator a plane is good to a per cent
    assert distances_km(sites.lonlat[:500]).max() > 200


def test_a_reserve_is_drawn_beside_the_sites_that_would_have_been_drawn_without_it(boxes, chosen):
    regions = Regions(layers={"continent": boxes(A=(0, 0, 10, 10), B=(20, 0, 30, 10))})
    sampler = {"strategy": "stratified", "by": ["continent"], "quotas": {"A": 3, "B": 1}}
    _, alone, none = chosen(sampler, 100, regions)
    strata, sites, reserve = chosen(sampler, 100, regions, constraints={"reserve_fraction": 0.05})
    assert len(none) == 0
    np.testing.assert_array_equal(alone.lonlat, sites.lonlat)
    assert Counter(reserve.stratum.tolist()) == {0: 4, 1: 2}  # rounded up in each stratum
    assert [stratum.name for stratum in strata] == ["A", "B"]
    assert not set(map(tuple, sites.lonlat)) & set(map(tuple, reserve.lonlat))


def test_a_quota_out_of_reach_says_how_many_were_placed_why_and_what_to_relax(boxes, chosen):
    regions = Regions(layers={"continent": boxes(Small=(0, 0, 1, 1), Large=(20, 0, 60, 40))})
    sampler = {"strategy": "stratified", "by": ["continent"]}
    with pytest.raises(
        RegionError,
        match=r"^where: only (\d+) of 200 sites could be placed\. Small: (\d+) of 100; of [\d,]+ places tried, "
        r"[\d,]+ lay too near to another site.*\. "
        r"To get more: lower `constraints\.min_spacing_km`, or ask for fewer samples\.$",
    ) as raised:
        chosen(sampler, 200, regions, constraints={"min_spacing_km": 30})
    placed = int(str(raised.value).split("Small: ")[1].split(" ")[0])
    assert 5 <= placed <= 25  # discs of 15 km in a square of 111 km
    assert f"only {100 + placed} of 200" in str(raised.value)


def test_an_empty_combination_is_said(boxes, chosen):
    regions = Regions(layers={"continent": boxes(A=(0, 0, 10, 10)), "biome": boxes("biome", B=(20, 0, 30, 10))})
    with pytest.raises(RegionError, match=r"no place has continent 'A' and biome 'B': nothing to sample"):
        chosen({"strategy": "uniform", "inside": {"continent": "A", "biome": "B"}}, 5, regions)
    with pytest.raises(RegionError, match=r"stratified by continent × biome: no class is left to sample"):
        chosen({"strategy": "stratified", "by": ["continent", "biome"]}, 5, regions)
