"""Items of a source that hold sites, each once: from its API in bulk, or from its snapshot in GeoParquet."""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urljoin

import numpy as np
from numpy.typing import NDArray

from pwcat.atomic import replacing
from pwcat.errors import SourceError
from pwcat.providers.source import OpenSource
from pwcat.providers.transport import Patience
from pwcat.search.collections import require_collection
from pwcat.search.journal import Journal
from pwcat.search.paging import Api, Page, Refused
from pwcat.search.questions import Question, cover_sites
from pwcat.search.snapshot import Snapshot, find_snapshot

__all__ = ["Answer", "ask", "find_items", "items_by_id"]

log = logging.getLogger(__name__)

# A search by more questions than this reads the snapshot instead, where the provider would rather have that.
MANY_QUESTIONS = 20
# Answers after which a question is asked again in halves: too long, or more than the API can find in its time.
TOO_LARGE = (413, 414, 502, 504)
# Answers to a question that the API does not understand: a link that was kept may be stale, a collection unknown.
STALE = (400, 404, 410, 422)
LOG_EVERY_S = 5.0
# Ids of Sentinel-2 have 60 characters at most: a question of 6 kB, which fits into a URL, too.
IDS_AT_ONCE = 100

Progress = Callable[["Answer"], None]


@dataclass(kw_only=True)
class Answer:
    """How a search went, or goes.

    Attributes:
        way: where items come from.
        questions: that cover the sites.
        pages: of the API, or parts of the snapshot's row groups; those kept from a broken search are among them.
        kept: pages from a broken search.
        requests: to the API.
        items: each once.
        repeated: items that came again.
        beside: items that a box brought and that hold no site.
        snapshot: what was read, where it was the snapshot; it may lag behind the API.
        snapshot_date: the day it was made, as far as its store says.
    """

    way: Literal["api", "snapshot"] = "api"
    questions: int = 0
    pages: int = 0
    kept: int = 0
    requests: int = 0
    items: int = 0
    repeated: int = 0
    beside: int = 0
    snapshot: str | None = None
    snapshot_date: str | None = None
    _seen: set[str] = field(default_factory=set, repr=False)

    def is_new(self, item: Mapping[str, Any]) -> bool:
        """Whether an item has not come before; counts it."""
        if item["id"] in self._seen:
            self.repeated += 1
            return False
        self._seen.add(item["id"])
        self.items += 1
        return True

    def counts(self) -> dict[str, Any]:
        """All that it says, as a document."""
        return {key: value for key, value in asdict(self).items() if not key.startswith("_")}


def find_items(
    source: OpenSource,
    *,
    datetime: str | None = None,
    sites: NDArray[np.float64] | None = None,
    folder: Path | None = None,
    patience: Patience | None = None,
    answer: Answer | None = None,
    progress: Progress | None = None,
) -> Iterator[dict[str, Any]]:
    """Items of the source's collection, each once, with unsigned hrefs and without links.

    Args:
        source: the open source; its ``search`` says which way, ``auto`` being the API unless the provider has a snapshot, would
            rather have it read, and the question is large.
        datetime: as STAC has it.
        sites: ``(n, 2)`` longitudes and latitudes that an item must hold one of; every item where ``None``.
        folder: where pages are kept, so that a search that breaks goes on at its page when it is called again.
        patience: with the API.
        answer: filled in as the search goes.
        progress: called with it after each page.

    Raises:
        SourceError: the API does not answer, or refuses; or the snapshot that must be read cannot be.
    """
    answer = answer if answer is not None else Answer()
    questions = None if sites is None else cover_sites(sites)
    answer.questions = 1 if questions is None else len(questions)
    search = _Search(source, datetime, folder, patience, answer, progress)
    snapshot = search.snapshot(questions)
    items = search.by_api(questions) if snapshot is None else search.by_snapshot(snapshot, sites)
    with _telling_of_collections(source, source.collection):
        for item in items:
            if answer.is_new(item):
                yield item
    search.finish()


@contextmanager
def _telling_of_collections(source: OpenSource, collection: str) -> Iterator[None]:
    """Some APIs refuse an unknown collection: that is told as that."""
    try:
        yield
    except Refused as exc:
        if exc.status in STALE:
            require_collection(source, collection)
        raise


class _Search:
    """One search under way."""

    def __init__(
        self,
        source: OpenSource,
        datetime: str | None,
        folder: Path | None,
        patience: Patience | None,
        answer: Answer,
        progress: Progress | None,
    ) -> None:
        self.source, self.datetime, self.folder = source, datetime, folder
        self.patience, self.answer, self.progress = patience, answer, progress
        self._said = time.monotonic()

    def snapshot(self, questions: Sequence[Question] | None) -> Snapshot | None:
        """The snapshot, where it is to be read."""
        source, many = self.source, questions is None or len(questions) > MANY_QUESTIONS
        if source.search == "api" or source.record.geoparquet is None:
            if source.search == "snapshot":
                raise SourceError(f"nothing is known of a GeoParquet of {source.collection} at {source.provider}")
            return None
        if source.search == "auto" and not (many and source.profile.snapshot_first):
            return None
        try:
            return find_snapshot(source, patience=self.patience)
        except SourceError as exc:
            if source.search == "snapshot":
                raise
            log.warning("%s; its API is asked instead", exc)
            return None

    def by_snapshot(self, snapshot: Snapshot, sites: NDArray[np.float64] | None) -> Iterator[dict[str, Any]]:
        """Items of the snapshot."""
        self.answer.way, self.answer.snapshot, self.answer.snapshot_date = "snapshot", snapshot.name, snapshot.date
        for items in snapshot.items(datetime=self.datetime, sites=sites):
            yield from (_frozen(item, self.source) for item in items)
            self._tell()

    def by_api(self, questions: Sequence[Question] | None) -> Iterator[dict[str, Any]]:
        """Items that the API finds; a question that is too large for it is asked in halves."""
        left: deque[Question | None] = deque([None] if questions is None else questions)
        api = Api(self.source, patience=self.patience)
        try:
            while left:
                question = left.popleft()
                try:
                    yield from self._asked(api, question)
                except Refused as exc:
                    halves = question.halves() if question is not None and exc.status in TOO_LARGE else []
                    if not halves:
                        raise
                    left.extendleft(reversed(halves))
                    self.answer.questions += 1
        finally:
            self.answer.requests += api.requests
            api.close()

    def _asked(self, api: Api, question: Question | None) -> Iterator[dict[str, Any]]:
        for page in self._pages(api, question):
            for item in page.items:
                if question is None or question.wants(item.get("geometry")):
                    yield item
                else:
                    self.answer.beside += 1
            self._tell()

    def _pages(self, api: Api, question: Question | None) -> Iterator[Page]:
        """Pages of a question: those that are kept, then those that are not."""
        asked = {
            "collections": [self.source.collection],
            "datetime": self.datetime,
            "intersects": None if question is None else question.geometry,
        }
        journal = Journal(self.folder, {"url": self._place(), **asked})
        kept: int = 0
        last: Page | None = None
        for last in journal.pages():
            kept += 1
            yield last
        self.answer.kept += kept
        if last is not None and last.next is None:
            return
        try:
            yield from self._fetched(api, last.next if last else api.first_link(asked), journal, kept)
        except Refused as exc:
            if last is None or exc.status not in STALE:
                raise
            journal.clear()
            yield from self._fetched(api, api.first_link(asked), journal, 0)

    def _fetched(self, api: Api, link: Mapping[str, Any] | None, journal: Journal, number: int) -> Iterator[Page]:
        for page in api.pages(link):
            items = [_frozen(item, self.source) for item in page.items if item.get("id")]
            kept = Page(items=items, next=page.next)
            journal.add(number, kept)
            number += 1
            yield kept

    def _place(self) -> str:
        """What the source is: an archive's address is of the moment."""
        return self.source.provider if self.source.provider == "archive" else self.source.url

    def _tell(self) -> None:
        self.answer.pages += 1
        if self.progress is not None:
            self.progress(self.answer)
        if time.monotonic() - self._said > LOG_EVERY_S:
            self._said = time.monotonic()
            log.info("%s: %d pages, %d scenes so far", self.source.collection, self.answer.pages, self.answer.items)

    def finish(self) -> None:
        """Say how it went, and write it beside the pages."""
        answer, where = self.answer, f"{self.source.provider} ({self.source.collection})"
        if answer.way == "snapshot":
            log.info(
                "%s: %d scenes of its snapshot %s of %s", where, answer.items, answer.snapshot, answer.snapshot_date
            )
        else:
            log.info("%s: %d scenes in %d requests", where, answer.items, answer.requests)
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.folder / "answer.json") as part:
                part.write_text(json.dumps(answer.counts(), indent=1) + "\n")


def _frozen(item: Mapping[str, Any], source: OpenSource) -> dict[str, Any]:
    """The item without links and with whole, unsigned hrefs, so that the same answer is the same bytes."""
    home = next((link.get("href") for link in item.get("links") or [] if link.get("rel") == "self"), None)
    assets = {
        key: {**asset, "href": source.freeze(urljoin(home or "", asset["href"]))}
        for key, asset in (item.get("assets") or {}).items()
        if asset.get("href")
    }
    return {**item, "assets": assets, "links": []}


def ask(
    source: OpenSource, *, collection: str | None = None, max_items: int | None = None, **query: Any
) -> Iterator[dict[str, Any]]:
    """Items of a collection as the API has them, page by page.

    Args:
        source: the open source.
        collection: another than its own.
        max_items: that are wanted.
        query: as a STAC search takes it: ``bbox``, ``datetime``, ``intersects``.

    Raises:
        SourceError: the API does not answer, or refuses.
    """
    api, wanted = Api(source), collection or source.collection
    with closing(api), _telling_of_collections(source, wanted):
        link = api.first_link({"collections": [wanted], **query})
        yield from islice((item for page in api.pages(link) for item in page.items), max_items)


def items_by_id(source: OpenSource, ids: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Items of the source's collection by their ids, as :func:`find_items` gives them, from its API; those it has.

    Raises:
        SourceError: the API does not answer, or refuses.
    """
    for start in range(0, len(ids), IDS_AT_ONCE):
        for item in ask(source, ids=list(ids[start : start + IDS_AT_ONCE])):
            yield _frozen(item, source)
