from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyproj import Geod

from catalog.query import QUERYABLES, open_catalog
from catalog.querying.conditions import Question
from catalog.querying.cql2_sql import to_sql
from pwcat.errors import CatalogError

PWCAT = str(Path(sys.executable).with_name("pwcat"))


@pytest.fixture(scope="module")
def catalog(tiny_catalog):
    return open_catalog(tiny_catalog)


@pytest.fixture(scope="module")
def frame(tiny_catalog):
    """All items of both collections, in cube order within each."""
    frames = [gpd.read_parquet(tiny_catalog / name / "items.parquet") for name in ("europe", "everywhere")]
    return pd.concat(frames, ignore_index=True)


def ids(subset):
    return subset.table["id"].to_pylist()


CLASSES = {
    "continent": ["Africa", "Asia", "Europe", "North America", "Oceania", "South America"],
    "landcover": ["grassland", "tree_cover", "cropland", "water"],
}


SHARES = st.floats(0, 1).map(lambda value: round(value, 2))
PLACES = st.tuples(st.floats(-180, 180), st.floats(-90, 90))
WGS84 = Geod(ellps="WGS84")


def share(parts, name):
    return next((part["fraction"] for part in parts if part["name"] == name), 0)


@st.composite
def questions(draw):
    """A search and the same question asked of a data frame."""
    search, tests = {}, []
    for layer in CLASSES:
        if draw(st.booleans()):
            values = draw(st.lists(st.sampled_from(CLASSES[layer]), min_size=1, max_size=3, unique=True))
            spelt = [value.upper().replace(" ", "_") for value in values]
            search[layer] = spelt[0] if len(spelt) == 1 and draw(st.booleans()) else spelt
            tests.append(lambda f, layer=layer, values=values: f[f"div:{layer}"].isin(values))
    if draw(st.booleans()):
        search["collections"] = draw(st.sampled_from(["europe", ["europe"], ["everywhere"], ["everywhere", "europe"]]))
        names = [search["collections"]] if isinstance(search["collections"], str) else search["collections"]
        tests.append(lambda f, names=names: f["collection"].isin(names))
    if draw(st.booleans()):
        search["split"] = draw(st.sampled_from(["train", "val"]))
        tests.append(lambda f, split=search["split"]: f["pwcat:split"] == split)
    if draw(st.booleans()):
        west, east = draw(st.floats(-180, 180)), draw(st.floats(-180, 180))
        south, north = sorted((draw(st.floats(-90, 90)), draw(st.floats(-90, 90))))
        search["bbox"] = (west, south, east, north)
        tests.append(lambda f: meets(f, west, south, east, north))
    if draw(st.booleans()):
        start = date(2021, 1, 1) + timedelta(days=draw(st.integers(0, 900)))
        end = start + timedelta(days=draw(st.integers(0, 900)))
        search["datetime"] = f"{start}/{end}"
        first = datetime(start.year, start.month, start.day, tzinfo=UTC)
        last = datetime(end.year, end.month, end.day, tzinfo=UTC) + timedelta(days=1)
        tests.append(lambda f: (f["datetime"] >= first) & (f["datetime"] < last))
    if draw(st.booleans()):
        least = draw(st.floats(0, 5))
        search["min_spectral_entropy"] = least
        tests.append(lambda f: f["div:spectral_entropy"] >= least)
    if draw(st.booleans()):
        name, bounds = draw(st.sampled_from(CLASSES["landcover"])), sorted(draw(st.tuples(SHARES, SHARES)))
        search["landcover_share"] = {name.upper(): tuple(bounds)}
        tests.append(
            lambda f: f["div:landcover_fractions"].map(lambda parts: bounds[0] <= share(parts, name) <= bounds[1])
        )
    if draw(st.booleans()):
        place, km = draw(PLACES), draw(st.floats(1, 15_000))
        search |= {"near": place, "within_km": km}
        tests.append(lambda f: [WGS84.inv(*place, c["lon"], c["lat"])[2] < km * 1000 for c in f["proj:centroid"]])
    if draw(st.booleans()):
        wanted = draw(st.lists(st.sampled_from(["europe-000003", "everywhere-000017", "nowhere"]), max_size=3))
        search["ids"] = wanted
        tests.append(lambda f: f["id"].isin(wanted))
    return search, tests


def meets(frame, west, south, east, north):
    box = frame.geometry.bounds
    inside = (box["miny"] <= north) & (box["maxy"] >= south)
    if west <= east:
        return inside & (box["minx"] <= east) & (box["maxx"] >= west)
    return inside & ((box["maxx"] >= west) | (box["minx"] <= east))


def answer(frame, tests):
    for test in tests:
        frame = frame[np.asarray(test(frame), dtype=bool)]
    return frame["id"].tolist()


@settings(max_examples=40)
@given(question=questions())
def test_every_combination_finds_what_a_data_frame_finds(catalog, frame, question):
    search, tests = question
    present = {layer: set(frame[f"div:{layer}"]) for layer in CLASSES}
    for layer in CLASSES:  # a class that no collection searched has is refused, which has a test of its own
        names = search.get("collections", ["europe", "everywhere"])
        here = frame[frame["collection"].isin([names] if isinstance(names, str) else names)]
        asked = [search[layer]] if isinstance(search.get(layer), str) else search.get(layer, [])
        known = {value.upper().replace(" ", "_") for value in set(here[f"div:{layer}"]) & present[layer]}
        if not set(asked) <= known:
            with pytest.raises(CatalogError, match=f"unknown {layer} "):
                catalog.search(**search)
            return
    assert ids(catalog.search(**search)) == answer(frame, tests)


DAY = date(2022, 6, 24)


def on_day(frame):
    return frame["datetime"].dt.date == DAY


SHAPE = shapely.Polygon([(-20, 30), (60, 30), (60, 75)])
numbers = st.floats(-200, 200).map(lambda value: round(value, 3))
LEAVES = {
    "text": st.sampled_from(
        [
            ("continent = 'Asia'", lambda f: f["div:continent"] == "Asia"),
            ("continent <> 'Asia'", lambda f: f["div:continent"] != "Asia"),
            ("div:continent IN ('Asia', 'Africa')", lambda f: f["div:continent"].isin(["Asia", "Africa"])),
            ("casei(continent) = casei('aSIA')", lambda f: f["div:continent"] == "Asia"),
            ("biome LIKE 'Trop%'", lambda f: f["div:biome"].str.startswith("Trop")),
            ("landcover LIKE 'tree\\_c%'", lambda f: f["div:landcover"] == "tree_cover"),
            ("landcover LIKE 'tree\\%'", lambda f: f["div:landcover"] == "tree%"),
            ("landcover LIKE 'tree\\'", lambda f: f["div:landcover"] == "tree\\"),
            (f"T_EQUALS(datetime, DATE('{DAY}'))", on_day),
            (f"datetime = DATE('{DAY}')", on_day),
            (f"datetime <> DATE('{DAY}')", lambda f: ~on_day(f)),
            (f"datetime IN (DATE('{DAY}'), DATE('1999-01-01'))", on_day),
            (f"datetime BETWEEN DATE('{DAY}') AND DATE('{DAY}')", on_day),
            (f"datetime <= DATE('{DAY}')", lambda f: f["datetime"] < pd.Timestamp(DAY + timedelta(days=1), tz="UTC")),
            (f"datetime > DATE('{DAY}')", lambda f: f["datetime"] >= pd.Timestamp(DAY + timedelta(days=1), tz="UTC")),
            (f"DATE('{DAY}') >= datetime", lambda f: f["datetime"] < pd.Timestamp(DAY + timedelta(days=1), tz="UTC")),
            ("biome IS NULL", lambda f: f["div:biome"].isna()),
            ("split = 'val'", lambda f: f["pwcat:split"] == "val"),
            ("collection = 'europe'", lambda f: f["collection"] == "europe"),
            (
                "datetime >= TIMESTAMP('2022-06-01T00:00:00Z')",
                lambda f: f["datetime"] >= pd.Timestamp("2022-06-01", tz="UTC"),
            ),
            ("datetime < DATE('2023-02-01')", lambda f: f["datetime"] < pd.Timestamp("2023-02-01", tz="UTC")),
            ("S_INTERSECTS(geometry, BBOX(-30, -40, 60, 70))", lambda f: meets(f, -30, -40, 60, 70)),
            ("id = 'x'' OR 1=1 --'", lambda f: f["id"] == "x"),
            ("ecoregion IS NULL", lambda f: f["id"] != "x"),
            ("T_AFTER(datetime, DATE('2022-06-24'))", lambda f: f["datetime"] >= pd.Timestamp("2022-06-25", tz="UTC")),
            ("T_BEFORE(datetime, DATE('2022-06-24'))", lambda f: f["datetime"] < pd.Timestamp("2022-06-24", tz="UTC")),
            (
                "T_DURING(datetime, INTERVAL('2022-01-01', '2022-12-31'))",
                lambda f: f["datetime"].dt.year == 2022,
            ),
            (
                "T_INTERSECTS(datetime, INTERVAL('..', '2022-06-24'))",
                lambda f: f["datetime"] < pd.Timestamp("2022-06-25", tz="UTC"),
            ),
            (f"S_INTERSECTS(geometry, {SHAPE.wkt})", lambda f: f.geometry.intersects(SHAPE)),
            (f"S_WITHIN(geometry, {SHAPE.wkt})", lambda f: f.geometry.within(SHAPE)),
            (f"S_DISJOINT(geometry, {SHAPE.wkt})", lambda f: f.geometry.disjoint(SHAPE)),
            ("landcover_share >= 0.75", lambda f: f["div:landcover_share"] >= 0.75),
        ]
    ),
    "compare": st.tuples(st.sampled_from(["<", "<=", ">", ">="]), st.sampled_from(["lon", "lat"]), numbers).map(
        lambda t: (f"{t[1]} {t[0]} {t[2]}", lambda f: f[f"_{t[1]}"].map(lambda v: eval(f"v {t[0]} {t[2]}")))  # noqa: S307
    ),
    "between": st.tuples(numbers, numbers).map(
        lambda t: (f"lon BETWEEN {t[0]} AND {t[1]}", lambda f: f["_lon"].between(*t))
    ),
}
filters = st.recursive(
    st.one_of(*LEAVES.values()),
    lambda inner: st.one_of(
        inner.map(lambda a: (f"NOT ({a[0]})", lambda f: ~a[1](f))),
        st.tuples(inner, inner).map(lambda t: (f"({t[0][0]} AND {t[1][0]})", lambda f: t[0][1](f) & t[1][1](f))),
        st.tuples(inner, inner).map(lambda t: (f"({t[0][0]} OR {t[1][0]})", lambda f: t[0][1](f) | t[1][1](f))),
    ),
    max_leaves=4,
)


@settings(max_examples=60)
@given(question=filters, as_json=st.booleans())
def test_cql2_finds_what_a_data_frame_finds(catalog, frame, question, as_json):
    import cql2

    text, test = question
    rows = frame.assign(
        _lon=[c["lon"] for c in frame["proj:centroid"]], _lat=[c["lat"] for c in frame["proj:centroid"]]
    )
    expected = rows["id"][test(rows).astype(bool)].tolist()
    assert ids(catalog.search(filter=cql2.parse_text(text).to_json() if as_json else text)) == expected


HOSTILE = [
    "1=1; DROP TABLE items",
    "continent = 'Asia' UNION SELECT 1",
    "continent = (SELECT 'Asia')",
    "read_text('/etc/passwd') = 'x'",
    '"div:continent\\" OR 1=1 --" = 1',
    "pg_sleep(10) = 1",
    "secret = 1",
    "lon",
    "true",
    "",
    "datetime > TIMESTAMP('garbage')",
    "lon + 1 > 3",
    "S_INTERSECTS(geometry, POLYGON((0 0, 1 1, 1 0, 0 1, 0 0)))",
    "S_INTERSECTS(geometry, POLYGON((0 0, 1 1)))",
    "S_INTERSECTS(id, POINT(1 1))",
    "S_WITHIN(geometry, BBOX(1, 2, 3, 4))",
    "S_CROSSES(geometry, POINT(1 1))",
    "T_AFTER(id, DATE('2021-01-01'))",
    "T_DURING(datetime, INTERVAL('2022-01-01', '2021-01-01'))",
    "T_DURING(datetime, INTERVAL('soon', '..'))",
    "biome > 5",
    "spectral_entropy = 'high'",
    "lon LIKE 'a%'",
    "geometry = 'x'",
    "datetime > '2021-01-01'",
    "continent = TRUE",
    "(" * 100_000 + "lon = 1" + ")" * 100_000,
    "NOT " * 100_000 + "lon = 1",
    "lon = " + "-" * 100_000 + "1",
    "lon = " + "(" * 40,
    "lon = 1" + " + 1" * 2_000,
    "lon IN (" + "1, " * 50_000 + "1)",
    {"op": "and"},
    {"op": "=", "args": []},
    {"op": "not", "args": []},
    {"op": "in", "args": [{"property": "biome"}, "Tundra"]},
    {"op": "s_intersects", "args": [{"property": "geometry"}, {"bbox": [1, 2]}]},
    {"op": "s_intersects", "args": [{"property": "secret"}, {"bbox": [1, 2, 3, 4]}]},
    {"op": "=", "args": [{"property": "lon"}, None]},
    {"op": "=", "args": [{"property": "datetime"}, {"timestamp": 5}]},
    {"op": "1; DROP TABLE items", "args": [1, 2]},
    {"property": "lon"},
    {},
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_filters_are_refused_in_one_short_line(catalog, number):
    with pytest.raises(CatalogError, match="filter") as caught:
        catalog.search(filter=HOSTILE[number])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1_000


def test_a_deeply_nested_document_is_refused_too(catalog):
    document = {"op": "=", "args": [{"property": "lon"}, 1]}
    for _ in range(5_000):
        document = {"op": "not", "args": [document]}
    with pytest.raises(CatalogError, match="not a CQL2 filter"):
        catalog.search(filter=document)


@given(value=st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=40))
def test_no_value_ever_becomes_sql(value):
    document = {"op": "=", "args": [{"property": "continent"}, value]}
    condition = to_sql(document, QUERYABLES)
    assert condition.sql == '("div:continent" = ?)'
    assert condition.values == [value]


def test_an_unknown_class_names_the_close_ones_and_all_there_are(catalog, frame, tiny_catalog):
    every = ", ".join(sorted(set(frame["div:biome"])))
    with pytest.raises(
        CatalogError, match=r"unknown biome 'Boreal Forest': did you mean 'Boreal Forests/Taiga'"
    ) as caught:
        catalog.search(biome="Boreal Forest")
    assert str(caught.value).endswith(f"Known: {every}")
    done = subprocess.run(
        [PWCAT, "search", str(tiny_catalog), "--biome", "Boreal Forest"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"pwcat: {caught.value}\n"


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"datetime": "yesterday"}, "datetime: 'yesterday' is no ISO 8601 date or time"),
        ({"datetime": "2021-13-01/.."}, "datetime: '2021-13-01' is no ISO 8601 date or time"),
        ({"datetime": "2022-01-01/2021-01-01"}, "datetime: the end lies before the start"),
        ({"datetime": "2021-01-01/2021-02-01/2021-03-01"}, "datetime is a day or an interval start/end"),
        (
            {"bbox": (0, 10, 10, 0)},
            r"bbox is west, south, east, north in degrees with south <= north, got \[0, 10, 10, 0\]",
        ),
        ({"bbox": (0, 0, 10)}, "bbox is west, south, east, north"),
        ({"bbox": (0, 0, 190, 10)}, "bbox is west, south, east, north"),
        ({"bbox": (0, 0, float("nan"), 10)}, "bbox is west, south, east, north"),
        ({"bbox": ("0", "0", "9", "9")}, "bbox is west, south, east, north"),
        ({"datetime": ""}, "datetime is a day or an interval start/end, got ''"),
        ({"limit": 2.5}, "limit is a whole number of at least 1, got 2.5"),
        ({"landcover_share": {"water": "much"}}, "the share of water is a number, or the least and the largest"),
        ({"split": "dev"}, "unknown split 'dev': train or val or test"),
        ({"collections": "nowhere"}, "no collection 'nowhere'; there are europe, everywhere"),
        ({"limit": 0}, "limit is a whole number of at least 1, got 0"),
        ({"limit_by": "biome"}, "limit_by says how a limit is shared out, and needs one"),
        ({"ecoregion": "Sahara"}, "no collection searched has labels of ecoregion"),
        ({"landcover_share": {"lava": 0.2}}, "unknown landcover 'lava'"),
        ({"landcover_share": {"water": 1.2}}, "the share of water lies between 0 and 1, the smaller bound first"),
        (
            {"landcover_share": {"water": (0.5, 0.2)}},
            "the share of water lies between 0 and 1, the smaller bound first",
        ),
        ({"landcover_share": {"water": float("nan")}}, "the share of water is a finite number, got nan"),
        ({"min_spectral_entropy": float("nan")}, "min_spectral_entropy is a finite number, got nan"),
        ({"min_spectral_entropy": "high"}, "min_spectral_entropy is a finite number, got 'high'"),
        ({"near": (10, 50)}, "near needs within_km, a distance above 0 km, got None"),
        ({"near": (10, 50), "within_km": float("nan")}, "near needs within_km, a distance above 0 km, got nan"),
        ({"near": (10, 95), "within_km": 5}, "near is a longitude and a latitude in degrees, got 10, 95"),
        ({"near": "here", "within_km": 5}, "near is a longitude and a latitude, or a subset, got 'here'"),
        ({"within_km": 5}, "near is a longitude and a latitude, or a subset, got None"),
    ],
)
def test_what_makes_no_sense_is_refused(catalog, search, message):
    with pytest.raises(CatalogError, match=message):
        catalog.search(**search)


def test_a_day_is_all_of_it_however_it_is_written(catalog, frame):
    day = frame["datetime"].iloc[0].date()
    expected = frame["id"][frame["datetime"].dt.date == day].tolist()
    for span in (f"{day}", f"{day}/{day}", f"{day:%Y%m%d}", (day, day)):
        assert ids(catalog.search(datetime=span)) == expected
    assert len(catalog.search(datetime="../..")) == len(catalog.search(datetime=(None, None))) == len(frame)
    late = catalog.search(datetime=f"{day}T23:59:59Z/..")
    assert ids(late) == frame["id"][frame["datetime"].dt.date > day].tolist()


def test_one_id_or_day_needs_no_list_and_no_collections_hold_nothing(catalog, frame):
    assert ids(catalog.search(ids="europe-000003")) == ["europe-000003"]
    day = frame["datetime"].iloc[0].date()
    assert ids(catalog.search(datetime=day)) == ids(catalog.search(datetime=f"{day}"))
    assert len(catalog.search(collections=[])) == 0
    assert catalog.count(["biome"], collections=[]).to_pydict() == {"biome": [], "samples": []}


def test_a_limit_is_the_same_samples_each_time_spread_over_the_answer(catalog, frame):
    some = catalog.search(limit=20)
    assert len(some) == 20
    assert ids(some) == ids(catalog.search(limit=20))
    assert set(ids(some)) < set(ids(catalog.search(limit=40))) < set(frame["id"])
    assert len(set(some.column("collection"))) == 2
    assert ids(some) == [name for name in frame["id"] if name in set(ids(some))]  # in cube order
    assert ids(catalog.search(limit=10_000)) == frame["id"].tolist()


def test_a_box_across_the_antimeridian_finds_either_side_and_what_crosses(tiny_catalog, tmp_path):
    shutil.copytree(tiny_catalog / "europe", tmp_path / "europe", ignore=shutil.ignore_patterns("cube.zarr"))
    path = tmp_path / "europe" / "items.parquet"
    table = pq.read_table(path)
    spans = [(179.0, 179.1), (-179.1, -179.0), (179.95, -179.95), (10.0, 10.1)]
    boxes = [{"xmin": w, "ymin": 0.0, "xmax": e, "ymax": 1.0} for w, e in [*spans, *[(0.0, 1.0)] * (len(table) - 4)]]
    number = table.schema.get_field_index("bbox")
    pq.write_table(table.set_column(number, "bbox", pa.array(boxes, table["bbox"].type)), path)
    catalog = open_catalog(tmp_path)

    def found(*bbox):
        return [k for k in catalog.search(bbox=bbox).column("pwcat:index").tolist() if k < 4]

    assert found(178, -5, -178, 5) == [0, 1, 2]
    assert found(179.92, -5, 180, 5) == [2]
    assert found(-180, -5, -179.96, 5) == [2]
    assert found(-179.5, -5, -178, 5) == [1]
    assert found(5, -5, 20, 5) == [3]
    assert found(-180, -90, 180, 90) == [0, 1, 2, 3]
    assert found(178, 5, -178, 10) == []


def test_a_collection_opens_alone_and_what_is_no_catalog_is_said(tiny_catalog, tmp_path, frame):
    alone = open_catalog(tiny_catalog / "europe")
    assert alone.collections == ["europe"]
    assert set(alone.search().column("div:continent")) == {"Europe"}
    collection = open_catalog(tiny_catalog).collection("europe")
    assert collection.recipe["name"] == "europe"
    assert collection.metadata.id == "europe"
    assert collection.stats["num_samples"] == 32
    with pytest.raises(CatalogError, match=r"no catalog there: neither collection\.json nor a folder that has one"):
        open_catalog(tmp_path)
    (tmp_path / "europe").mkdir()
    (tmp_path / "europe" / "collection.json").write_text("{}")
    with pytest.raises(CatalogError, match=r"no items at .*items\.parquet; build the collection again"):
        open_catalog(tmp_path).search()


def test_the_command_line_says_the_same_as_the_api(tiny_catalog, catalog, tmp_path):
    done = subprocess.run(
        [PWCAT, "search", str(tiny_catalog), "--continent", "Europe", "--split", "train", "--bbox", "-20", "30", "60", "75",
         "--datetime", "2021-01-01/..", "--filter", "spectral_entropy > 1", "--limit", "5", "--save",
         str(tmp_path / "few.parquet"), "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    expected = catalog.search(
        continent="Europe", split="train", bbox=(-20, 30, 60, 75), datetime="2021-01-01/..", filter="spectral_entropy > 1",
        limit=5,
    )  # fmt: skip
    assert (found["matched"], found["hash"]) == (5, expected.hash)
    assert [sample["id"] for sample in found["samples"]] == ids(expected)
    done = subprocess.run([PWCAT, "stats", str(tmp_path / "few.parquet"), "--json"], capture_output=True, check=True)
    assert json.loads(done.stdout)["few"] == json.loads(json.dumps(expected.stats()))


def test_items_near_those_of_a_subset_are_found_wherever_they_lie(catalog, frame):
    some = catalog.search(collections="europe", limit=4)
    lonlat = [(c["lon"], c["lat"]) for c in frame["proj:centroid"]]
    near = [min(WGS84.inv(*one, *other)[2] for other in some.lonlat) < 400_000 for one in lonlat]
    assert ids(catalog.search(near=some, within_km=400)) == frame["id"][near].tolist()
    assert ids(catalog.search(near=some, within_km=1e-6)) == ids(some)


@settings(max_examples=60)
@given(
    lon=st.floats(179, 181), lat=st.floats(-60, 60), aside=st.floats(-1, 1), km=st.floats(1, 200),
    width=st.floats(0.01, 0.2),
)  # fmt: skip
@example(lon=180.5, lat=0.0, aside=-0.48, km=54.0, width=0.1)  # all that is near lies east of 180, and the box does not
def test_what_is_near_is_found_across_the_antimeridian(seam_catalog, lon, lat, aside, km, width):
    place, site = ((x + 180) % 360 - 180 for x in (lon, lon + aside))
    west, east = ((site + w + 180) % 360 - 180 for w in (-width, width))
    catalog = seam_catalog({"xmin": west, "ymin": lat - width, "xmax": east, "ymax": lat + width}, (site, lat))
    near = WGS84.inv(place, lat, site, lat)[2] < km * 1000
    assert len(catalog.search(near=(place, lat), within_km=km)) == near


@pytest.fixture(scope="module")
def seam_catalog(tiny_catalog, tmp_path_factory):
    """A catalog of one item, at a place and with a bounding box that are told."""
    folder = tmp_path_factory.mktemp("near") / "europe"
    shutil.copytree(tiny_catalog / "europe", folder, ignore=shutil.ignore_patterns("cube.zarr", "ledger"))
    items = pq.read_table(folder / "items.parquet").slice(0, 1)

    def made(box, site):
        table = items
        for name, value in (("bbox", box), ("proj:centroid", dict(zip(("lon", "lat"), site, strict=True)))):
            number = table.schema.get_field_index(name)
            table = table.set_column(number, name, pa.array([value], table[name].type))
        pq.write_table(table, folder / "items.parquet")
        return open_catalog(folder)

    return made


def test_counts_by_classes_are_those_of_a_data_frame(catalog, frame):
    found = catalog.count(["biome", "continent"]).to_pylist()
    expected = frame.groupby(["div:biome", "div:continent"]).size()
    assert {(row["biome"], row["continent"]): row["samples"] for row in found} == expected.to_dict()
    assert catalog.count(question=Question(split="val")).to_pylist() == [
        {"samples": (frame["pwcat:split"] == "val").sum()}
    ]
    with pytest.raises(CatalogError, match="counts by 'colour' are not known; there are biome, collection"):
        catalog.count(["colour"])


@pytest.fixture
def europe(tiny_catalog, tmp_path):
    """A copy of a collection that may be changed, without its cube."""
    shutil.copytree(tiny_catalog / "europe", tmp_path / "europe", ignore=shutil.ignore_patterns("cube.zarr"))
    return tmp_path / "europe"


def test_an_items_file_that_is_cut_off_or_none_is_said(europe):
    whole = (europe / "items.parquet").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"text"):
        (europe / "items.parquet").write_bytes(content)
        with pytest.raises(
            CatalogError, match=r"europe/items\.parquet is no whole Parquet file \(.+\); `pwcat doctor`"
        ) as caught:
            open_catalog(europe).search()
        assert "\n" not in str(caught.value)
    pq.write_table(pa.table({"name": ["a"]}), europe / "items.parquet")
    with pytest.raises(CatalogError, match=r"holds no items: it has no column id, bbox, geometry"):
        open_catalog(europe).search()


def test_an_unknown_version_of_the_extension_is_said(europe):
    text = (europe / "collection.json").read_text()
    (europe / "collection.json").write_text(re.sub(r"diversity/v[0-9.]+/", "diversity/v9.1.0/", text))
    with pytest.raises(
        CatalogError, match=r"made with the diversity extension v9\.1\.0, this pwcat reads v0\.1\.0, v0\.2\.0"
    ):
        open_catalog(europe).search()


def test_columns_that_an_older_file_lacks_are_null(europe, frame):
    table = pq.read_table(europe / "items.parquet")
    lacking = [
        "div:ecoregion",
        "div:landcover_share",
        "div:spectral_entropy_codebook",
        "div:spectral_entropy_covariance",
    ]
    pq.write_table(table.drop_columns(lacking), europe / "items.parquet")
    old = open_catalog(europe)
    assert len(old.search(filter="ecoregion IS NULL AND landcover_share IS NULL")) == len(table)
    assert len(old.search(filter="landcover_share > 0.5")) == 0
    assert old.search().table["div:ecoregion"].null_count == len(table)
    assert old.search().stats()["landcover"]["num_samples"] == len(table)
    assert ids(old.search(bbox=(-180, -90, 180, 90))) == table["id"].to_pylist()


def test_no_query_reads_what_lies_outside_the_catalog(catalog, tiny_catalog, tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    for text in (str(tmp_path / "other.parquet"), "/etc/passwd"):
        with pytest.raises(CatalogError, match="file system operations are disabled by configuration"):
            catalog.engine.table("SELECT * FROM read_csv(?)", [text])
    with pytest.raises(CatalogError, match="the configuration has been locked"):
        catalog.engine.table("SET threads = 1")


def test_a_cube_of_another_dataset_is_said(europe, tiny_catalog):
    shutil.copytree(tiny_catalog / "everywhere" / "cube.zarr", europe / "cube.zarr")
    with pytest.raises(
        CatalogError, match=r"europe/cube\.zarr holds the chips of another dataset \(recipe [0-9a-f]{12}, not "
    ):
        open_catalog(europe).search().read(np.array([0]))


def boxes():
    """West and width of a chip's box in degrees, or one that starts west of the antimeridian and ends east of it."""
    inside = st.tuples(st.floats(-179, 175), st.floats(0.1, 4)).map(lambda t: (t[0], t[0] + t[1]))
    across = st.tuples(st.floats(178, 179.9), st.floats(-179.9, -178))
    return st.one_of(inside, inside, inside, across)


@settings(max_examples=30)
@given(
    spans=st.lists(boxes(), min_size=32, max_size=32),
    west=st.floats(-180, 180),
    east=st.floats(-180, 180),
    group=st.sampled_from([3, 8, 32]),
)
def test_boxes_are_found_across_row_groups_and_the_antimeridian(
    tiny_catalog, tmp_path_factory, spans, west, east, group
):
    folder = tmp_path_factory.mktemp("seam") / "europe"
    shutil.copytree(tiny_catalog / "europe", folder, ignore=shutil.ignore_patterns("cube.zarr", "ledger"))
    table = pq.read_table(folder / "items.parquet")
    found = [{"xmin": w, "ymin": 0.0, "xmax": e, "ymax": 1.0} for w, e in sorted(spans)]
    number = table.schema.get_field_index("bbox")
    pq.write_table(
        table.set_column(number, "bbox", pa.array(found, table["bbox"].type)),
        folder / "items.parquet",
        row_group_size=group,
    )

    def parts(first, last):
        return [(first, last)] if first <= last else [(first, 180), (-180, last)]

    meets = [any(a <= d and b >= c for a, b in parts(*span) for c, d in parts(west, east)) for span in sorted(spans)]
    catalog = open_catalog(folder)
    expected = [name for name, is_in in zip(table["id"].to_pylist(), meets, strict=True) if is_in]
    assert ids(catalog.search(bbox=(west, -10, east, 10))) == expected
    assert ids(catalog.search(filter=f"S_INTERSECTS(geometry, BBOX({west}, -10, {east}, 10))")) == expected
