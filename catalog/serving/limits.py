"""How much one request may ask of the server."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of a request. What lies above them is refused in one line; only ``limit`` is capped, as OGC API wants it.

    Attributes:
        page: items of a page, at most.
        default_page: items of a page where the request does not say.
        seconds: that the database may work on one request; it is stopped then.
        wait_seconds: that a request waits for others to end before it is turned away.
        queries: requests that use the database at once; more wait.
        body_bytes: of a posted body.
        filter_nodes: objects, lists and values of a filter in JSON.
        filter_depth: of these inside each other.
        names: ids or collections that one request may list.
        sort_fields: fields to sort by.
        memory: that the database may use, as DuckDB writes it.
    """

    page: int = 1_000
    default_page: int = 10
    seconds: float = 10.0
    wait_seconds: float = 10.0
    queries: int = 4
    body_bytes: int = 1_000_000
    filter_nodes: int = 1_000
    filter_depth: int = 64
    names: int = 1_000
    sort_fields: int = 8
    memory: str = "2GB"
