"""Files appear whole or not at all."""

from __future__ import annotations

import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

__all__ = [
    "DroppedError",
    "beside",
    "droppable",
    "find_leftovers",
    "leftovers_of",
    "remove_leftovers",
    "replacing",
    "replacing_by_name",
]

SUFFIX = ".partial"

# A leftover of a process that cannot be asked after (another host's, say) is taken for dead after this long.
ABANDONED_AFTER_S = 3600.0

_is_dropped: ContextVar[Callable[[], bool]] = ContextVar("is_dropped", default=lambda: False)


class DroppedError(Exception):
    """Work whose outcome nobody waits for any more was about to write it. Not for users: it ends that work, in its thread."""


@contextmanager
def droppable(is_dropped: Callable[[], bool]) -> Iterator[None]:
    """Let no file appear from this block, in this thread, once the question is answered with yes.

    Threads cannot be killed: one that is given up goes on until it comes to write, and no further.
    """
    token = _is_dropped.set(is_dropped)
    try:
        yield
    finally:
        _is_dropped.reset(token)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``; what was written there takes its place at the end, or is removed on an error.

    Raises:
        DroppedError: see :func:`droppable`.
    """
    if _is_dropped.get()():
        raise DroppedError(f"{path} is not wanted any more")
    temporary = beside(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_by_name(path: Path) -> Iterator[Path]:
    """As :func:`replacing`, for writers that go by a file's name: the temporary path bears the name of ``path``.

    It lies in a folder of its own, which takes with it whatever else such a writer leaves there.
    """
    folder = beside(path)
    folder.mkdir()
    try:
        yield folder / path.name
        (folder / path.name).replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def beside(path: Path) -> Path:
    """A name of nothing yet that says which process of which computer made it."""
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}.{uuid.uuid4().hex[:8]}{SUFFIX}")


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", platform.node())[:40]


def find_leftovers(folder: Path) -> list[Path]:
    """Files and folders that killed processes left half-written below a folder."""
    return [path for path in folder.rglob(f".*{SUFFIX}") if _is_abandoned(path)]


def leftovers_of(path: Path) -> list[Path]:
    """Files and folders that killed processes left half-written beside a path, to take its place."""
    named = re.compile(rf"\.{re.escape(path.name)}\.[A-Za-z0-9_]*-\d+\.[0-9a-f]{{8}}{re.escape(SUFFIX)}")
    there = path.parent.iterdir() if path.parent.is_dir() else ()
    return sorted(one for one in there if named.fullmatch(one.name) and _is_abandoned(one))


def remove_leftovers(folder: Path) -> int:
    """Remove what killed processes left half-written in a folder; return how many files and folders that were."""
    leftovers = find_leftovers(folder)
    for leftover in leftovers:
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
    return len(leftovers)


def _is_abandoned(path: Path) -> bool:
    host, _, pid = path.name.removesuffix(SUFFIX).rsplit(".", 2)[-2].rpartition("-")
    if host in ("", _host()):
        try:
            os.kill(int(pid), 0)
        except (ProcessLookupError, ValueError):
            return True
        except PermissionError:
            pass  # alive, and somebody else's
    try:
        return time.time() - path.stat().st_mtime > ABANDONED_AFTER_S
    except FileNotFoundError:
        return False
