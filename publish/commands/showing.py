"""Progress of building and pushing: bars on a terminal, a plain line every few seconds elsewhere, nothing where asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from publish.commands.sizes import told_bytes
from publish.pushing.progress import PushState

__all__ = ["Show", "showing"]

LINE_EVERY_S = 5.0
STEPS = {
    "checking": "checking limits and the repository",
    "sending": "sending",
    "committing": "committing",
    "verifying": "verifying checksums",
    "tagging": "setting the release",
    "opening": "making it public",
}


class Show:
    """Shows how far a build, then a push is. This one shows nothing."""

    def chips(self, done: int, total: int) -> None:
        """So many chips of so many are written."""

    def push(self, state: PushState) -> None:
        """The push has come so far."""


class Lines(Show):
    """A line on stderr when a step begins or ends, and every few seconds between."""

    def __init__(self) -> None:
        self._last = 0.0
        self._step = ""

    def chips(self, done: int, total: int) -> None:
        """So many chips of so many are written."""
        self._tell("chips", f"building: {done:,} of {total:,} chips", ends=done == total)

    def push(self, state: PushState) -> None:
        """The push has come so far."""
        if state.step == "sending":
            self._tell("sending", f"sending: {told_state(state)}", ends=state.files == state.files_total)
        else:
            self._tell(state.step, STEPS[state.step], ends=False)

    def _tell(self, step: str, line: str, *, ends: bool) -> None:
        now = time.monotonic()
        if ends or step != self._step or now - self._last >= LINE_EVERY_S:
            click.echo(line, err=True)
            self._last, self._step = now, step


class Bars(Show):
    """Bars of rich; lines that are logged meanwhile stand above them."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._chips: TaskID | None = None
        self._push: TaskID | None = None

    def chips(self, done: int, total: int) -> None:
        """So many chips of so many are written."""
        if self._chips is None:
            self._chips = self._bars.add_task("building", told="")
        self._bars.update(self._chips, completed=done, total=total, told=f"{done:,} of {total:,} chips")

    def push(self, state: PushState) -> None:
        """The push has come so far."""
        if self._push is None:
            self._push = self._bars.add_task("", total=None, told="")
        sending = state.step == "sending" and state.bytes_total > 0
        self._bars.update(
            self._push,
            description=STEPS[state.step],
            completed=state.bytes if sending else 0,
            total=state.bytes_total if sending else None,
            told=told_state(state) if sending else "",
        )


def told_state(state: PushState) -> str:
    """Files and bytes that have arrived, in words."""
    return (
        f"{state.files:,} of {state.files_total:,} files, {told_bytes(state.bytes)} of {told_bytes(state.bytes_total)}"
    )


@contextmanager
def showing(*, quiet: bool) -> Iterator[Show]:
    """Show progress on stderr for as long as the block runs; ``quiet`` shows nothing. The Hub client's own bars are off."""
    disable_progress_bars()
    console = Console(stderr=True)
    if quiet:
        yield Show()
    elif not console.is_terminal:
        yield Lines()
    else:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=console, transient=True) as bars:
            yield Bars(bars)
