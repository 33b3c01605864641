"""What is remembered of servers that fail, and for how long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pwcat.pixels import outages
from pwcat.pixels.outages import OUTAGES, Outages
from pwcat.providers import OpenSource
from pwcat.providers.reuse import forget_address

SOURCE = OpenSource(provider="archive", url="http://127.0.0.1:1", collection="a")
OTHER = replace(SOURCE, collection="b")


class Clock:
    """Seconds that pass when they are told to."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(outages, "time", clock)
    return clock


@pytest.fixture
def known(clock) -> Outages:
    return Outages()


@pytest.mark.parametrize("cause", ["timed out", "server error"])
def test_a_scene_that_a_server_could_not_serve_is_down_for_some_minutes(known, clock, cause):
    known.note(SOURCE, "one", cause)
    assert known.is_down(SOURCE, "one")
    assert not known.is_down(SOURCE, "two")
    assert not known.is_down(OTHER, "one")
    clock.now += outages.SCENE_S
    assert not known.is_down(SOURCE, "one")


@pytest.mark.parametrize("cause", ["not found", "forbidden", "corrupt data", "other grid", "other"])
def test_what_a_server_says_of_a_file_is_no_outage(known, cause):
    for scene in "abcdefgh":
        known.note(SOURCE, scene, cause)
    assert not any(known.is_down(SOURCE, scene) for scene in "abcdefghi")


def test_scenes_that_fail_in_a_row_are_the_sources_fault_until_one_is_served(known, clock):
    scenes = [str(number) for number in range(outages.IN_A_ROW)]
    for scene in scenes[:-1]:
        known.note(SOURCE, scene, "timed out")
    known.note(SOURCE, scenes[0], "timed out")  # the same once more says nothing new
    known.note(SOURCE, "good", None)
    known.note(SOURCE, scenes[-1], "timed out")
    assert not known.is_down(SOURCE, "new")
    for scene in scenes:
        known.note(SOURCE, scene, "timed out")
    assert known.is_down(SOURCE, "new")
    assert not known.is_down(OTHER, "new")
    clock.now += outages.SOURCE_S
    assert [known.ask(SOURCE, "new") for _ in range(3)] == [False, True, True]  # one finds out
    known.note(SOURCE, "new", "server error")
    clock.now += outages.SOURCE_S - 1
    assert known.ask(SOURCE, "new")
    clock.now += 1
    assert not known.ask(SOURCE, "new")
    known.note(SOURCE, "new", None)
    assert not known.is_down(SOURCE, "another")


def test_what_is_remembered_is_bounded(known, monkeypatch):
    monkeypatch.setattr(outages, "SCENES", 10)
    monkeypatch.setattr(outages, "SOURCES", 3)
    monkeypatch.setattr(outages, "IN_A_ROW", 10**9)
    for number in range(100):
        known.note(replace(SOURCE, collection=str(number % 10)), str(number), "timed out")
    assert (len(known._scenes), len(known._rows)) == (10, 3)
    assert known.is_down(replace(SOURCE, collection="9"), "99")


def test_it_is_forgotten_when_another_server_answers_there():
    OUTAGES.note(SOURCE, "one", "timed out")
    forget_address("http://127.0.0.1:2")
    assert OUTAGES.is_down(SOURCE, "one")
    forget_address("http://127.0.0.1:1")
    assert not OUTAGES.is_down(SOURCE, "one")
