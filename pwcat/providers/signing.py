"""Signing hrefs just before they are read: tokens of the Planetary Computer, one a container and process.

The endpoint answers ``{"token": "se=…&sig=…", "msft:expiry": "…"}`` for ``GET <endpoint>/<account>/<container>``, as the
`planetary-computer` package (1.0.0) asks it. That package keeps its tokens in a plain dict, asks once a thread when one
expires, and reads its endpoint from the environment; this does the same in a page, for threads and for tests.
What is known of the endpoint: tokens last 45 minutes to some hours (microsoft/PlanetaryComputer#415), it answers 429 with
"try again in 23 s" (#457), and it has handed out tokens that had expired (#463).
"""

from __future__ import annotations

import functools
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import requests

from pwcat.errors import SourceError
from pwcat.providers.redaction import unsign
from pwcat.providers.transport import Patience, make_session

__all__ = ["Signing", "Tokens", "tokens_of"]

# A token is fetched anew when it has less than this to live, or less than half of what it had: reads take their time.
SPARE_S = 300.0

# With the endpoint, which says to wait half a minute when it has had enough.
PATIENCE = Patience(attempts=8, pause_s=0.8)

# How often a token that comes expired is asked for again.
EXPIRED_ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class Signing:
    """How a provider's hrefs are signed.

    Attributes:
        endpoint: asked for ``<endpoint>/<account>/<container>``.
        hosts: ends of the host names that are signed; nobody else ever sees a token.
        public: accounts that need no token.
        patience: with the endpoint.
    """

    endpoint: str
    hosts: tuple[str, ...]
    public: tuple[str, ...] = ()
    patience: Patience = PATIENCE

    def container_of(self, href: str) -> tuple[str, str] | None:
        """Account and container of an href that is to be signed; ``None`` for any other."""
        parts = urlsplit(href)
        host = parts.hostname or ""
        if parts.scheme not in ("http", "https") or not host.endswith(self.hosts):
            return None
        account, container = host.split(".")[0], parts.path.lstrip("/").split("/")[0]
        return (account, container) if container and account not in self.public else None


@dataclass(frozen=True, kw_only=True)
class _Token:
    """A token, with the moments (seconds since the epoch) at which it expires and at which it is to be replaced."""

    text: str
    expires: float
    replace: float

    def __repr__(self) -> str:
        return f"_Token(expires={self.expires:.0f})"  # never the token itself


class Tokens:
    """The tokens of this process. Threads that want the same one wait for the one that fetches it."""

    def __init__(self, signing: Signing) -> None:
        self.signing = signing
        self._lock = threading.Lock()
        self._locks: dict[tuple[str, str], threading.Lock] = {}
        self._tokens: dict[tuple[str, str], _Token] = {}

    def sign(self, href: str) -> str:
        """The href with a token that will live a while; unchanged where it is not of a store that is signed.

        Raises:
            SourceError: no token could be had.
        """
        container = self.signing.container_of(href)
        if container is None:
            return href
        return f"{href.partition('?')[0]}?{self.token(*container)}"

    def token(self, account: str, container: str) -> str:
        """A token for a container, from the cache where it has one that will live a while.

        Raises:
            SourceError: no token could be had.
        """
        key = (account, container)
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            token = self._tokens.get(key)
            if token is None or time.time() >= token.replace:
                token = self._tokens[key] = self._fetch(account, container)
            return token.text

    def forget(self, href: str) -> None:
        """Drop the token of an href that the store refused.

        Where the href is given as it was signed, a token that has replaced its own already is kept: of many threads that
        are refused at once, one fetches.
        """
        container = self.signing.container_of(href)
        if container is None:
            return
        refused = href.partition("?")[2]
        with self._lock:
            token = self._tokens.get(container)
            if token is not None and refused in ("", token.text):
                del self._tokens[container]

    def _fetch(self, account: str, container: str) -> _Token:
        url, patience = f"{self.signing.endpoint}/{account}/{container}", self.signing.patience
        with make_session(patience, trusted=self.signing.endpoint) as session:
            for attempt in range(EXPIRED_ATTEMPTS):
                token = _ask(session, url, patience)
                if token.expires > time.time():
                    return token
                time.sleep(min(patience.pause_s * 2**attempt, patience.most_s))
        raise SourceError(f"{url} hands out tokens that have expired; is the clock of this computer right?")


def _ask(session: requests.Session, url: str, patience: Patience) -> _Token:
    try:
        answer = session.get(url, timeout=patience.timeout_s)
        answer.raise_for_status()
        document = answer.json()
        text, expiry = str(document["token"]), datetime.fromisoformat(document["msft:expiry"])
    except requests.HTTPError as exc:
        status = "no status" if exc.response is None else f"HTTP {exc.response.status_code}"
        raise SourceError(f"{url} gives no token: {status} after all attempts") from None
    except (requests.RequestException, OSError) as exc:
        raise SourceError(f"{url} gives no token: {unsign(str(exc))}") from None
    except (ValueError, KeyError, TypeError):  # its text may hold the token
        raise SourceError(f"{url} gives no token: the answer is not as expected") from None
    now = time.time()
    expires = (expiry if expiry.tzinfo else expiry.replace(tzinfo=UTC)).timestamp()
    return _Token(text=text.lstrip("?"), expires=expires, replace=expires - min(SPARE_S, (expires - now) / 2))


@functools.cache
def tokens_of(signing: Signing) -> Tokens:
    """The tokens of this process for that way of signing."""
    return Tokens(signing)
