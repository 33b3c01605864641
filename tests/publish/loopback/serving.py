"""HTTP: requests are read (large bodies to disk), met by a planned fault, given to the function of their route, answered."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import tempfile
import traceback
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from loopback_hub.storage import MIB

KIND, NAME, REVISION = r"(?P<kind>models|datasets)", r"(?P<name>[^/]+/[^/]+)", r"(?P<revision>[^/]+)"
OF_DATASETS = r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+?)"
ROUTES = []


def route(methods, pattern):
    """Register a function of a request and the pattern's named groups; it returns an Answer or raises one."""

    def register(function):
        ROUTES.append((methods.split("|"), re.compile(pattern), function))
        return function

    return register


class Answer(Exception):
    """A status, a body (bytes, what becomes JSON, or part of a file) and headers."""

    def __init__(self, status, body=None, **headers):
        self.status, self.headers = status, headers
        plain = isinstance(body, bytes | Slice)
        self.body = body if plain else json.dumps({} if body is None else body).encode()


def not_found(code, **headers):
    return Answer(404, {"error": code}, **{"X-Error-Code": code}, **headers)


@dataclass(frozen=True)
class Slice:
    """Bytes ``start`` to ``stop`` of a file, sent without holding them."""

    path: Path
    start: int
    stop: int

    def __len__(self):
        return self.stop - self.start

    def chunks(self):
        with self.path.open("rb") as file:
            file.seek(self.start)
            left = len(self)
            while left and (chunk := file.read(min(left, MIB))):
                left -= len(chunk)
                yield chunk


@dataclass
class Body:
    """A request's body: in memory up to 1 MiB, else in a file of the folder of what comes in."""

    folder: Path
    size: int = 0
    data: bytes = b""
    path: Path | None = None
    hash: Any = field(default_factory=hashlib.sha256)
    _file: Any = None

    def write(self, chunk):
        self.size += len(chunk)
        self.hash.update(chunk)
        if self._file is None and self.size > MIB:
            self._file = tempfile.NamedTemporaryFile(dir=self.folder, delete=False)  # noqa: SIM115
            self.path = Path(self._file.name)
            self._file.write(self.data)
            self.data = b""
        if self._file is None:
            self.data += chunk
        else:
            self._file.write(chunk)

    def close(self):
        if self._file is not None:
            self._file.close()

    def remove(self):
        self.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def chunks(self):
        if self.path is None:
            yield self.data
        else:
            yield from Slice(self.path, 0, self.size).chunks()

    def lines(self):
        if self.path is None:
            yield from self.data.splitlines()
        else:
            with self.path.open("rb") as file:
                yield from file

    def keep(self, target):
        """Move the body to a file of its own."""
        if self.path is None:
            target.write_bytes(self.data)
        else:
            self.path.replace(target)


class Disconnected(Exception):
    """The client went away before its request was whole, or is sent away."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass  # a client that was killed; faults of the stand's own are kept by the handler


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 120  # of a connection on which nothing happens
    # Else each answer waits for the 40 ms of a delayed acknowledgement between its head and its body.
    disable_nagle_algorithm = True
    hub: Any

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.url = urlsplit(self.path)
        self.__dict__.pop("query", None)
        fault = self.hub.fault(self.command, self.url.path)
        self.body = Body(self.hub.blobs.incoming)
        try:
            self._read(half=fault == "cut")
            self._send(self._answer(fault), fault)
        except (Disconnected, ConnectionError, TimeoutError):
            self._hang_up()
        finally:
            self.body.remove()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _answer(self, fault):
        if fault == "stall":
            self.hub.stalled.set()
            self.hub.resumed.wait(60)
            return Answer(503, {"error": "stalled"})
        if fault == "drop":
            raise Disconnected
        if isinstance(fault, int):
            return Answer(fault, {"error": "planned fault"}, **self.hub.headers_of_fault(fault))
        self.hub.run_hooks(self.command, self.url.path, before=True)
        answer = self._work()
        self.hub.run_hooks(self.command, self.url.path, before=False)
        if fault == "hangup":
            self._log(0, 0)
            raise Disconnected
        return Answer(504, {"error": "the response got lost"}) if fault == "lost" else answer

    def _work(self):
        try:
            with self.hub.lock:
                return self._dispatch()
        except Answer as answer:
            return answer
        except Exception:
            # Not a 5xx that clients try again: a defect of the stand, told when it closes.
            self.hub.errors.append(f"{self.command} {self.path}\n{traceback.format_exc()}")
            return Answer(501, {"error": "a defect of the loopback Hub"})

    def _dispatch(self):
        if not self.url.path.startswith("/cas/"):  # which has tokens of its own
            self.hub.check_token(self.token)
        for methods, pattern, function in ROUTES:
            match = pattern.fullmatch(self.url.path)
            if match and self.command in methods:
                return function(self, **match.groupdict())
        raise not_found("NoSuchRoute")

    def _read(self, *, half):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline() or b"0", 16):
                self._take(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            size = int(self.headers.get("Content-Length") or 0)
            self._take(size // 2 if half else size)
        self.body.close()
        if half:
            raise Disconnected

    def _take(self, size):
        while size:
            chunk = self.rfile.read(min(size, MIB))
            if not chunk:
                raise Disconnected
            size -= len(chunk)
            self.body.write(chunk)

    def _send(self, answer, fault):
        headers = {"Content-Type": "application/json", "Content-Length": str(len(answer.body)), **answer.headers}
        body = b"" if self.command == "HEAD" else answer.body
        stop = len(body) // 2 if fault == "truncate" else len(body)
        self._log(answer.status, stop)
        self.send_response(answer.status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        self._write(body, stop)
        if fault == "truncate":
            raise Disconnected

    def _write(self, body, stop):
        if isinstance(body, bytes):
            self.wfile.write(body[:stop])
            return
        for chunk in Slice(body.path, body.start, body.start + stop).chunks():
            self.wfile.write(chunk)

    def _log(self, status, sent):
        self.hub.record(self.command, self.path, status, self.body.size, sent)

    def _hang_up(self):
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    # What functions of routes ask.
    @property
    def token(self):
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    @cached_property
    def query(self):
        return {key: values[-1] for key, values in parse_qs(self.url.query).items()}

    def queries(self, key):
        return parse_qs(self.url.query).get(key, [])

    def flag(self, key):
        return self.query.get(key, "false").lower() in ("true", "1")

    def json(self):
        return json.loads(b"".join(self.body.chunks()))

    def form(self):
        return parse_qs(self.body.data.decode())

    def page(self, rows, size):
        """One page of rows, and the header that names the next."""
        start = int(self.query.get("cursor", "0"))
        headers = {}
        if start + size < len(rows):
            kept = [(k, v) for k, values in parse_qs(self.url.query).items() for v in values if k != "cursor"]
            query = "&".join(f"{key}={value}" for key, value in [*kept, ("cursor", start + size)])
            headers["Link"] = f'<{self.hub.url}{self.url.path}?{query}>; rel="next"'
        return Answer(200, rows[start : start + size], **headers)
