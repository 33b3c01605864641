"""Pages kept while a search runs, so that one that breaks goes on at its page.

A folder a question, named by the question's hash; a file a page, written whole or not at all, with its items (hrefs unsigned)
and the link to the next one. Pages are forgotten after a day: tokens lose their meaning, and archives grow.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pwcat.atomic import replacing
from pwcat.search.paging import Page

__all__ = ["Journal"]

KEPT_FOR_S = 86_400.0


class Journal:
    """The pages of one question; keeps nothing where there is no folder."""

    def __init__(self, folder: Path | None, question: Mapping[str, Any]) -> None:
        """Open what is there of a question.

        Args:
            folder: of all questions.
            question: all that decides the answer: API, collection, span, area.
        """
        text = json.dumps(question, sort_keys=True, separators=(",", ":"))
        self._folder = None if folder is None else folder / hashlib.sha256(text.encode()).hexdigest()[:16]

    def pages(self) -> Iterator[Page]:
        """The pages that are there, from the first one up to a gap or a damaged one."""
        number = 0
        while self._folder is not None and (page := _read(self._folder / _name(number))) is not None:
            yield page
            number += 1

    def add(self, number: int, page: Page) -> None:
        """Keep the page of that number, from 0.

        Raises:
            OSError: the disk is full, or cannot be written; what was kept before stays.
        """
        if self._folder is None:
            return
        text = json.dumps({"items": page.items, "next": page.next})
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._folder / _name(number)) as part:
                part.write_bytes(gzip.compress(text.encode(), compresslevel=1, mtime=0))
        except OSError as exc:  # a write names no file
            raise OSError(
                exc.errno, f"{exc.strerror or exc}; pages of a search are kept there", str(self._folder)
            ) from exc

    def clear(self) -> None:
        """Forget the pages of this question."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _name(number: int) -> str:
    return f"page-{number:06d}.json.gz"


def _read(path: Path) -> Page | None:
    """A page; ``None`` where it is not there, too old or damaged."""
    try:
        if time.time() - path.stat().st_mtime > KEPT_FOR_S:
            return None
        document = json.loads(gzip.decompress(path.read_bytes()))
        return Page(items=document["items"], next=document["next"])
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None
