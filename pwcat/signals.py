"""SIGTERM ends a command as Ctrl-C does: what is open is closed, and nothing half-written is left."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["TerminatedError", "terminable"]


class TerminatedError(KeyboardInterrupt):
    """The process was asked to end (SIGTERM), as batch systems do before they kill."""


@contextmanager
def terminable() -> Iterator[None]:
    """Raise :class:`TerminatedError` in the block on SIGTERM; in the main thread alone, for others cannot set that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        raise TerminatedError

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
