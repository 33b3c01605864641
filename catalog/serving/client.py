"""The endpoints of the STAC API, as stac-fastapi calls them, over a catalog."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Any

import pyarrow as pa
from stac_fastapi.extensions.filter.client import BaseFiltersClient
from stac_fastapi.extensions.sort.client import BaseSortablesClient
from stac_fastapi.types.core import BaseCoreClient
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response

from catalog.query import Catalog, Collection
from catalog.querying.places import Folder
from catalog.serving.asked import Search
from catalog.serving.collections import SORTABLE, search_collections
from catalog.serving.documents import GEOJSON, JSON, SCHEMA, Addresses, document, link, next_link
from catalog.serving.fields import Wanted, collection_members, item_members, wanted_of
from catalog.serving.finding import Finder, Found
from catalog.serving.limits import Limits
from catalog.serving.refusals import RefusedError
from catalog.serving.schemas import queryables, sortables
from catalog.stac.features import features

__all__ = ["CatalogClient", "Queryables", "Sortables"]

CONFORMANCE = (
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/ogcapi-features",
    "https://api.stacspec.org/v1.0.0/item-search",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
)
QUERYABLES_REL = "http://www.opengis.net/def/rel/ogc/1.0/queryables"
SORTABLES_REL = "http://www.opengis.net/def/rel/ogc/1.0/sortables"


class CatalogClient(BaseCoreClient):
    """Answers over the collections of a catalog; their documents are read once, at the start.

    Args:
        catalog: that is served.
        finder: of their items.
        limits: of a request.
        explorer: path of the page for people.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        finder: Finder,
        limits: Limits,
        explorer: str,
    ) -> None:
        super().__init__(base_conformance_classes=[*CONFORMANCE], landing_page_id="pwcat")
        self.catalog, self.finder = catalog, finder
        self.documents = {name: member.document for name, member in catalog.members.items()}
        members = catalog.members.items()
        self.elsewhere = {name: str(one.place) for name, one in members if not isinstance(one.place, Folder)}
        self.limits, self.explorer = limits, explorer

    def landing_page(self, request: Request, **kwargs: Any) -> Response:
        """What this is, what it conforms to, where to go on; people are sent to the explorer."""
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse(f"{self._addresses(request).root}{self.explorer}")
        root = self._addresses(request).root
        page = self._landing_page(
            base_url=f"{root}/", conformance_classes=self.conformance_classes(), extension_schemas=[]
        )
        page["links"] += [
            link(QUERYABLES_REL, f"{root}/queryables", SCHEMA, title="Names that a filter may use"),
            link(SORTABLES_REL, f"{root}/sortables", SCHEMA, title="Names that can be sorted by"),
            link("service-desc", f"{root}/api", "application/vnd.oai.openapi+json;version=3.1", title="OpenAPI"),
            link("service-doc", f"{root}{self.explorer}", "text/html", title="Explorer"),
            *(self._child(self._addresses(request), name) for name in self.documents),
        ]
        return document(page)

    def conformance(self, **kwargs: Any) -> Response:
        """The conformance classes."""
        return document({"conformsTo": self.conformance_classes()})

    def post_search(self, search_request: Search, *, request: Request, **kwargs: Any) -> Response:
        """Item search, by POST."""
        return self._search(search_request, request)

    def get_search(self, *, asked: Search, request: Request, **kwargs: Any) -> Response:
        """Item search, by GET."""
        return self._search(asked, request)

    def item_collection(self, *, collection_id: str, asked: Search, request: Request, **kwargs: Any) -> Response:
        """The items of one collection."""
        self._require(collection_id)
        if asked.collections not in (None, [collection_id]):  # pystac-client names the collection here, too
            raise RefusedError(f"collections is {asked.collections}, the path says {collection_id!r}")
        return self._search(asked.model_copy(update={"collections": [collection_id]}), request)

    def get_item(self, item_id: str, collection_id: str, request: Request) -> Response:
        """One item."""
        self._require(collection_id)
        found = self.finder.item(collection_id, item_id)
        if found is None:
            raise RefusedError(f"no item {item_id!r} in collection {collection_id!r}", status=HTTPStatus.NOT_FOUND)
        return document(_items(found, Wanted(), self._addresses(request))[0], GEOJSON)

    def all_collections(self, *, asked: Search, request: Request, **kwargs: Any) -> Response:
        """The collections that meet a search; all of them, where nothing is asked."""
        addresses = self._addresses(request)
        wanted = wanted_of(asked.fields, members=collection_members(self.documents.values()))
        names, matched, token = search_collections(self.documents, asked, self.limits)
        found = [wanted.prune(addresses.described(name, self.documents[name])) for name in names]
        links = [link("self", str(request.url), JSON), link("root", f"{addresses.root}/", JSON)]
        if token:
            links.append(next_link(request, token, JSON))
        return document({"collections": found, "links": links, "numberMatched": matched, "numberReturned": len(found)})

    def get_collection(self, *, collection_id: str, request: Request, **kwargs: Any) -> Response:
        """One collection."""
        self._require(collection_id)
        return document(self._addresses(request).described(collection_id, self.documents[collection_id]))

    def file(self, *, collection_id: str, path: str) -> Response:
        """A file of a collection's assets, or the range of it that is asked for."""
        self._require(collection_id)
        found = _asset_file(self.catalog.collection(collection_id), path)
        if found is None:
            raise RefusedError(f"no file {path!r} among the assets of {collection_id!r}", status=HTTPStatus.NOT_FOUND)
        return FileResponse(found)

    def _addresses(self, request: Request) -> Addresses:
        return Addresses.of(request, self.elsewhere)

    def _search(self, asked: Search, request: Request) -> Response:
        wanted = wanted_of(asked.fields, members=item_members(self.finder.columns))
        return document(self._page(self.finder.search(asked, wanted), wanted, request), GEOJSON)

    def _page(self, found: Found, wanted: Wanted, request: Request) -> dict[str, Any]:
        addresses = self._addresses(request)
        items = [item for table in found.rows for item in _items(table, wanted, addresses)]
        links = [link("self", str(request.url), GEOJSON), link("root", f"{addresses.root}/", JSON)]
        if found.token:
            links.append(next_link(request, found.token, GEOJSON))
        return {
            "type": "FeatureCollection",
            "features": items,
            "links": links,
            "numberMatched": found.matched,
            "numberReturned": len(items),
        }

    def _child(self, addresses: Addresses, name: str) -> dict[str, Any]:
        return link("child", addresses.collection(name), JSON, title=self.documents[name].get("title") or name)

    def _require(self, name: str) -> None:
        if name not in self.documents:
            there = ", ".join(self.documents)
            raise RefusedError(f"no collection {name!r}; there are {there}", status=HTTPStatus.NOT_FOUND)


def _asset_file(collection: Collection, path: str) -> Path | None:
    """A file of this computer that is an asset of a collection, or lies in one; no other way leads into its folder or out.

    Hrefs are a document's, paths a client's, and neither is trusted: nothing climbs, and no link leads elsewhere.
    """
    parts = path.split("/")
    if not isinstance(collection.place, Folder) or not {"", ".", ".."}.isdisjoint(parts) or "\0" in path:
        return None
    folder = collection.place.path.resolve()
    assets = {str(asset.get("href")).removeprefix("./") for asset in collection.document.get("assets", {}).values()}
    if parts[0] not in assets:
        return None
    found = folder / path
    try:
        return found if found.is_file() and found.resolve().is_relative_to(folder / parts[0]) else None
    except OSError:  # a name that no file can have
        return None


def _items(table: pa.Table, wanted: Wanted, addresses: Addresses) -> list[dict[str, Any]]:
    found = features(table, collection_of=addresses.whereabouts)
    return [wanted.prune(addresses.within_reach(item)) for item in found]


class Queryables(BaseFiltersClient):
    """What a filter may name."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def get_queryables(self, collection_id: str | None = None, *, request: Request, **kwargs: Any) -> Response:
        """Of all collections, or of one."""
        names = self.catalog.collections if collection_id is None else [_named(self.catalog, collection_id)]
        members = [self.catalog.collection(name) for name in names]
        return document(queryables(members, address=str(request.url)), SCHEMA)


class Sortables(BaseSortablesClient):
    """What can be sorted by."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def get_sortables(self, request: Request, **kwargs: Any) -> Response:
        """Of items."""
        return document(sortables(self.catalog.members.values(), address=str(request.url)), SCHEMA)

    def get_collection_sortables(self, collection_id: str, request: Request, **kwargs: Any) -> Response:
        """Of the items of one collection."""
        member = self.catalog.collection(_named(self.catalog, collection_id))
        return document(sortables([member], address=str(request.url)), SCHEMA)

    def get_collections_sortables(self, request: Request, **kwargs: Any) -> Response:
        """Of collections."""
        properties = {name: {"type": "string"} for name in SORTABLE}
        told = sortables(address=str(request.url)) | {"properties": properties}
        return document(told, SCHEMA)


def _named(catalog: Catalog, name: str) -> str:
    if name not in catalog.collections:
        there = ", ".join(catalog.collections)
        raise RefusedError(f"no collection {name!r}; there are {there}", status=HTTPStatus.NOT_FOUND)
    return name
