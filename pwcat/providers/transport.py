"""HTTP with patience: what is worth asking again is, after a pause, and never an address that is not public."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from threading import Lock
from typing import Any, Self
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse, Retry

from pwcat.providers.addresses import check_address

__all__ = ["Patience", "make_session", "origin_of", "tell_of_pause"]

log = logging.getLogger(__name__)

# Answers after which the same question is asked again. 502 and 504 are told apart where pages can be made smaller.
TRANSIENT = (429, 500, 502, 503, 504)

# Between two lines of servers that are asked again.
TOLD_EVERY_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a server is waited for.

    Attributes:
        attempts: questions after the first, for each.
        first_attempts: the same before the server has answered for the first time: a wrong address is told soon.
        pause_s: before the second question; doubled each time, and up to as much again at random is added.
        most_s: no pause is longer, even where ``Retry-After`` asks for it.
        timeout_s: for a connection, and for bytes on it.
    """

    attempts: int = 6
    first_attempts: int = 1
    pause_s: float = 1.0
    most_s: float = 120.0
    timeout_s: tuple[float, float] = (15.0, 120.0)

    def retry(self, *, known: bool = True, status: tuple[int, ...] = TRANSIENT, told_as: str | None = None) -> Retry:
        """As urllib3 has it. GET and POST alike: a STAC search changes nothing. Pauses are told of where a name is given."""
        retry = _Retry(
            total=self.attempts,
            connect=self.attempts if known else self.first_attempts,
            other=0,
            redirect=5,
            status_forcelist=status,
            allowed_methods=frozenset({"GET", "POST", "HEAD"}),
            backoff_factor=self.pause_s,
            backoff_max=self.most_s,
            backoff_jitter=self.pause_s,
            retry_after_max=int(self.most_s),
            raise_on_status=False,
        )
        retry.told_as = told_as
        return retry


class _Retry(Retry):
    """Says why it pauses, and for how long."""

    told_as: str | None = None

    def new(self, **kw: Any) -> Self:
        """What is left of it after an answer."""
        left = super().new(**kw)
        left.told_as = self.told_as
        return left

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        """Pause as long as the server asks for, or ever longer."""
        pause_s = (self.get_retry_after(response) if response is not None else None) or self.get_backoff_time()
        if self.told_as is not None and self.history:
            last = self.history[-1]
            reason = f"answers {last.status}" if last.status else f"does not answer ({type(last.error).__name__})"
            tell_of_pause(f"{self.told_as} {reason}", pause_s)
        if pause_s > 0:
            time.sleep(pause_s)


_lock = Lock()
_told_s = float("-inf")


def tell_of_pause(what: str, pause_s: float) -> None:
    """Log that a server is asked again after a pause, unless such a line was logged just before."""
    global _told_s
    with _lock:
        now = time.monotonic()
        if now - _told_s < TOLD_EVERY_S:
            return
        _told_s = now
    log.warning("%s; asked again %s", what, f"in {pause_s:.0f} s" if pause_s >= 0.5 else "at once")


class _GuardedAdapter(HTTPAdapter):
    """Refuses addresses that are not public, wherever a link or a redirect leads; the user's own words are trusted."""

    def __init__(self, *, trusted: frozenset[str], **options: Any) -> None:
        self._trusted = trusted
        super().__init__(**options)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send, if the address is one that may be asked."""
        url = request.url or ""
        if origin_of(url) not in self._trusted:
            check_address(url)
        return super().send(request, *args, **kwargs)


def mount(session: requests.Session, retry: Retry, *, trusted: str | None) -> None:
    """Let a session ask with that patience.

    Args:
        session: of requests.
        retry: of urllib3.
        trusted: an address that the user gave, whose server may be anywhere; ``None`` where every server may be.
    """
    adapter = (
        HTTPAdapter(max_retries=retry)
        if trusted is None
        else _GuardedAdapter(max_retries=retry, trusted=frozenset({origin_of(trusted)}))
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)


def make_session(patience: Patience, *, trusted: str | None = None) -> requests.Session:
    """A session that asks again; see :func:`mount`."""
    session = requests.Session()
    mount(session, patience.retry(), trusted=trusted)
    return session


def origin_of(url: str) -> str:
    """Scheme, host and port of an address."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}"
