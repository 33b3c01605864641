"""Pages of a STAC API's search: asked for with patience, in smaller ones where it cannot bear the size, until the last.

What APIs do that a plain loop would trip over: they answer 429 and 5xx for minutes, with ``Retry-After`` or without; they
fail at large pages (Element84/earth-search issue 17); they repeat items across pages (microsoft/PlanetaryComputer issue 163);
they give an empty page with a link to a next one; their links carry the whole question, or only a token to merge with it.
`pystac_client` does the requests; its own loop ends at an empty page and knows nothing of the rest.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

import requests
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO

from pwcat.errors import SourceError
from pwcat.providers.limits import limit_of
from pwcat.providers.redaction import unsign
from pwcat.providers.source import OpenSource
from pwcat.providers.transport import Patience, mount, tell_of_pause

__all__ = ["Api", "Page", "Refused"]

# Answers that a smaller page may mend; the others that are worth another question are repeated by the session itself.
TOO_MUCH = (502, 504)
REPEATED = (429, 500, 503)
SMALLEST_PAGE = 10
# An API that gives so many empty pages in a row has nothing more.
EMPTY_PAGES = 50

Link = Mapping[str, Any]


class Refused(SourceError):
    """The API would not answer a question. Internal to the search, which may ask in another way.

    Attributes:
        status: of its answer; ``None`` where there was none.
    """

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page.

    Attributes:
        items: as they came.
        next: the link to go on with, complete in itself; ``None`` on the last.
    """

    items: list[dict[str, Any]]
    next: Link | None


class Api:
    """The search of a STAC API.

    Attributes:
        requests: that were made, for what they are worth: those that the session repeats are not counted.
    """

    def __init__(self, source: OpenSource, *, patience: Patience | None = None) -> None:
        self._source = source
        self._patience = patience or Patience()
        self._io = StacApiIO(max_retries=None, timeout=self._patience.timeout_s)
        self._known = False
        self._limit = source.profile.page_size
        self._search: Link | None = None
        self.requests = 0
        self._mount()

    def close(self) -> None:
        """Let connections go."""
        self._io.session.close()

    def first_link(self, question: Mapping[str, Any]) -> Link:
        """The link to the first page of a question (``collections``, ``datetime``, ``intersects`` or ``bbox``)."""
        if self._search is None:
            self._search = self._search_link()
        asked = {key: value for key, value in question.items() if value is not None} | {"limit": self._limit}
        if self._search["method"] == "POST":
            return {**self._search, "body": asked}
        return {**self._search, "href": _with_query(self._search["href"], _as_query(asked))}

    def pages(self, link: Link | None) -> Iterator[Page]:
        """Pages from a link on.

        Raises:
            Refused: the API does not answer, or refuses.
        """
        seen: set[str] = set()
        empty = 0
        while link is not None and empty < EMPTY_PAGES:
            seen.add(json.dumps(link, sort_keys=True))
            page = self._page(link)
            if page.next is not None and json.dumps(page.next, sort_keys=True) in seen:
                page = Page(items=page.items, next=None)  # in a circle
            yield page
            empty = 0 if page.items else empty + 1
            link = page.next

    def _page(self, link: Link) -> Page:
        """One page, asked for with a smaller limit as often as that may help."""
        limit = self._limit
        for attempt in range(self._patience.attempts + 1):
            sized = _with_limit(link, self._limit)
            try:
                return _read_page(self._ask(sized), sized)
            except Refused as exc:
                last = attempt == self._patience.attempts
                if last or not (exc.status in TOO_MUCH or exc.status == _BROKEN):
                    self._limit = limit  # it was not the size
                    raise
                status = exc.status
            if self._limit > SMALLEST_PAGE and _keeps_its_place(sized):
                self._limit = max(self._limit // 2, SMALLEST_PAGE)
            self._pause(attempt, status)
        raise AssertionError("the last attempt returns or raises")

    def _pause(self, attempt: int, status: int) -> None:
        pause = min(self._patience.pause_s * 2**attempt * (1 + random.random()), self._patience.most_s)
        why = "breaks off its answer to a search" if status == _BROKEN else f"answers a search with {status}"
        tell_of_pause(f"{self._source.name} {why}", pause)
        time.sleep(pause)

    def _search_link(self) -> Link:
        """Where the API's landing page says that its search is; POST where it has both."""
        root = self._ask({"href": self._source.url, "method": "GET"})
        links = [link for link in root.get("links") or [] if link.get("rel") == "search" and link.get("href")]
        if not links:
            return {"href": f"{self._source.url}/search", "method": "POST"}
        methods = {str(link.get("method", "GET")).upper(): link for link in reversed(links)}
        method = "POST" if "POST" in methods else "GET"
        return {"href": urljoin(f"{self._source.url}/", methods[method]["href"]), "method": method}

    def _ask(self, link: Link) -> dict[str, Any]:
        limit_of(self._source, "api").wait()
        self.requests += 1
        try:
            text = self._io.request(
                link["href"], method=link["method"], headers=link.get("headers"), parameters=link.get("body")
            )
            document = json.loads(text)
        except (APIError, OSError, ValueError) as exc:
            raise self._refused(exc) from exc
        if not isinstance(document, dict):
            raise self._refused(ValueError(f"the answer is no JSON object but {type(document).__name__}"))
        if not self._known:
            self._known = True
            self._mount()
        return document

    def _refused(self, exc: Exception) -> Refused:
        status = getattr(exc, "status_code", None)
        cause = exc.__context__ if isinstance(exc, APIError) else exc
        if isinstance(cause, SourceError):
            return Refused(str(cause), None)
        if status is None and isinstance(cause, (requests.exceptions.ChunkedEncodingError, ValueError)):
            status = _BROKEN
        where, said = f"{self._source.provider} ({unsign(self._source.url)})", _said(str(exc))
        if status is not None and status > 0:
            return Refused(f"{where} answers a search with HTTP {status}{said and f': {said}'}", status)
        does = "breaks off its answer to a search" if status == _BROKEN else "did not answer a search"
        return Refused(f"{where} {does}{said and f': {said}'}", status)

    def _mount(self) -> None:
        trusted = None if self._source.allow_private else self._source.url
        retry = self._patience.retry(
            known=self._known, status=REPEATED, told_as=f"{self._source.name}, asked for scenes,"
        )
        mount(self._io.session, retry, trusted=trusted)


# Stands for an answer that broke off or is no JSON.
_BROKEN = -1

# Characters of what an API says that are told.
MOST_SAID = 400


def _said(text: str) -> str:
    """What an API says of a fault, in one line, without secrets; nothing of a page for browsers."""
    with suppress(ValueError):
        document = json.loads(text)
        known = document if isinstance(document, dict) else {}
        text = next((str(known[key]) for key in ("description", "detail", "message") if known.get(key)), text)
    line = " ".join(unsign(text).split())
    return "" if line.startswith("<") else line[:MOST_SAID]


def _read_page(document: Mapping[str, Any], asked: Link) -> Page:
    links = document.get("links") or []
    link = next((link for link in links if link.get("rel") == "next" and link.get("href")), None)
    return Page(items=list(document.get("features") or []), next=None if link is None else _complete(link, asked))


def _complete(link: Mapping[str, Any], asked: Link) -> Link:
    """A next link as it is to be asked: with the question that it only adds to."""
    method = str(link.get("method", "GET")).upper()
    whole: dict[str, Any] = {"href": urljoin(asked["href"], link["href"]), "method": method}
    if link.get("headers"):
        whole["headers"] = link["headers"]
    if method == "POST":
        body = link.get("body") or {}
        whole["body"] = {**asked.get("body", {}), **body} if link.get("merge") or not body else body
    return whole


def _keeps_its_place(link: Link) -> bool:
    """Whether pages of another size go on from the same link: not where it counts pages."""
    return "page" not in (link.get("body") or {}) and "page" not in dict(parse_qsl(urlsplit(link["href"]).query))


def _with_limit(link: Link, limit: int) -> Link:
    """The link with that page size, where it says one that is larger, or none."""
    if not _keeps_its_place(link):
        return link
    if link["method"] == "POST":
        body = link.get("body") or {}
        return {**link, "body": {**body, "limit": min(int(body.get("limit", limit)), limit)}}
    said = dict(parse_qsl(urlsplit(link["href"]).query)).get("limit", "")
    if said.isdigit() and int(said) <= limit:
        return link
    return {**link, "href": _with_query(link["href"], {"limit": str(limit)})} if said else link


def _with_query(href: str, values: Mapping[str, str]) -> str:
    parts = urlsplit(href)
    query = dict(parse_qsl(parts.query, keep_blank_values=True)) | dict(values)
    return urlunsplit(parts._replace(query=urlencode(query)))


def _as_query(asked: Mapping[str, Any]) -> dict[str, str]:
    """A question as GET has it."""
    query = {}
    for key, value in asked.items():
        if key == "intersects":
            query[key] = json.dumps(value, separators=(",", ":"))
        else:
            query[key] = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return query
