"""What is told before the first step of a training."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Preparing", "in_silence"]

# Told what is done before the first step, and how many samples of how many.
Preparing = Callable[[str, int, int], None]


def in_silence(what: str, done: int, total: int) -> None:
    """Told nothing."""
