"""A STAC API on loopback that can be told to fail, and to be awkward in the ways that real ones are."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import shapely

from pwcat.providers import OpenSource
from pwcat.providers.transport import Patience

SOON = Patience(attempts=4, first_attempts=0, pause_s=0.005, most_s=0.05, timeout_s=(5, 5))


class StacApi:
    """Searches a list of items.

    Attributes:
        items: that it has, in its order.
        style: of its next links: `merge` (POST, a token alone), `whole` (POST, the question again), `get`.
        most: items a page that it can bear; it answers 502 to larger ones.
        faults: what the next searches get instead of an answer: a status with headers, or `cut` or `noise`.
        extra: items that are repeated at the start of each page but the first.
        gaps: empty pages before each page.
        searches: the questions it was asked.
        before: done before each is answered.
    """

    def __init__(self, items: Sequence[dict[str, Any]] = ()) -> None:
        self.items = list(items)
        self.style = "merge"
        self.most = 10_000
        self.faults: list[Any] = []
        self.extra = 0
        self.gaps = 0
        self.too_wide_deg = 1e9
        self.searches: list[dict[str, Any]] = []
        self.before: Callable[[], object] | None = None
        self.routes: dict[str, Callable[[], bytes]] = {}
        self._shapes: dict[str, Any] = {}
        api = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_args) -> None:
                pass

            def do_POST(self) -> None:
                self.search(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                if parts.path in api.routes:
                    self.answer(200, api.routes[parts.path]())
                elif parts.path == "/search":
                    query: dict[str, Any] = dict(parse_qsl(parts.query))
                    for name in ("intersects",):
                        if name in query:
                            query[name] = json.loads(query[name])
                    self.search(query)
                else:
                    method = "GET" if api.style == "get" else "POST"
                    links = [{"rel": "search", "href": f"{api.url}/search", "method": method}]
                    self.answer(200, json.dumps({"type": "Catalog", "id": "x", "links": links}).encode())

            def search(self, question: dict[str, Any]) -> None:
                api.searches.append(question)
                if api.before is not None:
                    api.before()
                fault = api.faults.pop(0) if api.faults else None
                if isinstance(fault, tuple):
                    self.answer(fault[0], b'{"detail": "not now"}', fault[1])
                    return
                if int(question.get("limit", 10)) > api.most or api.too_wide(question):
                    self.answer(502, b"<html>bad gateway</html>")
                    return
                body = json.dumps(api.page(question)).encode()
                if fault == "noise":
                    body = body[: len(body) // 2]
                self.answer(200, body, cut=fault == "cut")

            def answer(self, status: int, body: bytes, headers=None, *, cut: bool = False) -> None:
                self.send_response(status)
                for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if cut else body)
                if cut:
                    self.close_connection = True

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def too_wide(self, question: dict[str, Any]) -> bool:
        if "intersects" not in question:
            return False
        west, _, east, _ = shapely.geometry.shape(question["intersects"]).bounds
        return east - west > self.too_wide_deg

    def found(self, question: dict[str, Any]) -> list[dict[str, Any]]:
        if question.get("intersects") is None:
            return self.items
        area = shapely.geometry.shape(question["intersects"])
        shapely.prepare(area)
        for item in self.items:
            self._shapes.setdefault(item["id"], shapely.geometry.shape(item["geometry"]))
        return [item for item in self.items if area.intersects(self._shapes[item["id"]])]

    def page(self, question: dict[str, Any]) -> dict[str, Any]:
        """`token` is a place and how many empty pages were given there."""
        found, limit = self.found(question), int(question.get("limit", 10))
        start, gap = (int(part) for part in question.get("token", "0.0").split("."))
        if gap < self.gaps:
            return {"type": "FeatureCollection", "features": [], "links": [self.next(question, f"{start}.{gap + 1}")]}
        shown = found[max(start - self.extra, 0) : start + limit]
        links = [] if start + limit >= len(found) else [self.next(question, f"{start + limit}.0")]
        return {"type": "FeatureCollection", "features": shown, "links": links}

    def next(self, question: dict[str, Any], token: str) -> dict[str, Any]:
        whole = {**question, "token": token}
        if self.style == "get":
            if "intersects" in whole:
                whole["intersects"] = json.dumps(whole["intersects"])
            return {"rel": "next", "href": f"/search?{urlencode(whole)}"}
        body = {"token": token} if self.style == "merge" else whole
        return {
            "rel": "next",
            "href": f"{self.url}/search",
            "method": "POST",
            "merge": self.style == "merge",
            "body": body,
        }

    @property
    def source(self) -> OpenSource:
        return OpenSource(provider="stac", url=self.url, collection="c")


@pytest.fixture
def api():
    made = StacApi()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def soon() -> Patience:
    """Patience that does not take long."""
    return SOON


@pytest.fixture
def item_at():
    """An item of one asset whose footprint is a box around a place."""

    def make(name: str, lon: float, lat: float, half: float = 0.5, **properties: Any) -> dict[str, Any]:
        return {
            "id": name,
            "type": "Feature",
            "stac_version": "1.1.0",
            "collection": "c",
            "bbox": [lon - half, lat - half, lon + half, lat + half],
            "geometry": shapely.geometry.mapping(shapely.box(lon - half, lat - half, lon + half, lat + half)),
            "properties": {"datetime": "2021-06-15T10:00:00Z", **properties},
            "assets": {"B02": {"href": f"https://example.test/{name}.tif"}},
            "links": [{"rel": "self", "href": f"https://example.test/{name}.json"}],
        }

    return make
