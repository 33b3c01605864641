"""Requests and bytes of the tile reader, counted over this process; GDAL counts its own (:mod:`pwcat.costs.traffic`)."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock

__all__ = ["Count", "add", "snapshot"]


@dataclass(frozen=True, kw_only=True)
class Count:
    """What was asked of servers since the process began.

    Attributes:
        requests: GETs, those that were asked again among them.
        bytes: of the answers' bodies.
        retries: requests that repeat one which failed.
    """

    requests: int = 0
    bytes: int = 0
    retries: int = 0


_lock = Lock()
_count = Count()


def add(*, requests: int = 0, size: int = 0, retries: int = 0) -> None:
    """Count some more."""
    global _count
    with _lock:
        _count = Count(requests=_count.requests + requests, bytes=_count.bytes + size, retries=_count.retries + retries)


def snapshot() -> Count:
    """The count at this moment."""
    return _count
