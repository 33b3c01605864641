"""The synthetic earth: outlines, biomes and places."""

from __future__ import annotations

from itertools import combinations
from math import dist
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from pwcat.archive.world import (
    BIOMES,
    CONTINENTS,
    biome_shapes,
    choose_places,
    continent_shapes,
    mgrs_square,
    utm_epsg,
)


def test_outlines_are_valid_apart_and_simple():
    shapes = continent_shapes()
    assert tuple(shapes) == CONTINENTS
    assert all(shape.is_valid for shape in shapes.values())
    assert all(shapely.intersection(a, b).area < 1e-9 for a, b in combinations(shapes.values(), 2))


def test_biomes_tile_the_continents():
    biomes, continents = biome_shapes(), continent_shapes()
    assert tuple(biomes) == BIOMES
    assert len(set(BIOMES)) == 14
    assert all(shape.area > 1 for shape in biomes.values())
    assert sum(shape.area for shape in biomes.values()) == pytest.approx(sum(s.area for s in continents.values()))


@pytest.mark.kit
def test_outlines_lie_on_real_land_and_biome_names_are_real(kit: Path):
    land = gpd.read_file(kit / "vectors/natural_earth/ne_110m_land.geojson").union_all()
    for shape in continent_shapes().values():
        assert shape.intersection(land).area / shape.area > 0.99
    places = [p for seed in range(5) for p in choose_places(np.random.default_rng(seed), per_continent=4, held_out=2)]
    assert sum(not land.contains(shapely.Point(p.lon, p.lat)) for p in places) <= 1
    real = set(
        gpd.read_file(kit / "vectors/biomes/resolve_2017_biomes_simplified.fgb", ignore_geometry=True).BIOME_NAME
    )
    assert real >= set(BIOMES)


@pytest.mark.parametrize("seed", range(3))
def test_places_are_apart_in_their_continent_and_biome(seed: int):
    places = choose_places(np.random.default_rng(seed), per_continent=5, held_out=3)
    assert len(places) == 48
    assert all(dist((a.lon, a.lat), (b.lon, b.lat)) > 1 for a, b in combinations(places, 2))
    for place in places:
        point = shapely.Point(place.lon, place.lat)
        assert continent_shapes()[place.continent].contains(point)
        assert biome_shapes()[place.biome].contains(point)
    for continent in CONTINENTS:
        train = [p.biome for p in places if p.continent == continent and not p.held_out]
        assert len(set(train)) >= 4


@pytest.mark.parametrize(
    ("lon", "lat", "easting", "northing", "epsg", "square"),
    [
        (13.4, 52.5, 391_000, 5_818_000, 32633, "33UUU"),  # Berlin
        (2.35, 48.85, 452_000, 5_411_000, 32631, "31UDQ"),  # Paris
        (151.2, -33.87, 334_000, 6_251_000, 32756, "56HLH"),  # Sydney
        (-43.2, -22.9, 684_000, 7_466_000, 32723, "23KPQ"),  # Rio de Janeiro
    ],
)
def test_utm_zones_and_mgrs_squares(lon, lat, easting, northing, epsg, square):
    assert utm_epsg(lon=lon, lat=lat) == epsg
    assert mgrs_square(epsg=epsg, lat=lat, easting=easting, northing=northing) == square
