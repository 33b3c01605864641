"""How far a push has come: in steps, files and bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = ["PushProgress", "PushState", "Step", "silent"]

Step = Literal["checking", "sending", "committing", "verifying", "tagging", "opening"]


@dataclass(frozen=True, kw_only=True)
class PushState:
    """Where a push is.

    Attributes:
        step: What is being done: ``opening`` makes the repository public.
        files: Files that have arrived, of ``files_total``.
        bytes: Their size, of ``bytes_total``. A file counts once it has arrived whole.
    """

    step: Step
    files: int = 0
    files_total: int = 0
    bytes: int = 0
    bytes_total: int = 0


PushProgress = Callable[[PushState], None]


def silent(state: PushState) -> None:
    """No progress."""
