"""Catalogs read by ranges over HTTP, from a loopback server that counts."""

from __future__ import annotations

import json
import random
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner

from catalog.query import open_catalog
from catalog.querying.remote import TAIL_BYTES, open_store
from pwcat.cli import cli
from pwcat.errors import CatalogError


class Server(ThreadingHTTPServer):
    """Serves a folder by ranges, and notes what it was asked for and how many bytes it sent."""

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.asked, self.sent = folder, [], 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        path = self.server.folder / self.path.lstrip("/")
        self.server.asked.append(self.path)
        if not path.is_file():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = path.read_bytes()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        self.send_response(206 if wanted else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Last-Modified", "Sun, 01 Nov 2026 00:00:00 GMT")
        if wanted:
            start, end = int(wanted[1]), int(wanted[2])
            self.send_header("Content-Range", f"bytes {start}-{min(end, len(data) - 1)}/{len(data)}")
            data = data[start : end + 1]
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.server.sent += len(data)
            self.wfile.write(data)


@pytest.fixture
def server(tiny_catalog, tmp_path):
    folder = tmp_path / "data"
    for name in ("europe", "everywhere"):
        shutil.copytree(tiny_catalog / name, folder / "catalog" / name, ignore=shutil.ignore_patterns("cube.zarr"))
    shutil.copy(tiny_catalog / "catalog.json", folder / "catalog")
    server = Server(folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_far_catalog_answers_as_a_near_one_does(server, tiny_catalog):
    far, near = open_catalog(f"{server.url}/catalog/"), open_catalog(tiny_catalog)
    assert far.collections == near.collections
    assert not [path for path in server.asked if path.endswith("items.parquet")]  # opening reads no items
    for question in (
        {},
        {"continent": "Europe", "split": "train"},
        {"bbox": (-20, 30, 60, 75)},
        {"filter": "spectral_entropy > 2 AND S_INTERSECTS(geometry, POLYGON((-20 30, 60 30, 60 75, -20 30)))"},
        {"limit": 7, "limit_by": "continent"},
        {"near": (10, 50), "within_km": 1500},
    ):
        here, there = near.search(**question), far.search(**question)
        assert here.hash == there.hash
        assert here.table.equals(there.table)
        assert len(here)
    assert far.count(["biome"]).equals(near.count(["biome"]))
    assert far.search().stats() == near.search().stats()


@pytest.mark.parametrize("length", [1, 1000, TAIL_BYTES - 1, TAIL_BYTES, 3 * TAIL_BYTES])
def test_any_range_is_the_bytes_that_lie_there_also_where_a_files_end_is_fetched_at_once(server, length):
    data = random.Random(0).randbytes(3 * TAIL_BYTES + 17)
    (server.folder / "large").write_bytes(data)
    starts = [
        0,
        17,
        len(data) - TAIL_BYTES - 1,
        len(data) - TAIL_BYTES,
        len(data) - TAIL_BYTES - length // 2,
        len(data) - 5,
    ]
    for start in starts:
        assert open_store(server.url).read_range("large", start, length) == data[start : start + length], start


def test_threads_that_share_an_opened_file_read_where_they_sought(server):
    data = random.Random(0).randbytes(3 * TAIL_BYTES)
    (server.folder / "large").write_bytes(data)
    file = open_store(server.url).file_system().open("pwcat://large")
    sought, read = threading.Barrier(2), []

    def look(offset):
        file.seek(offset)
        sought.wait(10)
        read.append(file.read(4) == data[offset : offset + 4])

    threads = [threading.Thread(target=look, args=(offset,)) for offset in (1000, 200_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == [True, True]


def test_only_the_ranges_needed_are_read_and_kept(server, tiny_catalog):
    far = open_catalog(f"{server.url}/catalog/everywhere")
    assert far.collections == ["everywhere"]
    before = server.sent
    far.search(continent="Asia")
    first, requests = server.sent - before, len(server.asked)
    size = (tiny_catalog / "everywhere" / "items.parquet").stat().st_size
    assert first < size + 200_000
    far.search(continent="Asia")
    assert server.sent - before == first  # the second time all of it is there
    assert len(server.asked) == requests


def test_a_subset_of_a_far_catalog_is_saved_and_loaded(server, tmp_path):
    some = open_catalog(f"{server.url}/catalog").search(limit=20)
    some.save(tmp_path / "some.parquet")
    from catalog.subset import load_subset

    again = load_subset(tmp_path / "some.parquet")
    assert again.hash == some.hash
    assert again.table.equals(some.table)
    with pytest.raises(CatalogError, match=r"no cube there .*: its samples can be searched, not read"):
        _ = again.chip_shape


def test_statistics_of_a_far_catalog_are_those_of_a_near_one(server, tiny_catalog):
    told = [
        CliRunner().invoke(cli, ["stats", data, "--json"], catch_exceptions=False).stdout
        for data in (f"{server.url}/catalog", str(tiny_catalog))
    ]
    assert json.loads(told[0]) == json.loads(told[1])


def test_what_a_far_catalog_lacks_is_said_in_a_line(server, tmp_path):
    with pytest.raises(CatalogError, match=r"no catalog there: neither collection\.json nor a folder that has one"):
        open_catalog(f"{server.url}/nothing")
    (server.folder / "catalog" / "europe" / "items.parquet").unlink()
    with pytest.raises(CatalogError, match=r"no items at http://127\.0\.0\.1:\d+/catalog/europe/items\.parquet"):
        open_catalog(f"{server.url}/catalog").search()
    items = server.folder / "catalog" / "everywhere" / "items.parquet"
    items.write_bytes(items.read_bytes()[:5_000])
    with pytest.raises(CatalogError, match=r"everywhere/items\.parquet is no whole Parquet file"):
        open_catalog(f"{server.url}/catalog").search(collections="everywhere")
    (server.folder / "catalog" / "catalog.json").write_text(
        '{"links": [{"rel": "child", "href": "../../etc/collection.json"}]}'
    )
    with pytest.raises(CatalogError, match=r"is not <name>/collection\.json in its folder"):
        open_catalog(f"{server.url}/catalog")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ftp://host/catalog", "a catalog is opened from a folder or from s3://, gs://, az://, http://, https://"),
        ("http:///catalog", "no host or bucket is named"),
        ("http://127.0.0.1:9/c?token=secret", r"http://127\.0\.0\.1:9/c: an address of a catalog has no query"),
    ],
)
def test_addresses_that_make_no_sense_are_refused(address, message):
    with pytest.raises(CatalogError, match=message) as caught:
        open_catalog(address)
    assert "secret" not in str(caught.value)
