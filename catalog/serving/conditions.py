"""What a search asks of each item, as conditions of SQL; what is more than it may ask is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from catalog.querying.conditions import Condition, MoreColumns, Question, conditions, named_beside
from catalog.querying.cql2_sql import to_sql
from catalog.querying.queryables import QUERYABLES
from catalog.serving.asked import CRS84, Search
from catalog.serving.limits import Limits
from catalog.serving.refusals import RefusedError

__all__ = ["bbox_of", "condition_of", "require_modest"]


def condition_of(asked: Search, *, crossing: bool, more: MoreColumns | None = None) -> Condition:
    """All that a search asks of an item, its collection apart.

    Args:
        asked: the search.
        crossing: whether bounding boxes of items may lie across the antimeridian.
        more: columns that its filter may name beside those of all items.

    Raises:
        CatalogError: its bbox, geometry, datetime or filter makes no sense.
    """
    question = Question(
        ids=asked.ids or None,
        bbox=bbox_of(asked.bbox) if asked.bbox is not None else None,
        datetime=_span(asked.datetime) if asked.datetime is not None else None,
        filter=asked.filter,
    )
    parts = conditions(question, known={}, crossing=crossing, columns=QUERYABLES, more=more)
    if asked.intersects is not None:
        meets = {"op": "s_intersects", "args": [{"property": "geometry"}, asked.intersects]}
        parts.append(to_sql(meets, QUERYABLES, crossing=crossing))
    return Condition(
        " AND ".join(f"({part.sql})" for part in parts) or "TRUE",
        [value for part in parts for value in part.values],
        named_beside(parts),
    )


def bbox_of(numbers: Sequence[float]) -> list[float]:
    """West, south, east, north; of a box with heights those are left out, for samples lie at none."""
    if len(numbers) not in (4, 6):
        raise RefusedError(f"bbox: four numbers, or six with heights, got {len(numbers)}")
    return [*numbers] if len(numbers) == 4 else [*numbers[:2], *numbers[3:5]]


def _span(text: str) -> str:
    if not text.replace("..", "").strip("/ "):
        raise RefusedError(f"datetime: a moment, or an interval with one end at least, got {text!r}")
    return text


def require_modest(asked: Search, limits: Limits) -> None:
    """Refuse a search for items that asks for too much, or for what does not go together.

    Raises:
        RefusedError: it does.
    """
    if asked.q is not None:
        raise RefusedError("q finds collections and not items: ask /collections, or use filter")
    if asked.bbox is not None and asked.intersects is not None:
        raise RefusedError("bbox and intersects are both given; one of them is allowed")
    for name, values in (("ids", asked.ids), ("collections", asked.collections), ("sortby", asked.sortby)):
        most = limits.sort_fields if name == "sortby" else limits.names
        if values is not None and len(values) > most:
            raise RefusedError(f"{name}: {len(values)} are named, at most {most} are allowed")
    _require_modest_filter(asked, limits)


def _require_modest_filter(asked: Search, limits: Limits) -> None:
    if asked.filter_crs not in (None, CRS84):
        raise RefusedError(f"filter-crs: only {CRS84}, got {asked.filter_crs!r}")
    if asked.filter is None:
        return
    told = "cql2-text" if isinstance(asked.filter, str) else "cql2-json"
    if asked.filter_lang not in (None, told):
        raise RefusedError(f"filter-lang is {asked.filter_lang}, and the filter is {told}")
    _require_few_nodes(asked.filter, limits)


def _require_few_nodes(document: Any, limits: Limits) -> None:
    """Refuse what is deeper or larger than anybody writes; without recursion, for it may be deep."""
    level, nodes, depth = [document], 0, 0
    while level:
        nodes, depth = nodes + len(level), depth + 1
        if nodes > limits.filter_nodes or depth > limits.filter_depth:
            raise RefusedError(
                f"filter: at most {limits.filter_nodes} objects, lists and values, nested {limits.filter_depth} deep, are "
                "allowed"
            )
        level = [inner for one in level for inner in _inner(one)]


def _inner(node: Any) -> list[Any]:
    if isinstance(node, Mapping):
        return [value for name, value in node.items() if name != "coordinates"]
    return list(node) if isinstance(node, list) else []
