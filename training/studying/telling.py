"""What happens in a study, as it happens: bars on a terminal, elsewhere a line a job."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from training.studying.running import Event

__all__ = ["Telling"]

MARKS = {
    "done": "[green]done[/]",
    "failed": "[red]failed[/]",
    "lost": "[yellow]lost[/]",
    "stopped": "[yellow]stopped[/]",
}


class Telling:
    """Tells of jobs; a context.

    Args:
        console: on stderr.
        total: jobs in all.
        done: of them before this began.
    """

    def __init__(self, console: Console, *, total: int, done: int) -> None:
        self._console, self._total, self._done = console, total, done
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bars = Progress(*columns, console=console, transient=True) if console.is_terminal else None
        self._all: TaskID | None = None
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
            self._all = self._bars.add_task("Jobs", total=self._total, completed=self._done)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Tell of an event."""
        with self._lock:
            self._done += event.what == "done"
            if self._bars:
                self._on_bars(self._bars, event)
            if event.what in MARKS:
                self._line(event)

    def _line(self, event: Event) -> None:
        words = f": {event.words}" if event.words else ""
        number = f"{self._done:>{len(str(self._total))}}/{self._total}"
        self._console.print(f"{number} {MARKS[event.what]} {event.job.name}{words}", highlight=False, soft_wrap=True)

    def _on_bars(self, bars: Progress, event: Event) -> None:
        name = event.job.name
        if event.what == "started":
            self._tasks[name] = bars.add_task(name, total=None)
        elif event.what == "under way" and name in self._tasks:
            words = f" [dim]{event.words}[/]" if event.words else ""
            bars.update(self._tasks[name], completed=event.done, total=event.total or None, description=name + words)
        elif name in self._tasks:
            bars.remove_task(self._tasks.pop(name))
        if self._all is not None:
            bars.update(self._all, completed=self._done)
