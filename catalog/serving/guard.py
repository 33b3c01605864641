"""What a request must keep to before anybody looks at it: parameters that there are, and a body of bounded size."""

from __future__ import annotations

import re
from http import HTTPStatus

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from catalog.serving.refusals import RefusedError, answer

__all__ = ["BodyLimit", "HeadAsGet", "only_known_parameters"]

_FILES = re.compile(r"/collections/[^/]+/files/")


async def only_known_parameters(request: Request) -> None:
    """Refuse parameters that the endpoint does not have, and those given twice: what is ignored misleads.

    Raises:
        RefusedError: there are some.
    """
    if not request.query_params:
        return
    known = _known(request)
    given = [name for name, _ in request.query_params.multi_items()]
    if unknown := sorted(set(given) - set(known)):
        there = f"there are {', '.join(known)}" if known else "there are none here"
        raise RefusedError(f"unknown parameter {', '.join(unknown)}; {there}")
    if repeated := sorted({name for name in given if given.count(name) > 1}):
        raise RefusedError(f"given more than once: {', '.join(repeated)}; lists have commas between their parts")


def _known(request: Request) -> list[str]:
    """Names of the parameters of an endpoint, as its own description has them."""
    path = request.scope["route"].path_format
    operation = request.app.openapi()["paths"].get(path, {}).get(request.method.lower(), {})
    return [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"]


class HeadAsGet:
    """Answers HEAD as GET, as RFC 9110 (section 9.1) wants it; stac-fastapi's routes have GET alone.

    What listens leaves out the body, as ASGI has it. Files answer HEAD themselves, without reading any of it.

    Args:
        app: what is behind.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "http" and scope["method"] == "HEAD" and not _FILES.match(scope["path"]):
            scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send)


class BodyLimit:
    """Refuses bodies above a size, told or not: no more of one is taken in.

    Args:
        app: what is behind.
        bytes_: of a body, at most.
    """

    def __init__(self, app: ASGIApp, *, bytes_: int) -> None:
        self.app, self.bytes = app, bytes_

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if _told_length(scope) > self.bytes:
            await self._refuse(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.bytes:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._said)
            return message

        await self.app(scope, counted, send)

    @property
    def _said(self) -> str:
        return f"the body is larger than {self.bytes:,} bytes, which is all that is taken"

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._said)(scope, receive, send)


def _told_length(scope: Scope) -> int:
    told = dict(scope["headers"]).get(b"content-length", b"0")
    return int(told) if told.isdigit() else 0
