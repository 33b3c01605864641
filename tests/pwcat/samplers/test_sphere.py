from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from pwcat.errors import RegionError
from pwcat.samplers.sphere import WORLD, AreaSampler, CellSampler

# A draw that is right fails one run in ten thousand; the seeds are fixed, so that these do not.
SIGNIFICANCE = 1e-4


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


def test_cells_are_drawn_by_their_area_and_filled_evenly():
    shape = (36, 72)  # 5 degrees
    cells = np.array([0, 100, 36 * 36 + 5, 35 * 72 + 71])
    lonlat = next(CellSampler(cells, shape)(np.random.default_rng(0)))
    batches = CellSampler(cells, shape)(np.random.default_rng(0))
    lonlat = np.concatenate([next(batches) for _ in range(5)])
    row = np.floor((90 - lonlat[:, 1]) / 5).astype(int)
    column = np.floor((lonlat[:, 0] + 180) / 5).astype(int)
    found, counts = np.unique(row * 72 + column, return_counts=True)
    assert found.tolist() == sorted(cells.tolist())
    edges = np.sin(np.deg2rad(90 - 5 * np.arange(37)))
    areas = (edges[:-1] - edges[1:])[np.sort(cells) // 72]
    assert chisquare(counts, counts.sum() * areas / areas.sum()).pvalue > SIGNIFICANCE
    inside = lonlat[row == 18]
    assert chisquare(np.histogram(np.sin(np.deg2rad(inside[:, 1])), bins=8)[0]).pvalue > SIGNIFICANCE
    assert chisquare(np.histogram(inside[:, 0], bins=8)[0]).pvalue > SIGNIFICANCE
    with pytest.raises(RegionError, match="no cell of the grid is left"):
        next(CellSampler(np.empty(0, dtype=int), shape)(np.random.default_rng(0)))


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
