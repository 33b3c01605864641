"""Which samples lie near which: as pyproj and shapely say in a plane of their own, everywhere on Earth."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from pyproj import Geod, Transformer

from training.footprints import Footprints, compare_places, footprints_of
from training.tasks.base import TaskData, TaskInfo
from training.tasks.chips import FileChips, PlaceChips, SubsetChips

WGS84 = Geod(ellps="WGS84")


def squares(lonlat, *, side_m: float, pixels: int = 64) -> Footprints:
    lonlat = np.asarray(lonlat, dtype=np.float64).reshape(-1, 2)
    return footprints_of(task(lonlat, pixel_m=side_m / pixels, pixels=pixels))


def points(lonlat) -> Footprints:
    lonlat = np.asarray(lonlat, dtype=np.float64).reshape(-1, 2)
    return Footprints(lonlat=lonlat, outlines=np.full(len(lonlat), None, dtype=object))


def task(lonlat, *, pixel_m: float, pixels: int) -> TaskData:
    info = TaskInfo(name="t", title="T", kind="classification", metric="accuracy", classes=("a",), pixel_m=pixel_m)
    n = len(lonlat)
    chips = FileChips(
        bands=PlaceChips(lonlat=lonlat).bands, shape=(1, 0, pixels, pixels), lonlat=lonlat, times=np.zeros((n, 1), np.int64),
        read=lambda rows: np.zeros((len(rows), 1, 0, pixels, pixels), np.uint16),
    )  # fmt: skip
    return TaskData(info=info, ids=np.arange(n).astype(object), lonlat=lonlat, splits=np.full(n, "test", dtype=object),
                    targets=np.zeros(n, np.int64), chips=chips, hash="h")  # fmt: skip


def truth(a: Footprints, b: Footprints, km: float) -> np.ndarray:
    """Every pair, in a plane around each sample that pyproj makes."""
    near = np.zeros((len(a), len(b)), dtype=bool)
    for i, (lon, lat) in enumerate(a.lonlat):
        plane = Transformer.from_crs("EPSG:4326", f"+proj=laea +lat_0={lat} +lon_0={lon} +units=m", always_xy=True)

        def flat(shape, plane=plane):
            return shapely.transform(shape, plane.transform, interleaved=False)

        away = WGS84.inv(np.full(len(b), lon), np.full(len(b), lat), *b.lonlat.T)[2] / 1000
        close = np.flatnonzero(away < 20)
        near[i, close] = away[close] < km
        for j in close:
            shared = shapely.intersection(flat(a.outlines[i]), flat(b.outlines[j]))
            near[i, j] |= shapely.area(shared) > 1
    return near


@pytest.mark.parametrize("centre", [(8.5, 47.4), (180, 10), (-179.9999, -70), (0, 89.999), (100, -89.9999), (20, 0)])
@pytest.mark.parametrize("km", [0.0, 0.3, 5.0])
def test_near_is_what_a_plane_of_its_own_says(centre, km):
    rng = np.random.default_rng(3)
    away, azimuth = rng.gamma(1.0, 1500, size=60), rng.uniform(0, 360, 60)
    lon, lat, _ = WGS84.fwd(np.full(60, centre[0]), np.full(60, centre[1]), azimuth, away)
    lonlat = np.column_stack([lon, lat])
    a, b = squares(lonlat[:25], side_m=640), squares(lonlat[25:], side_m=960)
    expected = truth(a, b, km)
    assert expected.any()
    there, back = compare_places(a, b, km=km), compare_places(b, a, km=km)
    np.testing.assert_array_equal(there.near, expected.any(axis=1))
    np.testing.assert_array_equal(there.others, expected.any(axis=0))
    np.testing.assert_array_equal(back.near, there.others)  # it is the same from both sides
    np.testing.assert_array_equal(back.others, there.near)


def test_the_nearest_is_the_nearest_by_the_geodesic():
    rng = np.random.default_rng(0)
    others = np.column_stack([rng.uniform(-180, 180, 300), rng.uniform(-90, 90, 300)])
    asked = np.column_stack([rng.uniform(-180, 180, 40), rng.uniform(-90, 90, 40)])
    asked[:5] = others[[7, 100, 200, 3, 4]] + 1e-3
    found = compare_places(points(asked), points(others), km=10)
    km = np.stack([WGS84.inv(*np.repeat(one[None], 300, axis=0).T, *others.T)[2] / 1000 for one in asked])
    assert found.near.tolist() == [True] * 5 + (km.min(axis=1)[5:] < 10).tolist()
    assert found.nearest[:5].tolist() == [7, 100, 200, 3, 4]
    np.testing.assert_allclose(found.km[:5], km.min(axis=1)[:5], rtol=1e-9)
    np.testing.assert_allclose(found.km, km.min(axis=1), rtol=1.01e-3)


def test_chips_that_only_touch_share_no_ground():
    lon, lat, _ = WGS84.fwd(10, 0, 90, 640)
    one = squares([(10, 0)], side_m=640)
    assert not compare_places(one, squares([(lon, lat)], side_m=640), km=0).near.any()
    lon, lat, _ = WGS84.fwd(10, 0, 90, 630)
    assert compare_places(one, squares([(lon, lat)], side_m=640), km=0).near.all()


def test_a_place_without_a_chip_leaks_on_a_chip():
    chip = squares([(10, 50)], side_m=1000)
    asked = [WGS84.fwd(10, 50, azimuth, away)[:2] for azimuth, away in ((0, 499), (0, 501), (45, 700), (45, 710))]
    found = compare_places(points(asked), chip, km=0)
    assert found.near.tolist() == [True, False, True, False]
    assert compare_places(chip, points(asked), km=0).others.tolist() == found.near.tolist()
    assert compare_places(chip, points([(10, 50)]), km=0).near.all()


def test_what_has_no_place_is_nowhere():
    some = points([(np.nan, np.nan), (10, 50), (10, np.nan)])
    found = compare_places(some, points([(10, 50)]), km=1)
    assert found.near.tolist() == [False, True, False]
    assert found.nearest.tolist() == [-1, 0, -1]
    np.testing.assert_array_equal(np.isnan(found.km), [True, False, True])
    nobody = compare_places(points([(10, 50)]), some.only(np.array([0, 2])), km=1)
    assert not nobody.near.any()
    assert np.isnan(nobody.km).all()
    assert len(compare_places(points([]), some, km=1).near) == 0
    assert len(compare_places(some, points([]), km=1).others) == 0


def test_outlines_of_items_are_those_of_their_chips(subset):
    found = footprints_of(subset)
    np.testing.assert_array_equal(found.lonlat, subset.lonlat)
    areas = [abs(WGS84.geometry_area_perimeter(shape)[0]) for shape in found.outlines]
    np.testing.assert_allclose(areas, 320.0**2, rtol=5e-3)  # UTM's scale
    away = found.reach_km - 0.32 / np.sqrt(2)  # a site lies in one of the middle pixels, of 10 m
    assert (away > -1e-3).all()
    assert (away < 0.01 / np.sqrt(2) + 1e-3).all()
    itself = compare_places(found, found, km=0)
    assert itself.near.all()
    np.testing.assert_array_equal(itself.km, 0)
    of_task = TaskData(info=TaskInfo(name="t", title="T", kind="regression", metric="r2"), ids=subset.column("id"),
                       lonlat=subset.lonlat, splits=np.full(48, "test", dtype=object), targets=np.zeros(48),
                       chips=SubsetChips(subset=subset), hash="h")  # fmt: skip
    assert (footprints_of(of_task).outlines == found.outlines).all()


def test_of_chips_of_unknown_pixels_there_are_the_centres():
    lonlat = np.array([[10.0, 50.0], [np.nan, np.nan]])
    assert footprints_of(task(lonlat, pixel_m=0, pixels=64)).outlines.tolist() == [None, None]
    known = footprints_of(task(lonlat, pixel_m=10, pixels=64))
    assert known.outlines[1] is None
    assert abs(WGS84.geometry_area_perimeter(known.outlines[0])[0]) == pytest.approx(640**2, rel=1e-6)
