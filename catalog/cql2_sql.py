"""CQL2 filters as SQL with bound values, over an allow-list of columns and operators."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import cql2

from pwcat.errors import CatalogError
from pwcat.filters import filter_faults

__all__ = ["Condition", "to_sql"]

_OPERANDS = {"not": 1, "in": 2, "between": 3, "like": 2, "isNull": 1, "casei": 1, "s_intersects": 2}
_COMPARISONS = {"=": "=", "<>": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_SUPPORTED = "and, or, not, =, <>, <, <=, >, >=, in, between, like, isNull, casei, s_intersects of geometry with a bbox"


@dataclass
class Condition:
    """A piece of SQL and the values it binds, in order."""

    sql: str
    values: list[Any] = field(default_factory=list)


def to_sql(filter_: str | Mapping[str, Any], columns: Mapping[str, str]) -> Condition:
    """A CQL2 filter, as text or JSON, as a condition.

    Args:
        filter_: CQL2 text, or a CQL2 JSON object.
        columns: queryable names, and the SQL expression of each. No other name reaches the database.

    Raises:
        CatalogError: the filter cannot be parsed, or names a field or operator that is not supported.
    """
    if isinstance(filter_, str):
        _require_simple(filter_)
    try:
        parsed = cql2.parse_text(filter_) if isinstance(filter_, str) else cql2.parse_json(json.dumps(filter_))
        document = parsed.to_json()
    except (cql2.ParseError, cql2.ValidationError, ValueError, TypeError, RecursionError) as exc:
        first = next((line for line in str(exc).splitlines() if "expected" in line), str(exc).splitlines()[0])
        raise CatalogError(f"not a CQL2 filter: {_shown(filter_)}: {first.strip(' =|')}") from exc
    if not isinstance(document, Mapping) or "op" not in document:
        raise CatalogError(
            f'the filter {_shown(filter_)} is no condition: compare fields, as in "spectral_entropy > 3"'
        )
    condition = Condition("")
    condition.sql = _translate(document, columns, condition.values)
    return condition


def _shown(filter_: str | Mapping[str, Any]) -> str:
    if not isinstance(filter_, str):
        return reprlib.repr(filter_)
    return repr(filter_ if len(filter_) <= 200 else f"{filter_[:200]}…")


def _require_simple(text: str) -> None:
    """Refuse text that is longer or nested deeper than the parser bears.

    Raises:
        CatalogError: it is.
    """
    faults = filter_faults(text)
    if faults:
        raise CatalogError(f"the filter {text[:40]!r}… cannot be read: {'; '.join(faults)}")


def _translate(node: Any, columns: Mapping[str, str], values: list[Any]) -> str:
    if isinstance(node, Mapping) and "property" in node:
        name = node["property"]
        if name not in columns:
            raise CatalogError(f"the filter names an unknown field {name!r}; there are {', '.join(sorted(columns))}")
        return columns[name]
    if isinstance(node, Mapping) and "op" in node:
        return _operation(node["op"], node["args"], columns, values)
    if isinstance(node, Mapping) and ("timestamp" in node or "date" in node):
        text = node.get("timestamp") or node.get("date")
        try:
            moment = datetime.fromisoformat(str(text))
        except ValueError as exc:
            raise CatalogError(f"the filter holds the time {text!r}, which is no ISO 8601 date or time") from exc
        values.append(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
        return "?"
    if isinstance(node, str | int | float | bool):
        values.append(node)
        return "?"
    raise CatalogError(f"the filter holds {node!r}, which is not supported; there are {_SUPPORTED}")


def _operation(op: str, args: list[Any], columns: Mapping[str, str], values: list[Any]) -> str:
    def inner(node: Any) -> str:
        return _translate(node, columns, values)

    wanted = 2 if op in _COMPARISONS else _OPERANDS.get(op)
    if (wanted is not None and len(args) != wanted) or not args or (op == "in" and not isinstance(args[1], list)):
        raise CatalogError(f"the filter's {op!r} has the operands {args!r}, which make no sense")
    if op in ("and", "or"):
        return "(" + f" {op.upper()} ".join(inner(arg) for arg in args) + ")"
    if op == "not":
        return f"(NOT {inner(args[0])})"
    if op in _COMPARISONS:
        return f"({inner(args[0])} {_COMPARISONS[op]} {inner(args[1])})"
    if op == "in":
        return f"({inner(args[0])} IN ({', '.join(inner(value) for value in args[1])}))"
    if op == "between":
        return f"({inner(args[0])} BETWEEN {inner(args[1])} AND {inner(args[2])})"
    if op == "like":
        return f"({inner(args[0])} LIKE {inner(args[1])})"
    if op == "isNull":
        return f"({inner(args[0])} IS NULL)"
    if op == "casei":
        return f"lower({inner(args[0])})"
    if op == "s_intersects" and args[0] == {"property": "geometry"} and len(_bbox_of(args[1])) == 4:
        return bbox_condition(args[1]["bbox"], values)
    raise CatalogError(f"the filter uses {op!r}, which is not supported; there are {_SUPPORTED}")


def _bbox_of(node: Any) -> list[float]:
    bbox = node.get("bbox", []) if isinstance(node, Mapping) else []
    return list(bbox)


def bbox_condition(bbox: list[float], values: list[Any]) -> str:
    """SQL that is true where the item's bounding box meets this one; its values are appended to ``values``.

    Either box may cross the antimeridian, its western bound then being the larger.
    """
    west, south, east, north = bbox
    values += [north, south]
    parts = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    meets = []
    for low, high in parts:
        values += [high, low, high, low]
        meets.append(
            "(CASE WHEN bbox.xmin <= bbox.xmax THEN bbox.xmin <= ? AND bbox.xmax >= ? "
            "ELSE bbox.xmin <= ? OR bbox.xmax >= ? END)"
        )
    return f"(bbox.ymin <= ? AND bbox.ymax >= ? AND ({' OR '.join(meets)}))"
