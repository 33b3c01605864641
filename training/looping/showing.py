"""Lines on stderr while a model trains: a bar on a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from training.looping.records import Step

__all__ = ["Shown", "show_training"]

# Between plain lines; what takes less tells nothing.
SECONDS_APART = 30.0
RECENT = 50  # steps that rates are told over


class Shown(Protocol):
    """Told of every step; and before the first, of what is made ready."""

    def __call__(self, step: Step) -> None:
        """A step is done."""

    def preparing(self, what: str, done: int, total: int) -> None:
        """So many samples of so many are read, measured, or whatever is done with them."""


@contextmanager
def show_training(console: Console, name: str, *, clock: Callable[[], float] = time.monotonic) -> Iterator[Shown]:
    """What is told of every step, and shows loss, rates and the time that is left.

    Args:
        console: on stderr.
        name: of what is trained.
        clock: seconds.
    """
    if not console.is_terminal:
        yield _Lines(console, name, clock)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with _Bar(*columns, console=console, transient=True) as bar:
        yield _OnBar(bar, name)


class _Lines:
    """A plain line now and then."""

    def __init__(self, console: Console, name: str, clock: Callable[[], float]) -> None:
        self._console, self._name, self._clock = console, name, clock
        self._recent, self._told = _Recent(), clock()

    def __call__(self, step: Step) -> None:
        words = self._recent.words(step)
        self._tell(f"step {step.step:,} of {step.total_steps:,}, epoch {step.epoch + 1}, {words}")

    def preparing(self, what: str, done: int, total: int) -> None:
        self._tell(f"{what}, {done:,} of {total:,}")

    def _tell(self, words: str) -> None:
        if self._clock() - self._told >= SECONDS_APART:
            self._told = self._clock()
            self._console.print(f"{self._name}: {words}", highlight=False, soft_wrap=True)


class _OnBar:
    """A bar, and words below it."""

    def __init__(self, bar: _Bar, name: str) -> None:
        self._bar, self._recent = bar, _Recent()
        self._task = bar.add_task(name, total=None, words="")

    def __call__(self, step: Step) -> None:
        words = self._recent.words(step)
        self._bar.update(self._task, completed=step.step, total=step.total_steps, words=words)

    def preparing(self, what: str, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total, words=what)


class _Bar(Progress):
    """A bar with its words below it: beside it, a terminal of 80 columns would have room for neither."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """The lines, from above."""
        yield from super().get_renderables()
        for task in self.tasks:
            yield Text(task.fields["words"], no_wrap=True, overflow="ellipsis")


class _Recent:
    """The last steps, of which the rates that are shown are means."""

    def __init__(self) -> None:
        self._steps: deque[Step] = deque(maxlen=RECENT)

    def words(self, step: Step) -> str:
        """Loss, samples a second, share of time spent waiting, MFU, time left."""
        self._steps.append(step)
        seconds = [s.samples / s.samples_per_second for s in self._steps]
        rate = sum(s.samples for s in self._steps) / sum(seconds)
        waiting = sum(s.wait_share * t for s, t in zip(self._steps, seconds, strict=True)) / sum(seconds)
        mfu = sum(s.mfu * t for s, t in zip(self._steps, seconds, strict=True)) / sum(seconds)
        left = (step.total_steps - step.step) * sum(seconds) / len(seconds)
        return (
            f"loss {step.loss:.4f}, {rate:,.0f} samples/s, {waiting:.0%} waiting for data, MFU {mfu:.0%}, "
            f"{_duration(left)} left"
        )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
