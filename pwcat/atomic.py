"""Files appear whole or not at all."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["remove_leftovers", "replacing"]

SUFFIX = ".partial"

# A leftover of a process that cannot be asked after (another host's, say) is taken for dead after this long.
ABANDONED_AFTER_S = 3600.0


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``; what was written there takes its place at the end, or is removed on an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}{SUFFIX}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> int:
    """Remove what killed processes left half-written in a folder; return how many files that were."""
    leftovers = [path for path in folder.rglob(f".*{SUFFIX}") if _is_abandoned(path)]
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)
    return len(leftovers)


def _is_abandoned(path: Path) -> bool:
    pid = path.name.removesuffix(SUFFIX).rsplit(".", 2)[-2]
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
