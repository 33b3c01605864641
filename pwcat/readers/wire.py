"""Ranges of files over HTTP: many in flight, asked again where that can help, counted, and whole or an error.

All of a process goes through one event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import random
import re
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import HTTPStore

from pwcat.errors import ForbiddenError
from pwcat.providers.guard import proxy_of, why_refused
from pwcat.providers.limits import Limit
from pwcat.readers import counting

if TYPE_CHECKING:
    from obstore.store import ClientConfig

__all__ = ["Address", "Answer", "StalledError", "fetch", "hastily", "run", "usable"]

T = TypeVar("T")

# A server that cannot be reached, or stops sending, is given up after so long; a whole answer may take longer.
CLIENT: ClientConfig = {"allow_http": True, "connect_timeout": "10s", "read_timeout": "20s", "timeout": "120s"}
RETRIES = 4
# Of a server that is silent for so long: each costs as much again. Those that refuse are asked as often as may help.
STALLED_RETRIES = 1
# Of one that is known to fail: a single lost answer is not to cost a scene.
HASTY_RETRIES = 1
RETRY_DELAY_S = 0.5

_STATUS = re.compile(r"status code: (\d{3})")
# As obstore says that time ran out: to connect, for the next bytes, or for the whole answer.
_TIMED_OUT = re.compile(r"kind: Timeout|TimedOut")

_hasty: ContextVar[bool] = ContextVar("hasty", default=False)


class StalledError(RuntimeError):
    """A server was silent for as long as it is waited for, each time it was asked: asking again costs as much once more."""


@contextmanager
def hastily(hasty: bool = True) -> Iterator[None]:
    """Within the block, what this thread reads is asked for with little patience, if so."""
    token = _hasty.set(hasty)
    try:
        yield
    finally:
        _hasty.reset(token)


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a file is, as obstore wants it: a store for the server and the signature, and a path in it.

    Attributes:
        base: scheme, host and query.
        path: not percent-encoded.
        name: how the file is called in messages: without its signature.
        limit: how often its server may be asked.
    """

    base: str
    path: str
    name: str
    limit: Limit | None = None

    @classmethod
    def of(cls, href: str, *, name: str, limit: Limit | None = None) -> Address | None:
        """``None`` where the address is not of HTTP, or its path would not survive."""
        parts = urlsplit(href)
        path = unquote(parts.path.removeprefix("/"))
        same = quote(path, safe="/:+@!$&'()*,;=~") == parts.path.removeprefix("/")
        if parts.scheme not in ("http", "https") or not same or not all(path.split("/")) or parts.fragment:
            return None
        base = urlunsplit((parts.scheme, parts.netloc, "/", parts.query, ""))
        return cls(base=base, path=path, name=name, limit=limit)

    @property
    def key(self) -> str:
        """What stays when the file is signed again."""
        return self.base.partition("?")[0] + self.path


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A range of a file.

    Attributes:
        data: the bytes, as many as were asked for unless the file ends before.
        version: what tells this state of the file from another, as far as the server says: size, ETag or date.
        size: of the file, bytes.
    """

    data: memoryview
    version: tuple[int, str | datetime]
    size: int


async def fetch(address: Address, start: int, end: int, *, retries: int = RETRIES) -> Answer:
    """The bytes ``[start, end)`` of a file, asked for again while the server is busy, failing, or stalls.

    Raises:
        ForbiddenError: the server refuses.
        StalledError: it was silent in the end.
        RuntimeError: it has no such file, does not serve ranges, or fails every time.
    """
    hasty = _hasty.get()
    most, most_stalled = min(retries, HASTY_RETRIES if hasty else retries), 0 if hasty else STALLED_RETRIES
    failed = stalled = 0
    while True:
        try:
            return await _fetch_once(address, start, end)
        except _TransientError as exc:
            failed, stalled = failed + 1, stalled + exc.stalled
            if failed > most or stalled > most_stalled:
                times = "once" if failed == 1 else f"{failed} times"
                kind = StalledError if exc.stalled else RuntimeError
                raise kind(f"Error reading {address.name}: {exc}; asked {times}") from None
        counting.add(retries=1)
        await asyncio.sleep(RETRY_DELAY_S * 2 ** (failed - 1) * random.uniform(0.75, 1.25))


class _TransientError(Exception):
    """Asking again may help.

    Attributes:
        stalled: whether time ran out.
    """

    def __init__(self, message: str, *, stalled: bool = False) -> None:
        super().__init__(message)
        self.stalled = stalled


async def _fetch_once(address: Address, start: int, end: int) -> Answer:
    if address.limit is not None and (wait_s := address.limit.reserve()) > 0:
        await asyncio.sleep(wait_s)
    counting.add(requests=1)
    try:
        got = await obstore.get_async(
            _store(address.base, proxy_of(address.base)), address.path, options={"range": (start, end)}
        )
        data = memoryview(await got.buffer_async())
    except (PermissionDeniedError, UnauthenticatedError):
        raise ForbiddenError(address.name) from None
    except FileNotFoundError:
        raise RuntimeError(f"Error reading {address.name}: there is no such file (404)") from None
    except (BaseError, OSError) as exc:
        # The library's messages hold the signed address and the body: neither is for a log
        raise _reason(exc, address) from None
    counting.add(size=len(data))
    due = min(end, got.meta["size"]) - start
    if len(data) != due:
        raise _TransientError(f"{len(data)} bytes came where {due} were asked for")
    version = (got.meta["size"], got.meta["e_tag"] or got.meta["last_modified"])
    return Answer(data=data, version=version, size=got.meta["size"])


def _reason(exc: Exception, address: Address) -> Exception:
    """What became of a request, in words without addresses."""
    text = str(exc)
    if why := why_refused(address.base):
        return RuntimeError(f"Error reading {address.name}: {why}")
    if found := _STATUS.search(text):
        code = int(found[1])
        busy = code in (408, 429) or code >= 500
        return (
            _TransientError(f"the server answers {code}")
            if busy
            else RuntimeError(f"Error reading {address.name}: the server answers {code}")
        )
    for sign in ("UnexpectedRange", "NoContentRange", "RangeNotSupported", "ParseRange", "InvalidContentRange"):
        if sign in text:
            return RuntimeError(f"Error reading {address.name}: the server does not serve the range it is asked for")
    if _TIMED_OUT.search(text):
        return _TransientError("the server does not answer in time, or stalls", stalled=True)
    return _TransientError("the server does not answer, or stops before the end")


@lru_cache(maxsize=64)
def _store(base: str, proxy: str | None) -> HTTPStore:
    options: ClientConfig = {**CLIENT, "proxy_url": proxy} if proxy else CLIENT
    return HTTPStore(base, client_options=options, retry_config={"max_retries": 0})


def usable() -> bool:
    """Whether this process can read: not if it was forked from one that had begun to; its threads are not there any more."""
    return _LOOP.pid in (None, os.getpid())


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run on the process's loop and wait; may be called from many threads.

    Raises:
        RuntimeError: the process was forked from one that had begun to read.
    """
    if not usable():
        work.close()
        raise RuntimeError("the tile reader does not work in a process forked from one that used it; spawn it instead")
    future = asyncio.run_coroutine_threadsafe(work, _LOOP.started())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


class _Loop:
    """The event loop, started when it is first wanted."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread: Thread | None = None
        self.pid: int | None = None

    def started(self) -> asyncio.AbstractEventLoop:
        with self.lock:
            if self.loop is None:
                self.loop, self.pid = asyncio.new_event_loop(), os.getpid()
                self.thread = Thread(target=self.loop.run_forever, name="pwcat-readers", daemon=True)
                self.thread.start()
                atexit.register(self.stop)
            return self.loop

    def stop(self) -> None:
        if self.loop is None or self.thread is None or self.pid != os.getpid():
            return
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(timeout=5)
        if not self.thread.is_alive():
            self.loop.close()


_LOOP = _Loop()
