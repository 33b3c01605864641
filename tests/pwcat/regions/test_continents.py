from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from pyproj import Geod

from pwcat.errors import RegionError
from pwcat.regions import continents, lines
from pwcat.regions.areas import polygons_km2
from pwcat.regions.continents import CONTINENTS, RULES, continents_by_land
from pwcat.regions.vector import read_vector

COUNTRIES = "vectors/natural_earth/ne_110m_admin_0_countries.geojson"

# Longitude and latitude of places, most of them within 50 km of a line, with the continent they are known to lie on.
PLACES = {
    "Europe": {
        "Vorkuta": (64.0, 67.5), "Yelets": (64.22, 67.04), "Novaya Zemlya": (57.0, 73.5), "Pechora": (57.2, 65.1),
        "Berezniki": (56.8, 59.4), "Teplaya Gora": (59.07, 58.53), "Visim": (59.5, 57.66), "Perm": (56.25, 58.01),
        "Pervouralsk": (59.95, 56.905), "Revda": (59.92, 56.8), "Polevskoy": (60.19, 56.45), "Verkhny Ufaley": (60.24, 56.05),
        "Zlatoust": (59.67, 55.17), "Ufa": (55.97, 54.73), "Beloretsk": (58.4, 53.97), "Orenburg": (55.1, 51.79),
        "Oral": (51.37, 51.23), "Ganyushkino": (49.27, 46.6), "Astrakhan": (48.03, 46.35), "Makhachkala": (47.3, 42.9),
        "Sochi": (40.0, 43.8), "Edirne": (26.56, 41.68), "Kaliningrad": (20.6, 54.7), "Paris": (2.35, 48.86),
        "Reykjavik": (-21.0, 64.2), "Athens": (23.6, 38.1),
    },
    "Asia": {
        "Salekhard": (66.6, 66.53), "Kharp": (65.8, 66.8), "Ivdel": (60.4, 60.7), "Serov": (60.6, 59.6),
        "Kytlym": (59.2, 59.5), "Kachkanar": (59.48, 58.7), "Kushva": (59.76, 58.29), "Nizhny Tagil": (59.97, 57.91),
        "Chernoistochinsk": (59.87, 57.74), "Nevyansk": (60.2, 57.49), "Yekaterinburg": (60.61, 56.84),
        "Sysert": (60.82, 56.5), "Kyshtym": (60.55, 55.71), "Karabash": (60.21, 55.47), "Miass": (60.11, 55.05),
        "Chelyabinsk": (61.43, 55.16), "Aktobe": (57.2, 50.3), "Makat": (53.32, 47.65), "Aktau": (52.0, 43.7),
        "Anadyr": (177.3, 64.7), "Chukotka, east of 180°": (-173.0, 66.5), "Severnaya Zemlya": (96.0, 79.5),
        "Ankara": (32.86, 39.93), "Bursa": (29.06, 40.19), "south Sinai": (33.9, 28.6), "Arish's hinterland": (33.8, 30.8),
        "Jakarta": (106.8, -6.3), "Seram": (129.5, -3.1), "Halmahera": (127.8, 1.0), "Baku's hinterland": (49.0, 40.4),
        "Tbilisi": (44.8, 41.7), "Nicosia": (33.3, 35.1),
    },
    "Africa": {
        "Cairo": (31.24, 30.04), "Zagazig": (31.5, 30.58), "Aswan": (32.9, 24.09), "Kerguelen": (69.5, -49.2),
    },
    "Oceania": {
        "Jayapura": (140.6, -2.6), "Sorong": (131.4, -0.95), "Aru": (134.5, -6.2), "Port Moresby": (147.2, -9.4),
        "Oahu": (-158.0, 21.4), "Hilo": (-155.5, 19.6),
    },
    "South America": {"Cayenne": (-52.4, 4.8), "Falkland": (-59.0, -51.8)},
    "North America": {"Nuuk": (-51.0, 64.3), "Anchorage": (-149.9, 61.3), "Panama": (-80.5, 8.5)},
    "Antarctica": {"the pole": (0.0, -90.0), "Marie Byrd Land": (-120.0, -78.0)},
}  # fmt: skip


@pytest.fixture(scope="module")
def countries(kit) -> gpd.GeoDataFrame:
    return read_vector(kit / COUNTRIES, name="continent")


@pytest.fixture(scope="module")
def by_land(kit, countries):
    return continents_by_land(countries, name="continent", source="test", path=kit / COUNTRIES)


@pytest.mark.kit
@pytest.mark.parametrize("continent", PLACES)
def test_places_lie_on_the_continent_they_are_known_to_lie_on(by_land, continent):
    labels = by_land[0].label(np.array(list(PLACES[continent].values())))
    assert dict(zip(PLACES[continent], labels, strict=True)) == dict.fromkeys(PLACES[continent], continent)


@pytest.mark.kit
def test_there_are_seven_continents_of_the_known_sizes(by_land):
    layer, _ = by_land
    assert layer.classes == list(CONTINENTS)
    areas = dict(zip(layer.classes, layer.areas_km2() / 1e6, strict=True))
    # Britannica's figures; Natural Earth at 1:110m lacks the small islands, and much of Antarctica's ice shelves
    known = {"Africa": 30.4, "Asia": 44.6, "Europe": 10.2, "North America": 24.2, "Oceania": 8.5, "South America": 17.8}
    assert {name: areas[name] for name in known} == pytest.approx(known, rel=0.06)


@pytest.mark.kit
def test_no_land_is_lost_or_counted_twice(by_land, countries):
    layer, _ = by_land
    before = polygons_km2(countries.geometry.to_numpy()).sum()
    assert layer.areas_km2().sum() == pytest.approx(before, rel=1e-9)
    own = shapely.union_all(countries.geometry.to_numpy()).area
    assert shapely.union_all(layer.polygons).area == pytest.approx(own, rel=1e-9)
    merged = [shapely.union_all(layer.polygons[layer.class_of == name]) for name in layer.classes]
    shared = sum(merged[i].intersection(merged[j]).area for i in range(7) for j in range(i))
    twice = sum(shape.area for shape in countries.geometry) - own  # what Natural Earth's own countries share
    assert shared <= twice + 1e-9
    assert all(polygon.is_valid for polygon in layer.polygons)


@pytest.mark.kit
def test_every_deviation_from_the_attribute_is_listed(by_land, countries):
    layer, deviations = by_land
    sizes = {(row.country, row.place): (row.attribute, row.continent, row.area_km2) for row in deviations}
    assert [(country, sizes[country, place][:2]) for country, place in sizes] == [
        ("Russia", ("Europe", "Asia")),
        ("Indonesia", ("Asia", "Oceania")),
        ("Kazakhstan", ("Asia", "Europe")),
        ("France", ("Europe", "South America")),
        ("Egypt", ("Africa", "Asia")),
        ("Turkey", ("Asia", "Europe")),
        ("United States of America", ("North America", "Oceania")),
        ("Fr. S. Antarctic Lands", ("Seven seas (open ocean)", "Africa")),
    ]
    # The Russian and Kazakh statistics: 13.1 M km² of Russia in Asia, 148,000 km² of Kazakhstan in Europe; Sinai 60,000;
    # Western New Guinea 412,000 without Aru's 8,000; Eastern Thrace 23,764; Hawaii 16,600; French Guiana 83,500.
    known = [13.1e6, 420e3, 148e3, 83.5e3, 60e3, 23.8e3, 16.6e3]
    assert [row.area_km2 for row in deviations][:7] == pytest.approx(known, rel=0.12)
    assert all(row.reason for row in deviations)
    # and nothing else: where no rule is named, the label is the attribute
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(-180, 180, 20_000), rng.uniform(-60, 84, 20_000)])
    joined = gpd.GeoDataFrame(geometry=gpd.points_from_xy(*points.T), crs="EPSG:4326").sjoin(countries)
    labels = layer.label(points[joined.index])
    differ = joined[labels != joined["CONTINENT"].to_numpy()]
    assert set(differ["NAME"]) <= {row.country for row in deviations}


def test_the_areas_of_rules_are_valid_and_do_not_overlap_within_a_country():
    for code, rules in RULES.items():
        assert len(code) == 3
        assert all(rule.area.is_valid and rule.continent in CONTINENTS for rule in rules)
        boxes = [rule.area for rule in rules if rule.area is not continents.WORLD]
        assert not any(a.intersects(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert shapely.union(continents.EAST_OF_URALS, continents.WEST_OF_URALS).is_valid
    assert continents.EAST_OF_URALS.intersection(continents.WEST_OF_URALS).area == 0


def test_the_line_passes_between_neighbours_that_the_watershed_parts():
    """Each pair of towns lies on either side, at about the distances that maps show: the line is within 20 km."""
    line = shapely.LineString(lines.EUROPE_ASIA_URALS)
    geod = Geod(ellps="WGS84")
    pairs = [
        ("Zlatoust", "Miass"),
        ("Pervouralsk", "Yekaterinburg"),
        ("Teplaya Gora", "Kachkanar"),
        ("Yelets", "Kharp"),
    ]
    for west, east in pairs:
        ends = PLACES["Europe"][west], PLACES["Asia"][east]
        between = shapely.LineString(ends)
        assert between.intersects(line), (west, east)
        assert geod.geometry_length(between) < 90_000


def test_islands_and_exclaves_go_by_where_they_lie(layer_of):
    def at(code, continent, *points):
        shapes = [shapely.Point(*point).buffer(0.05) for point in points]
        frame = gpd.GeoDataFrame(
            {"ADM0_A3": [code], "NAME": [code], "CONTINENT": [continent]},
            geometry=[shapely.MultiPolygon(shapes)], crs="EPSG:4326",
        )  # fmt: skip
        layer, _ = continents_by_land(frame, name="continent", source="test", path=None)
        return layer.label(np.array(points)).tolist()

    assert at("FRA", "Europe", (2.3, 48.9), (-61.5, 16.2), (-61.0, 14.6), (55.5, -21.1), (45.2, -12.8), (9.1, 42.1)) == [
        "Europe", "North America", "North America", "Africa", "Africa", "Europe",
    ]  # fmt: skip
    assert at("ESP", "Europe", (-3.7, 40.4), (-15.6, 28.0), (-5.32, 35.88), (-2.95, 35.29), (3.0, 39.6)) == [
        "Europe", "Africa", "Africa", "Africa", "Europe",
    ]  # fmt: skip
    assert at("USA", "North America", (-98.0, 39.0), (-177.4, 28.2), (-157.9, 21.4), (173.0, 52.9)) == [
        "North America", "Oceania", "Oceania", "North America",
    ]  # fmt: skip
    assert at("NLD", "Europe", (5.1, 52.1), (-68.3, 12.2), (-63.2, 17.63)) == [
        "Europe",
        "North America",
        "North America",
    ]
    assert at("CHL", "South America", (-70.6, -33.4), (-109.35, -27.1), (-78.8, -33.6)) == [
        "South America", "Oceania", "South America",
    ]  # fmt: skip
    assert at("COL", "South America", (-74.1, 4.7), (-81.7, 12.55), (-81.37, 13.35)) == [
        "South America", "North America", "North America",
    ]  # fmt: skip
    assert at("NOR", "Europe", (10.7, 59.9), (3.36, -54.42), (16.0, 78.5)) == ["Europe", "South America", "Europe"]
    assert at("UMI", "Seven seas (open ocean)", (-75.01, 18.4), (166.6, 19.3)) == ["North America", "Oceania"]
    assert at("IDN", "Asia", (130.9, -0.3), (129.9, -0.43), (129.45, -0.1), (130.1, -1.9), (133.0, -5.6), (131.5, -7.6)) == [
        "Oceania", "Oceania", "Asia", "Oceania", "Asia", "Asia",
    ]  # fmt: skip
    assert at("TUR", "Asia", (26.7, 40.8), (25.85, 40.17), (27.6, 40.62), (29.1, 40.87), (32.0, 39.0)) == [
        "Europe", "Asia", "Asia", "Asia", "Asia",
    ]  # fmt: skip
    assert at("MDV", "Seven seas (open ocean)", (73.5, 4.2)) == ["Asia"]
    assert at("SGS", "Seven seas (open ocean)", (-36.6, -54.4)) == ["South America"]


def test_a_territory_of_no_rule_takes_the_continent_of_the_nearest_land():
    frame = gpd.GeoDataFrame(
        {
            "ADM0_A3": ["AAA", "BBB", "XXX"],
            "NAME": ["A", "B", "X"],
            "CONTINENT": ["Asia", "Africa", "Seven seas (open ocean)"],
        },
        geometry=[shapely.box(0, 0, 1, 1), shapely.box(20, 0, 21, 1), shapely.box(5, 0, 6, 1)],
        crs="EPSG:4326",
    )
    layer, deviations = continents_by_land(frame, name="continent", source="test", path=None)
    assert layer.label(np.array([[5.5, 0.5]])).tolist() == ["Asia"]
    assert [(row.country, row.continent, row.reason) for row in deviations] == [
        ("X", "Asia", "no rule: as the nearest land")
    ]


def test_a_table_of_something_else_is_refused(tmp_path, boxes):
    path = boxes(tmp_path / "a.gpkg", west=(0, 0, 1, 1))
    with pytest.raises(
        RegionError, match=r"a\.gpkg is no table of Natural Earth's countries: it has no ADM0_A3, CONTINENT"
    ):
        continents_by_land(read_vector(path, name="continent"), name="continent", source="test", path=path)


def test_the_lines_of_the_documentation_are_those_that_cut():
    page = (Path(__file__).parents[3] / "docs" / "regions.md").read_text(encoding="utf-8")
    for line in (
        lines.EUROPE_ASIA_URALS,
        lines.EUROPE_ASIA_STRAITS,
        lines.AFRICA_ASIA_SUEZ,
        lines.ASIA_OCEANIA_LYDEKKER,
    ):
        written = " ".join(f"({lon:g}, {lat:g})" for lon, lat in line)
        assert written in " ".join(page.split())


@pytest.mark.parametrize(
    ("area", "inside", "outside"),
    [
        (
            continents.THRACE,
            {"Fatih": (28.949, 41.017), "Beşiktaş": (29.0, 41.043), "Sarıyer": (29.05, 41.167),
             "Eceabat": (26.36, 40.185), "Gelibolu": (26.67, 40.41)},
            {"Kadıköy": (29.03, 40.985), "Üsküdar": (29.02, 41.025), "Beykoz": (29.1, 41.13),
             "Çanakkale": (26.41, 40.15), "Lapseki": (26.685, 40.345)},
        ),
        (
            continents.SINAI,
            {"Port Fuad": (32.33, 31.25), "El Qantara East": (32.33, 30.85), "Ras Sudr": (32.7, 29.6), "Sharm": (34.3, 27.9)},
            {"Port Said": (32.29, 31.26), "Ismailia": (32.27, 30.6), "Suez": (32.54, 29.97), "Hurghada": (33.8, 27.25)},
        ),
    ],
)  # fmt: skip
def test_the_lines_in_the_water_pass_between_the_shores(area, inside, outside):
    assert [name for name, point in inside.items() if not area.contains(shapely.Point(point))] == []
    assert [name for name, point in outside.items() if area.contains(shapely.Point(point))] == []
