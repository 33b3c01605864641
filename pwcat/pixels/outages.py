"""Servers that have failed for good a moment ago, remembered by this process, so that no shard waits for them once more.

A scene that a source could not serve, although it was asked with full patience, is asked for at the other sources first for
some minutes, and there with little patience. Where several scenes of one source in a row fail so, that is the source's fault:
it is treated likewise as a whole, but for one shard now and then that finds out whether it is well again (Nygard's circuit
breaker). Whatever is served is forgotten at once.

Which bytes a healthy server's scenes have does not hang on any of it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock

from pwcat.pixels.reasons import Cause
from pwcat.providers import OpenSource
from pwcat.providers.reuse import forgets

__all__ = ["OUTAGES", "Outages"]

# Failures of the server, which the next shard would meet, too; those of a file are told by the server at once.
OF_THE_SERVER: frozenset[Cause] = frozenset({"timed out", "server error"})
# How long a scene is thought to be as it was, and how long a source is, before somebody finds out.
SCENE_S = 300.0
SOURCE_S = 60.0
# So many scenes that fail, with none served between, are the source's fault.
IN_A_ROW = 5
# Most that is remembered.
SCENES, SOURCES = 4096, 256

_Key = tuple[str, str, str]


@dataclass
class _Row:
    """Scenes of one source that failed one after the other, and until when the source is taken to be down."""

    scenes: set[str] = field(default_factory=set)
    until: float = 0.0

    @property
    def is_open(self) -> bool:
        return len(self.scenes) >= IN_A_ROW


class Outages:
    """What this process knows of servers that fail. Safe in threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._scenes: OrderedDict[tuple[_Key, str], float] = OrderedDict()
        self._rows: OrderedDict[_Key, _Row] = OrderedDict()

    def is_down(self, source: OpenSource, scene: str) -> bool:
        """Whether a scene is expected not to be served now."""
        with self._lock:
            return self._is_down(_key(source), scene, time.monotonic())

    def ask(self, source: OpenSource, scene: str) -> bool:
        """The same, of who is about to ask: the first one after a while finds out for all others."""
        key, now = _key(source), time.monotonic()
        with self._lock:
            down, row = self._is_down(key, scene, now), self._rows.get(key)
            if not down and row is not None and row.is_open:
                row.until = now + SOURCE_S
            return down

    def note(self, source: OpenSource, scene: str, cause: Cause | None) -> None:
        """Remember what asking came to.

        Args:
            source: that was asked.
            scene: the plan's, by id.
            cause: why it was not served; ``None`` where it was.
        """
        key, now = _key(source), time.monotonic()
        with self._lock:
            if cause is None:
                self._scenes.pop((key, scene), None)
                self._rows.pop(key, None)
            elif cause in OF_THE_SERVER:
                self._fail(key, scene, now)

    def forget(self, url: str = "") -> None:
        """Forget sources whose addresses begin like this; all of them where nothing is given."""
        with self._lock:
            for place in [place for place in self._scenes if place[0][1].startswith(url)]:
                del self._scenes[place]
            for key in [key for key in self._rows if key[1].startswith(url)]:
                del self._rows[key]

    def _is_down(self, key: _Key, scene: str, now: float) -> bool:
        row = self._rows.get(key)
        if row is not None and row.is_open:
            return now < row.until
        return now < self._scenes.get((key, scene), 0.0)

    def _fail(self, key: _Key, scene: str, now: float) -> None:
        self._scenes[key, scene] = now + SCENE_S
        self._scenes.move_to_end((key, scene))
        row = self._rows.setdefault(key, _Row())
        self._rows.move_to_end(key)
        if not row.is_open:
            row.scenes.add(scene)
        if row.is_open:
            row.until = now + SOURCE_S
        while len(self._scenes) > SCENES:
            self._scenes.popitem(last=False)
        while len(self._rows) > SOURCES:
            self._rows.popitem(last=False)


def _key(source: OpenSource) -> _Key:
    return source.provider, source.url, source.collection


OUTAGES = Outages()
forgets(OUTAGES.forget)
