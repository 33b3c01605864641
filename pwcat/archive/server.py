"""A STAC API over an archive's folder, on loopback: item search with CQL2, and its assets by range requests.

Run as ``python -m pwcat.archive.server DIR --port 0 --watch-stdin`` it prints its address when it is ready, and exits when
its standard input closes: a parent that is killed leaves no orphan. It is a process of its own because a thread would
share the interpreter's lock with GDAL, which can hold it while it waits for this very server.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import cql2
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from pwcat.archive.search import BadRequest, ItemIndex, Query, parse_area, parse_datetime
from pwcat.errors import ArchiveError, PwcatError

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
CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
SEARCH_NAMES = (
    "bbox", "collections", "datetime", "filter", "filter-crs", "filter-lang", "ids", "intersects", "limit", "sortby", "token",
)  # fmt: skip
ITEMS_NAMES = ("bbox", "datetime", "limit", "token")
DEFAULT_LIMIT, MAX_LIMIT = 100, 1000
JSON, GEOJSON = "application/json", "application/geo+json"


@dataclass(frozen=True, kw_only=True)
class Page:
    """A search and the part of its answer that is asked for."""

    query: Query
    limit: int
    start: int


class Api:
    """The endpoints over one archive."""

    def __init__(self, directory: Path) -> None:
        """Read the archive once; later changes of the folder are not seen."""
        self.index = ItemIndex(directory)
        # Only assets of items are served, by a look-up: no path of a request ever reaches the file system.
        self.files: dict[str, Path] = {}
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
        asked = _read_query(request, ITEMS_NAMES)
        page = _read_page(asked | {"collections": [name]}, self.index)
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
        asked = _read_body(await request.body()) if posted else _read_query(request, SEARCH_NAMES)
        return self._answer(request, _read_page(asked, self.index), "/search", asked)

    def asset(self, request: Request) -> Response:
        """The bytes of an asset, or the range that is asked for."""
        path = self.files.get(request.path_params["path"])
        if path is None or not path.is_file():
            raise HTTPException(404, f"no asset {request.path_params['path']!r}")
        return FileResponse(path, media_type="image/tiff" if path.suffix.lower() in (".tif", ".tiff") else None)

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
        return {**self.index.collections[name], "links": links}

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
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        raise ArchiveError(f"cannot listen on {host}:{port}: {exc.strerror}; --port 0 takes a free port") from exc
    shown = f"[{host}]" if ":" in host else host
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, lifespan="off")
    server = _AnnouncingServer(config, f"http://{shown}:{listener.getsockname()[1]}")
    if watch_stdin:
        threading.Thread(target=_stop_at_eof, args=(server,), daemon=True).start()
    server.run(sockets=[listener])


class _AnnouncingServer(uvicorn.Server):
    """A server that prints its address once it answers."""

    def __init__(self, config: uvicorn.Config, url: str) -> None:
        super().__init__(config)
        self.url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say where."""
        await super().startup(sockets=sockets)
        sys.stdout.write(f"{self.url}\n")
        sys.stdout.flush()


def _stop_at_eof(server: uvicorn.Server) -> None:
    while os.read(0, 4096):
        pass
    server.should_exit = True


def _read_query(request: Request, names: Sequence[str]) -> dict[str, Any]:
    """The parameters of a GET request, lists split; what POST would say in JSON."""
    params = request.query_params
    _check_names(params.keys(), names)
    repeated = sorted({name for name in params if len(params.getlist(name)) > 1})
    if repeated:
        raise BadRequest(f"given more than once: {', '.join(repeated)}")
    asked: dict[str, Any] = dict(params)
    for name in ("ids", "collections", "sortby"):
        if name in asked:
            asked[name] = asked[name].split(",")
    if "sortby" in asked:
        asked["sortby"] = [
            {"field": field.lstrip("+-").strip(), "direction": "desc" if field.startswith("-") else "asc"}
            for field in asked["sortby"]
        ]
    if "bbox" in asked:
        asked["bbox"] = asked["bbox"].split(",")
    if "intersects" in asked:
        asked["intersects"] = _parse_json(asked["intersects"], "intersects")
    if "filter" in asked:
        asked.setdefault("filter-lang", "cql2-text")
        if asked["filter-lang"] == "cql2-json":
            asked["filter"] = _parse_json(asked["filter"], "filter")
    return asked


def _read_body(body: bytes) -> dict[str, Any]:
    asked = _parse_json(body, "the body")
    if not isinstance(asked, dict):
        raise BadRequest("the body is no JSON object")
    _check_names(asked.keys(), SEARCH_NAMES)
    return {name: value for name, value in asked.items() if value is not None}


def _read_page(asked: Mapping[str, Any], index: ItemIndex) -> Page:
    """The search that is asked for, checked."""
    start, end = parse_datetime(_text(asked, "datetime")) if "datetime" in asked else (float("-inf"), float("inf"))
    bbox = _numbers(asked["bbox"]) if "bbox" in asked else None
    sort = _read_sort(asked.get("sortby", []))
    index.check_names([name for name, _ in sort], what="sortby")
    query = Query(
        collections=_texts(asked, "collections"),
        ids=_texts(asked, "ids"),
        area=parse_area(bbox, asked.get("intersects")),
        start=start,
        end=end,
        filter=_read_filter(asked),
        sort=sort,
    )
    return Page(
        query=query,
        limit=_integer(asked.get("limit", DEFAULT_LIMIT), "limit", low=1, high=MAX_LIMIT),
        start=_integer(asked.get("token", 0), "token", low=0, high=max(len(index.items), 1)),
    )


def _read_filter(asked: Mapping[str, Any]) -> cql2.Expr | None:
    if asked.get("filter-crs", CRS84) != CRS84:
        raise BadRequest(f"filter-crs {asked['filter-crs']!r} is not served, only {CRS84}")
    if "filter" not in asked:
        return None
    language = asked.get("filter-lang", "cql2-json" if isinstance(asked["filter"], dict) else "cql2-text")
    if language not in ("cql2-text", "cql2-json"):
        raise BadRequest(f"filter-lang {language!r} is not served, only cql2-text and cql2-json")
    try:
        if language == "cql2-text":
            return cql2.parse_text(_text(asked, "filter"))
        expression = cql2.parse_json(json.dumps(asked["filter"]))
        expression.validate()
    except BadRequest:
        raise
    except Exception as exc:  # cql2 raises its own errors and bare ones
        raise BadRequest(f"filter is no valid {language}: {' '.join(str(exc).split())}") from exc
    return expression


def _read_sort(fields: Any) -> list[tuple[str, bool]]:
    if not isinstance(fields, list):
        raise BadRequest('sortby is no list of {"field": ..., "direction": "asc" or "desc"}')
    sort = []
    for one in fields:
        direction = one.get("direction", "asc") if isinstance(one, dict) else None
        if direction not in ("asc", "desc") or not isinstance(one.get("field"), str):
            raise BadRequest(f'sortby has {one!r}, needs {{"field": ..., "direction": "asc" or "desc"}}')
        sort.append((one["field"], direction == "desc"))
    return sort


def _check_names(names: Any, allowed: Sequence[str]) -> None:
    unknown = sorted(set(names) - set(allowed))
    if unknown:
        raise BadRequest(f"unknown parameter: {', '.join(unknown)}; known: {', '.join(allowed)}")


def _text(asked: Mapping[str, Any], name: str) -> str:
    if not isinstance(asked[name], str):
        raise BadRequest(f"{name} is no text: {asked[name]!r}")
    return asked[name]


def _texts(asked: Mapping[str, Any], name: str) -> list[str] | None:
    value = asked.get(name)
    if value is not None and not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
        raise BadRequest(f"{name} is no list of texts: {value!r}")
    return value


def _numbers(values: Any) -> list[float]:
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError) as exc:
        raise BadRequest(f"bbox is no list of numbers: {values!r}") from exc


def _integer(value: Any, name: str, *, low: int, high: int) -> int:
    try:
        number = int(str(value))
    except ValueError as exc:
        raise BadRequest(f"{name} is no whole number: {value!r}") from exc
    if not low <= number <= high:
        raise BadRequest(f"{name} is {number}, allowed is {low} to {high}")
    return number


def _parse_json(text: str | bytes, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as exc:
        raise BadRequest(f"{what} is not JSON: {exc}") from exc


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
