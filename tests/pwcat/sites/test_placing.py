from __future__ import annotations

from collections import namedtuple
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer

from pwcat.dates import date_windows
from pwcat.phenology import Seasons
from pwcat.providers import OpenSource
from pwcat.recipe import Chip, When
from pwcat.scenes import Scene
from pwcat.sites import placing
from pwcat.sites.placing import Placer, chip_points, place_nominally

SOURCE = OpenSource(provider="stac", url="http://127.0.0.1:1", collection="s2")
CHIP = Chip(size_px=32, bands=["B02"])
LEFT, TOP, SIDE_PX = 300_000.0, 5_000_040.0, 384
Placed = namedtuple("Placed", "scenes epsg x0 y0")


def when(start, end, **more):
    return When(start=date.fromisoformat(start), end=date.fromisoformat(end), **more)


def make_item(name="a", *, time="2021-06-15T10:00:00Z", cloud=0.0, epsg=32633, left=LEFT, top=TOP, footprint=None):
    """An item of one 10 m band, 384 px a side; the footprint in the CRS of the grid, all of it where None."""
    outline = footprint or shapely.box(left, top - SIDE_PX * 10, left + SIDE_PX * 10, top)
    to_degrees = Transformer.from_crs(f"EPSG:{epsg}", "EPSG:4326", always_xy=True)
    geometry = shapely.transform(outline, lambda xy: np.column_stack(to_degrees.transform(xy[:, 0], xy[:, 1])))
    return {
        "id": name,
        "type": "Feature",
        "stac_version": "1.1.0",
        "geometry": shapely.geometry.mapping(geometry),
        "properties": {"datetime": time, "eo:cloud_cover": cloud, "proj:code": f"EPSG:{epsg}"},
        "assets": {
            "B02": {
                "href": f"https://example.test/{name}/B02.tif",
                "proj:transform": [10.0, 0.0, left, 0.0, -10.0, top],
                "proj:shape": [SIDE_PX, SIDE_PX],
            }
        },
        "links": [],
    }


def scene(name="a", **options):
    return Scene.from_item(make_item(name, **options), source=SOURCE, bands=["B02"])


def site(x_px, y_px, *, epsg=32633):
    """Longitude and latitude of a place in the grid of :func:`make_item`, in pixels from its upper-left corner."""
    to_degrees = Transformer.from_crs(f"EPSG:{epsg}", "EPSG:4326", always_xy=True)
    return to_degrees.transform(LEFT + x_px * 10, TOP - y_px * 10)


def place(sites, scenes, windows=None, chip=CHIP):
    """What each site got: scenes, epsg, x0 and y0; ``None`` where nothing serves."""
    windows = windows or date_windows(when("2021-01-01", "2021-12-31"))
    placed = Placer(scenes, windows, chip).place(np.array(sites))
    found = [None] * len(sites)
    for k, number in enumerate(placed.site):
        chosen = tuple(scenes[n] for n in placed.scene[k])
        found[number] = Placed(chosen, placed.epsg[k], placed.x0[k], placed.y0[k])
    return found


@settings(max_examples=60)
@given(places=st.lists(st.tuples(st.floats(-20, 404), st.floats(-20, 404)), min_size=1, max_size=20))
def test_a_chip_lies_whole_in_its_scene_on_its_grid_around_its_site(places):
    # The lower right corner has no data: the footprint ends on the diagonal from (384, 192) to (192, 384).
    corners = [(0, 0), (384, 0), (384, 192), (192, 384), (0, 384)]
    outline = shapely.Polygon([(LEFT + x * 10, TOP - y * 10) for x, y in corners])
    found = place([site(x, y) for x, y in places], [scene(footprint=outline)])
    for (x, y), placement in zip(places, found, strict=True):
        column, row = round(x - 16), round(y - 16)
        beyond = max(0, column + 32 + row + 32 - (384 + 192)) / np.sqrt(2)  # of the chip's far corner, pixels
        sure = 0 <= column <= 352 and 0 <= row <= 352 and beyond <= 0.5
        off = column < 0 or row < 0 or column > 352 or row > 352 or beyond > 1.5
        on_an_edge = min(abs((v - 16) % 1 - 0.5) for v in (x, y)) < 1e-3  # rounding may go either way
        if placement is None:
            assert not sure or on_an_edge
            continue
        assert not off or on_an_edge
        assert placement.epsg == 32633
        assert (placement.x0 - LEFT) % 10 == 0
        assert (TOP - placement.y0) % 10 == 0
        assert abs(placement.x0 + 160 - (LEFT + x * 10)) <= 5.001
        assert abs(placement.y0 - 160 - (TOP - y * 10)) <= 5.001


def test_a_scene_that_lies_elsewhere_serves_nothing():
    assert place([(0.0, 0.0)], [scene()]) == [None]
    assert place([site(100, 100)], []) == [None]
    assert place(np.empty((0, 2)), [scene()]) == []


def test_the_scene_nearest_to_the_middle_is_taken_then_the_clearer_then_the_first_by_id():
    middle = "2021-07-02T12:00:00Z"  # of 2021
    scenes = [
        scene("late", time="2021-08-01T00:00:00Z"),
        scene("cloudy", time=middle, cloud=30),
        scene("twin-b", time=middle, cloud=10),
        scene("twin-a", time=middle, cloud=10),
        scene("before", time="2020-12-31T23:59:59Z"),
    ]
    chosen = {p.scenes[0].id for order in (scenes, scenes[::-1]) for p in place([site(200, 200)], order)}
    assert chosen == {"twin-a"}
    (placement,) = place([site(200, 200)], scenes[:2])
    assert placement.scenes[0].id == "cloudy"
    (placement,) = place([site(200, 200)], [scenes[0], scenes[4]])
    assert placement.scenes[0].id == "late"


def test_beside_the_nearest_the_least_cloudy_are_taken_then_the_nearer_then_the_first_by_id():
    scenes = [
        scene("nearest", time="2021-07-02T00:00:00Z", cloud=60),
        scene("clear", time="2021-01-03T00:00:00Z", cloud=1),
        scene("near", time="2021-06-02T00:00:00Z", cloud=5),
        scene("twin-b", time="2021-08-02T00:00:00Z", cloud=5),
        scene("twin-a", time="2021-08-02T00:00:00Z", cloud=5),
        scene("outside", time="2020-12-31T00:00:00Z", cloud=0),
        scene("elsewhere", time="2021-07-01T00:00:00Z", cloud=0, left=LEFT + 3840),
        scene("other-grid", time="2021-05-01T00:00:00Z", cloud=0, left=LEFT + 5),
    ]
    windows = date_windows(when("2021-01-01", "2021-12-31"))
    for order in (scenes, scenes[::-1]):
        for most, expected in (
            (2, ["clear"]),
            (4, ["clear", "near", "twin-a"]),
            (9, ["clear", "near", "twin-a", "twin-b"]),
        ):
            placed = Placer(order, windows, CHIP, most=most).place(np.array([site(200, 200), site(5, 5)]))
            assert placed.site.tolist() == [0]
            (numbers,) = placed.every_scene()[0].tolist()
            assert [order[n].id for n in numbers if n >= 0] == ["nearest", *expected]
            assert len(numbers) == most


def seasonal_one_by_one(lonlat, scenes, seasons, most):
    """The scenes of each window of a site, without grids or footprints: all of the scenes hold all of the sites."""
    windows = seasons.at(np.array([lonlat]))
    dates = []
    for first, last, wanted in zip(windows.first[0], windows.last[0], windows.wanted[0], strict=True):
        gaps = {s.id: abs((s.time - wanted.item().replace(tzinfo=UTC)).total_seconds()) for s in scenes}
        inside = [s for s in scenes if first.item() <= s.time.date() <= last.item()]
        near = sorted(inside, key=lambda s: (gaps[s.id], s.cloud_cover, s.id))[:1]
        clear = sorted((s for s in inside if s not in near), key=lambda s: (s.cloud_cover, gaps[s.id], s.id))
        dates.append([s.id for s in (near + clear)[:most]])
    return dates if all(dates) else None


@pytest.mark.parametrize("most", [1, 3])
def test_by_phenology_each_site_has_windows_of_its_own(most):
    rng = np.random.default_rng(most)
    start = datetime(2021, 1, 1, tzinfo=UTC)
    scenes = [
        scene(
            f"s{number:02d}",
            time=(start + timedelta(days=int(rng.integers(0, 365)), hours=int(rng.choice([0, 12])))).isoformat(),
            cloud=float(rng.integers(0, 3)),
        )
        for number in rng.permutation(40)
    ]
    places = np.array([site(*rng.uniform(0, 384, 2)) for _ in range(30)])
    days = np.datetime64("2021-01-01") + rng.integers(0, 365, (30, 2))
    seasons = Seasons(places, days, around=10, start=date(2021, 1, 1), end=date(2021, 12, 31), max_km=0.3)
    sites = np.array([site(*rng.uniform(20, 364, 2)) for _ in range(200)])
    placed = Placer(scenes, seasons, CHIP, most=most).place(sites)
    got = {
        int(row): [[scenes[n].id for n in numbers if n >= 0] for numbers in windows]
        for row, windows in zip(placed.site, placed.every_scene().tolist(), strict=True)
    }
    covered = seasons.covers(sites)
    expected = {k: seasonal_one_by_one(sites[k], scenes, seasons, most) for k in np.flatnonzero(covered).tolist()}
    assert got == {k: dates for k, dates in expected.items() if dates}
    assert 30 < len(got) < covered.sum() < 200


def test_dates_of_a_site_are_of_different_windows_on_one_grid():
    windows = date_windows(when("2021-01-01", "2021-12-31", dates_per_site=2))
    scenes = [
        scene("spring", time="2021-04-01T00:00:00Z"),
        scene("autumn", time="2021-10-01T00:00:00Z"),
        # nearer to the middles, but each on a grid of its own: another offset, another zone
        scene("shifted", time="2021-04-02T12:00:00Z", left=LEFT + 5),
        scene("zone", time="2021-10-01T12:00:00Z", epsg=32634, left=LEFT - 470_000),
    ]
    (placement,) = place([site(200, 200)], scenes, windows)
    assert [s.id for s in placement.scenes] == ["spring", "autumn"]
    assert place([site(200, 200)], scenes[:1], windows) == [None]
    (shifted,) = place([site(200, 200)], [scenes[2]])
    assert (shifted.x0 - LEFT) % 10 == 5


def test_a_chip_across_the_antimeridian_is_placed():
    # UTM zone 1, equator: 180° lies about 166 km east of the zone's false origin.
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32601", always_xy=True).transform(180, 1)
    left, top = round(x / 10) * 10 - 1920, round(y / 10) * 10 + 1920
    item = make_item(epsg=32601, left=left, top=top)
    whole = shapely.geometry.shape(item["geometry"])
    lon = shapely.get_coordinates(whole)[:, 0]
    around = shapely.set_coordinates(whole, np.column_stack([lon % 360, shapely.get_coordinates(whole)[:, 1]]))
    west = shapely.intersection(around, shapely.box(0, -90, 180, 90))
    east = shapely.intersection(around, shapely.box(180, -90, 360, 90))
    east = shapely.transform(east, lambda xy: xy - np.array([360.0, 0.0]))
    item["geometry"] = shapely.geometry.mapping(shapely.MultiPolygon([west, east]))
    dateline = Scene.from_item(item, source=SOURCE, bands=["B02"])
    for lon in (179.9999, -179.9999):
        (placement,) = place([(lon, 1.0)], [dateline])
        assert placement is not None
        assert placement.x0 < x < placement.x0 + 320


def one_by_one(lonlat, scenes, windows, chip):
    """The placement of one site, by trying every scene: slow, and without arrays."""
    side = chip.size_px * chip.resolution_m
    grids = {}
    for one in scenes:
        to_grid = Transformer.from_crs("EPSG:4326", f"EPSG:{one.epsg}", always_xy=True)
        x, y = to_grid.transform(*lonlat)
        x0 = one.left + round((x - side / 2 - one.left) / 10) * 10
        y0 = one.top - round((one.top - y - side / 2) / 10) * 10
        corners = shapely.get_coordinates(one.footprint)
        outline = shapely.Polygon(np.column_stack(to_grid.transform(corners[:, 0], corners[:, 1]))).buffer(10)
        whole = outline.covers(shapely.box(x0, y0 - side, x0 + side, y0))
        on_grid = one.left <= x0 <= one.left + 3840 - side and one.top - 3840 + side <= y0 <= one.top
        if whole and on_grid and one.footprint.intersects(shapely.Point(lonlat)):
            grids.setdefault((one.epsg, x0, y0), []).append(one)
    served = []
    for (epsg, x0, y0), offers in grids.items():
        ranked = [
            sorted((abs((s.time - w.wanted).total_seconds()), s.cloud_cover, s.id) for s in offers if w.holds(s.time))
            for w in windows
        ]
        if all(ranked):
            served.append((ranked[0][0], [best[0][2] for best in ranked], epsg, x0, y0))
    return min(served)[1:] if served else None


@pytest.mark.parametrize("dates", [1, 3])
def test_many_at_once_are_placed_as_one_by_one(dates):
    rng = np.random.default_rng(dates)
    start = datetime(2021, 1, 1, tzinfo=UTC)
    scenes = [
        scene(
            f"s{number:02d}",
            time=(start + timedelta(days=int(rng.integers(0, 360)))).isoformat(),
            cloud=float(rng.integers(0, 3)),
            left=LEFT + 10 * int(rng.integers(-3, 4)) * 50 + int(rng.integers(0, 2)) * 5,
            top=TOP + 10 * int(rng.integers(-3, 4)) * 50,
        )
        for number in range(40)
    ]
    windows = date_windows(when("2021-01-01", "2021-12-31", dates_per_site=dates))
    sites = [site(*rng.uniform(-150, 500, 2)) for _ in range(150)]
    found = place(sites, scenes, windows)
    expected = [one_by_one(lonlat, scenes, windows, CHIP) for lonlat in sites]
    assert 30 < sum(one is not None for one in expected) < 150
    got = [one and ([s.id for s in one.scenes], one.epsg, one.x0, one.y0) for one in found]
    assert [one and tuple(one) for one in got] == expected


def test_nominal_grids_are_those_of_the_zones_of_mgrs():
    places = {
        (13.4, 52.5): 32633, (-0.1, 51.5): 32630, (174.8, -41.3): 32760, (180.0, 5.0): 32601, (-180.0, 5.0): 32601,
        (5.3, 60.4): 32632,  # Bergen: zone 32 is widened to the west
        (8.0, 78.0): 32631, (9.0, 78.0): 32633, (21.0, 78.0): 32635, (33.0, 78.0): 32637,  # Svalbard
        (0.0, 84.5): 32661, (0.0, -80.5): 32761, (179.99, 70.0): 32660,
    }  # fmt: skip
    placed = place_nominally(np.array(list(places)), CHIP, dates=2)
    assert placed.epsg.tolist() == list(places.values())
    assert placed.scene.tolist() == [[-1, -1]] * len(places)
    middle = chip_points(placed, Chip(size_px=1, bands=["B02"]), points=1)
    assert middle.shape == (len(places), 1, 2)
    off = placed.x0 % 10, placed.y0 % 10
    assert not np.any(off)


def test_points_of_a_chip_are_where_the_projection_puts_them():
    rng = np.random.default_rng(0)
    sites = np.column_stack([rng.uniform(-180, 180, 300), np.rad2deg(np.arcsin(rng.uniform(-0.999, 0.999, 300)))])
    sites[:4] = [[180, 10], [-180, -10], [0, 90], [10, -89.99]]
    large = Chip(size_px=2048, bands=["B02"])
    placed = place_nominally(sites, large, dates=1)
    points = chip_points(placed, large, points=8)
    steps = (np.arange(8) + 0.5) * 20_480 / 8
    geod = Geod(ellps="WGS84")
    for k in range(len(sites)):
        to_degrees = Transformer.from_crs(f"EPSG:{placed.epsg[k]}", "EPSG:4326", always_xy=True)
        east, south = (axis.ravel() for axis in np.meshgrid(steps, steps))
        lon, lat = to_degrees.transform(placed.x0[k] + east, placed.y0[k] - south)
        off = geod.inv(lon, lat, points[k, :, 0], points[k, :, 1])[2]
        assert np.max(off) < 0.2


@pytest.mark.parametrize(("dates", "most"), [(1, 1), (3, 3)])
def test_lots_of_any_size_place_alike(dates, most, monkeypatch):
    rng = np.random.default_rng(0)
    start = datetime(2021, 1, 1, tzinfo=UTC)
    scenes = [
        scene(
            f"s{number:02d}",
            time=(start + timedelta(days=int(rng.integers(0, 360)))).isoformat(),
            cloud=float(rng.integers(0, 3)),
            left=LEFT + 500 * int(rng.integers(-3, 4)),
            top=TOP + 500 * int(rng.integers(-3, 4)),
        )
        for number in range(40)
    ]
    sites = np.array([site(*rng.uniform(-150, 500, 2)) for _ in range(300)])
    windows = date_windows(when("2021-01-01", "2021-12-31", dates_per_site=dates))

    def placed():
        return Placer(scenes, windows, CHIP, most=most).locate(sites, avoid=range(37))

    whole = placed()
    assert len(whole.placements) > 20
    assert len(whole.full) > 20
    assert (np.diff(whole.placements.site) > 0).all()
    for name, size in (("BATCH", 7), ("PAIRS", 60), ("PAIRS", 1), ("OUTLINES", 2)):
        monkeypatch.setattr(placing, name, size)
        parts = placed()
        for column, values in vars(whole.placements).items():
            np.testing.assert_array_equal(getattr(parts.placements, column), values)
        np.testing.assert_array_equal(parts.full, whole.full)
