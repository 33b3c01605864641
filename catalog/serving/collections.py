"""Collections that meet a search: by place, time and words, sorted, in pages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from catalog.querying.conditions import moment
from catalog.serving.asked import Search
from catalog.serving.conditions import bbox_of
from catalog.serving.limits import Limits
from catalog.serving.paging import Position, read_token, write_token
from catalog.serving.refusals import RefusedError
from pwcat.errors import CatalogError

__all__ = ["SORTABLE", "search_collections"]

# Members of a collection that can be sorted by.
SORTABLE = ("id", "title", "description", "license")
Box = tuple[float, float, float, float]


def search_collections(
    documents: Mapping[str, Mapping[str, Any]], asked: Search, limits: Limits
) -> tuple[list[str], int, str | None]:
    """Names of the collections on the page that is asked for, how many meet the search in all, and the next page's token.

    Raises:
        RefusedError: the search makes no sense.
    """
    found = [name for name in sorted(documents) if _meets(documents[name], asked)]
    for one in reversed(asked.sortby or []):
        if one.field not in SORTABLE:
            raise RefusedError(f"sortby: unknown field {one.field!r}; there are {', '.join(SORTABLE)}")
        found.sort(key=lambda name: str(documents[name].get(one.field, "")), reverse=one.direction == "desc")
    position = read_token(asked, keys=0)
    if position is not None and position.id not in found:
        raise RefusedError("token: the collection that it goes on from is not there any more; search anew")
    start = found.index(position.id) + 1 if position else 0
    page = found[start : start + min(asked.limit or limits.page, limits.page)]
    if start + len(page) == len(found):
        return page, len(found), None
    return page, len(found), write_token(asked, Position(values=(), collection="", id=page[-1]))


def _meets(document: Mapping[str, Any], asked: Search) -> bool:
    extent = document.get("extent", {})
    return (
        (asked.bbox is None or _near(extent.get("spatial", {}).get("bbox", ()), asked.bbox))
        and (asked.datetime is None or _during(extent.get("temporal", {}).get("interval", ()), asked.datetime))
        and (not asked.q or _speaks_of(document, asked.q))
    )


def _near(boxes: Sequence[Sequence[float]], numbers: Sequence[float]) -> bool:
    asked = _parts(_checked(bbox_of(numbers)))
    # The first box is the whole extent, further ones are parts of it.
    return any(_meet(one, other) for box in boxes[1:] or boxes for one in _parts(bbox_of(box)) for other in asked)


def _checked(box: list[float]) -> list[float]:
    west, south, east, north = box
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise RefusedError(f"bbox is west, south, east, north in degrees with south <= north, got {box}")
    return box


def _parts(box: Sequence[float]) -> list[Box]:
    west, south, east, north = box
    if west <= east:
        return [(west, south, east, north)]
    return [(west, south, 180.0, north), (-180.0, south, east, north)]


def _meet(one: Box, other: Box) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def _during(intervals: Sequence[Sequence[str | None]], span: str) -> bool:
    first, last = _ends(span)
    return any(_instant(a, datetime.min) <= last and _instant(b, datetime.max) >= first for a, b in intervals)


def _ends(span: str) -> tuple[datetime, datetime]:
    parts = span.split("/") if "/" in span else [span, span]
    if len(parts) != 2 or not span.replace("..", "").strip("/ "):
        raise RefusedError(f"datetime is a moment or an interval start/end, got {span!r}")
    first = moment(parts[0], end=False) or datetime.min.replace(tzinfo=UTC)
    last = moment(parts[1], end=True) or datetime.max.replace(tzinfo=UTC)
    if last < first:
        raise CatalogError(f"datetime: the end lies before the start: {span!r}")
    return first, last


def _instant(text: str | None, default: datetime) -> datetime:
    return (moment(text, end=False) if text else None) or default.replace(tzinfo=UTC)


def _speaks_of(document: Mapping[str, Any], words: Sequence[str]) -> bool:
    """Whether one of the words, in any case, is in its title, description or keywords."""
    told = json.dumps([document.get(name) for name in ("id", "title", "description", "keywords")], ensure_ascii=False)
    return any(word.strip().casefold() in told.casefold() for word in words)
