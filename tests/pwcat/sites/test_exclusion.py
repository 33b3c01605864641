from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pwcat.constraints import Exclusion
from pwcat.errors import RegionError
from pwcat.geo.geodesy import destination, geodesic_km
from pwcat.sites.exclusion import Zone, Zones, open_exclusions

CHIP_KM = 0.96
RADIUS_KM = CHIP_KM / np.sqrt(2)

# How much wider than it is a zone may be taken, buffer and chip together.
TOLERANCE = 1.05

box = shapely.box


def zones(*geometries: shapely.Geometry, buffer_km: float = 0.0) -> Zones:
    return Zones((Zone(source="test", geometries=np.array(geometries, dtype=object), buffer_km=buffer_km),))


def hits(zone: Zones, *lonlat: tuple[float, float], chip_km: float = CHIP_KM) -> list[bool]:
    return zone.hit(np.array(lonlat, dtype=float), chip_km=chip_km).tolist()


def ring(centre: tuple[float, float], km: float, n: int = 72) -> np.ndarray:
    return destination(np.tile(centre, (n, 1)), np.arange(n) * 360 / n, np.full(n, km))


def km_to_edges(lonlat: np.ndarray, corners: np.ndarray) -> float:
    """Distance from a point to a closed line, straight in degrees; the shortest of points sown along it, then refined."""
    starts, ends = corners[:-1], corners[1:]
    where = np.linspace(0, 1, 400)
    for _ in range(4):
        sown = (
            starts[:, None]
            + (ends - starts)[:, None] * np.broadcast_to(where, (len(starts), where.shape[-1]))[..., None]
        )
        km = geodesic_km(np.broadcast_to(lonlat, (sown.size // 2, 2)), sown.reshape(-1, 2)).reshape(len(starts), -1)
        best = np.take_along_axis(np.broadcast_to(where, km.shape), km.argmin(axis=1)[:, None], axis=1)
        step = 2 * (where[..., 1] - where[..., 0]).max()
        where = np.clip(best + np.linspace(-step, step, 400), 0, 1)
    return float(km.min())


@pytest.mark.parametrize("buffer_km", [0, 0.5, 10, 500])
@pytest.mark.parametrize("centre", [(10.0, 50.0), (180.0, -17.0), (-120.0, 89.9), (0.0, -90.0)])
def test_a_point_keeps_a_circle_free(centre, buffer_km):
    zone = zones(shapely.Point(centre), buffer_km=buffer_km)
    reach = buffer_km + RADIUS_KM
    assert zone.hit(ring(centre, reach * 0.9999), chip_km=CHIP_KM).all()
    assert not zone.hit(ring(centre, reach * TOLERANCE), chip_km=CHIP_KM).any()


def test_no_corner_of_a_chip_touches_a_zone():
    # The chip's corner is half its diagonal away from its middle.
    point = shapely.Point(0, 0)
    corner = destination(np.array([[0.0, 0.0]]), np.array([45.0]), np.array([10 / np.sqrt(2) - 0.001]))
    assert zones(point).hit(corner, chip_km=10).all()


def test_the_inside_of_a_polygon_is_hit_and_its_hole_is_not():
    holed = shapely.Polygon(box(0, 0, 20, 20).exterior, [box(5, 5, 15, 15).exterior])
    assert hits(zones(holed), (2, 2), (10, 10), (5.0, 10), (21, 10)) == [True, False, True, False]


def test_a_line_keeps_both_sides_free():
    line = shapely.LineString([(0, 0), (0, 10)])
    degree = 111.3195  # kilometres at the equator
    near, far = 20 / degree, 22 / degree
    zone = zones(line, buffer_km=20 - RADIUS_KM)
    assert hits(zone, (near * 0.999, 0), (-near * 0.999, 0), (far, 0), (-far, 0)) == [True, True, False, False]


def test_a_collection_is_all_its_members():
    members = shapely.GeometryCollection(
        [
            shapely.MultiPoint([(0, 0), (1, 1)]),
            shapely.MultiPolygon([box(5, 5, 6, 6)]),
            shapely.LineString([(9, 9), (9, 10)]),
        ]
    )
    assert hits(zones(members), (0, 0), (1, 1), (5.5, 5.5), (9, 9.5), (7, 7)) == [True, True, True, True, False]


@pytest.mark.parametrize(
    "polygon",
    [
        shapely.MultiPolygon([box(178, -5, 180, 5), box(-180, -5, -178, 5)]),
        box(178, -5, 182, 5),
        box(-182, -5, -178, 5),
        shapely.Polygon([(178, -5), (-178, -5), (-178, 5), (178, 5)]),
    ],
    ids=["cut", "beyond 180", "beyond -180", "jumping"],
)
def test_a_box_over_the_antimeridian_however_it_is_written(polygon):
    zone = zones(polygon, buffer_km=1)
    inside = [(179, 0), (-179, 0), (180, 0), (-180, 0), (177.99, 0), (-177.99, 0)]
    assert hits(zone, *inside) == [True] * 6
    assert hits(zone, (177.9, 0), (-177.9, 0), (0, 0), (90, 0), (180, 6)) == [False] * 5


def test_the_whole_world_is_everywhere():
    assert hits(zones(box(-180, -90, 180, 90)), (0, 0), (180, 90), (-179, -89), (90, 45)) == [True] * 4


def test_a_ring_around_a_pole_holds_the_pole():
    cap = shapely.Polygon([(lon, 80.0) for lon in (-150, -90, -30, 30, 90, 150)])
    assert hits(zones(cap), (0, 90), (170, 85), (-175, 81), (180, 80.5), (0, 79.9)) == [True] * 4 + [False]
    south = shapely.Polygon([(lon, -80.0) for lon in (150, 90, 30, -30, -90, -150)])
    assert hits(zones(south), (0, -90), (180, -85), (0, 85)) == [True, True, False]


def test_a_polygon_that_ends_at_a_pole_keeps_the_pole_free():
    wedge = box(0, 80, 90, 90)
    assert hits(zones(wedge, buffer_km=5), (-120, 90), (-120, 89.96), (-120, 89.9)) == [True, True, False]


@pytest.mark.kit
def test_natural_earths_antarctica_holds_the_pole(kit):
    world = gpd.read_file(kit / "vectors/natural_earth/ne_continents.fgb")
    antarctica = world.loc[world["continent"] == "Antarctica", "geometry"].iloc[0]
    assert hits(zones(antarctica, buffer_km=500), (0, -90), (179, -85), (-60, -55), (0, 0), (20, -35)) == [
        *[True, True],
        *[False, False, False],
    ]


longitude = st.one_of(st.floats(-180, 180), st.floats(178, 182))
latitude = st.one_of(st.floats(-85, 85), st.floats(80, 89.9), st.floats(-89.9, -80))


@settings(max_examples=150)
@given(
    lon=longitude,
    lat=latitude,
    size=st.sampled_from([0.001, 0.1, 3.0, 40.0]),
    shape=st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=3, max_size=5),
    buffer_km=st.sampled_from([0.0, 0.1, 5.0, 100.0, 500.0]),
    azimuth=st.floats(0, 360),
    out=st.floats(0, 2),
)
def test_what_is_near_is_hit_and_what_is_far_is_not(lon, lat, size, shape, buffer_km, azimuth, out):
    corners = np.array(shape) * size + [lon, lat]
    corners[:, 1] = np.clip(corners[:, 1], -90, 90)
    corners = shapely.get_coordinates(shapely.MultiPoint(corners).convex_hull)
    if len(corners) < 4:
        return  # no area
    polygon = shapely.Polygon(corners)
    reach = buffer_km + RADIUS_KM
    point = destination(corners[:1], np.array([azimuth]), np.array([out * reach]))
    inside = any(polygon.intersects(shapely.Point(point[0] + [turn, 0])) for turn in (-360, 0, 360))
    km = 0.0 if inside else km_to_edges(point[0], corners)
    hit = zones(polygon, buffer_km=buffer_km).hit(point, chip_km=CHIP_KM)[0]
    if km < reach * 0.9999:
        assert hit
    if km > reach * TOLERANCE + 0.001:
        assert not hit


def test_many_chips_at_once_are_each_alone():
    rng = np.random.default_rng(0)
    lonlat = np.column_stack([rng.uniform(-20, 20, 1000), rng.uniform(-20, 20, 1000)])
    corners = rng.uniform(-20, 20, (200, 2))
    zone = zones(*(box(x, y, x + 0.2, y + 0.2) for x, y in corners), buffer_km=150)
    together = zone.hit(lonlat, chip_km=CHIP_KM)
    alone = np.concatenate([zone.hit(lonlat[n : n + 1], chip_km=CHIP_KM) for n in range(len(lonlat))])
    assert 0.2 < together.mean() < 0.8
    np.testing.assert_array_equal(together, alone)


def test_without_zones_nothing_is_hit():
    assert hits(Zones(), (0, 0), (180, 90)) == [False, False]


def test_without_chips_nothing_is_hit():
    assert zones(box(0, 0, 1, 1)).hit(np.empty((0, 2)), chip_km=1).shape == (0,)


def test_zones_are_opened_beside_the_recipe(tmp_path):
    gpd.GeoSeries([box(0, 0, 1, 1)], crs=4326).to_file(tmp_path / "eval.gpkg")
    (tmp_path / "cities.csv").write_text("lat,lon\n10,20\n")
    exclusions = [Exclusion(path="eval.gpkg"), Exclusion(path="cities.csv", buffer_km=50)]
    opened = open_exclusions(exclusions, base_dir=tmp_path)
    assert hits(opened, (0.5, 0.5), (20.3, 10), (20.6, 10), (2, 2)) == [True, True, False, False]


def test_the_items_of_a_catalog_are_zones(tmp_path, tiny_catalog):
    opened = open_exclusions([Exclusion(path=str(tiny_catalog / "europe" / "items.parquet"))], base_dir=tmp_path)
    items = gpd.read_parquet(tiny_catalog / "europe" / "items.parquet", columns=["geometry"])
    centres = shapely.get_coordinates(shapely.centroid(items.geometry.to_numpy()))
    assert opened.hit(centres, chip_km=0.32).all()
    assert not opened.hit(centres + np.array([0.0, 30.0]), chip_km=0.32).any()


def test_a_zone_that_is_not_there(tmp_path):
    with pytest.raises(RegionError, match=r"gone\.parquet: no such file of places; relative paths start from"):
        open_exclusions([Exclusion(path="gone.parquet")], base_dir=tmp_path)
