"""What a request cannot have: the errors, and how they are told as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from pwcat.errors import CatalogError

__all__ = ["RefusedError", "faults_of", "told_as_json"]


class RefusedError(Exception):
    """A request that is not answered; the message is one line for whoever sent it.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, description: str, *, status: int = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(" ".join(description.split()))
        self.status = status


def told_as_json(app: FastAPI) -> None:
    """Make every error of an app an object with ``code`` and ``description``, as the STAC API has it."""
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(CatalogError, _refused)
    app.add_exception_handler(RequestValidationError, _refused)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _broken)


def answer(status: int, description: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error as JSON."""
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers = {"Retry-After": "1"}
    document = {"code": HTTPStatus(status).phrase.replace(" ", ""), "description": description}
    return JSONResponse(document, status_code=status, headers=headers)


async def _refused(request: Request, exc: Exception) -> JSONResponse:
    match exc:
        case RefusedError():
            return answer(exc.status, str(exc))
        case RequestValidationError():
            return answer(HTTPStatus.BAD_REQUEST, faults_of(exc))
        case HTTPException():
            detail = exc.detail if exc.status_code != HTTPStatus.NOT_FOUND else f"nothing at {request.url.path}"
            return answer(exc.status_code, str(detail), exc.headers)
    return answer(HTTPStatus.BAD_REQUEST, str(exc))


async def _broken(request: Request, exc: Exception) -> JSONResponse:
    """A bug of ours: its traceback goes to the log, not to the client."""
    return answer(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; its log says more")


def faults_of(exc: RequestValidationError | ValidationError) -> str:
    """Every fault of a document, in one line."""
    return "; ".join(_fault(one) for one in exc.errors())


def _fault(one: Any) -> str:
    if one["type"] == "json_invalid":
        return f"the body is not JSON: {one['ctx']['error'].lower()}, at character {one['loc'][-1]}"
    if isinstance(one.get("input"), bytes):
        return "the body is not JSON by its Content-Type; application/json is wanted"
    loc = [str(part) for part in one["loc"]]
    where = ".".join(loc[1:] if loc[:1] in (["body"], ["query"]) else loc) or "the body"
    got = "" if one["type"] == "missing" else f", got {_shown(one.get('input'))}"
    said = "unknown parameter" if one["type"] == "extra_forbidden" else one["msg"][:1].lower() + one["msg"][1:]
    return f"{where}: {said}{'' if one['type'] == 'extra_forbidden' else got}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
