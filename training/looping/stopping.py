"""When a run stops before its end: asked by a signal, or at the end of the time that it was given."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pwcat.signals import TerminatedError

__all__ = ["Stop", "listening"]

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Whether training is to stop with a checkpoint, and why.

    Args:
        max_minutes: of this part of the run; ``None`` for no limit.
    """

    def __init__(self, *, max_minutes: float | None = None) -> None:
        self._until = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self.signal: int | None = None

    def is_due(self) -> bool:
        """Whether this process was asked to stop, or its time is up."""
        return self.signal is not None or (self._until is not None and time.monotonic() >= self._until)

    def raise_for_signal(self) -> None:
        """End as the signal would have ended it; do nothing where none came."""
        if self.signal == signal.SIGTERM:
            raise TerminatedError("stopped by SIGTERM, after a checkpoint")
        if self.signal is not None:
            raise KeyboardInterrupt("stopped by SIGINT, after a checkpoint")


@contextmanager
def listening(stop: Stop, *, patient: bool = False) -> Iterator[Stop]:
    """Note SIGTERM and SIGINT in the block instead of ending; in the main thread alone, for others cannot.

    A second Ctrl-C ends at once, for whoever has no patience; batch systems may send SIGTERM more than once, and mean one stop.

    Args:
        stop: is told.
        patient: go by the first signal alone; torchrun passes on what the terminal has sent already.
    """
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, frame: object) -> None:
        if stop.signal is not None and number == signal.SIGINT and not patient:
            raise KeyboardInterrupt("asked to stop twice")
        stop.signal = number

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
