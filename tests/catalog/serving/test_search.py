"""What the served API answers, read by pystac-client, against every item asked one by one."""

from __future__ import annotations

import json
import operator
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pystac_client import Client
from shapely.geometry import mapping
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from catalog.query import open_catalog
from catalog.server import make_app
from catalog.stac.validation import DocumentCheck

START = datetime(2020, 1, 1, tzinfo=UTC)
COLUMNS = {"biome": "div:biome", "landcover": "div:landcover", "spectral_entropy": "div:spectral_entropy"}
COMPARE = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

_texts = st.sampled_from(
    ["Tundra", "Deserts & Xeric Shrublands", "O'Hara's Taiga", "tree_cover", "cropland", "nothing"]
)
_numbers = st.integers(0, 60).map(lambda tenths: tenths / 10)
_text_fields, _number_fields = st.sampled_from(["biome", "landcover"]), st.just("spectral_entropy")


def _op(op: str, *args: Any) -> dict[str, Any]:
    return {"op": op, "args": list(args)}


def _property(name: str) -> dict[str, str]:
    return {"property": name}


_atoms = st.one_of(
    st.builds(
        lambda op, name, value: _op(op, _property(name), value), st.sampled_from(["=", "<>"]), _text_fields, _texts
    ),
    st.builds(
        lambda op, name, value: _op(op, _property(name), value), st.sampled_from([*COMPARE]), _number_fields, _numbers
    ),
    st.builds(
        lambda name, some: _op("in", _property(name), some), _text_fields, st.lists(_texts, min_size=1, max_size=3)
    ),
    st.builds(lambda name, a, b: _op("between", _property(name), a, b), _number_fields, _numbers, _numbers),
    st.builds(
        lambda name, text: _op("like", _property(name), text),
        _text_fields,
        st.sampled_from(["T%", "%r%s%", "tree_cover"]),
    ),
    st.builds(lambda name: _op("isNull", _property(name)), st.one_of(_text_fields, _number_fields)),
)
_filters = st.recursive(
    _atoms,
    lambda inner: st.one_of(
        st.builds(
            lambda op, some: _op(op, *some), st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3)
        ),
        st.builds(lambda one: _op("not", one), inner),
    ),
    max_leaves=6,
)


def holds(node: dict[str, Any], row: dict[str, Any]) -> bool | None:
    """A filter by the rules of three-valued logic: what is compared with nothing is neither true nor false."""
    op, args = node["op"], node["args"]
    if op in ("and", "or"):
        told = [holds(arg, row) for arg in args]
        decisive = op == "or"
        return decisive if decisive in told else (None if None in told else not decisive)
    if op == "not":
        return None if (inner := holds(args[0], row)) is None else not inner
    value = row.get(COLUMNS[args[0]["property"]])
    if op == "isNull":
        return value is None
    if value is None:
        return None
    if op in COMPARE:
        return bool(COMPARE[op](value, args[1]))
    if op == "in":
        return value in args[1]
    if op == "between":
        return args[1] <= value <= args[2]
    pattern = "".join({"%": ".*", "_": "."}.get(part, re.escape(part)) for part in args[1])
    return re.fullmatch(pattern, value) is not None


def meets(row: dict[str, Any], bbox: list[float]) -> bool:
    """Whether two boxes overlap on a globe on which either may cross the antimeridian."""
    box = row["bbox"]
    mine, asked = _spans(box["xmin"], box["xmax"]), _spans(bbox[0], bbox[2])
    across = any(a[0] <= b[1] and b[0] <= a[1] for a in mine for b in asked)
    return across and box["ymin"] <= bbox[3] and box["ymax"] >= bbox[1]


def _spans(west: float, east: float) -> list[tuple[float, float]]:
    return [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]


def expected(samples: dict[str, list[dict[str, Any]]], asked: dict[str, Any]) -> list[tuple[str, str]]:
    """Collections and ids of the items that meet a search, in order."""
    rows = [row for name in sorted(samples) for row in sorted(samples[name], key=lambda row: row["id"])]
    if "collections" in asked:
        rows = [row for row in rows if row["collection"] in asked["collections"]]
    if "ids" in asked:
        rows = [row for row in rows if row["id"] in asked["ids"]]
    if "bbox" in asked:
        rows = [row for row in rows if meets(row, asked["bbox"])]
    if "intersects" in asked:
        area = shapely.geometry.shape(asked["intersects"])
        rows = [row for row in rows if area.intersects(shapely.from_wkb(row["geometry"]))]
    if "datetime" in asked:
        first, last = asked["datetime"]
        rows = [
            row for row in rows if (not first or row["datetime"] >= first) and (not last or row["datetime"] <= last)
        ]
    if "filter" in asked:
        rows = [row for row in rows if holds(asked["filter"], row)]
    for one in reversed(asked.get("sortby", [])):
        name = COLUMNS.get(one["field"].removeprefix("properties."), one["field"].removeprefix("properties."))
        there = sorted((row for row in rows if row.get(name) is not None), key=lambda row: row[name])
        if one["direction"] == "desc":  # ties keep their order, which reversing would turn
            there = sorted(there, key=lambda row: row[name], reverse=True)
        rows = there + [row for row in rows if row.get(name) is None]
    return [(row["collection"], row["id"]) for row in rows]


_lons, _lats = st.floats(-180, 180, width=32), st.floats(-90, 90, width=32)
_moments = st.integers(0, 40 * 24).map(lambda hours: START + timedelta(hours=hours))
_areas = st.builds(
    lambda lon, lat, size: mapping(shapely.Point(lon, lat).buffer(size)),
    st.integers(-90, 90),
    st.integers(-40, 40),
    st.integers(5, 50),
)
_sorts = st.lists(
    st.builds(
        lambda name, direction: {"field": name, "direction": direction},
        st.sampled_from(["properties.datetime", "biome", "spectral_entropy", "landcover"]),
        st.sampled_from(["asc", "desc"]),
    ),
    max_size=2,
    unique_by=lambda one: one["field"],
)


@st.composite
def searches(draw: st.DrawFn) -> dict[str, Any]:
    asked: dict[str, Any] = {}
    if draw(st.booleans()):
        asked["collections"] = draw(st.sampled_from([["alpha"], ["beta"], ["beta", "alpha"]]))
    area = draw(st.sampled_from(["none", "bbox", "intersects"]))
    if area == "bbox":
        south, north = sorted([draw(_lats), draw(_lats)])
        asked["bbox"] = [draw(_lons), south, draw(_lons), north]
    elif area == "intersects":
        asked["intersects"] = draw(_areas)
    if draw(st.booleans()):
        first, last = sorted([draw(_moments), draw(_moments)])
        asked["datetime"] = draw(st.sampled_from([(first, last), (first, None), (None, last), (first, first)]))
    if draw(st.booleans()):
        asked["filter"] = draw(_filters)
    if sortby := draw(_sorts):
        asked["sortby"] = sortby
    return asked


def found(client: Client, asked: dict[str, Any], *, method: str, limit: int) -> tuple[list[tuple[str, str]], int]:
    """The answer as pystac-client has it, all pages of it, and how many the server says there are."""
    told = dict(asked)
    if "datetime" in told:
        told["datetime"] = "/".join(one.isoformat().replace("+00:00", "Z") if one else ".." for one in told["datetime"])
    search = client.search(method=method, limit=limit, **told)
    pages = list(search.pages_as_dicts())
    assert all(len(page["features"]) == limit for page in pages[:-1]), "pages before the last are full"
    matched = {page["numberMatched"] for page in pages} or {search.matched()}  # an empty page is not told of
    assert len(matched) == 1
    return [(item["collection"], item["id"]) for page in pages for item in page["features"]], matched.pop()


@pytest.fixture(scope="module")
def client(url: str) -> Client:
    return Client.open(url)


def test_answers_equal_asking_every_item(client, samples):
    @settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    @given(asked=searches(), method=st.sampled_from(["GET", "POST"]), limit=st.sampled_from([3, 7, 25]))
    def agree(asked, method, limit):
        wanted = expected(samples, asked)
        assert found(client, asked, method=method, limit=limit) == (wanted, len(wanted))

    agree()


def test_ids_are_found_in_each_collection_that_has_them(client, samples):
    ids = ["sample 007/ü", "alpha-001", "nobody"]
    assert found(client, {"ids": ids}, method="POST", limit=2)[0] == expected(samples, {"ids": ids})
    assert len(expected(samples, {"ids": ids})) == 3


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_text_filters_mean_what_json_ones_do(client, samples, method):
    text = "(biome = 'O''Hara''s Taiga' OR landcover IS NULL) AND NOT spectral_entropy < 3"
    tree = _op(
        "and",
        _op("or", _op("=", _property("biome"), "O'Hara's Taiga"), _op("isNull", _property("landcover"))),
        _op("not", _op("<", _property("spectral_entropy"), 3)),
    )
    ids = [item["id"] for item in client.search(method=method, filter=text, filter_lang="cql2-text").items_as_dicts()]
    assert ids == [one[1] for one in expected(samples, {"filter": tree})]
    assert ids


def test_items_are_whole_and_valid(client, samples):
    items = list(client.search(limit=25).items())
    assert len(items) == 100
    check = DocumentCheck()
    assert [fault for item in items[:5] for fault in check.faults(item.to_dict())] == []
    crossing = next(item for item in items if item.bbox[0] > item.bbox[2])
    assert crossing.geometry["type"] == "MultiPolygon"
    assert {row["id"] for row in samples["beta"]} == {item.id for item in items if item.collection_id == "beta"}


def test_an_item_is_found_by_its_id_however_it_is_spelt(client):
    item = client.get_collection("beta").get_item("sample 007/ü")
    assert item.collection_id == "beta"
    assert item.assets["chips"].href.endswith("/collections/beta/files/cube.zarr")
    assert client.get_collection("beta").get_item("sample 008/ü") is None


def test_items_of_one_collection_page_through_all(client):
    assert len({item.id for item in client.get_collection("alpha").get_items()}) == 60


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_fields_are_what_was_asked_for(client, method):
    def first(*fields: str) -> dict[str, Any]:
        return next(client.search(method=method, fields=list(fields), limit=1, max_items=1).items_as_dicts())

    assert set(first("id", "properties.datetime")) == {"type", "id", "collection", "properties"}
    assert set(first("properties.datetime")["properties"]) == {"datetime"}
    assert "div:biome" in first("properties", "-properties.datetime")["properties"]
    assert "datetime" not in first("properties", "-properties.datetime")["properties"]
    assert {"assets", "links", "bbox"} <= set(first("-geometry"))
    assert "geometry" not in first("-geometry")
    assert set(first("assets.chips.href")["assets"]["chips"]) == {"href"}


def test_a_page_goes_on_where_it_ended_although_items_came_before_it(samples):
    from catalog.serving.asked import Search, SortBy
    from catalog.serving.paging import Position, after, read_token, sort_keys, write_token

    asked = Search(sortby=[SortBy(field="datetime", direction="desc"), SortBy(field="properties.spectral_entropy")])
    keys = sort_keys(asked.sortby, {"datetime": "datetime", "spectral_entropy": '"div:spectral_entropy"'})
    position = Position(values=(START, None), collection="alpha", id="a")
    token = write_token(asked, position)
    assert read_token(asked.model_copy(update={"token": token, "limit": 3}), keys=2) == position
    assert after(keys, position, collection="alpha").values == [START, START, "a"]
    assert after(keys, position, collection="aardvark").sql.count("IS NULL") == 1


def test_collections_are_found_by_place_time_and_words(client):
    def names(**asked: Any) -> list[str]:
        return [one.id for one in client.collection_search(**asked).collections()]

    assert names() == names(limit=1) == ["alpha", "beta"]
    assert names(bbox=[20, 0, 30, 10]) == ["beta"]
    assert names(bbox=[170, 0, -170, 10]) == ["alpha", "beta"]
    assert names(datetime="2020-02") == ["alpha", "beta"]
    assert names(datetime="2021") == []
    assert names(q="BETA,nothing") == ["beta"]
    assert names(sortby="-title") == ["beta", "alpha"]
    only = next(iter(client.collection_search(fields=["title"], limit=1).collections_as_dicts()))
    assert set(only) == {"type", "id", "title"}


def test_the_landing_page_leads_everywhere(client):
    assert [one.id for one in client.get_collections()] == ["alpha", "beta"]
    assert [one.id for one in client.get_children()] == ["alpha", "beta"]
    assert "biome" in client.get_queryables()["properties"]
    assert "enum" in client.get_collection("alpha").get_queryables()["properties"]["div:landcover"]
    assert {name for name, _ in pairwise([*client.get_merged_queryables(["alpha", "beta"])["properties"], ""])} >= {
        "lon",
        "id",
    }


def test_a_catalog_that_lies_elsewhere_is_read_by_ranges(root, running, samples, tmp_path):
    import shutil

    shutil.copytree(root, tmp_path / "far")
    links = [{"rel": "child", "href": f"./{name}/collection.json"} for name in samples]
    told = {"type": "Catalog", "id": "far", "description": "Far.", "stac_version": "1.1.0", "links": links}
    (tmp_path / "far" / "catalog.json").write_text(json.dumps(told))
    far = Starlette(routes=[Mount("/", StaticFiles(directory=tmp_path / "far"))])
    with running(far) as there, running(make_app(open_catalog(there))) as here:
        asked = {"filter": _op("=", _property("biome"), "Tundra"), "sortby": [{"field": "id", "direction": "desc"}]}
        client = Client.open(here)
        assert found(client, asked, method="POST", limit=9)[0] == expected(samples, asked)
        item = client.get_collection("alpha").get_item("alpha-001")
        assert item.assets["chips"].href == f"{there}/alpha/cube.zarr"
