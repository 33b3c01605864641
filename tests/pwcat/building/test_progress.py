"""What is shown while a cube is built: a bar and its numbers on a terminal, elsewhere a line in five seconds at most."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pwcat.building.progress import numbers_of, show_build
from pwcat.building.standing import Standing


def standing(samples, **more):
    numbers = {"read": samples, "requests": 9_114, "transferred": 364_000_000, "retries": 2, "seconds": 20.0}
    return Standing(samples=samples, total=5_000, **numbers | more)


def test_rates_and_the_time_left_follow_from_what_was_read_in_this_run():
    now = standing(1_300, read=800)
    assert (now.chips_s, now.mb_s, now.seconds_left) == (40.0, 18.2, 3_700 / 40)
    assert Standing(samples=3, total=5).seconds_left is None
    assert standing(10, transferred=None).mb_s is None


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (standing(1_000), "50.0 chips/s, 18.2 MB/s, 9,114 requests, 2 retries, 80 s left"),
        (standing(1_000, seconds=1e4), "0.1 chips/s, 0.0 MB/s, 9,114 requests, 2 retries, 11 h 7 min left"),
        (standing(10, requests=None, transferred=None), "0.5 chips/s, 2 retries, 2 h 46 min left"),
        (standing(5_000), "250 chips/s, 18.2 MB/s, 9,114 requests, 2 retries"),
    ],
)
def test_the_numbers_fit_below_a_bar_of_eighty_columns(now, told):
    assert numbers_of(now) == told
    assert len(told) < 70


def test_elsewhere_a_line_is_told_every_five_seconds_at_most():
    told, seconds = io.StringIO(), iter([0, 0, 1, 5, 5, 9.9, 10.1, 10.1])
    console = Console(file=told, force_terminal=False, width=40)
    with show_build(console, clock=lambda: next(seconds)) as progress:
        progress.stage("plan", 5_000, 5_000)
        progress.standing(standing(0))
        for samples in (100, 200, 300, 400):
            progress.standing(standing(samples))
    assert told.getvalue().splitlines() == [
        "build: 200 of 5,000 samples, 10.0 chips/s, 18.2 MB/s, 9,114 requests, 2 retries, 8 min left",
        "build: 400 of 5,000 samples, 20.0 chips/s, 18.2 MB/s, 9,114 requests, 2 retries, 4 min left",
    ]


def test_while_nothing_is_done_it_is_told_what_is_at_work_and_for_how_long():
    told, now = io.StringIO(), 0.0
    console = Console(file=told, force_terminal=False, width=40)
    with show_build(console, clock=lambda: now) as progress:
        for now in range(1, 17):
            progress.standing(standing(0, requests=now, retries=1, flying=2, quiet_s=now))
        now = 25
        progress.stage("describe", 0, 5_000)
    assert told.getvalue().splitlines() == [
        "build: 0 of 5,000 samples, 0.0 chips/s, 18.2 MB/s, 5 requests, 1 retry",
        "build: 0 of 5,000 samples, 10 requests, 1 retry, 2 shards at work, none done for 10 s",
        "build: 0 of 5,000 samples, 15 requests, 1 retry, 2 shards at work, none done for 15 s",
        "describe: 0 of 5,000 samples",
    ]
    assert len(numbers_of(standing(5, flying=2, quiet_s=700))) < 70


def test_on_a_terminal_bars_and_numbers_fit_into_eighty_columns_and_go_away():
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=80, legacy_windows=False, color_system=None)
    with show_build(console) as progress:
        progress.stage("plan", 5_000, 5_000)
        progress.standing(standing(1_000))
    lines = shown.getvalue().replace("\r", "\n").splitlines()
    assert any("build" in line and "1000/5000" in line for line in lines)
    assert any("50.0 chips/s, 18.2 MB/s, 9,114 requests, 2 retries, 80 s left" in line for line in lines)
    assert all(len(line) <= 80 for line in lines if "\x1b" not in line)
    assert shown.getvalue().endswith("\x1b[2K")  # the last line is cleared
