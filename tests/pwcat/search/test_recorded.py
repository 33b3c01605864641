"""Exchanges that were recorded from the Planetary Computer and Earth Search, served again: the same code reads them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import pytest

from pwcat.errors import SourceError
from pwcat.recipe import When
from pwcat.scenes import read_scenes, search_scenes, write_scenes
from pwcat.search import Answer, find_items

pytestmark = pytest.mark.kit
BANDS = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
ALL = When(start=date(2016, 1, 1), end=date(2026, 12, 31), max_cloud_cover=100)


def serve(api, pages):
    """Answer questions with recorded pages, whose links lead here; the `n`th for what the link of the one before asks."""
    texts = [json.dumps(page).replace("https://planetarycomputer.microsoft.com/api/stac/v1", api.url) for page in pages]
    served = [json.loads(text) for text in texts]
    tokens = [None] + [
        link["body"]["token"] for page in served for link in page["links"] if link["rel"] == "next" and "body" in link
    ]
    empty = {"type": "FeatureCollection", "features": [], "links": []}
    api.page = lambda question: dict(zip(tokens, served, strict=False)).get(question.get("token"), empty)
    return served


def test_pages_with_tokens_in_the_body_of_their_links(kit, api, soon):
    folder = kit / "stac" / "rustac"
    names = ("crates__io__mocks__search-page-1.json", "crates__io__mocks__search-page-2.json")
    pages = serve(api, [json.loads((folder / name).read_text()) for name in names])
    source = replace(api.source, collection="sentinel-2-l2a")
    found = list(find_items(source, patience=soon))
    assert [item["id"] for item in found] == [page["features"][0]["id"] for page in pages]
    assert [question.get("token") for question in api.searches] == [
        None,
        "next:S2A_MSIL2A_20230216T150721_R082_T19PHS_20230217T082924",
        "next:S2A_MSIL2A_20230216T145731_R082_T21UYT_20230217T083102",
    ]
    assert all(question["collections"] == ["sentinel-2-l2a"] for question in api.searches)


def test_a_replayed_search_gives_scenes_that_freeze(kit, api, tmp_path):
    path = kit / "stac" / "replay" / "pystac-client__TestItemSearch.test_datetime_results.json"
    exchange = json.loads(path.read_text())[0]
    (page,) = serve(api, [exchange["response_json"]])
    source = replace(api.source, provider="planetary-computer", collection="sentinel-2-l2a")
    scenes = search_scenes(source, ALL, bands=BANDS)
    assert [scene.id for scene in scenes] == sorted(item["id"] for item in page["features"])
    assert len(scenes) == 33
    (question,) = api.searches
    assert question["collections"] == exchange["request_json"]["collections"]
    write_scenes(tmp_path / "scenes.parquet", scenes)
    again = read_scenes(tmp_path / "scenes.parquet", source=source, bands=BANDS)
    assert [(scene.id, scene.epsg, scene.left) for scene in again] == [(s.id, s.epsg, s.left) for s in scenes]


def test_repeated_items_and_missing_fields(kit, api, caplog):
    """The strip over Africa, a page that repeats half of it, and items that lack what a scene needs."""
    strip = json.loads((kit / "stac" / "odc-stac" / "site1-20200606-tall-strip-africa.geojson").read_text())["features"]
    lacking = []
    for k, name in enumerate(("assets", "geometry", "properties")):
        lacking.append({**{key: value for key, value in strip[0].items() if key != name}, "id": f"lacks-{name}-{k}"})
    pages = [
        {
            "features": strip[:6],
            "links": [{"rel": "next", "method": "POST", "merge": True, "href": "search", "body": {"token": "2"}}],
        },
        {"features": [*strip[3:], *lacking, {"type": "Feature"}], "links": []},
    ]
    serve(api, pages)
    source = replace(api.source, provider="planetary-computer", collection="sentinel-2-l2a", search="api")
    scenes = search_scenes(source, ALL, bands=BANDS)
    assert [scene.id for scene in scenes] == sorted(item["id"] for item in strip)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 3
    assert any("1 scene(s) of sentinel-2-l2a are left out: it has no geometry" in line for line in said)
    answer = Answer()
    list(find_items(source, answer=answer))
    assert answer.repeated == 3


@pytest.mark.parametrize("collection", ["sentinel-2-l2a", "naip"])
def test_sets_of_four_items(kit, api, collection):
    items = json.loads((kit / "stac" / "stac-geoparquet" / f"{collection}-pc.json").read_text())
    serve(api, [{"features": items, "links": []}])
    source = replace(api.source, provider="planetary-computer", collection=collection)
    scenes = search_scenes(source, ALL, bands=["red", "nir"])
    assert len(scenes) == len(items) == 4
    assert {scene.epsg for scene in scenes} == {item["properties"]["proj:epsg"] for item in items}


def test_items_of_earth_search_by_common_names(kit, api):
    path = kit / "stac" / "rustac" / "crates__server__data__sentinel-2__item-collection.json"
    items = json.loads(path.read_text())["features"]
    serve(api, [{"features": items, "links": []}])
    source = replace(api.source, provider="earth-search", collection="sentinel-2-c1-l2a")
    by_name = search_scenes(source, ALL, bands=["B02", "B8A"])
    assert [scene.id for scene in by_name] == sorted(item["id"] for item in items)
    assert [scene.left for scene in search_scenes(source, ALL, bands=["blue", "nir08"])] == [s.left for s in by_name]


def test_an_item_that_leads_here_stops_the_search_in_one_line(kit, api):
    items = json.loads((kit / "stac" / "stac-geoparquet" / "sentinel-2-l2a-pc.json").read_text())
    items[2]["assets"]["B02"]["href"] = "file:///etc/passwd"
    serve(api, [{"features": items, "links": []}])
    source = replace(api.source, provider="planetary-computer", collection="sentinel-2-l2a")
    assert len(search_scenes(source, ALL, bands=["B03"])) == 4  # it is not read
    with pytest.raises(
        SourceError, match=rf"^scene {items[2]['id']} of planetary-computer: refused to read 'file:///etc/passwd'"
    ):
        search_scenes(source, ALL, bands=["B02"])
    assert len(search_scenes(replace(source, allow_private=True), ALL, bands=["B02"])) == 4
