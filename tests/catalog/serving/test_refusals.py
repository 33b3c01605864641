"""What the server refuses, and what it bears: every refusal is one line of JSON, and the next request is answered."""

from __future__ import annotations

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from catalog.items import ITEM_SCHEMA
from catalog.query import open_catalog
from catalog.server import Limits, make_app, serve
from catalog.serving.database import Database
from catalog.serving.refusals import RefusedError
from catalog.stac.mirror import write_items
from pwcat.errors import CatalogError


@pytest.fixture(scope="module")
def client(root: Path) -> TestClient:
    return TestClient(make_app(open_catalog(root), limits=Limits(page=25)), raise_server_exceptions=False)


def refusal(response, status: int = 400) -> str:
    """The line of a refusal."""
    assert response.status_code == status, response.text
    told = response.json()
    assert set(told) == {"code", "description"}
    assert "\n" not in told["description"]
    return told["description"]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/conformance",
        "/collections",
        "/collections/alpha",
        "/search",
        "/collections/alpha/items",
        "/queryables",
        "/sortables",
        "/collections-sortables",
        "/collections/alpha/queryables",
        "/collections/alpha/sortables",
        "/collections/alpha/items/alpha-001",
        "/collections/alpha/files/items.parquet",
    ],
)
def test_an_unknown_parameter_is_refused_everywhere(client, path):
    assert client.get(path, follow_redirects=False).status_code == 200
    assert refusal(client.get(path, params={"bogus": "1"})).startswith("unknown parameter bogus; there are ")


def test_unknown_members_of_a_body_are_refused_all_at_once(client):
    told = refusal(
        client.post("/search", json={"query": {}, "limit": "x", "sortby": [{"field": "id", "order": "asc"}]})
    )
    assert "query: unknown parameter" in told
    assert "limit: input should be a valid integer" in told
    assert "sortby.0.order: unknown parameter" in told


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"bbox": "1,2,3"}, "bbox: four numbers"),
        ({"bbox": ""}, "bbox: four numbers"),
        ({"bbox": "0,50,1,-50"}, "south <= north"),
        ({"bbox": "0,0,999,1"}, "bbox is west, south"),
        ({"bbox": "a,b,c,d"}, "bbox.0: input should be a valid number"),
        ({"bbox": "0,0,nan,1"}, "bbox"),
        ({"bbox": "0,0,1,1", "intersects": '{"type":"Point","coordinates":[0,0]}'}, "one of them is allowed"),
        ({"intersects": "[1"}, "intersects is not JSON"),
        ({"intersects": '{"type":"Blob","coordinates":[0,0]}'}, "geometry"),
        ({"datetime": "yesterday"}, "no ISO 8601"),
        ({"datetime": "../.."}, "one end at least"),
        ({"datetime": "2021-01-01T00:00:00Z/2020-01-01T00:00:00Z"}, "before the start"),
        ({"limit": "0"}, "greater than or equal to 1"),
        ({"limit": "-5"}, "greater than or equal to 1"),
        ({"limit": "many"}, "valid integer"),
        ({"sortby": "geometry"}, "sortby: unknown field 'geometry'"),
        ({"sortby": "id);DROP"}, "sortby: unknown field"),
        ({"sortby": ",".join(["id"] * 9)}, "at most 8"),
        ({"fields": "secret"}, "fields: unknown 'secret'"),
        ({"fields": "-id"}, "cannot be left out"),
        ({"collections": "gamma"}, "no 'gamma'; there are alpha, beta"),
        ({"ids": ",".join(str(n) for n in range(1001))}, "at most 1000"),
        ({"filter": "biome = 'Tundra'", "filter-lang": "cql2-json"}, "filter is not JSON"),
        ({"filter": "biome = 'Tundra'", "filter-lang": "sql"}, "filter-lang"),
        ({"filter": "biome = 'Tundra'", "filter-crs": "EPSG:3857"}, "filter-crs: only"),
        ({"token": "no token"}, "token: damaged"),
        ({"token": "WyJhIl0"}, "token: damaged"),
        ({"token": "A" * 9000}, "token: damaged"),
        ({"token": "W10"}, "token: damaged"),
        ({"q": "tundra"}, "unknown parameter q"),
    ],
)
def test_what_makes_no_sense_is_refused(client, asked, said):
    assert said in refusal(client.get("/search", params=asked))


@pytest.mark.parametrize(
    "text",
    [
        "biome = 'x' OR 1=1; DROP TABLE items",
        "id IN (SELECT id FROM read_csv('/etc/passwd'))",
        "read_text('/etc/passwd') = 'x'",
        "nobody = 1",
        "biome > 3",
        "casei(spectral_entropy) = 'x'",
        "(" * 200 + "biome = 'x'" + ")" * 200,
        "NOT " * 5000 + "biome = 'x'",
        "biome = '" + "x" * 20_000 + "'",
        "spectral_entropy = 1e999",
        "biome = 'unfinished",
        "TRUE",
        "datetime > 'x'",
        "\x00",
    ],
)
def test_hostile_filters_are_refused(client, text):
    refusal(client.get("/search", params={"filter": text}))
    refusal(client.post("/search", json={"filter": text, "filter-lang": "cql2-text"}))
    assert client.get("/search", params={"filter": "biome = 'Tundra'"}).json()["numberMatched"] > 0


def _nested(depth: int) -> str:
    return (
        '{"filter":'
        + '{"op":"not","args":[' * depth
        + '{"op":"isNull","args":[{"property":"biome"}]}'
        + "]}" * depth
        + "}"
    )


@pytest.mark.parametrize(
    "body",
    [
        _nested(100),
        _nested(20_000),
        json.dumps({"filter": {"op": "in", "args": [{"property": "id"}, [str(n) for n in range(5000)]]}}),
        json.dumps({"filter": {"op": "and", "args": "no list"}}),
        json.dumps({"filter": []}),
        json.dumps({"filter": {}}),
        json.dumps({"filter": {"op": "=", "args": [{"property": ["id"]}, 1]}}),
        json.dumps({"intersects": {"type": "Polygon", "coordinates": [[[n % 90, 0] for n in range(20_000)]]}}),
        json.dumps({"intersects": {"type": "Polygon", "coordinates": []}}),
        '{"bbox": [0, 0, NaN, 1]}',
        "[]",
        "{",
        "",
    ],
)
def test_hostile_bodies_are_refused(client, body):
    refusal(client.post("/search", content=body, headers={"content-type": "application/json"}))


def test_a_body_that_is_not_json_is_told_as_that(client):
    told = refusal(client.post("/search", content='{"limit": 1', headers={"content-type": "application/json"}))
    assert told == "the body is not JSON: expecting ',' delimiter, at character 11"
    assert "application/json is wanted" in refusal(client.post("/search", content="{}"))


def test_limits_above_the_maximum_are_the_maximum(client):
    assert client.get("/search", params={"limit": 10**12}).json()["numberReturned"] == 25


def test_a_token_is_of_one_search_alone(client):
    first = client.get("/search", params={"sortby": "biome", "limit": 3}).json()
    href = next(one["href"] for one in first["links"] if one["rel"] == "next")
    token = href.partition("token=")[2]
    assert client.get(href).json()["numberReturned"] == 3
    assert "of another search" in refusal(client.get("/search", params={"sortby": "-biome", "token": token}))
    assert client.get("/search", params={"sortby": "biome", "token": token, "limit": 1}).status_code == 200


def test_repeated_parameters_are_refused(client):
    assert "given more than once: limit" in refusal(client.get("/search?limit=1&limit=2"))


def test_large_bodies_are_not_taken_in(client):
    body = b'{"ids": ["' + b"x" * 1_000_000 + b'"]}'
    headers = {"content-type": "application/json"}
    assert "1,000,000 bytes" in refusal(client.post("/search", content=body, headers=headers), 413)
    parts = (body[start : start + 1000] for start in range(0, len(body), 1000))
    assert "1,000,000 bytes" in refusal(client.post("/search", content=parts, headers=headers), 413)


def test_what_is_not_there_is_told_as_json(client):
    assert refusal(client.get("/nowhere"), 404) == "nothing at /nowhere"
    assert refusal(client.get("/collections/gamma"), 404) == "no collection 'gamma'; there are alpha, beta"
    assert "no item 'x'" in refusal(client.get("/collections/alpha/items/x"), 404)
    refusal(client.delete("/search"), 405)
    refusal(client.put("/collections/alpha"), 405)


@pytest.mark.parametrize(
    "path",
    [
        "secret.txt", "%2e%2e/secret.txt", "%2e%2e/alpha/secret.txt", "items.parquet/%2e%2e/secret.txt", "%2fetc/passwd",
        "", "%2e", "items.parquet%00", "items.parquet/" + "x" * 300,
    ],
)  # fmt: skip
def test_only_assets_are_served(client, path):
    refusal(client.get(f"/collections/alpha/files/{path}"), 404)


def test_assets_are_served_by_ranges(client, root):
    response = client.get("/collections/alpha/files/items.parquet", headers={"range": "bytes=0-3"})
    assert (response.status_code, response.content) == (206, b"PAR1")
    assert client.head("/collections/alpha/files/items.parquet").headers["content-length"] == str(
        (root / "alpha" / "items.parquet").stat().st_size
    )


def test_an_asset_does_not_lead_out_of_its_folder(root, tmp_path):
    """A document's hrefs are a stranger's words, and so are the links in a folder."""
    shutil.copytree(root, tmp_path / "copy")
    folder = tmp_path / "copy" / "alpha"
    document = json.loads((folder / "collection.json").read_text())
    (folder / "link").symlink_to("/etc")
    for key, href in (("up", "../beta"), ("top", "/etc"), ("here", "./"), ("link", "./link")):
        document["assets"][key] = {"href": href}
    (folder / "collection.json").write_text(json.dumps(document))
    client = TestClient(make_app(open_catalog(tmp_path / "copy")))
    for path in ("%2e%2e/beta/secret.txt", "secret.txt", "%2fetc/passwd", "link/passwd"):
        refusal(client.get(f"/collections/alpha/files/{path}"), 404)
    assert client.get("/collections/alpha/files/items.parquet").status_code == 200


def test_pixels_above_the_folder_have_no_address_here(root, samples, tmp_path):
    """Datasets added in place have them there; an address of this server would lead nowhere."""
    shutil.copytree(root, tmp_path / "copy")
    hrefs = ["../../pixels/a.tif", "./cube.zarr", "https://example.org/a.tif"]
    rows = [{**row, "assets": {"chips": {"href": href}}} for row, href in zip(samples["beta"], hrefs, strict=False)]
    fields = [field for field in ITEM_SCHEMA if field.name in rows[0]]
    table = pa.Table.from_pylist(rows, schema=pa.schema(fields))
    write_items(tmp_path / "copy" / "beta" / "items.parquet", table, collection="beta")
    client = TestClient(make_app(open_catalog(tmp_path / "copy")))
    found = client.get("/collections/beta/items").json()["features"]
    told = {item["assets"]["chips"]["href"] if item["assets"] else None for item in found}
    assert told == {None, "http://testserver/collections/beta/files/cube.zarr", "https://example.org/a.tif"}
    assert client.get(f"/collections/beta/items/{quote(rows[0]['id'])}").json()["assets"] == {}


@pytest.mark.parametrize("path", ["/", "/search?limit=1", "/collections", "/collections/alpha", "/conformance", "/api"])
def test_head_is_answered_as_get_without_a_body(client, path):
    asked, answered = client.get(path), client.head(path)
    assert (answered.status_code, answered.content) == (200, b"")
    assert answered.headers["content-type"] == asked.headers["content-type"]
    refusal(client.get("/search?nope=1"))
    assert client.head("/search?nope=1").status_code == 400


def test_a_method_that_is_not_there_is_told_with_one_that_is(client):
    response = client.delete("/collections")
    refusal(response, 405)
    assert response.headers["allow"] == "GET"


def test_a_slow_search_is_stopped_and_the_next_one_answered(root):
    catalog = open_catalog(root)
    database = Database(lambda: catalog.engine, limits=Limits(seconds=0.2))
    with database.session() as session, pytest.raises(RefusedError, match=r"longer than 0.2 s and was stopped"):
        session.read("SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b", [])
    with database.session() as session:
        assert session.read("SELECT 1 AS one", [])["one"].to_pylist() == [1]


def test_a_search_that_begins_when_its_time_is_over_is_stopped_too(root):
    catalog = open_catalog(root)
    with Database(lambda: catalog.engine, limits=Limits(seconds=0)).session() as session:
        for _ in range(3):  # the first may begin before the timer fires
            with pytest.raises(RefusedError, match="was stopped"):
                session.read("SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b", [])


def test_a_database_that_broke_is_opened_again(root):
    opened = []

    def open_engine():
        opened.append(open_catalog(root).engine)
        return opened[-1]

    database = Database(open_engine, limits=Limits())
    with database.session() as session:
        session.broken = True
    with database.session() as session:
        assert session.read("SELECT 1 AS one", [])["one"].to_pylist() == [1]
    assert len(opened) == 2


def test_a_busy_server_says_so(root):
    catalog = open_catalog(root)
    database = Database(lambda: catalog.engine, limits=Limits(queries=1, wait_seconds=0.05))
    with database.session(), pytest.raises(RefusedError, match="busy") as caught, database.session():
        pass
    assert caught.value.status == 503


def test_many_clients_at_once_get_what_one_gets(client):
    asked = [
        {"sortby": "-datetime", "limit": 5},
        {"filter": "biome = 'Tundra'"},
        {"bbox": "0,0,90,80"},
        {"ids": "alpha-001"},
    ]
    wanted = [client.get("/search", params=one).json()["features"] for one in asked]
    start = threading.Barrier(12)

    def ask(number: int) -> bool:
        start.wait()
        return all(
            client.get("/search", params=asked[(number + k) % 4]).json()["features"] == wanted[(number + k) % 4]
            for k in range(8)
        )

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(ask, range(12)))


def test_browsers_of_other_origins_read_nothing_unless_told(client, root):
    origin = {"origin": "https://elsewhere.example"}
    assert "access-control-allow-origin" not in client.get("/search", headers=origin).headers
    told = TestClient(make_app(open_catalog(root), origins=["https://elsewhere.example"]))
    assert told.get("/search", headers=origin).headers["access-control-allow-origin"] == "https://elsewhere.example"


def test_a_damaged_catalog_is_not_served(root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    items = tmp_path / "copy" / "beta" / "items.parquet"
    items.write_bytes(items.read_bytes()[:500])
    with pytest.raises(CatalogError, match=r"beta/items.parquet is no whole Parquet file"):
        make_app(open_catalog(tmp_path / "copy"))
    items.unlink()
    with pytest.raises(CatalogError, match=r"no items at .*beta/items.parquet"):
        make_app(open_catalog(tmp_path / "copy"))


def test_items_that_vanish_are_told_without_their_path(root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    client = TestClient(make_app(open_catalog(tmp_path / "copy")))
    (tmp_path / "copy" / "beta" / "items.parquet").unlink()
    assert str(tmp_path) not in refusal(client.get("/search"), 500)
    assert client.get("/collections/alpha/items").json()["numberMatched"] == 60


def test_an_address_in_use_is_told(root):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(CatalogError, match=r"cannot listen on 127.0.0.1:\d+: .*; --port 0 takes a free port"):
            serve(open_catalog(root), port=taken.getsockname()[1])


def test_browsers_are_sent_to_the_explorer(client):
    page = client.get("/", headers={"accept": "text/html,*/*"})
    assert page.url.path.rstrip("/") == "/explorer"
    assert page.headers["content-type"].startswith("text/html")
