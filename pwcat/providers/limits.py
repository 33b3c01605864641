"""How many requests a second a provider is sent for files, and by searches: over all threads of a process.

A cluster keeps the provider's rate without talking: each of its processes has an equal share.
"""

from __future__ import annotations

import time
from threading import Lock
from typing import Literal

from pwcat.providers import OpenSource

__all__ = ["Limit", "limit_of", "share_limits"]

# After a pause, so many seconds' worth of requests may go out at once.
BURST_S = 0.1


class Limit:
    """At most so many requests a second, and a burst of :data:`BURST_S` and one more.

    Who wants to send takes permits, and is told how long to wait first: threads sleep, coroutines do as they do.
    """

    def __init__(self, per_second: float | None = None) -> None:
        self._lock = Lock()
        self._gap_s = 0.0
        self._next = 0.0
        self.per_second = per_second

    @property
    def per_second(self) -> float | None:
        """Requests a second; ``None`` for no limit."""
        return 1 / self._gap_s if self._gap_s else None

    @per_second.setter
    def per_second(self, rate: float | None) -> None:
        self._gap_s = 1 / rate if rate else 0.0

    def reserve(self, permits: int = 1) -> float:
        """Take permits; the seconds to wait until all of them hold."""
        if not self._gap_s or permits < 1:
            return 0.0
        with self._lock:
            now = time.monotonic()
            last = max(self._next, now - BURST_S) + (permits - 1) * self._gap_s
            self._next = last + self._gap_s
        return max(0.0, last - now)

    def wait(self, permits: int = 1) -> None:
        """Take permits, and sleep until they hold."""
        if (seconds := self.reserve(permits)) > 0:
            time.sleep(seconds)


Kind = Literal["files", "api"]

_lock = Lock()
_limits: dict[tuple[str, str, Kind], Limit] = {}


def limit_of(source: OpenSource, kind: Kind = "files") -> Limit:
    """The limit of a source's files, or of its API, in this process; the whole rate until a share is told."""
    with _lock:
        return _limits.setdefault((source.provider, source.url, kind), Limit(_rate(source, kind)))


def share_limits(source: OpenSource, share: float) -> None:
    """Give this process a share of what a source's files and its API bear: of ``n`` processes, each has ``1 / n``.

    Args:
        source: the open source.
        share: above 0, at most 1.
    """
    for kind in _KINDS:
        rate = _rate(source, kind)
        limit_of(source, kind).per_second = rate * share if rate else None


_KINDS: tuple[Kind, ...] = ("files", "api")


def _rate(source: OpenSource, kind: Kind) -> float | None:
    return source.files_per_s if kind == "files" else source.profile.requests_per_s
