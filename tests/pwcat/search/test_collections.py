"""A collection that the source does not have is told as that, whatever its API answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pwcat.errors import SourceError
from pwcat.plan import make_plan
from pwcat.providers import OpenSource
from pwcat.recipe import Recipe, When
from pwcat.scenes import search_scenes
from pwcat.search import require_collection

SPAN = When(start=date(2021, 1, 1), end=date(2021, 12, 31))
CORE = "https://api.stacspec.org/v1.0.0/core"
SEARCH = "https://api.stacspec.org/v1.0.0/item-search"
COLLECTIONS = "https://api.stacspec.org/v1.0.0/collections"


@contextmanager
def api(*names: str, refuses: bool, conforms: tuple[str, ...] = (CORE, SEARCH, COLLECTIONS)) -> Iterator[OpenSource]:
    """A STAC API with these collections, which finds nothing, or refuses to search."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            found = {"type": "FeatureCollection", "features": [], "links": []}
            self.answer(404 if refuses else 200, {"detail": "no"} if refuses else found)

        def do_GET(self) -> None:
            here = f"http://{self.headers['Host']}"
            links = [
                {"rel": "self", "href": here},
                {"rel": "data", "href": f"{here}/collections"},
                {"rel": "search", "href": f"{here}/search", "type": "application/geo+json", "method": "POST"},
            ]
            root = {"type": "Catalog", "id": "x", "description": "x", "stac_version": "1.1.0", "links": links}
            extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
            some = {"type": "Collection", "description": "x", "license": "other", "stac_version": "1.1.0"}
            every = [{**some, "id": name, "extent": extent, "links": []} for name in names]
            listed = self.path == "/collections"
            self.answer(200, {"collections": every, "links": []} if listed else {**root, "conformsTo": conforms})

        def answer(self, status: int, body: object) -> None:
            payload = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        yield OpenSource(provider="stac", url=url, collection="sentinel-2-l1x")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("refuses", [False, True])
def test_an_unknown_collection_is_told_with_those_near_it_and_all_there_are(refuses):
    with (
        api("Sentinel-2-L1C", "landsat", refuses=refuses) as source,
        pytest.raises(
            SourceError,
            match=r"^stac \(http://127\.0\.0\.1:\d+\) has no collection 'sentinel-2-l1x': did you mean 'Sentinel-2-L1C'\? "
            r"It has Sentinel-2-L1C, landsat$",
        ),
    ):
        search_scenes(source, SPAN, bands=["B02"])


def test_of_many_collections_some_are_listed():
    with api(*(f"c{number:03d}" for number in range(99)), refuses=False) as source:
        with pytest.raises(SourceError, match=r"'sentinel-2-l1x': It has c000, c001, .*, c039, and 59 more$"):
            require_collection(source)
        require_collection(source, "c098")


def test_a_source_that_lists_no_collections_is_believed():
    with api(refuses=False, conforms=(CORE, SEARCH)) as source:
        assert search_scenes(source, SPAN, bands=["B02"]) == []
    with (
        api(refuses=True, conforms=(CORE, SEARCH)) as source,
        pytest.raises(SourceError, match=r"answers a search with HTTP 404: no$"),
    ):
        search_scenes(source, SPAN, bands=["B02"])


@pytest.mark.parametrize("domain", ["scenes", "globe"])
def test_a_plan_says_so_for_an_archive_wherever_it_draws(domain, recipe, small, source):
    document = {**recipe.model_dump(mode="json"), "sampler": {"strategy": "uniform", "domain": domain}}
    wrong = source.collection[:-1]
    document["source"]["collection"] = wrong
    with pytest.raises(
        SourceError,
        match=rf"^the archive has no collection '{wrong}': did you mean '{source.collection}' or .*It has \w",
    ):
        make_plan(Recipe.model_validate(document), base_dir=small.parent, source=replace(source, collection=wrong))
