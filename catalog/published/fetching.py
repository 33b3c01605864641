"""Fetching from far away: several at once, and what lies close together at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["in_parallel", "merged"]

S = TypeVar("S")
T = TypeVar("T")

# What waits for the net, not for a processor.
THREADS = 8
# Gaps between stretches that are fetched along rather than asked for by themselves.
GAP_BYTES = 64 << 10


def in_parallel(work: Callable[[S], T], things: Sequence[S]) -> list[T]:
    """Something done for each of some things, several at once, in their order."""
    if len(things) < 2:
        return [work(thing) for thing in things]
    with ThreadPoolExecutor(min(THREADS, len(things))) as pool:
        return list(pool.map(work, things))


def merged(stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Stretches of a file, start and end, ascending; those with small gaps between them as one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(stretches):
        if found and start - found[-1][1] <= GAP_BYTES:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found
