"""A STAC API over an archive's folder, on loopback: item search with CQL2, and its assets by range requests.

Run as ``python -m pwcat.archive.server DIR --port 0 --watch-stdin`` it prints its address when it is ready, and exits when
its standard input closes: a parent that is killed leaves no orphan. It is a process of its own because a thread would
share the interpreter's lock with GDAL, which can hold it while it waits for this very server.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pyarrow as pa
import stac_geoparquet.arrow
from stac_geoparquet.arrow import parse_stac_items_to_arrow
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from pwcat.archive.folder import replacing
from pwcat.archive.parameters import ITEMS_NAMES, SEARCH_NAMES, Page, read_body, read_page, read_query
from pwcat.archive.search import BadRequest, ItemIndex
from pwcat.errors import ArchiveError, PwcatError
from pwcat.listening import listen

__all__ = ["build_app", "run_server"]

CONFORMANCE = (
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/ogcapi-features",
    "https://api.stacspec.org/v1.0.0/item-search",
    "https://api.stacspec.org/v1.0.0/item-search#filter",
    "https://api.stacspec.org/v1.0.0/item-search#sort",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
    "http://www.opengis.net/spec/ogcapi-features-3/1.0/conf/filter",
    "http://www.opengis.net/spec/cql2/1.0/conf/basic-cql2",
    "http://www.opengis.net/spec/cql2/1.0/conf/cql2-text",
    "http://www.opengis.net/spec/cql2/1.0/conf/cql2-json",
)
JSON, GEOJSON = "application/json", "application/geo+json"
# Rows of a group in a snapshot: what a search of a part of it reads at once.
SNAPSHOT_ROWS = 1000


class Api:
    """The endpoints over one archive."""

    def __init__(self, directory: Path) -> None:
        """Read the archive once; later changes of the folder are not seen."""
        self.index = ItemIndex(directory)
        # Only assets of items are served, by a look-up: no path of a request ever reaches the file system.
        self.files: dict[str, Path] = {}
        # Snapshots are made when they are first asked for, and go with the server.
        self._folder, self._lock = tempfile.TemporaryDirectory(prefix="pwcat-archive-"), threading.Lock()
        for item in self.index.items:
            home = f"{item['collection']}/{item['id']}"
            for asset in item["assets"].values():
                name = asset["href"].removeprefix("./")
                self.files[f"{home}/{name}"] = directory / home / name

    def landing(self, request: Request) -> Response:
        """The landing page: what this is, what it conforms to, where to go on."""
        base = _base(request)
        links = [
            _link("self", base, JSON),
            _link("root", base, JSON),
            _link("data", f"{base}/collections", JSON),
            _link("conformance", f"{base}/conformance", JSON),
            _link("search", f"{base}/search", GEOJSON, method="GET"),
            _link("search", f"{base}/search", GEOJSON, method="POST"),
            *(_link("child", f"{base}/collections/{quote(name)}", JSON) for name in self.index.collections),
        ]
        return JSONResponse(
            {
                "type": "Catalog",
                "stac_version": "1.1.0",
                "id": "pwcat-archive",
                "title": "Embedded archive",
                "description": "Scenes of an embedded pwcat archive.",
                "conformsTo": CONFORMANCE,
                "links": links,
            }
        )

    def conformance(self, request: Request) -> Response:
        """The conformance classes."""
        return JSONResponse({"conformsTo": CONFORMANCE})

    def collections(self, request: Request) -> Response:
        """All collections."""
        base = _base(request)
        links = [_link("self", f"{base}/collections", JSON), _link("root", base, JSON)]
        found = [self._collection(name, base) for name in self.index.collections]
        return JSONResponse({"collections": found, "links": links})

    def collection(self, request: Request) -> Response:
        """One collection."""
        return JSONResponse(self._collection(self._known(request), _base(request)))

    def items(self, request: Request) -> Response:
        """The items of one collection, in pages."""
        name = self._known(request)
        asked = read_query(request.query_params, ITEMS_NAMES)
        if asked.get("collections", [name]) != [name]:  # pystac-client names the collection here, too
            raise BadRequest(f"collections is {asked['collections']}, the path says {name!r}")
        page = read_page(asked | {"collections": [name]}, self.index)
        return self._answer(request, page, f"/collections/{quote(name)}/items", asked)

    def item(self, request: Request) -> Response:
        """One item."""
        name, item_id = self._known(request), request.path_params["item"]
        item = self.index.get(name, item_id)
        if item is None:
            raise HTTPException(404, f"no item {item_id!r} in collection {name!r}")
        return JSONResponse(_absolute(item, _base(request)), media_type=GEOJSON)

    async def search(self, request: Request) -> Response:
        """Item search, by GET or POST."""
        posted = request.method == "POST"
        asked = read_body(await request.body()) if posted else read_query(request.query_params, SEARCH_NAMES)
        return self._answer(request, read_page(asked, self.index), "/search", asked)

    def asset(self, request: Request) -> Response:
        """The bytes of an asset, or the range that is asked for."""
        path = self.files.get(request.path_params["path"])
        if path is None or not path.is_file():
            raise HTTPException(404, f"no asset {request.path_params['path']!r}")
        return FileResponse(path, media_type="image/tiff" if path.suffix.lower() in (".tif", ".tiff") else None)

    def snapshot(self, request: Request) -> Response:
        """The items of one collection as STAC GeoParquet."""
        name, base = self._known(request), _base(request)
        with self._lock:
            path = Path(self._folder.name) / sha256(f"{base} {name}".encode()).hexdigest()
            if not path.is_file():
                items = [_absolute(item, base) for item in self.index.items if item["collection"] == name]
                if not items:
                    raise HTTPException(404, f"collection {name!r} has no items")
                table = parse_stac_items_to_arrow(items).read_all()
                groups = pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=SNAPSHOT_ROWS))
                with replacing(path) as part:
                    stac_geoparquet.arrow.to_parquet(groups, part)
        return FileResponse(path, media_type="application/vnd.apache.parquet")

    def _known(self, request: Request) -> str:
        name: str = request.path_params["collection"]
        if name not in self.index.collections:
            raise HTTPException(404, f"no collection {name!r}; there are {', '.join(self.index.collections)}")
        return name

    def _collection(self, name: str, base: str) -> dict[str, Any]:
        here = f"{base}/collections/{quote(name)}"
        links = [
            _link("self", here, JSON),
            _link("root", base, JSON),
            _link("parent", base, JSON),
            _link("items", f"{here}/items", GEOJSON),
        ]
        items = {
            "href": f"{here}/items.parquet",
            "type": "application/vnd.apache.parquet",
            "roles": ["stac-items"],
            "title": "GeoParquet STAC items",
        }
        found = self.index.collections[name]
        return {**found, "links": links, "assets": {**found.get("assets", {}), "geoparquet-items": items}}

    def _answer(self, request: Request, page: Page, path: str, asked: Mapping[str, Any]) -> Response:
        """A page of items with the link to the next one, which repeats the question with another token."""
        base = _base(request)
        found = self.index.search(page.query)
        shown = found[page.start : page.start + page.limit]
        links = [_link("root", base, JSON), _link("self", f"{base}{path}", GEOJSON)]
        if page.start + len(shown) < len(found) and shown:
            token = str(page.start + len(shown))
            if request.method == "POST":
                links.append(_link("next", f"{base}{path}", GEOJSON, method="POST", merge=True, body={"token": token}))
            else:
                raw = {k: v for k, v in request.query_params.items() if k != "token"} | {"token": token}
                links.append(_link("next", f"{base}{path}?{urlencode(raw)}", GEOJSON, method="GET"))
        return JSONResponse(
            {
                "type": "FeatureCollection",
                "features": [_absolute(item, base) for item in shown],
                "links": links,
                "numberMatched": len(found),
                "numberReturned": len(shown),
            },
            media_type=GEOJSON,
        )


def build_app(directory: Path) -> Starlette:
    """The ASGI application over an archive.

    Raises:
        ArchiveError: The folder holds no archive, or a damaged one.
    """
    api = Api(directory)
    return Starlette(
        routes=[
            Route("/", api.landing),
            Route("/conformance", api.conformance),
            Route("/collections", api.collections),
            Route("/collections/{collection}", api.collection),
            Route("/collections/{collection}/items", api.items),
            Route("/collections/{collection}/items/{item}", api.item),
            Route("/collections/{collection}/items.parquet", api.snapshot),
            Route("/search", api.search, methods=["GET", "POST"]),
            Route("/assets/{path:path}", api.asset),
        ],
        exception_handlers={BadRequest: _refuse, HTTPException: _fail},
    )


def run_server(directory: Path, *, host: str = "127.0.0.1", port: int = 0, watch_stdin: bool = False) -> None:
    """Serve an archive until interrupted, or until standard input closes; the address goes to standard output first.

    Raises:
        ArchiveError: The folder holds no archive, or the address cannot be listened on.
    """
    app = build_app(directory)
    try:
        listen(
            app,
            host=host,
            port=port,
            started=_tell,
            until_end_of=sys.stdin.fileno() if watch_stdin else None,
        )
    except OSError as exc:
        raise ArchiveError(f"cannot listen on {host}:{port}: {exc.strerror}; --port 0 takes a free port") from exc


def _tell(url: str) -> None:
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()


def _absolute(item: Mapping[str, Any], base: str) -> dict[str, Any]:
    """An item with links and asset addresses of this server."""
    collection, item_id = quote(str(item["collection"])), quote(str(item["id"]))
    home = f"{base}/collections/{collection}"
    assets = {
        key: {**asset, "href": f"{base}/assets/{collection}/{item_id}/{quote(asset['href'].removeprefix('./'))}"}
        for key, asset in item["assets"].items()
    }
    links = [
        _link("self", f"{home}/items/{item_id}", GEOJSON),
        _link("root", base, JSON),
        _link("parent", home, JSON),
        _link("collection", home, JSON),
    ]
    return {**item, "links": links, "assets": assets}


def _link(rel: str, href: str, media_type: str, **more: Any) -> dict[str, Any]:
    return {"rel": rel, "href": href, "type": media_type, **more}


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _refuse(request: Request, exc: Exception) -> Response:
    return JSONResponse({"code": "BadRequest", "description": str(exc)}, status_code=400)


def _fail(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    return JSONResponse({"code": str(exc.status_code), "description": exc.detail}, status_code=exc.status_code)


def _main() -> None:
    """Serve from the command line of :func:`pwcat.archive.serve_archive`'s child process."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m pwcat.archive.server")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--watch-stdin", action="store_true")
    args = parser.parse_args()
    try:
        run_server(args.directory, host=args.host, port=args.port, watch_stdin=args.watch_stdin)
    except PwcatError as exc:
        sys.stderr.write(f"{exc}\n")
        sys.exit(2)


if __name__ == "__main__":
    _main()
