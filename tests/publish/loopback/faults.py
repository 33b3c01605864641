"""What goes wrong, or happens meanwhile, as planned by a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

STORM = [500, 503, 504, 429, "drop", "hangup", "lost", "truncate"]
# Beside status codes. What each does is said at ``LoopbackHub.fail``.
KINDS = {"stall", "lost", "drop", "hangup", "cut", "truncate"}


@dataclass
class Planned:
    """Concerns ``times`` requests of that method (``*``: any) whose path holds ``path``, after the first ``after``."""

    method: str
    path: str
    times: int
    after: int

    def takes(self, method, path):
        if self.times <= 0 or self.method not in ("*", method) or self.path not in path:
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.times -= 1
        return True


@dataclass
class Fault(Planned):
    status: int | str


@dataclass
class Hook(Planned):
    """A callback that runs in the server's thread: before a request is worked on, or before it is answered."""

    callback: Callable[[], object]
    before: bool


def parse(schedule, after):
    """Faults of ``"METHOD:path:status:times"`` entries parted by commas, as ``"PUT:/lfs/:503:2"``."""
    for entry in schedule.split(","):
        method, rest = entry.strip().split(":", 1)
        path, status, times = rest.rsplit(":", 2)
        if not status.isdigit() and status not in KINDS:
            raise ValueError(f"{status!r} is no fault: give a status code or one of {', '.join(sorted(KINDS))}")
        yield Fault(method, path, int(times), after, int(status) if status.isdigit() else status)
