"""What a request asks for: parameters of GET and bodies of POST, read into one form and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from stac_fastapi.types.search import APIRequest

from catalog.serving.refusals import RefusedError, faults_of

__all__ = [
    "CollectionsGet",
    "Fields",
    "ItemsGet",
    "Search",
    "SearchGet",
    "SortBy",
]

CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"


class SortBy(BaseModel):
    """A field to sort by."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    field: str
    direction: Literal["asc", "desc"] = "asc"


class Fields(BaseModel):
    """Members of the items that are wanted, and not wanted."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    include: list[str] | None = None
    exclude: list[str] | None = None


class Search(BaseModel):
    """A search for items, or for collections: the body of ``POST /search``, and what each GET comes down to."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    collections: list[str] | None = Field(None, description="Only of these collections.")
    ids: list[str] | None = Field(None, description="Only these items.")
    bbox: list[float] | None = Field(
        None, description="West, south, east, north; west > east crosses the antimeridian."
    )
    intersects: dict[str, Any] | None = Field(None, description="A GeoJSON geometry, instead of bbox.")
    datetime: str | None = Field(None, description="A moment, or an interval with / and ..; RFC 3339.")
    limit: int | None = Field(None, ge=1, description="Items of a page; more than the server's maximum is that.")
    filter: str | dict[str, Any] | None = Field(None, description="CQL2.")
    filter_lang: Literal["cql2-text", "cql2-json"] | None = Field(None, alias="filter-lang")
    filter_crs: str | None = Field(None, alias="filter-crs", description=f"Only {CRS84}.")
    sortby: list[SortBy] | None = Field(None, description="Fields to sort by, the first counting most.")
    fields: Fields | None = Field(None, description="Members of the items that are wanted.")
    q: list[str] | None = Field(None, description="Words, of which a collection has one; not for items.")
    token: str | None = Field(None, description="Of the next page, as its link has it.")


class _Area(BaseModel):
    """What all GET requests for items or collections share."""

    bbox: str | None = Field(
        None, description="West,south,east,north in degrees; west > east crosses the antimeridian."
    )
    datetime: str | None = Field(None, description="A moment, or an interval with / and ..; RFC 3339.")
    limit: str | None = Field(None, description="Items of a page; more than the server's maximum is that.")
    sortby: str | None = Field(None, description="Names after + or -, with commas between them.")
    fields: str | None = Field(None, description="Members that are wanted; after - those that are not.")
    token: str | None = Field(None, description="Of the next page, as its link has it.")


class CollectionsQuery(_Area):
    """Parameters of ``GET /collections``."""

    q: str | None = Field(None, description="Words with commas between them, of which a collection has one.")


class SearchQuery(_Area):
    """Parameters of ``GET /search`` and of the items of a collection."""

    collections: str | None = Field(None, description="Only of these collections, with commas between them.")
    ids: str | None = Field(None, description="Only these items, with commas between them.")
    filter: str | None = Field(None, description="CQL2: text, or JSON where filter-lang says so.")
    filter_lang: str | None = Field(None, alias="filter-lang", description="cql2-text or cql2-json.")
    filter_crs: str | None = Field(None, alias="filter-crs", description=f"Only {CRS84}.")


class WholeSearchQuery(SearchQuery):
    """Parameters of ``GET /search``."""

    intersects: str | None = Field(None, description="A GeoJSON geometry, instead of bbox.")


class SearchGet(APIRequest):
    """``GET /search``."""

    def __init__(self, query: Annotated[WholeSearchQuery, Query()]) -> None:
        self.query = query

    def kwargs(self) -> dict[str, Any]:
        """What the client's method is called with."""
        return {"asked": posted(self.query)}


class ItemsGet(APIRequest):
    """``GET /collections/{collection_id}/items``."""

    def __init__(self, collection_id: str, query: Annotated[SearchQuery, Query()]) -> None:
        self.collection_id, self.query = collection_id, query

    def kwargs(self) -> dict[str, Any]:
        """What the client's method is called with."""
        return {"collection_id": self.collection_id, "asked": posted(self.query)}


class CollectionsGet(APIRequest):
    """``GET /collections``."""

    def __init__(self, query: Annotated[CollectionsQuery, Query()]) -> None:
        self.query = query

    def kwargs(self) -> dict[str, Any]:
        """What the client's method is called with."""
        return {"asked": posted(self.query)}


def posted(query: BaseModel) -> Search:
    """The parameters of a GET request as a body of POST would say them.

    Raises:
        RefusedError: one of them is not valid.
    """
    asked = query.model_dump(by_alias=True, exclude_none=True)
    for name in ("collections", "ids", "bbox", "q"):
        if name in asked:
            asked[name] = [part for part in asked[name].split(",") if part] if asked[name] else []
    if "intersects" in asked:
        asked["intersects"] = _json(asked["intersects"], "intersects")
    if "sortby" in asked:
        asked["sortby"] = [_sort(part) for part in asked["sortby"].split(",")]
    if "fields" in asked:
        asked["fields"] = _fields(asked["fields"])
    if "filter" in asked:
        asked.setdefault("filter-lang", "cql2-text")
    if asked.get("filter-lang") == "cql2-json" and "filter" in asked:
        asked["filter"] = _json(asked["filter"], "filter")
    return checked(asked)


def checked(asked: Mapping[str, Any]) -> Search:
    """A search, checked.

    Raises:
        RefusedError: it is not valid; lists every fault.
    """
    try:
        return Search.model_validate(asked)
    except ValidationError as exc:
        raise RefusedError(faults_of(exc)) from exc


def _sort(part: str) -> dict[str, str]:
    # A plus that was not escaped arrives as a space.
    part = part.strip()
    return {"field": part.lstrip("+-"), "direction": "desc" if part.startswith("-") else "asc"}


def _fields(text: str) -> dict[str, list[str]]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return {
        "include": [part.removeprefix("+") for part in parts if not part.startswith("-")],
        "exclude": [part.removeprefix("-") for part in parts if part.startswith("-")],
    }


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise RefusedError(f"{what} is not JSON: {exc}") from exc
