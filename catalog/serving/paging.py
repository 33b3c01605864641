"""The order of an answer, and where a page of it begins: keys after which the next page goes on.

A page begins after the last item of the page before it, by the values of its sort fields, its collection and its id, and not
by counting: items that were added or taken away meanwhile neither repeat nor hide others, and page 1,000 costs what page 1
does.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from catalog.querying.conditions import Condition
from catalog.serving.asked import Search, SortBy
from catalog.serving.refusals import RefusedError

__all__ = ["Position", "SortKey", "after", "read_token", "sort_keys", "write_token"]

MAX_TOKEN = 8_000
# What a search is, apart from which part of its answer is shown, and how much of each item.
_NOT_OF_THE_SEARCH = {"token", "limit", "fields"}

Value = str | float | int | datetime | None


@dataclass(frozen=True, kw_only=True)
class SortKey:
    """One field to sort by; items that lack it come last either way.

    Attributes:
        sql: of its value.
    """

    sql: str
    descending: bool = False


@dataclass(frozen=True, kw_only=True)
class Position:
    """The last item of a page: its values of the sort keys, and which item it is."""

    values: tuple[Value, ...]
    collection: str
    id: str


def sort_keys(fields: Sequence[SortBy], columns: Mapping[str, str]) -> list[SortKey]:
    """The keys of a sort, names with or without ``properties.`` before them.

    Raises:
        RefusedError: a field is not known.
    """
    names = [one.field.removeprefix("properties.") for one in fields]
    if unknown := [name for name in names if name not in columns]:
        raise RefusedError(f"sortby: unknown field {', '.join(map(repr, unknown))}; there are {', '.join(columns)}")
    return [
        SortKey(sql=columns[name], descending=one.direction == "desc") for name, one in zip(names, fields, strict=True)
    ]


def after(keys: Sequence[SortKey], position: Position, *, collection: str) -> Condition:
    """What holds for the items of one collection that come after a position."""
    tie = _tie(position, collection)
    same: list[Condition] = []
    ways: list[Condition] = []
    for key, value in zip(keys, position.values, strict=True):
        if (further := _further(key, value)) is not None:
            ways.append(_all([*same, further]))
        same.append(Condition(f"{key.sql} IS NULL") if value is None else Condition(f"{key.sql} = ?", [value]))
    if tie is not None:
        ways.append(_all([*same, tie]))
    if not ways:
        return Condition("FALSE")
    return Condition(f"({' OR '.join(way.sql for way in ways)})", [value for way in ways for value in way.values])


def _tie(position: Position, collection: str) -> Condition | None:
    """Among items with the same values, those of later collections, and later ids of the same one."""
    if collection == position.collection:
        return Condition("id > ?", [position.id])
    return Condition("TRUE") if collection > position.collection else None


def _further(key: SortKey, value: Value) -> Condition | None:
    if value is None:  # nothing comes after what is missing
        return None
    return Condition(f"({key.sql} {'<' if key.descending else '>'} ? OR {key.sql} IS NULL)", [value])


def _all(parts: Sequence[Condition]) -> Condition:
    return Condition(
        f"({' AND '.join(part.sql for part in parts)})", [value for part in parts for value in part.values]
    )


def write_token(asked: Search, position: Position) -> str:
    """The token of the page that follows a position."""
    values = [{"at": one.isoformat()} if isinstance(one, datetime) else one for one in position.values]
    document = [_digest(asked), position.collection, position.id, values]
    return base64.urlsafe_b64encode(json.dumps(document, separators=(",", ":")).encode()).decode().rstrip("=")


def read_token(asked: Search, *, keys: int) -> Position | None:
    """Where the page that is asked for begins; ``None`` for the first.

    Raises:
        RefusedError: the token is damaged, or of another search.
    """
    if asked.token is None:
        return None
    try:
        digest, collection, item, values = _unpacked(asked.token)
        position = Position(values=tuple(map(_value, values)), collection=_text(collection), id=_text(item))
    except (ValueError, TypeError, KeyError, binascii.Error, RecursionError) as exc:
        raise RefusedError("token: damaged; take it from the `next` link of the page before, as it is") from exc
    if digest != _digest(asked) or len(position.values) != keys:
        raise RefusedError("token: of another search; repeat the search that it came from, with its other parameters")
    return position


def _unpacked(token: str) -> Any:
    if len(token) > MAX_TOKEN:
        raise ValueError("too long")
    return json.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))


def _value(value: Any) -> Value:
    if isinstance(value, dict):
        return datetime.fromisoformat(value["at"])
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError("not a value")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value


def _digest(asked: Search) -> str:
    document = asked.model_dump(mode="json", exclude=_NOT_OF_THE_SEARCH, exclude_none=True)
    return sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:12]
