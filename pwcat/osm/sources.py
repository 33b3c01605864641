"""Which map a plan was made from: a note of its file, so that another under the same name is not taken for it.

It lies beside the ledgers, as that of the recipe does, and is neither published nor part of any hash.
"""

from __future__ import annotations

import json
from hashlib import file_digest
from pathlib import Path
from typing import Any

from pwcat.atomic import replacing
from pwcat.errors import RecipeError

__all__ = ["note_map", "require_same_map"]


def _note_path(folder: Path) -> Path:
    return folder / "ledger" / "_map.json"


def note_map(folder: Path, source: Path) -> None:
    """Note the file of a collection's map."""
    path = _note_path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({**_cheap(source), "sha256": _digest(source)}) + "\n", encoding="utf-8")


def require_same_map(folder: Path, source: Path) -> None:
    """See that the file is the one that was noted; it need not be there any more, and a folder may have no note.

    Raises:
        RecipeError: it holds something else.
    """
    try:
        noted = json.loads(_note_path(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if not source.is_file() or noted.items() >= _cheap(source).items() or noted.get("sha256") == _digest(source):
        return
    raise RecipeError(
        f"{folder}: was made from another {source.name} than the one that lies there now ({source}). Remove the folder, or "
        "give the recipe another name; to go on with what is planned, put the former file back, or move this one away"
    )


def _cheap(source: Path) -> dict[str, Any]:
    """What differs of nearly all files that differ."""
    said = source.stat()
    return {"bytes": said.st_size, "modified_ns": said.st_mtime_ns}


def _digest(source: Path) -> str:
    with source.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
