"""Datasets that were copied from others rather than built here: the note that tells them, and what cannot be done with them.

A copy has chips, items and statistics as any dataset, and a ledger that names the checksum of each shard. It has no plan and no
scenes, so that it is not built: ``origin.json`` in its folder says where it comes from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pwcat.errors import PwcatError

__all__ = ["ORIGIN", "origin_words", "read_origin", "require_no_copy"]

ORIGIN: Final = "origin.json"


def read_origin(folder: Path) -> dict[str, Any] | None:
    """What a folder's note says of where it comes from; ``None`` where it was not copied.

    Raises:
        PwcatError: the note cannot be read.
    """
    path = folder / ORIGIN
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise PwcatError(f"{path}: cannot be read ({exc}); remove {folder} and copy it again") from exc
    if not isinstance(document, dict):
        raise PwcatError(f"{path}: is no JSON object; remove {folder} and copy it again")
    return document


def origin_words(origin: Mapping[str, Any]) -> str:
    """Where a copy comes from, in a few words: ``org/name at 0123456789ab``."""
    source = str(origin.get("repository") or origin.get("source") or "another catalog")
    revision = origin.get("revision")
    return f"{source} at {str(revision)[:12]}" if revision else source


def require_no_copy(folder: Path, *, doing: str) -> None:
    """Refuse what needs a plan in the folder of a copy.

    Args:
        folder: of a dataset, which may not be there.
        doing: what was asked for: ``build``.

    Raises:
        PwcatError: it is a copy; says what to do instead.
    """
    if (origin := read_origin(folder)) is not None:
        raise PwcatError(
            f"{folder}: is a copy from {origin_words(origin)} and has no plan and no scenes, so that there is nothing to "
            f"{doing}: it is whole as it is. To make the dataset of its recipe anew, do so in another catalog (--catalog DIR)"
        )
