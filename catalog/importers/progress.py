"""How far adding a dataset has come, on stderr: a bar on a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

__all__ = ["show_adding"]

# Between plain lines; what takes less tells nothing.
SECONDS_APART = 10.0

OnAdded = Callable[[int, int | None], None]


@contextmanager
def show_adding(console: Console, *, clock: Callable[[], float] = time.monotonic) -> Iterator[OnAdded]:
    """A callback that is told samples done, and samples in all.

    Args:
        console: on stderr.
        clock: seconds.
    """
    if not console.is_terminal:
        yield _plain(console, clock)
        return
    columns = (TextColumn("reading samples"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _plain(console: Console, clock: Callable[[], float]) -> OnAdded:
    told = clock()

    def tell(done: int, total: int | None) -> None:
        nonlocal told
        if clock() - told >= SECONDS_APART:
            told = clock()
            of = "" if total is None else f" of {total:,}"
            console.print(f"reading samples: {done:,}{of}", highlight=False, soft_wrap=True)

    return tell
