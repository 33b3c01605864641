"""One process at a time: a lock that a process holds as long as it lives, however it ends."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pwcat.errors import PwcatError

try:
    import fcntl
except ImportError:  # Windows: nobody is kept out
    fcntl = None  # type: ignore[assignment]

__all__ = ["holder_of", "locked"]


@contextmanager
def locked(path: Path, *, doing: str) -> Iterator[None]:
    """Hold a file's lock for the length of a block; the file stays, and says who held it last.

    The system lets go of it with the process, so that a killed one keeps nobody out.

    Args:
        path: of the lock; its folder is made.
        doing: what the block does, for those who are kept out: ``a build of x``.

    Raises:
        PwcatError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                file.seek(0)
                raise PwcatError(
                    f"{doing} is at work already ({file.read().strip() or 'who is not known'}); wait for its end, or stop it: "
                    "then the same command goes on from there"
                ) from exc
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node() or 'this computer'}\n")
        file.flush()
        yield


def holder_of(path: Path) -> str | None:
    """Who holds a lock, as they call themselves; ``None`` where nobody does, or nobody can be kept out."""
    if fcntl is None or not path.is_file():
        return None
    with path.open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().strip() or "who is not known"
    return None
