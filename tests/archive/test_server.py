"""The STAC API over loopback: pystac-client against brute force, pages, refusals, ranges, and no orphans."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pystac
import pystac_client
import pytest
import rasterio
import shapely

from pwcat.archive import add_scenes, serve_archive
from pwcat.archive.folder import read_items
from pwcat.errors import ArchiveError

SCENES, TEST, LANDCOVER = "s2-l2a-synthetic", "s2-l2a-synthetic-test", "landcover-synthetic"


@pytest.fixture(scope="module")
def url(archive_dir: Path) -> Iterator[str]:
    with serve_archive(archive_dir) as base:
        yield base


@pytest.fixture(scope="module")
def items(archive_dir: Path) -> list[dict]:
    return [item for name in (SCENES, TEST, LANDCOVER) for item in read_items(archive_dir, name)]


@pytest.fixture(scope="module")
def client(url: str) -> pystac_client.Client:
    return pystac_client.Client.open(url)


def get(url: str, **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.headers, refusal.read()


def post(url: str, body: object) -> tuple[int, dict]:
    request = urllib.request.Request(
        url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)


def test_the_landing_page_says_what_it_can_do(url: str, client: pystac_client.Client):
    _, _, body = get(url)
    landing = json.loads(body)
    assert json.loads(get(f"{url}/conformance")[2])["conformsTo"] == landing["conformsTo"]
    assert all(
        client.conforms_to(name) for name in ("CORE", "COLLECTIONS", "FEATURES", "ITEM_SEARCH", "FILTER", "SORT")
    )
    assert [collection.id for collection in client.get_collections()] == [LANDCOVER, SCENES, TEST]
    assert client.get_collection(SCENES).license == "CC0-1.0"


def span(item: dict) -> tuple[datetime, datetime]:
    properties = item["properties"]
    names = ("start_datetime", "end_datetime") if "start_datetime" in properties else ("datetime", "datetime")
    return tuple(datetime.fromisoformat(properties[name]) for name in names)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("seed", range(6))
def test_search_in_pages_of_three_equals_brute_force(client, items, method: str, seed: int):
    rng = np.random.default_rng(seed)
    lon, lat = np.sort(rng.uniform(-180, 180, 2)), np.sort(rng.uniform(-60, 80, 2))
    bbox = [lon[0] - 30, lat[0] - 10, lon[1] + 30, lat[1] + 10]
    bbox = np.clip(bbox, [-180, -90, -180, -90], [180, 90, 180, 90]).tolist()
    first = datetime(2021, int(rng.integers(1, 9)), 1, tzinfo=UTC)
    last = datetime(2022, int(rng.integers(1, 13)), 1, tzinfo=UTC)
    most = float(rng.uniform(2, 60))
    asked = {
        "collections": [[SCENES], [SCENES, TEST], None][seed % 3],
        "bbox": bbox,
        "datetime": [(first, last), (first, None), (None, last)][seed % 3],
        "filter": f"eo:cloud_cover <= {most} AND NOT pwcat:continent = 'Africa'",
    }
    found = [item.id for item in client.search(method=method, limit=3, **asked).items()]
    area = shapely.box(*bbox)
    start, end = asked["datetime"]
    expected = [
        item["id"]
        for item in items
        if item["collection"] in (asked["collections"] or [item["collection"]])
        and shapely.intersects(area, shapely.geometry.shape(item["geometry"]))
        and (end is None or span(item)[0] <= end)
        and (start is None or span(item)[1] >= start)
        and item["properties"].get("eo:cloud_cover", 1000) <= most
        and item["properties"]["pwcat:continent"] != "Africa"
    ]
    assert len(found) == len(set(found))
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_page_gives_each_item_once_and_counts_them_all(client, items, method: str):
    search = client.search(method=method, limit=7)
    found = [(item.collection_id, item.id) for item in search.items()]
    assert sorted(found) == sorted((item["collection"], item["id"]) for item in items)
    assert len(set(found)) == len(found)
    assert search.matched() == len(items)


def test_cql2_text_and_json_ids_geometry_and_sorting(client, items):
    json_filter = {"op": "=", "args": [{"property": "s2:processing_baseline"}, "05.10"]}
    by_json = {item.id for item in client.search(filter=json_filter, filter_lang="cql2-json").items()}
    by_text = {item.id for item in client.search(filter="s2:processing_baseline = '05.10'", method="GET").items()}
    assert by_json == by_text == {i["id"] for i in items if i["properties"].get("s2:processing_baseline") == "05.10"}
    one = items[0]
    assert [item.id for item in client.search(ids=[one["id"]]).items()] == [one["id"]]
    centre = shapely.geometry.mapping(shapely.geometry.shape(one["geometry"]).centroid)
    for method in ("GET", "POST"):
        hit = {item.id for item in client.search(method=method, intersects=centre).items()}
        place = one["properties"]["pwcat:place"]
        assert hit == {i["id"] for i in items if i["properties"]["pwcat:place"] == place}
        dates = [
            item.datetime
            for item in client.search(method=method, collections=[SCENES], sortby="-datetime", limit=5).items()
        ]
        assert dates == sorted(dates, reverse=True)


def test_one_item_by_its_links_is_the_one_on_disk(client, archive_dir: Path):
    item = next(client.get_collection(SCENES).get_items())
    again = pystac.Item.from_file(item.get_self_href()).to_dict(include_self_link=False)
    assert {**again, "links": []} == {**item.to_dict(), "links": []}
    assert item.get_collection().id == SCENES
    with rasterio.open(archive_dir / SCENES / item.id / "B04.tif") as there:
        _, _, body = get(item.assets["B04"].href)
        with rasterio.MemoryFile(body) as memory, memory.open() as here:
            np.testing.assert_array_equal(here.read(), there.read())


@pytest.mark.parametrize(
    ("path", "match"),
    [
        ("/search?bogus=1&limit=3", "unknown parameter: bogus; known: bbox, collections"),
        ("/collections/s2-l2a-synthetic/items?filter=a", "unknown parameter: filter"),
        ("/search?limit=0", "limit is 0, allowed is 1 to 1000"),
        ("/search?limit=1001", "limit is 1001"),
        ("/search?limit=ten", "limit is no whole number"),
        ("/search?limit=3&limit=4", "given more than once: limit"),
        ("/search?token=-1", "token is -1"),
        ("/search?bbox=1,2,3", "bbox has 3 numbers"),
        ("/search?bbox=1,2,3,x", "no list of numbers"),
        ("/search?datetime=never", "not RFC 3339"),
        ("/search?filter=eo:cloud_cover%20%3C", "filter is no valid cql2-text"),
        ("/search?filter=nosuch%20%3D%203", "unknown in filter: nosuch"),
        ("/search?filter=a&filter-lang=sql", "filter-lang 'sql' is not served"),
        ("/search?filter=%7B&filter-lang=cql2-json", "filter is not JSON"),
        ("/search?sortby=nosuch", "unknown in sortby: nosuch"),
        ("/search?intersects=%7B%7D", "no GeoJSON geometry"),
    ],
)
def test_a_bad_question_is_refused_in_one_line(url: str, path: str, match: str):
    status, _, body = get(url + path)
    said = json.loads(body)["description"]
    assert status == 400
    assert match in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ({"query": {}}, "unknown parameter: query"),
        ([1], "no JSON object"),
        ({"collections": "a"}, "collections is no list of texts"),
        ({"datetime": 2021}, "datetime is no text"),
        ({"sortby": ["datetime"]}, "sortby has 'datetime'"),
        ({"filter": {"op": "nonsense"}}, "filter is no valid cql2-json"),
        ({"limit": 1.5}, "limit is no whole number"),
    ],
)
def test_a_bad_body_is_refused_in_one_line(url: str, body: object, match: str):
    status, said = post(f"{url}/search", body)
    assert status == 400
    assert match in said["description"]


def test_what_is_not_there_is_404(url: str):
    for path in (
        "/collections/none",
        "/collections/none/items",
        f"/collections/{SCENES}/items/none",
        "/assets/none.tif",
    ):
        status, _, body = get(url + path)
        assert (status, json.loads(body)["code"]) == (404, "404")


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../synth.json", "/assets/%2e%2e/synth.json", "/assets//etc/passwd", "/assets/%2Fetc%2Fpasswd",
        f"/assets/{SCENES}/../catalog.json", f"/assets/{SCENES}/..%2fcatalog.json", "/assets/synth.json", "/assets/",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_assets(url: str, path: str):
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port)  # sends the path as it is
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 404
        assert b"root:" not in answer.read()
    finally:
        connection.close()


def test_assets_answer_ranges_and_heads(client, archive_dir: Path):
    item = next(client.get_collection(SCENES).get_items())
    href = item.assets["B02"].href
    whole = (archive_dir / SCENES / item.id / "B02.tif").read_bytes()
    status, headers, body = get(href, Range="bytes=100-199")
    assert (status, body, headers["Content-Range"]) == (206, whole[100:200], f"bytes 100-199/{len(whole)}")
    assert headers["ETag"]
    assert get(href, Range=f"bytes={len(whole)}-")[0] == 416
    with urllib.request.urlopen(urllib.request.Request(href, method="HEAD")) as answer:
        assert (answer.headers["Content-Length"], answer.headers["Accept-Ranges"]) == (str(len(whole)), "bytes")
        assert answer.read() == b""


class CountingProxy:
    """Passes connections on to an address and counts the bytes that come back."""

    def __init__(self, host: str, port: int) -> None:
        self.target, self.received = (host, port), 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(self.target)
            threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, count: bool) -> None:
        try:
            while data := source.recv(65536):
                self.received += len(data) * count
                sink.sendall(data)
        except OSError:
            pass
        finally:
            source.close()
            sink.close()


READ_WINDOW = """
import sys, rasterio
from rasterio.windows import Window
with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"), rasterio.open(sys.argv[1]) as raster:
    print(int(raster.read(1, window=Window(1100, 1100, 64, 64)).sum()))
"""


def test_gdal_reads_a_window_with_few_of_the_bytes(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(1, 10_000, (1, 2048, 2048), dtype=np.uint16)
    with rasterio.open(
        tmp_path / "big.tif", "w", driver="GTiff", width=2048, height=2048, count=1, dtype="uint16", crs="EPSG:32633",
        transform=rasterio.transform.from_origin(300_000, 5_000_040, 10, 10),
    ) as raster:  # fmt: skip
        raster.write(pixels)
    add_scenes(tmp_path / "archive", [tmp_path / "big.tif"], collection="big", when=datetime(2021, 6, 1, tzinfo=UTC))
    size = (tmp_path / "archive/big/big/band_1.tif").stat().st_size
    with serve_archive(tmp_path / "archive") as base:
        proxy = CountingProxy("127.0.0.1", urlsplit(base).port)
        href = f"http://127.0.0.1:{proxy.port}/assets/big/big/band_1.tif"
        # in a process of its own: GDAL may hold the interpreter's lock while it waits for the proxy
        ran = subprocess.run([sys.executable, "-c", READ_WINDOW, href], capture_output=True, text=True, check=True)
        proxy.listener.close()
    assert int(ran.stdout) == pixels[0, 1100:1164, 1100:1164].sum()
    assert 0 < proxy.received < size / 8


def test_a_folder_that_is_no_archive_is_said_to_be_none(tmp_path: Path):
    with pytest.raises(ArchiveError, match=r"is no archive: it has no catalog\.json"), serve_archive(tmp_path):
        pass


def refuses(url: str) -> bool:
    address = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((address.hostname, address.port)) != 0


def wait_until_refused(url: str) -> bool:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if refuses(url):
            return True
        time.sleep(0.05)
    return False


SERVE_AND_WAIT = """
import sys, time
from pwcat.archive import serve_archive
with serve_archive(sys.argv[1]) as url:
    print(url, flush=True)
    time.sleep(60)
"""


def test_the_server_ends_with_the_block_and_with_a_killed_parent(archive_dir: Path):
    with serve_archive(archive_dir) as base:
        assert not refuses(base)
    assert refuses(base)
    with subprocess.Popen(
        [sys.executable, "-c", SERVE_AND_WAIT, str(archive_dir)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        orphan = parent.stdout.readline().strip()
        assert not refuses(orphan)
        os.kill(parent.pid, signal.SIGKILL)
    assert wait_until_refused(orphan)
