"""Files that a command is asked to write: whether they can be, seen before anything else is done."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pwcat.errors import PwcatError

__all__ = ["require_output"]


def require_output(path: Path | None, formats: Sequence[str], option: str) -> None:
    """See that a file can be written, and in which format; its folder is made.

    Args:
        path: as it was asked for; ``None`` where it was not.
        formats: endings that are written, with their dots, in lower case.
        option: of the command line that names the file.

    Raises:
        PwcatError: the name ends otherwise, or nothing can be written there.
    """
    if path is None:
        return
    if path.suffix.lower() not in formats:
        raise PwcatError(f"{option} {path}: the file must end in {', '.join(formats)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise PwcatError(f"{option} {path}: its folder cannot be made ({exc.strerror}); name another") from exc
    if path.is_dir():
        raise PwcatError(f"{option} {path}: a folder of this name is there; name another")
    if not os.access(path.parent, os.W_OK):
        raise PwcatError(f"{option} {path}: nothing can be written into its folder; name another")
