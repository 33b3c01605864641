"""A catalog served: the STAC API, and the explorer beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.routing import Mount
from starlette.types import ASGIApp

from catalog.explorer import explorer_routes
from catalog.query import Catalog
from catalog.querying.engine import Engine
from catalog.querying.places import read_json
from catalog.serving.api import stac_api
from catalog.serving.client import CatalogClient
from catalog.serving.database import Database, settings_of
from catalog.serving.finding import Finder
from catalog.serving.limits import Limits
from pwcat.errors import CatalogError
from pwcat.listening import listen

__all__ = ["Limits", "make_app", "serve"]

EXPLORER = "/explorer"
_NO_LIMITS = Limits()


def make_app(catalog: Catalog, *, limits: Limits = _NO_LIMITS, origins: Sequence[str] = ()) -> ASGIApp:
    """The STAC API over a catalog, and the explorer at ``/explorer``.

    Args:
        catalog: that is served, read-only. Its collections' documents are read now; their items when they are asked for.
        limits: of a request.
        origins: of pages elsewhere, ``https://…``, that browsers may let read the answers.

    Raises:
        CatalogError: a collection has no items, or no document.
    """
    database = Database(lambda: Engine(catalog.place, settings=settings_of(limits)), limits=limits)
    for member in catalog.members.values():
        _ = member.items.columns, member.document  # now, so that what is damaged is told before anybody asks
    finder = Finder(
        database=database, members={name: member.items for name, member in catalog.members.items()}, limits=limits
    )
    client = CatalogClient(catalog=catalog, finder=finder, limits=limits, explorer=EXPLORER)
    app = stac_api(client, catalog=catalog, title=_title(catalog), limits=limits, origins=origins)
    app.router.routes.append(Mount(EXPLORER, routes=explorer_routes(catalog)))
    return app


def serve(
    catalog: Catalog,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    limits: Limits = _NO_LIMITS,
    origins: Sequence[str] = (),
    started: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve a catalog until interrupted.

    Args:
        catalog: that is served.
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        limits: of a request.
        origins: of pages elsewhere that browsers may let read the answers.
        started: called with the server's address once it answers.

    Raises:
        CatalogError: the catalog cannot be served, or the address not be listened on.
    """
    app = make_app(catalog, limits=limits, origins=origins)
    try:
        listen(app, host=host, port=port, started=started)
    except OSError as exc:
        raise CatalogError(f"cannot listen on {host}:{port}: {exc.strerror}; --port 0 takes a free port") from exc


def _title(catalog: Catalog) -> str:
    told = read_json(catalog.place, "catalog.json") if catalog.place.has("catalog.json") else {}
    return str(told.get("title") or catalog.place.name)
