"""Lines on stderr while a cube is built: a bar and its numbers on a terminal, elsewhere a plain line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from pwcat.building.standing import Standing

__all__ = ["BuildProgress", "show_build"]

# Between plain lines; a build that takes less tells nothing.
SECONDS_APART = 5.0
# Where no shard is done for so long, what is at work says more than rates.
QUIET_S = 10.0


class BuildProgress:
    """What a build tells: its stages by name with samples done and in all, and within "build" its standing."""

    def stage(self, name: str, done: int, total: int) -> None:
        """A stage has come so far."""

    def standing(self, standing: Standing) -> None:
        """Chips have been read and written so far."""


@contextmanager
def show_build(console: Console, *, clock: Callable[[], float] = time.monotonic) -> Iterator[BuildProgress]:
    """Show how a build comes along; nothing of it is left on a terminal.

    Args:
        console: on stderr.
        clock: seconds.
    """
    if not console.is_terminal:
        yield _Plain(console, clock)
        return
    bars = _Bars(
        TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console, transient=True,
    )  # fmt: skip
    with bars:
        yield _Shown(bars)


class _Bars(Progress):
    """A bar a stage, and a line of numbers below them."""

    numbers = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bars, then the line."""
        yield from super().get_renderables()
        if self.numbers:
            yield Text(self.numbers, no_wrap=True, overflow="ellipsis", style="progress.remaining")


class _Shown(BuildProgress):
    """On a terminal."""

    def __init__(self, bars: _Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def stage(self, name: str, done: int, total: int) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total)
        self._bars.update(self._tasks[name], completed=done)

    def standing(self, standing: Standing) -> None:
        self.stage("build", standing.samples, standing.total)
        self._bars.numbers = f"{'':<9} {numbers_of(standing)}" if standing.read or standing.flying else ""


class _Plain(BuildProgress):
    """Where there is no terminal."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._console, self._clock = console, clock
        self._told = clock()

    def stage(self, name: str, done: int, total: int) -> None:
        if name != "build":  # its standing says more
            self._tell(lambda: f"{name}: {done:,} of {total:,} samples")

    def standing(self, standing: Standing) -> None:
        if standing.read or standing.flying:
            self._tell(lambda: f"build: {standing.samples:,} of {standing.total:,} samples, {numbers_of(standing)}")

    def _tell(self, line: Callable[[], str]) -> None:
        if self._clock() - self._told >= SECONDS_APART:
            self._told = self._clock()
            self._console.print(line(), highlight=False, soft_wrap=True)


def numbers_of(standing: Standing) -> str:
    """Rates, requests and the time that is left, in less than 70 characters; where nothing comes, what is at work."""
    quiet = standing.flying > 0 and standing.quiet_s >= QUIET_S
    parts = [] if quiet else [f"{_short(standing.chips_s)} chips/s"]
    if standing.mb_s is not None and not quiet:
        parts.append(f"{_short(standing.mb_s)} MB/s")
    if standing.requests is not None:
        parts.append(f"{standing.requests:,} requests")
    parts.append(f"{standing.retries:,} {'retry' if standing.retries == 1 else 'retries'}")
    if quiet:
        shards = "1 shard" if standing.flying == 1 else f"{standing.flying:,} shards"
        parts.append(f"{shards} at work, none done for {_span(standing.quiet_s)}")
    elif standing.seconds_left:
        parts.append(f"{_span(standing.seconds_left)} left")
    return ", ".join(parts)


def _short(rate: float) -> str:
    """A rate with one digit after the point, where that says something."""
    return f"{rate:,.0f}" if rate >= 99.95 else f"{rate:.1f}"


def _span(seconds: float) -> str:
    """A span of time in the largest units that fit: 45 s, 12 min, 3 h 20 min, 5 d 3 h."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
