"""An embedded archive behind a server that fails on a schedule; run as a process of its own.

    python server.py ARCHIVE

prints its address. The first part of a path is a case: ``PUT /_cases/NAME`` gives it a schedule, and below ``/NAME/`` lies
the whole archive, whose answers that schedule spoils. Cases share nothing, not even what clients keep by address, so that
one process serves a whole session of tests. ``GET /_cases/NAME`` says how often each path was asked for.

A schedule is JSON::

    {"rules": [{"path": "B02", "skip": 1, "times": 2, "status": 503, "retry_after": 0}], "page_size": 3, "signed": 40}

``rules``: the first that holds for a request spoils its answer. ``path`` is searched for in the request's path; the first
``skip`` requests of each path are left alone, the next ``times`` spoilt (all, where it is not given), so that what is spoilt
hangs on how often a path was asked for, and not on when. What happens is one of

- ``status``: that answer, with ``Retry-After`` where ``retry_after`` is given;
- ``cut``: the headers of the whole, that share of the body, and the end of the connection;
- ``short``: that share of the body, as if it were all;
- ``stall``: half the body, nothing for so many seconds, and the end of the connection;
- ``flip``: ``[offset, mask]``, or several: bytes of the file that are sent with bits the other way round;
- ``repeat``: a page of a search with the items of the page before it as well, and its own twice;
- ``delay``: the right answer, so many seconds later;
- ``hrefs``: every asset's address in a page of items is another, ``{item}`` and ``{asset}`` filled in.

``page_size``: items a page at most. ``signed``: assets want a token, which ``/NAME/token/`` hands out and which is refused
after so many requests.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvicorn

from pwcat.archive.server import build_app

SECRET = "PWCATSECRET"  # in every token


class Cut(Exception):
    """Ends a connection in the middle of an answer."""


class Case:
    """One schedule, and what has been asked for under it."""

    def __init__(self, name: str, schedule: dict[str, Any]) -> None:
        self.name = name
        self.rules = schedule.get("rules", [])
        self.page_size = schedule.get("page_size")
        self.signed = schedule.get("signed")
        self.asked: Counter[str] = Counter()
        self.spoilt: Counter[str] = Counter()
        self.tokens: list[int] = []  # requests that each has had
        self.refused = 0
        self.features: list[dict[str, Any]] = []

    def rule_for(self, path: str) -> dict[str, Any]:
        """What is to happen to this request, the path's next."""
        number = self.asked[path]
        self.asked[path] += 1
        for rule in self.rules:
            first = rule.get("skip", 0)
            if re.search(rule["path"], path) and first <= number < first + rule.get("times", sys.maxsize):
                self.spoilt[path] += 1
                return rule
        return {}

    def admits(self, query: str) -> bool:
        """Whether a token holds."""
        if self.signed is None:
            return True
        found = re.search(rf"sig={SECRET}-(\d+)-", query)
        number = int(found[1]) if found else -1
        if not 0 <= number < len(self.tokens) or self.tokens[number] >= self.signed:
            self.refused += 1
            return False
        self.tokens[number] += 1
        return True

    def token(self) -> dict[str, str]:
        """A new token; those before it hold as long as they did."""
        expiry = datetime.now(UTC) + timedelta(hours=1)
        self.tokens.append(0)
        return {
            "msft:expiry": expiry.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "token": f"se={expiry:%Y-%m-%d}&sp=r&sig={SECRET}-{len(self.tokens) - 1}-{self.name}",
        }

    def standing(self) -> dict[str, Any]:
        """What was asked for."""
        return {
            "asked": dict(self.asked),
            "spoilt": dict(self.spoilt),
            "refused": self.refused,
            "tokens": len(self.tokens),
        }


class Faulty:
    """The ASGI application around the archive's own."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.cases: dict[str, Case] = {}

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer a request."""
        name, _, rest = scope["path"].lstrip("/").partition("/")
        if name == "_cases":
            await self._administer(scope, rest, receive, send)
        elif name not in self.cases:
            await _answer(send, 404, b"no such case")
        else:
            await self._serve(self.cases[name], f"/{rest}", scope, receive, send)

    async def _administer(self, scope: dict[str, Any], name: str, receive: Any, send: Any) -> None:
        if scope["method"] == "PUT":
            self.cases[name] = Case(name, json.loads(await _body_of(receive)))
        await _answer(send, 200, json.dumps(self.cases[name].standing()).encode())

    async def _serve(self, case: Case, path: str, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if path.startswith("/token/"):
            await _answer(send, 200, json.dumps(case.token()).encode())
            return
        is_asset = path.startswith("/assets/")
        if is_asset and not case.admits(scope["query_string"].decode()):
            await _answer(send, 403, b"<Error><Code>AuthenticationFailed</Code></Error>")
            return
        rule = case.rule_for(path)
        if "status" in rule:
            after = {"retry-after": str(rule["retry_after"])} if "retry_after" in rule else {}
            await _answer(send, rule["status"], b"<html>an error page</html>", **after)
            return
        asked = await _body_of(receive)
        if path == "/search" and case.page_size and asked:
            asked = json.dumps(json.loads(asked) | {"limit": case.page_size}).encode()
        status, headers, body = await self._whole(scope | {"root_path": f"/{case.name}"}, asked)
        if path == "/search" and scope["method"] == "POST":
            body = _spoil_page(case, rule, body)
            headers["content-length"] = str(len(body))
        if scope["method"] == "HEAD":
            rule = {}
        await _send_spoilt(send, rule, status, headers, body)

    async def _whole(self, scope: dict[str, Any], asked: bytes) -> tuple[int, dict[str, str], bytes]:
        """The archive's own answer."""
        status, headers, body = 500, dict[str, str](), b""

        async def take(message: dict[str, Any]) -> None:
            nonlocal status, headers, body
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = {key.decode().lower(): value.decode() for key, value in message["headers"]}
            body += message.get("body", b"")

        given = False

        async def give() -> dict[str, Any]:
            nonlocal given
            if given:
                await asyncio.Event().wait()  # nobody goes away before the answer is whole
            given = True
            return {"type": "http.request", "body": asked, "more_body": False}

        await self.app({**scope, "extensions": {}}, give, take)
        return status, headers, body


async def _send_spoilt(send: Any, rule: dict[str, Any], status: int, headers: dict[str, str], body: bytes) -> None:
    if "delay" in rule:
        await asyncio.sleep(rule["delay"])
    if "short" in rule:
        body = body[: int(len(body) * rule["short"])]
        headers["content-length"] = str(len(body))
    if "flip" in rule:
        body = _flipped(body, headers, rule["flip"])
    if "cut" in rule or "stall" in rule:
        await _start(send, status, headers)
        part = body[: int(len(body) * rule.get("cut", 0.5))]
        await send({"type": "http.response.body", "body": part, "more_body": True})
        await asyncio.sleep(rule.get("stall", 0))
        raise Cut
    await _answer(send, status, body, **headers)


def _flipped(body: bytes, headers: dict[str, str], flips: list[Any]) -> bytes:
    """A range of a file with some bytes of it changed, wherever they lie in the file."""
    found = re.match(r"bytes (\d+)-", headers.get("content-range", "bytes 0-"))
    start, changed = int(found[1]) if found else 0, bytearray(body)
    for offset, mask in flips if isinstance(flips[0], list) else [flips]:
        if 0 <= offset - start < len(changed):
            changed[offset - start] ^= mask
    return bytes(changed)


def _spoil_page(case: Case, rule: dict[str, Any], body: bytes) -> bytes:
    """A page of a search that says more, or other, than it should."""
    page = json.loads(body)
    own = page.get("features", [])
    if "repeat" in rule:
        asked = {feature["collection"] for feature in own}
        page["features"] = [*(feature for feature in case.features if feature["collection"] in asked), *own, *own]
    if "hrefs" in rule:
        for feature in own:
            for key, asset in feature["assets"].items():
                asset["href"] = rule["hrefs"].format(item=feature["id"], asset=key)
    case.features = own
    return json.dumps(page).encode()


async def _body_of(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


async def _start(send: Any, status: int, headers: dict[str, str]) -> None:
    pairs = [(key.encode(), value.encode()) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})


async def _answer(send: Any, status: int, body: bytes, **headers: str) -> None:
    await _start(send, status, {"content-length": str(len(body)), **headers})
    await send({"type": "http.response.body", "body": body})


class Announcing(uvicorn.Server):
    """Says where it is once it answers."""

    async def startup(self, sockets: Any = None) -> None:
        """Start, and tell."""
        await super().startup(sockets)
        sys.stdout.write(f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()


def stop_at_end_of_input(server: uvicorn.Server) -> None:
    """Stop when whoever started this is gone."""
    sys.stdin.read()
    server.should_exit = True


if __name__ == "__main__":
    config = uvicorn.Config(
        Faulty(build_app(Path(sys.argv[1]))),
        port=0,
        log_level="critical",
        lifespan="off",
        timeout_graceful_shutdown=1,
        ws="none",
    )
    served = Announcing(config)
    threading.Thread(target=stop_at_end_of_input, args=(served,), daemon=True).start()
    served.run()
