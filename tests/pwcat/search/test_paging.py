"""Pages of awkward and failing APIs: every item, each once, with few requests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from pwcat.errors import SourceError
from pwcat.providers import transport
from pwcat.providers.limits import BURST_S, share_limits
from pwcat.search import Answer, find_items
from pwcat.search.items import ask


@pytest.fixture
def many(item_at):
    """600 items over the globe."""
    rng = np.random.default_rng(0)
    return [item_at(f"i{k:04d}", *place) for k, place in enumerate(rng.uniform([-179, -80], [179, 80], (600, 2)))]


def ids(items):
    return [item["id"] for item in items]


@pytest.mark.parametrize("style", ["merge", "whole", "get"])
def test_every_style_of_link_is_followed_past_repeats_and_empty_pages(api, many, style, soon):
    api.items, api.style, api.extra, api.gaps = many, style, 7, 2
    answer = Answer()
    found = list(find_items(api.source, datetime="2021-01-01/2021-12-31", patience=soon, answer=answer))
    assert ids(found) == ids(many)
    assert (answer.items, answer.repeated) == (600, 14)  # two of the three pages begin with the end of the one before
    assert all(question["datetime"] == "2021-01-01/2021-12-31" for question in api.searches)
    assert all(not item["links"] for item in found)


def test_transient_failures_are_waited_out(api, many, soon):
    api.items = many
    api.faults = [(429, {"Retry-After": "0"}), (503, {}), None, "cut", "noise", (500, {}), (504, {})]
    assert ids(find_items(api.source, patience=soon)) == ids(many)


def test_retry_after_is_honoured_and_bounded(api, many, soon):
    api.items, api.faults = many[:3], [(429, {"Retry-After": "1"})]
    start = time.monotonic()
    assert len(list(find_items(api.source, patience=replace(soon, most_s=5)))) == 3
    assert time.monotonic() - start >= 1
    api.faults = [(429, {"Retry-After": "3600"})]
    start = time.monotonic()
    assert len(list(find_items(api.source, patience=soon))) == 3
    assert time.monotonic() - start < 60


class Clock:
    """Time that only sleep passes."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_all_searches_of_a_process_keep_its_share_of_the_rate(api, many, soon, monkeypatch):
    api.items = many
    clock = Clock()
    monkeypatch.setattr("pwcat.providers.limits.time", clock)
    source = replace(api.source, provider="earth-search")
    share_limits(source, 1 / 4)
    requests = 0
    for _ in range(2):
        answer = Answer()
        list(find_items(source, patience=soon, answer=answer))
        requests += answer.requests
    assert requests >= 2 * 3  # the landing page and two pages, twice
    gap_s = 4 / source.profile.requests_per_s
    assert clock.now - Clock.now == pytest.approx((requests - 1) * gap_s - BURST_S)


def test_patience_ends(api, many, soon):
    api.items, api.faults = many, [(429, {})] * 99
    with pytest.raises(SourceError, match=r"stac \(http://127\.0\.0\.1:\d+\) answers a search with HTTP 429: not now$"):
        list(find_items(api.source, patience=soon))
    assert len(api.searches) == 1 + soon.attempts


@pytest.mark.parametrize("style", ["merge", "whole", "get"])
def test_pages_get_smaller_until_the_api_bears_them(api, many, style, soon):
    api.items, api.style, api.most = many, style, 70
    assert ids(find_items(api.source, patience=soon)) == ids(many)
    limits = [int(question["limit"]) for question in api.searches]
    assert limits[:3] == [250, 125, 62]
    assert set(limits[3:]) == {62}


def test_a_question_that_is_too_large_is_asked_in_halves(api, many, soon):
    api.items, api.too_wide_deg = many, 100
    sites = np.random.default_rng(1).uniform([-180, -80], [180, 80], (60, 2))
    found = sorted(ids(find_items(api.source, sites=sites, patience=replace(soon, attempts=1))))
    lone = {
        item["id"] for x, y in sites for item in api.found({"intersects": {"type": "Point", "coordinates": [x, y]}})
    }
    assert found == sorted(lone)


def test_links_in_a_circle_end(api, many, soon):
    api.items = many
    again = {"rel": "next", "href": f"{api.url}/search", "method": "POST", "body": {"token": "250.0"}}
    api.next = lambda *_: again
    assert 250 <= len(list(find_items(api.source, patience=soon))) <= 600
    assert len(api.searches) <= 4


def test_links_and_redirects_of_strangers_lead_nowhere_private(api, many, soon):
    api.items = many
    api.next = lambda *_: {"rel": "next", "href": "http://169.254.169.254/latest/meta-data", "method": "GET"}
    with pytest.raises(SourceError, match=r"refused to read 'http://169\.254\.169\.254/latest/meta-data"):
        list(find_items(api.source, patience=soon))
    api.faults = [(307, {"Location": "http://[::1]:1/search"})]
    with pytest.raises(SourceError, match=r"refused to read 'http://\[::1\]:1/search'"):
        list(find_items(api.source, patience=soon))


def test_no_signature_in_answers_pages_and_errors(api, item_at, tmp_path, soon, caplog):
    secret = {**item_at("a", 0, 0), "assets": {"B02": {"href": "https://example.test/a.tif?se=1&sig=s3cr3t"}}}
    api.items = [secret, {**item_at("b", 1, 1), "assets": {"B02": {"href": "./b.tif"}, "none": {}}}]
    first, second = find_items(api.source, folder=tmp_path, patience=soon)
    assert first["assets"]["B02"]["href"] == "https://example.test/a.tif"
    assert second["assets"] == {"B02": {"href": "https://example.test/b.tif"}}  # relative to the item itself
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"s3cr3t" not in kept
    api.faults = [(400, {"X": "y"})]
    source = replace(api.source, url=api.url.replace("http://", "http://user:s3cr3t@"))
    with pytest.raises(SourceError, match=r"answers a search with HTTP 400: not now$") as raised:
        list(find_items(source, patience=soon))
    assert "s3cr3t" not in str(raised.value) + caplog.text


def test_a_broken_search_goes_on_at_its_page(api, many, tmp_path, soon):
    api.items = many
    api.faults = [None, (400, {})]
    with pytest.raises(SourceError, match=r"answers a search with HTTP 400: not now$"):
        list(find_items(api.source, folder=tmp_path, patience=soon))
    assert len(api.searches) == 2
    answer = Answer()
    assert ids(find_items(api.source, folder=tmp_path, patience=soon, answer=answer)) == ids(many)
    assert len(api.searches) == 4  # the second and the third page
    assert answer.kept == 1
    assert ids(find_items(api.source, folder=tmp_path, patience=soon)) == ids(many)
    assert len(api.searches) == 4  # all of it is kept
    assert json.loads((tmp_path / "answer.json").read_text())["items"] == 600
    assert len(list(find_items(api.source, datetime="2020-01-01/..", folder=tmp_path, patience=soon))) == 600
    assert len(api.searches) == 7  # another question


def test_a_damaged_old_or_stale_page_is_asked_for_again(api, many, tmp_path, soon):
    api.items = many
    list(find_items(api.source, folder=tmp_path, patience=soon))
    first, second, third = sorted(tmp_path.rglob("page-*.json.gz"))
    second.write_bytes(second.read_bytes()[:50])
    assert ids(find_items(api.source, folder=tmp_path, patience=soon)) == ids(many)
    os.utime(first, (0, 0))
    asked = len(api.searches)
    assert ids(find_items(api.source, folder=tmp_path, patience=soon)) == ids(many)
    assert len(api.searches) == asked + 3
    third.unlink()
    api.faults = [(404, {})]  # the token means nothing any more
    assert ids(find_items(api.source, folder=tmp_path, patience=soon)) == ids(many)


SEARCH = """
import sys
from pathlib import Path
from pwcat.providers import OpenSource
from pwcat.search import find_items
source = OpenSource(provider="stac", url=sys.argv[1], collection="c")
print(len(list(find_items(source, folder=Path(sys.argv[2])))))
"""


def test_a_killed_search_goes_on_at_its_page(api, many, tmp_path):
    api.items = many
    killed = []

    def kill() -> None:
        killed.append(os.kill(child.pid, signal.SIGKILL))

    page = api.page
    api.page = lambda question: (kill(), page(question))[1] if len(api.searches) == 2 and not killed else page(question)
    command = [sys.executable, "-c", SEARCH, api.url, str(tmp_path)]
    child = subprocess.Popen(command)
    assert child.wait(60) == -signal.SIGKILL
    assert len(list(tmp_path.rglob("page-*.json.gz"))) == 1
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "600\n"
    assert [question.get("token") for question in api.searches] == [None, "250.0", "250.0", "500.0"]


def test_asking_takes_no_more_pages_than_it_needs(api, many, soon):
    api.items = many
    assert len(list(ask(api.source, max_items=3))) == 3
    assert len(api.searches) == 1


class NoPauses:
    """Time, without waiting."""

    monotonic = staticmethod(time.monotonic)

    @staticmethod
    def sleep(seconds: float) -> None:
        assert seconds <= 8


def test_a_search_that_is_asked_again_says_so_and_for_how_long_it_waits(api, many, soon, caplog, monkeypatch):
    monkeypatch.setattr(transport, "time", NoPauses)
    monkeypatch.setattr(transport, "TOLD_EVERY_S", 0.0)
    api.items, api.faults = many, [(503, {"Retry-After": "7"}), (500, {}), (502, {}), "cut"]
    patience = replace(soon, most_s=8.0)
    assert ids(find_items(api.source, patience=patience)) == ids(many)
    name = api.source.name
    assert caplog.messages == [
        f"{name}, asked for scenes, answers 503; asked again in 7 s",
        f"{name}, asked for scenes, answers 500; asked again at once",
        f"{name} answers a search with 502; asked again at once",
        f"{name} breaks off its answer to a search; asked again at once",
    ]
    monkeypatch.setattr(transport, "TOLD_EVERY_S", 1e9)
    caplog.clear()
    api.faults = [(503, {})] * 3
    assert len(list(find_items(api.source, patience=patience))) == len(many)
    assert caplog.messages == []  # one was told just before
