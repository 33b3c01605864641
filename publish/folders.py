"""The folder of a publication while it is built: it appears whole or not at all, and what killed builds left goes."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from publish.manifest import MANIFEST, check_sizes, read_manifest
from pwcat.atomic import beside, leftovers_of
from pwcat.errors import PublishError

__all__ = ["building", "is_built"]

# No room: on the disk, of the user's share of it, for a file of that size.
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_built(folder: Path, header: Mapping[str, Any]) -> bool:
    """Whether a whole folder of exactly this header lies there already."""
    if not (folder / MANIFEST).is_file():
        return False
    there, records = read_manifest(folder)
    return there == header and not check_sizes(folder, records)


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that takes its place at the end, or is removed on an error.

    What builds of the same folder left that were killed is removed first: theirs alone, and none of one that is at work.

    Raises:
        PublishError: ``folder`` exists and is neither empty nor a publication of ours, or there is no room for it.
    """
    _restore(folder)
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise PublishError(
            f"{folder} exists and is no publication (no {MANIFEST}): give another folder, or an empty one"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(folder)
    try:
        temporary.mkdir()
        yield temporary
        _replace(folder, temporary)
    except OSError as exc:
        if exc.errno not in _FULL:
            raise
        raise PublishError(
            f"{folder} was not built: {os.strerror(exc.errno)} below {folder.parent}; free some, or give a folder on a larger "
            "disk. Nothing of it was left there"
        ) from exc
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(folder: Path, by: Path) -> None:
    """Put one folder in another's place; where the process is killed in between, both lie beside it, and one comes back."""
    former = beside(folder)
    if folder.exists():
        folder.rename(former)
    try:
        by.rename(folder)
    except BaseException:
        if former.exists():
            former.rename(folder)
        raise
    shutil.rmtree(former, ignore_errors=True)


def _restore(folder: Path) -> None:
    """Remove what killed builds left; one that was killed while it replaced a folder left a whole one, which comes back."""
    for leftover in leftovers_of(folder):
        if not folder.exists() and _is_whole(leftover):
            leftover.rename(folder)
        shutil.rmtree(leftover, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    try:
        return not check_sizes(folder, read_manifest(folder)[1])
    except PublishError:
        return False
