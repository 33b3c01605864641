"""HTTP with patience: what is worth asking again is, after a pause, and never an address that is not public."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from pwcat.providers.addresses import check_address

__all__ = ["Patience", "make_session", "origin_of"]

# Answers after which the same question is asked again. 502 and 504 are told apart where pages can be made smaller.
TRANSIENT = (429, 500, 502, 503, 504)


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

    def retry(self, *, known: bool = True, status: tuple[int, ...] = TRANSIENT) -> Retry:
        """As urllib3 has it. GET and POST alike: a STAC search changes nothing."""
        return Retry(
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
