"""The parameters of the STAC API: read, checked, and turned into a search. What is unknown or impossible is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cql2
from starlette.datastructures import QueryParams

from pwcat.archive.search import BadRequest, ItemIndex, Query, parse_area, parse_datetime
from pwcat.filters import filter_faults

__all__ = ["ITEMS_NAMES", "SEARCH_NAMES", "Page", "read_body", "read_page", "read_query"]

CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
SEARCH_NAMES = (
    "bbox", "collections", "datetime", "filter", "filter-crs", "filter-lang", "ids", "intersects", "limit", "sortby", "token",
)  # fmt: skip
ITEMS_NAMES = ("bbox", "collections", "datetime", "ids", "limit", "token")
DEFAULT_LIMIT, MAX_LIMIT = 100, 1000


@dataclass(frozen=True, kw_only=True)
class Page:
    """A search and the part of its answer that is asked for."""

    query: Query
    limit: int
    start: int


def read_query(params: QueryParams, names: Sequence[str]) -> dict[str, Any]:
    """The parameters of a GET request, lists split: what POST would say in JSON.

    Raises:
        BadRequest: One is unknown or given twice.
    """
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


def read_body(body: bytes) -> dict[str, Any]:
    """The parameters of a POST request.

    Raises:
        BadRequest: The body is no JSON object, or one of them is unknown.
    """
    asked = _parse_json(body, "the body")
    if not isinstance(asked, dict):
        raise BadRequest("the body is no JSON object")
    _check_names(asked.keys(), SEARCH_NAMES)
    return {name: value for name, value in asked.items() if value is not None}


def read_page(asked: Mapping[str, Any], index: ItemIndex) -> Page:
    """The search that is asked for, and the part of its answer.

    Raises:
        BadRequest: A parameter is not valid.
    """
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
            text = _text(asked, "filter")
            if faults := filter_faults(text):
                raise BadRequest(f"filter cannot be read: {'; '.join(faults)}")
            return cql2.parse_text(text)
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


def _check_names(names: Iterable[str], allowed: Sequence[str]) -> None:
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
