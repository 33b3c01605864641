from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import chisquare, kstest

from pwcat.errors import RegionError
from pwcat.regions import Regions
from pwcat.samplers.grid import Grid, Shuffle, equal_area_cells, major_tom_cells
from pwcat.samplers.narrow import narrow_to

# A draw that is right fails one run in ten thousand; the seeds are fixed, so that these do not.
SIGNIFICANCE = 1e-4


def document(**changes):
    return Grid.model_validate({"strategy": "grid", "system": "major-tom", "domain": "globe", **changes})


def sites(grid, world, seed=0):
    (stratum,) = grid.strata(10, world=world)
    return np.concatenate(list(stratum.candidates(np.random.default_rng(seed))))


def number_of(cells, row, column):
    """Number of the cell at a row and a column, counted from the equator northwards and from 0° E eastwards."""
    rows = row + int(np.searchsorted(cells.south, -1e-9))
    return int(cells.columns[:rows].sum() + cells.columns[rows] // 2 + column)


# Counted with the grid of ESA-PhiLab/Major-TOM (src/grid.py, latitudes of ±85°).
@pytest.mark.parametrize(("cell_km", "rows", "cells"), [(10, 1893, 5_094_350), (100, 189, 51_145), (333, 57, 4_679)])
def test_major_tom_has_as_many_cells_as_it_says(cell_km, rows, cells):
    grid = major_tom_cells(cell_km)
    assert len(grid.south) == rows
    assert len(grid) == cells


# Worked examples of Major TOM's own specification (docs/SPEC.md, sections 2 and 5): cells 451U_946L and 4517U_9441L.
@pytest.mark.parametrize(
    ("cell_km", "row", "column", "columns", "corner"),
    [(10, 451, -946, 3047, (-111.768953, 40.508982)), (1, 4517, -9441, 30_439, (-111.658070, 40.575906))],
)
def test_cells_of_major_tom_lie_where_it_says(cell_km, row, column, columns, corner):
    grid = major_tom_cells(cell_km)
    assert grid.columns[row + int(np.searchsorted(grid.south, -1e-9))] == columns
    west, south, *_ = grid.boxes(np.array([number_of(grid, row, column)]))[0]
    assert (west, south) == pytest.approx(corner, abs=1e-6)


def test_the_centre_of_a_cell_of_major_tom_is_where_it_says():
    grid = major_tom_cells(10)
    centre = grid.centres(np.array([number_of(grid, 451, -946)]))[0]
    assert centre == pytest.approx((-111.709879, 40.553892), abs=1e-6)


@given(st.floats(20, 3000))
def test_cells_of_major_tom_start_at_the_equator_and_at_greenwich(cell_km):
    grid = major_tom_cells(cell_km)
    west, south, _, _ = grid.boxes(np.arange(len(grid))).T
    assert (south == 0).any()
    assert np.bincount(np.searchsorted(grid.south, south[np.abs(west) < 1e-9])).tolist() == [1] * len(grid.south)


@given(st.floats(20, 3000))
def test_no_two_points_of_major_tom_in_a_row_are_further_apart_than_the_cell_is_long(cell_km):
    grid = major_tom_cells(cell_km)
    apart = 2 * np.pi * 6378.137 * np.cos(np.deg2rad(grid.south)) / grid.columns
    assert (apart <= cell_km * (1 + 1e-12)).all()
    np.testing.assert_allclose(grid.north - grid.south, grid.north[0] - grid.south[0])


@given(st.floats(20, 5000))
def test_equal_areas_are_equal(cell_km):
    grid = equal_area_cells(cell_km)
    west, south, east, north = grid.boxes(np.arange(len(grid))).T
    areas = np.deg2rad(east - west) * (np.sin(np.deg2rad(north)) - np.sin(np.deg2rad(south)))
    np.testing.assert_allclose(areas, 4 * np.pi / len(grid), rtol=1e-6)
    assert (grid.south[0], grid.north[-1]) == (-90, 90)
    np.testing.assert_array_equal(grid.south[1:], grid.north[:-1])


def test_equal_areas_are_about_as_wide_and_as_high_as_was_asked():
    grid = equal_area_cells(23)
    lie = np.abs(grid.south + grid.north) / 2 < 80
    width = 2 * np.pi * 6371.0072 * np.cos(np.deg2rad((grid.south + grid.north) / 2)) / grid.columns
    height = np.deg2rad(grid.north - grid.south) * 6371.0072
    for side in (width[lie], height[lie]):
        assert side == pytest.approx(np.full(lie.sum(), 23), rel=0.02)
    assert len(grid) == pytest.approx(4 * np.pi * 6371.0072**2 / 23**2, rel=1e-3)


@pytest.mark.kit
def test_the_land_grid_of_ssl4eco_has_its_size(kit):
    """Plekhanova et al. (2025), section 3.1: 254,403 locations on a regular 23 km grid of land; here within 2 %."""
    import geopandas as gpd

    continents = gpd.read_file(kit / "vectors/natural_earth/ne_continents.fgb")
    land = shapely.get_parts(continents.loc[continents["continent"] != "Antarctica"].geometry.to_numpy())
    grid = equal_area_cells(23)
    points = shapely.STRtree(shapely.points(grid.centres(np.arange(len(grid)))))
    on_land = len(np.unique(points.query(land, predicate="intersects")[1]))
    assert on_land == pytest.approx(254_403, rel=0.02)
    assert on_land == 255_133  # with the coarse coasts of 1:110m


@pytest.mark.parametrize("system", ["major-tom", "equal-area"])
def test_each_cell_gives_one_site_in_random_order(system, anywhere):
    grid = document(system=system, cell_km=200)
    lonlat = sites(grid, anywhere)
    cells = grid.cells()
    assert len(lonlat) == len(cells)
    centres = cells.centres(np.arange(len(cells)))
    assert (centres[:, 0] < 180).all()
    np.testing.assert_array_equal(np.unique(lonlat, axis=0), np.unique(centres, axis=0))
    assert not np.array_equal(lonlat, centres)
    # The order knows nothing of latitude.
    assert abs(np.corrcoef(np.arange(len(lonlat)), lonlat[:, 1])[0, 1]) < 0.03


def test_rows_can_be_taken_in_order(anywhere):
    lonlat = sites(document(cell_km=200, order="row"), anywhere)
    assert (np.diff(lonlat[:, 1]) >= 0).all()


def test_the_seed_fixes_the_order(anywhere):
    grid = document(cell_km=300)
    np.testing.assert_array_equal(sites(grid, anywhere, seed=1), sites(grid, anywhere, seed=1))
    assert not np.array_equal(sites(grid, anywhere, seed=1), sites(grid, anywhere, seed=2))


def test_a_drawn_site_lies_in_its_cell_and_anywhere_in_it(anywhere):
    grid = document(system="equal-area", cell_km=150, jitter=True, order="row")
    lonlat = sites(grid, anywhere)
    west, south, east, north = grid.cells().boxes(np.arange(len(lonlat))).T
    assert ((lonlat[:, 0] >= west) & (lonlat[:, 0] <= east) & (lonlat[:, 1] >= south) & (lonlat[:, 1] <= north)).all()
    assert kstest((lonlat[:, 0] - west) / (east - west), "uniform").pvalue > SIGNIFICANCE
    low, high = np.sin(np.deg2rad(south)), np.sin(np.deg2rad(north))
    assert kstest((np.sin(np.deg2rad(lonlat[:, 1])) - low) / (high - low), "uniform").pvalue > SIGNIFICANCE


@given(st.integers(0, 300_000), st.integers(0, 2**32 - 1))
def test_shuffling_loses_and_repeats_nothing(n, seed):
    shuffle = Shuffle.of(n, np.random.default_rng(seed))
    order = np.concatenate(list(shuffle.all()))
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    some = np.arange(0, n, 7)
    np.testing.assert_array_equal(shuffle.sort(some), order[order % 7 == 0])


def test_shuffled_numbers_are_anywhere():
    # Where each of 40 numbers of 1,000 comes first, over many seeds: uniform, and so are neighbours' differences.
    starts = np.array([next(Shuffle.of(1000, np.random.default_rng(seed)).all())[:2] for seed in range(4000)])
    assert chisquare(np.bincount(starts[:, 0] // 25, minlength=40)).pvalue > SIGNIFICANCE
    assert chisquare(np.bincount((starts[:, 1] - starts[:, 0]) % 1000 // 25, minlength=40)).pvalue > SIGNIFICANCE


def test_a_fine_grid_starts_at_once_and_takes_no_memory(anywhere):
    (stratum,) = document(cell_km=0.5).strata(10, world=anywhere)
    first = next(iter(stratum.candidates(np.random.default_rng(0))))
    assert len(first) <= 65_536


def test_land_is_where_the_layer_has_a_class(two_continents):
    grid = document(cell_km=100, domain="land")
    (stratum,) = grid.strata(5, world=two_continents)
    assert stratum.labels == {"continent": ("Antarctica", "Europe")}
    assert stratum.wanted == 5
    lonlat = sites(grid, two_continents)
    box = ((lonlat >= [0, 40]) & (lonlat <= [20, 60])).all(axis=1) | ((lonlat >= [0, -80]) & (lonlat <= [90, -70])).all(
        axis=1
    )
    cells = document(cell_km=100).cells()
    centres = cells.centres(np.arange(len(cells)))
    inside = ((centres >= [0, 40]) & (centres <= [20, 60])).all(axis=1)
    inside |= ((centres >= [0, -80]) & (centres <= [90, -70])).all(axis=1)
    assert box.sum() == inside.sum()  # none is lost,
    assert len(lonlat) < 1.1 * inside.sum()  # and little is left to drop


def test_continents_can_be_left_out(two_continents):
    grid = document(cell_km=100, domain="land", exclude=["antarctica"])
    (stratum,) = grid.strata(5, world=two_continents)
    assert stratum.labels == {"continent": ("Europe",)}
    assert (sites(grid, two_continents)[:, 1] > 0).all()


def test_only_cells_with_a_scene_are_candidates(two_continents):
    grid = document(cell_km=100, domain="scenes")
    lonlat = sites(grid, two_continents)
    assert 0 < len(lonlat) < 200
    assert ((lonlat >= [5, 45]) & (lonlat <= [15, 55])).all()
    assert grid.draws_from_scenes()


def test_candidates_that_may_be_taken_keep_their_order(two_continents):
    lonlat = np.array([[14.0, 50.0], [6.0, 46.0], [100.0, 0.0], [10.0, 54.0]])
    np.testing.assert_array_equal(narrow_to("scenes", {}, world=two_continents)(lonlat), lonlat[[0, 1, 3]])


def test_layers_that_it_needs():
    assert document(domain="land").layers() == [("continent", "the domain `land`")]
    assert document(domain="globe").layers() == []


def test_sides_have_defaults_that_are_said():
    assert document().model_dump()["cell_km"] == 10
    assert document(system="equal-area").model_dump()["cell_km"] == 23


def test_continents_are_left_out_of_land_alone():
    with pytest.raises(ValidationError, match="`exclude` leaves continents out of the domain `land`"):
        document(domain="globe", exclude=["Antarctica"])


def test_a_few_rows_are_filled_from_the_south_however_far_the_first_land_is(boxes, chosen):
    regions = Regions(layers={"continent": boxes(Isle=(20, 50, 24, 52), North=(0, 60, 9, 70))})
    grid = {"strategy": "grid", "system": "equal-area", "cell_km": 10, "order": "row"}
    _, drawn, _ = chosen(grid, 30, regions)
    assert len(drawn) == 30
    assert ((drawn.lonlat >= [20, 50]) & (drawn.lonlat <= [24, 52])).all()


def test_more_sites_than_cells_says_that_there_are_no_more(boxes, chosen):
    regions = Regions(layers={"continent": boxes(Isle=(20, 50, 21, 50.5))})
    with pytest.raises(RegionError, match=r"equal-area grid of 23 km: \d+ of 50; .*there are no more"):
        chosen({"strategy": "grid", "system": "equal-area"}, 50, regions)


SCENES = [
    shapely.box(5.01, 45.02, 6.3, 46),
    shapely.box(6, 45.9, 7.5, 46.97),
    shapely.MultiPolygon([shapely.box(179, -17, 180, -16), shapely.box(-180, -17, -179.2, -16)]),
    shapely.Polygon([(20, 82), (60, 82), (40, 84.9)]),
    shapely.box(-60, -84.5, -40, -83),
]


@pytest.mark.parametrize("domain", ["scenes", "land"])
@pytest.mark.parametrize("cell_km", [40, 300])
@pytest.mark.parametrize("system", ["major-tom", "equal-area"])
@pytest.mark.parametrize("how", [{"order": "row"}, {"order": "random", "jitter": True}])
def test_cells_within_reach_give_the_very_sites_of_the_whole_grid(domain, cell_km, system, how, two_continents):
    world = replace(two_continents, footprints=SCENES)
    (stratum,) = document(system=system, cell_km=cell_km, domain=domain, **how).strata(10, world=world)
    assert stratum.candidates.reach is not None
    whole = replace(stratum.candidates, reach=None)
    near, far = (list(candidates(np.random.default_rng(3))) for candidates in (stratum.candidates, whole))
    assert sum(map(len, near)) > 5 if cell_km == 40 else len(near) < 2
    np.testing.assert_array_equal(np.concatenate([*near, np.empty((0, 2))]), np.concatenate([*far, np.empty((0, 2))]))


def test_cells_of_a_kilometre_are_looked_for_under_the_scene_alone(anywhere):
    world = replace(anywhere, footprints=[shapely.box(10, 45, 11.3, 46)])
    (stratum,) = document(system="equal-area", cell_km=1, domain="scenes").strata(10, world=world)
    assert stratum.candidates.grid.cells().touching(stratum.candidates.reach).size < 13_000  # of 510 million
    lonlat = np.concatenate(list(stratum.candidates(np.random.default_rng(0))))
    area = 1.3 * np.pi / 180 * (np.sin(np.deg2rad(46)) - np.sin(np.deg2rad(45))) * 6371.0072**2
    assert len(lonlat) == pytest.approx(area, rel=0.01)
