"""The STAC API as an application: stac-fastapi's endpoints over our client, with the extensions that we keep to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import Depends, FastAPI
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource
from stac_fastapi.api.app import StacApi
from stac_fastapi.extensions.collection_search.collection_search import (
    CollectionSearchConformanceClasses,
    CollectionSearchExtension,
)
from stac_fastapi.extensions.fields.fields import FieldsConformanceClasses, FieldsExtension
from stac_fastapi.extensions.filter.filter import FilterConformanceClasses, FilterExtension
from stac_fastapi.extensions.free_text.free_text import FreeTextConformanceClasses
from stac_fastapi.extensions.sort.sort import SortExtension
from stac_fastapi.types.config import ApiSettings
from stac_fastapi.types.extension import ApiExtension
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from catalog.items import STAC_VERSION
from catalog.query import Catalog
from catalog.serving.asked import CollectionsGet, ItemsGet, Search, SearchGet
from catalog.serving.client import CatalogClient, Queryables, Sortables
from catalog.serving.guard import BodyLimit, HeadAsGet, only_known_parameters
from catalog.serving.limits import Limits
from catalog.serving.refusals import told_as_json

__all__ = ["stac_api"]

DESCRIPTION = "Datasets made by pwcat, with their diversity."
# pystac-client knows extensions by the API's version 1.0; later versions of them ask for no less.
_FILTER = (
    "https://api.stacspec.org/v1.0.0/item-search#filter",
    FilterConformanceClasses.SEARCH,
    FilterConformanceClasses.FILTER,
    FilterConformanceClasses.ITEMS,
    FilterConformanceClasses.BASIC_CQL2,
    FilterConformanceClasses.CQL2_TEXT,
    FilterConformanceClasses.CQL2_JSON,
    FilterConformanceClasses.ADVANCED_COMPARISON_OPERATORS,
    FilterConformanceClasses.CASE_INSENSITIVE_COMPARISON,
    FilterConformanceClasses.BASIC_SPATIAL_FUNCTIONS,
)
_SORT = ("https://api.stacspec.org/v1.0.0/item-search#sort", "https://api.stacspec.org/v1.0.0/ogcapi-features#sort")
_FIELDS = (FieldsConformanceClasses.SEARCH, FieldsConformanceClasses.ITEMS)
_COLLECTIONS = (
    CollectionSearchConformanceClasses.COLLECTIONSEARCH,
    CollectionSearchConformanceClasses.BASIS,
    FreeTextConformanceClasses.COLLECTIONS,
    FieldsConformanceClasses.COLLECTIONS,
)


class _Settings(ApiSettings):
    """What is told here, and nothing of the environment."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, **others: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The arguments alone."""
        return (init_settings,)


def stac_api(
    client: CatalogClient, *, catalog: Catalog, title: str, limits: Limits, origins: Sequence[str] = ()
) -> FastAPI:
    """The application.

    Args:
        client: answers.
        catalog: that is served.
        title: of the landing page.
        limits: of a request.
        origins: of pages elsewhere that browsers may let read the answers; none by default.
    """
    # Its documentation page would come from a content delivery network: the explorer and docs/serve.md are ours.
    app = FastAPI(
        title=title,
        description=DESCRIPTION,
        openapi_url="/api",
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(only_known_parameters)],
    )
    files = "/collections/{collection_id}/files/{path:path}"
    app.add_api_route(files, client.file, methods=["GET", "HEAD"], include_in_schema=False)
    StacApi(
        settings=_Settings(
            stac_fastapi_title=title,
            stac_fastapi_description=DESCRIPTION,
            stac_fastapi_landing_id=client.landing_page_id,
            stac_fastapi_version="1.0.0",
            docs_url="",
        ),
        app=app,
        client=client,
        extensions=_extensions(catalog),
        exceptions={},
        stac_version=STAC_VERSION,
        search_get_request_model=SearchGet,
        search_post_request_model=Search,
        items_get_request_model=ItemsGet,
        collections_get_request_model=CollectionsGet,
        middlewares=_middlewares(limits, origins),
    )
    # An id may have slashes in it, and stac-fastapi's own path of an item ends at the first.
    app.add_api_route("/collections/{collection_id}/items/{item_id:path}", client.get_item, include_in_schema=False)
    told_as_json(app)
    return app


def _extensions(catalog: Catalog) -> list[ApiExtension]:
    sort = SortExtension(client=Sortables(catalog))
    sort.conformance_classes = [*sort.conformance_classes, *_SORT]
    return [
        FilterExtension(client=Queryables(catalog), conformance_classes=[*_FILTER]),
        sort,
        FieldsExtension(conformance_classes=[*_FIELDS]),
        CollectionSearchExtension(conformance_classes=[*_COLLECTIONS]),
    ]


def _middlewares(limits: Limits, origins: Sequence[str]) -> list[Middleware]:
    found = [Middleware(BodyLimit, bytes_=limits.body_bytes), Middleware(HeadAsGet)]
    if origins:
        found.append(
            Middleware(
                CORSMiddleware,
                allow_origins=[*origins],
                allow_methods=["GET", "HEAD", "POST"],
                allow_headers=["Content-Type"],
            )
        )
    return found
