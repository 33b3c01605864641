"""One process at a time: a lock that a process holds as long as it lives, however it ends."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pwcat.errors import BusyError, PwcatError

try:
    import fcntl
except ImportError:  # Windows: nobody is kept out
    fcntl = None  # type: ignore[assignment]

__all__ = ["holder_of", "locked", "locked_in_turn"]

log = logging.getLogger(__name__)

ASK_EVERY_S = 0.1
SILENT_S = 2.0  # a wait that is longer is told


@contextmanager
def locked(path: Path, *, doing: str) -> Iterator[None]:
    """Hold a file's lock for the length of a block; the file stays, and says who held it last.

    The system lets go of it with the process, so that a killed one keeps nobody out.

    Args:
        path: of the lock; its folder is made.
        doing: what the block does, for those who are kept out: ``a build of x``.

    Raises:
        BusyError: another process holds it.
        PwcatError: the file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        if not _take(file, path):
            raise BusyError(
                f"{doing} is at work already ({_said_in(file)}); wait for its end, or stop it: then the same command goes on "
                "from there"
            )
        _sign(file)
        yield


@contextmanager
def locked_in_turn(path: Path, *, doing: str) -> Iterator[None]:
    """Wait for a file's lock, and hold it for the length of a block; the file goes with it, and the folders made for it too.

    Folders that have come to hold something stay. A wait that takes longer than a moment is told in one line.

    Args:
        path: of the lock; its folder is made.
        doing: what the block does, for those who wait: ``a plan of x``.

    Raises:
        PwcatError: the file system has no locks.
    """
    made: list[Path] = []
    try:
        with _wait(path, doing, made) as file:
            _sign(file)
            try:
                yield
            finally:  # while it is held: whoever waits sees that it is gone, and makes it anew
                with suppress(OSError):  # Windows keeps what is open
                    path.unlink(missing_ok=True)
    finally:
        for folder in made:
            with suppress(OSError):  # not empty
                folder.rmdir()


def _wait(path: Path, doing: str, made: list[Path]) -> IO[str]:
    """The lock's file, open and locked; folders that were made for it are added to ``made``, the innermost first."""
    started, told = time.monotonic(), False
    while True:
        made += [folder for folder in path.parents if not folder.exists()]
        with suppress(FileNotFoundError):  # its folder went with another's lock
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+", encoding="utf-8")
            if _holds(file, path):
                return file
            holder = _said_in(file)
            file.close()
            if not told and time.monotonic() - started > SILENT_S:
                log.warning("%s is at work (%s); waiting for its end", doing, holder)
                told = True
        time.sleep(ASK_EVERY_S)


def _holds(file: IO[str], path: Path) -> bool:
    """Lock an open file; say whether that is done, and the file is still the one that others find at its path."""
    try:
        return _take(file, path) and os.path.samestat(os.fstat(file.fileno()), path.stat())
    except PwcatError:  # nobody can hold it
        file.close()
        path.unlink(missing_ok=True)
        raise
    except BaseException:  # FileNotFoundError where another has just let go of it
        file.close()
        raise


def _take(file: IO[str], path: Path) -> bool:
    """Lock an open file; say whether nobody else had it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as exc:
        raise PwcatError(
            f"{path} cannot be locked ({exc.strerror}), so that two processes could spoil each other's work; "
            "use a folder of a file system that has locks"
        ) from exc
    return True


def _sign(file: IO[str]) -> None:
    """Write down who holds it."""
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node() or 'this computer'}\n")
    file.flush()


def _said_in(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip() or "who is not known"


def holder_of(path: Path) -> str | None:
    """Who holds a lock, as they call themselves; ``None`` where nobody does, or nobody can be kept out."""
    if fcntl is None or not path.is_file():
        return None
    with path.open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _said_in(file)
        except OSError:  # a file system without locks
            return None
    return None
