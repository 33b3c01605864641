"""Lines on stderr while something is counted: one that changes on a terminal, elsewhere a plain one now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from pwcat.sites.drawing import Drawn

__all__ = ["show_counts", "show_drawing"]

# Between plain lines; what takes less tells nothing.
SECONDS_APART = 10.0


class Tell(Protocol):
    """Told how far something is."""

    def __call__(self, done: int, total: int | None, *, title: str = "", words: str = "") -> None:
        """``title`` stands before the bar of a terminal, ``words`` in a plain line, both instead of the usual ones."""
        ...


@contextmanager
def show_counts(console: Console, what: str, *, clock: Callable[[], float] = time.monotonic) -> Iterator[Tell]:
    """A callback that is told how many are done, and of how many where that is known.

    Args:
        console: on stderr.
        what: is done.
        clock: seconds.
    """
    if not console.is_terminal:
        yield _plain(console, what, clock)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)

        def tell(done: int, total: int | None, *, title: str = "", words: str = "") -> None:
            bar.update(task, completed=done, total=total, description=title or what)

        yield tell


def _plain(console: Console, what: str, clock: Callable[[], float]) -> Tell:
    told = clock()

    def tell(done: int, total: int | None, *, title: str = "", words: str = "") -> None:
        nonlocal told
        if clock() - told >= SECONDS_APART:
            told = clock()
            counted = f"{done:,}" if total is None else f"{done:,} of {total:,}"
            console.print(f"{what}: {words or counted}", highlight=False, soft_wrap=True)

    return tell


@contextmanager
def show_drawing(console: Console, *, clock: Callable[[], float] = time.monotonic) -> Iterator[Callable[[Drawn], None]]:
    """A callback that shows how many sites are placed, and how many strata filled.

    Args:
        console: on stderr.
        clock: seconds.
    """
    what = "choosing sites"
    with show_counts(console, what, clock=clock) as tell:

        def show(drawn: Drawn) -> None:
            strata = f", {drawn.filled:,} of {drawn.strata:,} strata" if drawn.strata > 1 else ""
            words = f"{drawn.placed:,} of {drawn.wanted:,} sites{strata}, {drawn.tried:,} places tried"
            tell(drawn.placed, drawn.wanted, title=f"{what}{strata}", words=words)

        yield show
