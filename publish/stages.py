"""Stages of a long command: a bar each on a terminal, a line each elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

__all__ = ["Stages"]


class Stages:
    """Shows the stages of a command as they go."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._said = ""

    def __enter__(self) -> Stages:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    @contextmanager
    def stage(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """One stage: yields a callback for what is done, and of how much."""
        started = time.monotonic()
        task: TaskID = self._progress.add_task(title, total=None)
        self._said = ""
        yield lambda done, total: self._progress.update(task, completed=done, total=total)
        self._progress.update(task, completed=1, total=1)
        if not self._console.is_terminal:
            self._console.print(
                f"{title}: {self._said} ({time.monotonic() - started:.1f} s)", highlight=False, soft_wrap=True
            )

    def say(self, text: str) -> None:
        """What came of the stage; shown where there are no bars."""
        self._said = text
