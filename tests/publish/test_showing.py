from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

import publish.commands.showing as showing
from publish.commands.publish import _plan_lines
from publish.hub import Preview
from publish.publication import Publication
from publish.pushing.progress import PushState


def states():
    """A push of two files."""
    yield PushState(step="checking")
    for files in range(3):
        yield PushState(step="sending", files=files, files_total=2, bytes=files * 500, bytes_total=1000)
    yield PushState(step="committing", files=2, files_total=2, bytes=1000, bytes_total=1000)
    yield PushState(step="tagging")


def test_without_a_terminal_there_is_a_line_when_a_step_begins_or_ends_and_now_and_then(capsys, monkeypatch):
    with showing.showing(quiet=False) as show:
        for done in (1, 2, 3):
            show.chips(done, 3)
        for state in states():
            show.push(state)
    assert capsys.readouterr().err.splitlines() == [
        "building: 1 of 3 chips",
        "building: 3 of 3 chips",
        "checking limits and the repository",
        "sending: 0 of 2 files, 0 B of 1.0 kB",
        "sending: 2 of 2 files, 1.0 kB of 1.0 kB",
        "committing",
        "setting the release",
    ]
    monkeypatch.setattr(showing, "LINE_EVERY_S", 0.0)
    with showing.showing(quiet=False) as show:
        for state in states():
            show.push(state)
    assert "sending: 1 of 2 files, 500 B of 1.0 kB" in capsys.readouterr().err


def test_nothing_is_shown_where_that_is_asked(capsys):
    with showing.showing(quiet=True) as show:
        show.chips(1, 1)
        for state in states():
            show.push(state)
    assert capsys.readouterr() == ("", "")


def test_bars_tell_files_and_bytes():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    columns = (TextColumn("{task.description}"), TextColumn("{task.fields[told]}"))
    with Progress(*columns, console=console, auto_refresh=False) as bars:
        show = showing.Bars(bars)
        show.chips(2, 4)
        for state in states():
            show.push(state)
            if state.step == "sending":
                task = bars.tasks[1]
                assert (task.completed, task.total) == (state.bytes, 1000)
                assert task.fields["told"] == showing.told_state(state)
        assert bars.tasks[0].fields["told"] == "2 of 4 chips"
        assert bars.tasks[1].description == "setting the release"


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        (
            {"exists": False, "send": ("a", "b"), "bytes_to_send": 2000, "exact": True},
            [
                "would make 3 files, 1.0 MB, within the Hub's limits",
                "https://hub/lab/chips is not there, or may not be read: it would be made",
                "  would send 2 files, 2.0 kB",
            ],
        ),
        (
            {"exists": True, "private": True, "remove": ("c",), "exact": True, "holds": {"release": "v1"}},
            [
                "would make 3 files, 1.0 MB, within the Hub's limits",
                "https://hub/lab/chips is there (private, holds release v1)",
                "  would send nothing",
                "  would remove c, of the release that is there",
            ],
        ),
        (
            {"exists": True, "private": False, "send": ("a",)},
            [
                "would make 3 files of chips, 1.0 MB of pixels before compression",
                "https://hub/lab/chips is there (public)",
                "  would send what differs of 1 file of chips and of the documents beside them, once built",
            ],
        ),
    ],
    ids=["new", "other", "by name"],
)
def test_a_dry_run_says_what_would_be_sent_and_removed(found, lines):
    nothing = {
        "private": None,
        "head": None,
        "send": (),
        "bytes_to_send": 0,
        "remove": (),
        "exact": False,
        "holds": None,
    }
    preview = Preview(repo="lab/chips", url="https://hub/lab/chips", **{**nothing, **found})
    kind = "model" if preview.exact else "dataset"
    done = Publication(
        kind=kind, folder=None, push=None, files=3, bytes=1_000_000, dry_run=True, load="", preview=preview
    )
    assert _plan_lines(done) == [*lines, "nothing was made or sent"]
