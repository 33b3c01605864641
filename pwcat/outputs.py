"""Files that a command is asked to write: whether they can be, seen before anything else is done."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pwcat.errors import PwcatError

__all__ = ["require_output", "require_same_kind"]


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


def require_same_kind(path: Path | None, note: bytes, option: str) -> None:
    """See that a Parquet file can be written, and takes the place of nothing, or of one of its own kind.

    A slip of the pen would cost a dataset its items otherwise.

    Args:
        path: as it was asked for; ``None`` where it was not.
        note: key of the metadata that such files have.
        option: of the command line that names the file.

    Raises:
        PwcatError: something else lies there, or nothing can be written there.
    """
    require_output(path, (".parquet",), option)
    if path is None or not path.exists():
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        notes = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException):
        notes = {}
    if note not in notes:
        raise PwcatError(f"{option} {path}: is there already and is something else; take another name")
