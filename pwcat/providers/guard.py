"""Connections for strangers' files are watched: where a redirect leads is judged before anything there is asked.

Neither obstore nor GDAL can be told not to follow redirects, and what a server says when it is asked first need not be what
it says next. Both can be told of a proxy. So each process has one, on loopback, for files of servers that are not trusted: it
resolves each name itself, connects to public addresses alone, and hands on bytes as they are; what is encrypted stays so.

It has a port for each server, so that a refusal can be told of the file that led there. Others on this computer may use it:
it leads nowhere that they could not go.

Where the environment names a proxy (``HTTPS_PROXY`` and the like), that one is used, and what it lets through is its own
matter.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies_environment

from pwcat.errors import SourceError
from pwcat.providers.addresses import locate

__all__ = ["gdal_options", "proxy_of", "trust", "watch", "why_refused"]

# Bytes handed on at a time; seconds for a connection, and for which it is remembered that one was refused.
PIECE_BYTES = 2**18
CONNECT_S = 10.0
REMEMBERED_S = 10.0

# Ports at most; beyond so many servers, some share one.
PORTS = 64

GDAL_PROXIES = ("GDAL_HTTP_PROXY", "GDAL_HTTPS_PROXY")
# A proxy does not get these on their way to a server.
OF_THE_PROXY = ("proxy-", "connection:", "keep-alive:")

_watched: set[str] = set()


def watch(href: str) -> None:
    """From now on this process watches its connections for files of that server, wherever these lead."""
    _watched.add(_origin(href))


def trust(href: str) -> None:
    """From now on it does not: the user trusts a source that names it."""
    _watched.discard(_origin(href))


def proxy_of(href: str) -> str | None:
    """The address of the proxy that a file is to be asked for through; ``None`` for none."""
    guard = _guard_for(href)
    return None if guard is None else f"http://127.0.0.1:{guard.port(guard.number(_origin(href)))}"


def gdal_options(href: str) -> dict[str, str]:
    """The same for GDAL, as options to open a file with; empty for none."""
    proxy = proxy_of(href)
    return dict.fromkeys(GDAL_PROXIES, proxy) if proxy else {}


def why_refused(href: str) -> str | None:
    """Why a file could not be read, if that is because of where its server led a moment ago."""
    guard = _guard_for(href)
    why, when = guard.refusals.get(guard.number(_origin(href)), ("", 0.0)) if guard else ("", 0.0)
    if not why or time.monotonic() - when > REMEMBERED_S:
        return None
    return f"refused to read it: its server leads elsewhere, and {why}; see `allow_private` of the recipe's source"


def _guard_for(href: str) -> _Guard | None:
    if _origin(href) not in _watched:
        return None
    process = os.getpid()
    if process not in _guards:
        _guards.setdefault(process, _new_guard())  # of several threads that come here at once, all get the first one's
    return _guards[process]


# By process, since threads do not survive a fork.
_guards: dict[int, _Guard | None] = {}


def _new_guard() -> _Guard | None:
    """One that listens nowhere yet; ``None`` where the user has a proxy."""
    if {"http", "https", "all"} & getproxies_environment().keys() or any(name in os.environ for name in GDAL_PROXIES):
        return None
    # Without a proxy it says nothing, but it would have curl go past this one
    for name in ("no_proxy", "NO_PROXY"):
        os.environ.pop(name, None)
    return _Guard()


def _origin(href: str) -> str:
    parts = urlsplit(href)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}"


class _Guard:
    """The proxy, in a thread of its own once it is first used."""

    def __init__(self) -> None:
        self.refusals: dict[int, tuple[str, float]] = {}
        self._numbers: dict[str, int] = {}
        self._ports: dict[int, int] = {}
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def number(self, origin: str) -> int:
        """Of the port for a server's files; the first servers have one each."""
        with self._lock:
            return self._numbers.setdefault(origin, len(self._numbers) % PORTS)

    def port(self, number: int) -> int:
        """The port with a number."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="pwcat-guard", daemon=True).start()
            if number not in self._ports:
                listening = asyncio.start_server(partial(self._serve, number), "127.0.0.1", 0, limit=PIECE_BYTES)
                server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
                self._ports[number] = server.sockets[0].getsockname()[1]
            return self._ports[number]

    async def _serve(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError, EOFError, asyncio.LimitOverrunError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split(" ")
            if method == "CONNECT":
                await self._through(number, f"https://{target}/", reader, writer, None)
            elif method in ("GET", "HEAD"):
                await self._through(number, target, reader, writer, _request(method, target, head[1:]))
            else:
                writer.write(_answer("405 Method Not Allowed"))
        writer.close()

    async def _through(
        self, number: int, url: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes | None
    ) -> None:
        """Join two connections until either ends: for what is encrypted, or for one ``request`` and its answer."""
        try:
            there, back = await _connect(url)
        except SourceError as exc:
            self.refusals[number] = (str(exc), time.monotonic())
            writer.write(_answer("421 Misdirected Request"))
            return
        except OSError:
            writer.write(_answer("502 Bad Gateway"))
            return
        try:
            if request is None:
                writer.write(_answer("200 Connection established"))
                await _until_either(_hand_on(reader, back), _hand_on(there, writer))
            else:
                back.write(request)
                await _until_either(reader.read(1), _hand_on(there, writer, closing=True))
        finally:
            back.close()


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a server, at the addresses that were judged and at no others.

    Raises:
        SourceError: it is not public; says why.
        OSError: it does not answer.
    """
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    failure: OSError = OSError("it has no address")
    for address in await asyncio.to_thread(locate, url):
        try:
            return await asyncio.wait_for(asyncio.open_connection(str(address), port, limit=PIECE_BYTES), CONNECT_S)
        except OSError as exc:  # also where it takes too long
            failure = exc
    raise failure


async def _until_either(*ways: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, closing: bool = False) -> None:
    """All that comes; with a word in an answer's head that nothing will come after it, if ``closing``."""
    with suppress(OSError, EOFError, asyncio.LimitOverrunError):
        if closing:
            lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[:-2]
            kept = [line for line in lines if not line.lower().startswith((b"connection:", b"keep-alive:"))]
            writer.write(b"\r\n".join([*kept, b"Connection: close", b"", b""]))
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()


def _request(method: str, target: str, headers: list[str]) -> bytes:
    """What a server gets that is asked without encryption; one request a connection, since the next may be for another."""
    parts = urlsplit(target)
    path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    kept = [line for line in headers if line and not line.lower().startswith(OF_THE_PROXY)]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""]).encode("latin-1")


def _answer(status: str) -> bytes:
    headers = () if status.startswith("200") else ("Content-Length: 0", "Connection: close")
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode()
