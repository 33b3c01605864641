from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from pwcat.errors import RegionError
from pwcat.recipe import OneHotSampler
from pwcat.regions import Regions, VectorLayer
from pwcat.samplers.one_hot import OneHot
from pwcat.samplers.sphere import WORLD, AreaSampler
from pwcat.samplers.uniform import Uniform
from pwcat.splits import EARTH_RADIUS_KM, spatial_split

# A draw that is right fails one run in ten thousand; the seeds are fixed, so that these do not.
SIGNIFICANCE = 1e-4


def layer(**boxes):
    return VectorLayer(
        name="continent",
        source="boxes",
        class_of=np.array([name.rstrip("_") for name in boxes], dtype=object),
        polygons=np.array([shapely.box(*bounds) for bounds in boxes.values()], dtype=object),
    )


def test_sites_are_uniform_by_area_on_the_sphere():
    lonlat = AreaSampler([WORLD]).draw(20_000, rng=np.random.default_rng(0))
    # 18 x 10 cells of equal area: equal steps of longitude, and of the sine of latitude.
    counts, _, _ = np.histogram2d(
        lonlat[:, 0], np.sin(np.deg2rad(lonlat[:, 1])), bins=(18, 10), range=((-180, 180), (-1, 1))
    )
    assert counts.sum() == 20_000
    assert chisquare(counts.ravel()).pvalue > SIGNIFICANCE


def test_a_test_of_uniformity_would_notice_degrees_taken_for_area():
    rng = np.random.default_rng(0)
    latitudes = np.sin(np.deg2rad(rng.uniform(-90, 90, 20_000)))
    assert chisquare(np.histogram(latitudes, bins=10, range=(-1, 1))[0]).pvalue < 1e-100


def test_overlapping_polygons_are_not_drawn_twice():
    polygons = [shapely.box(0, 0, 20, 10), shapely.box(10, 0, 30, 10), shapely.box(10, 0, 20, 10)]
    lonlat = AreaSampler(polygons).draw(9_000, rng=np.random.default_rng(0))
    counts, _ = np.histogram(lonlat[:, 0], bins=3, range=(0, 30))
    assert chisquare(counts).pvalue > SIGNIFICANCE


def test_areas_are_those_of_the_sphere_not_of_degrees():
    # Two boxes of ten by ten degrees, at the equator and at 60° N: sin 10° to sin 70° - sin 60°.
    boxes = [shapely.box(0, 0, 10, 10), shapely.box(0, 60, 10, 70)]
    lonlat = AreaSampler(boxes).draw(10_000, rng=np.random.default_rng(0))
    north = int((lonlat[:, 1] >= 60).sum())
    areas = np.array([np.sin(np.deg2rad(10)), np.sin(np.deg2rad(70)) - np.sin(np.deg2rad(60))])
    assert chisquare([10_000 - north, north], 10_000 * areas / areas.sum()).pvalue > SIGNIFICANCE


def test_a_triangle_is_filled_evenly_and_never_left():
    triangle = shapely.Polygon([(0, 0), (30, 0), (0, 30)])
    lonlat = AreaSampler([triangle]).draw(4_000, rng=np.random.default_rng(0))
    assert shapely.intersects_xy(triangle, *lonlat.T).all()
    # In the equal-area plane the share of a part is its area there: here west and east of the meridian at 10°.
    outline = np.column_stack([np.linspace(0, 30, 301), np.sin(np.deg2rad(30 - np.linspace(0, 30, 301)))])
    areas = [np.trapezoid(outline[:101, 1], outline[:101, 0]), np.trapezoid(outline[100:, 1], outline[100:, 0])]
    west = int((lonlat[:, 0] < 10).sum())
    assert chisquare([west, 4000 - west], 4000 * np.array(areas) / sum(areas)).pvalue > SIGNIFICANCE


@given(seed=st.integers(0, 2**32), n=st.integers(0, 200))
def test_the_same_seed_draws_the_same_sites(seed, n):
    sampler = AreaSampler([shapely.box(-5, 40, 5, 50), shapely.box(0, 45, 10, 55)])
    first, second = (sampler.draw(n, rng=np.random.default_rng(seed)) for _ in range(2))
    assert first.shape == (n, 2)
    np.testing.assert_array_equal(first, second)
    if n:
        assert (first != sampler.draw(n, rng=np.random.default_rng(seed + 1))).any()


def test_no_area_is_an_error_not_an_endless_loop():
    rng = np.random.default_rng(0)
    with pytest.raises(RegionError, match="no area to sample: the region holds no polygon"):
        AreaSampler([]).draw(1, rng=rng)
    with pytest.raises(RegionError, match="no area to sample"):
        AreaSampler([shapely.Point(0, 0).buffer(0)]).draw(1, rng=rng)
    with pytest.raises(RegionError, match="too thin to sample"):
        AreaSampler([shapely.LineString([(0, 0), (10, 10)])]).draw(1, rng=rng)


@pytest.mark.parametrize("domain", ["land", "globe", "scenes"])
def test_one_hot_keeps_one_class_alone(domain):
    continents = layer(Asia=(60, 0, 120, 50), Europe=(0, 40, 60, 70), Asia_=(120, 0, 140, 30))
    sampler = OneHot.over(
        OneHotSampler(strategy="one_hot", layer="continent", value="asia", domain=domain),
        regions=Regions(continent=continents),
        footprints=[shapely.box(50, 10, 70, 50)],
    )
    sites = sampler.draw(2_000, rng=np.random.default_rng(0))
    labels = continents.label(sites)
    kept = sampler.keeps({"continent": labels})
    assert set(labels[kept]) == {"Asia"}
    if domain == "scenes":
        assert {"Europe", "Asia", None} == set(labels)
        assert shapely.intersects_xy(shapely.box(50, 10, 70, 50), *sites.T).all()
    else:
        assert kept.all()
        assert (sites[:, 0] > 120).any()
        assert (sites[:, 0] < 120).any()


def test_one_hot_names_the_classes_there_are():
    with pytest.raises(RegionError, match="unknown continent 'Erope': did you mean 'Europe'"):
        OneHot.over(
            OneHotSampler(strategy="one_hot", layer="continent", value="Erope"),
            regions=Regions(continent=layer(Europe=(0, 40, 60, 70))),
            footprints=[],
        )


def test_uniform_on_land_stays_on_land_and_keeps_all_of_it():
    continents = layer(Asia=(60, 0, 120, 50), Europe=(0, 40, 60, 70))
    sampler = Uniform.over("land", regions=Regions(continent=continents), footprints=[])
    sites = sampler.draw(500, rng=np.random.default_rng(0))
    labels = {"continent": continents.label(sites)}
    assert set(labels["continent"]) == {"Asia", "Europe"}
    assert sampler.keeps(labels).all()


lonlats = st.lists(
    st.tuples(st.floats(-180, 180), st.floats(-90, 90)), min_size=1, max_size=200
).map(np.array)  # fmt: skip


@given(lonlat=lonlats, fraction=st.floats(0, 0.99), block_km=st.floats(5, 5000), seed=st.integers(0, 99))
def test_blocks_go_whole_to_one_side(lonlat, fraction, block_km, seed):
    split = spatial_split(lonlat, val_fraction=fraction, block_km=block_km, seed=seed)
    # Lambert's cylindrical equal-area plane, in blocks
    column = np.floor(np.deg2rad(lonlat[:, 0]) * EARTH_RADIUS_KM / block_km)
    row = np.floor(np.sin(np.deg2rad(lonlat[:, 1])) * EARTH_RADIUS_KM / block_km)
    blocks = {}
    for cell, name in zip(zip(column, row, strict=True), split, strict=True):
        blocks.setdefault(cell, set()).add(name)
    assert all(len(names) == 1 for names in blocks.values())
    assert set(split) <= {"train", "val"}
    if fraction == 0:
        assert set(split) == {"train"}
    # no block is taken of which less than half still fits: the excess is at most half of the largest
    largest = max(np.unique(np.column_stack([column, row]), axis=0, return_counts=True)[1])
    assert (split == "val").sum() <= fraction * len(lonlat) + largest / 2
    again = spatial_split(lonlat, val_fraction=fraction, block_km=block_km, seed=seed)
    assert split.tolist() == again.tolist()


def test_the_wanted_fraction_is_approached_and_the_seed_chooses():
    lonlat = AreaSampler([WORLD]).draw(5_000, rng=np.random.default_rng(0))
    split = spatial_split(lonlat, val_fraction=0.2, block_km=500, seed=0)
    assert abs((split == "val").mean() - 0.2) < 0.005
    assert (split != spatial_split(lonlat, val_fraction=0.2, block_km=500, seed=1)).any()


def test_a_block_that_holds_everything_is_for_training():
    lonlat = np.zeros((10, 2)) + 0.001
    assert set(spatial_split(lonlat, val_fraction=0.9, block_km=50, seed=0)) == {"train"}
