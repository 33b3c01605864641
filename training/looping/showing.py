"""Lines on stderr while a model trains: a bar on a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from training.looping.records import Step

__all__ = ["show_training"]

# Between plain lines; what takes less tells nothing.
SECONDS_APART = 30.0
RECENT = 50  # steps that rates are told over


@contextmanager
def show_training(
    console: Console, name: str, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[Step], None]]:
    """A callback that is told of every step, and shows loss, rates and the time that is left.

    Args:
        console: on stderr.
        name: of what is trained.
        clock: seconds.
    """
    recent = _Recent()
    if not console.is_terminal:
        told = clock()

        def tell(step: Step) -> None:
            nonlocal told
            words = recent.words(step)
            if clock() - told >= SECONDS_APART:
                told = clock()
                line = f"{name}: step {step.step:,} of {step.total_steps:,}, epoch {step.epoch + 1}, {words}"
                console.print(line, highlight=False, soft_wrap=True)

        yield tell
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with _Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(name, total=None, words="")

        def show(step: Step) -> None:
            bar.update(task, completed=step.step, total=step.total_steps, words=recent.words(step))

        yield show


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
