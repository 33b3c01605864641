"""Lines on stderr while sites are drawn: one that changes on a terminal, elsewhere a plain one now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pwcat.sites.drawing import Drawn

__all__ = ["show_drawing"]

# Between plain lines; a draw that takes less tells nothing.
SECONDS_APART = 10.0


@contextmanager
def show_drawing(console: Console, *, clock: Callable[[], float] = time.monotonic) -> Iterator[Callable[[Drawn], None]]:
    """A callback that shows how many sites are placed, and how many strata filled.

    Args:
        console: on stderr.
        clock: seconds.
    """
    if not console.is_terminal:
        yield _plain(console, clock)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("choosing sites", total=None)
        yield lambda drawn: bar.update(
            task, completed=drawn.placed, total=drawn.wanted, description=f"choosing sites{_strata(drawn)}"
        )


def _plain(console: Console, clock: Callable[[], float]) -> Callable[[Drawn], None]:
    told = clock()

    def tell(drawn: Drawn) -> None:
        nonlocal told
        if clock() - told >= SECONDS_APART:
            told = clock()
            sites = f"{drawn.placed:,} of {drawn.wanted:,} sites{_strata(drawn)}, {drawn.tried:,} places tried"
            console.print(f"choosing sites: {sites}", highlight=False, soft_wrap=True)

    return tell


def _strata(drawn: Drawn) -> str:
    return f", {drawn.filled:,} of {drawn.strata:,} strata" if drawn.strata > 1 else ""
