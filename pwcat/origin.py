"""Where the recipe of a dataset lay when it was planned or built: a note for the doctor, of this computer alone.

It lies beside the ledgers, under a name that readers of their Parquet skip, and is neither published nor part of any hash.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from pwcat.atomic import replacing
from pwcat.errors import RecipeError
from pwcat.recipe import Recipe, load_recipe

__all__ = ["forget_recipe", "note_recipe", "noted_recipe", "origin_path"]


def origin_path(folder: Path) -> Path:
    """Where the note lies, in a collection's folder."""
    return folder / "ledger" / "_recipe.json"


def note_recipe(folder: Path, recipe_file: Path) -> None:
    """Note a recipe's file, by its path from the collection's folder; where nothing can be written, nothing is noted."""
    path = origin_path(folder)
    try:
        told = os.path.relpath(recipe_file.resolve(), folder.resolve())
    except ValueError:  # another drive of Windows
        told = str(recipe_file.resolve())
    text = json.dumps({"path": Path(told).as_posix()}) + "\n"
    with suppress(OSError):
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")


def forget_recipe(folder: Path) -> None:
    """Remove the note, and the folders that hold nothing else."""
    with suppress(OSError):
        path = origin_path(folder)
        path.unlink(missing_ok=True)
        path.parent.rmdir()
        folder.rmdir()


def noted_recipe(folder: Path) -> tuple[Path, Recipe] | None:
    """The file that was noted, and the recipe in it; ``None`` where nothing is noted, or no recipe lies there any more."""
    try:
        told = Path(json.loads(origin_path(folder).read_text(encoding="utf-8"))["path"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    short = Path(os.path.normpath(folder / told))
    path = short if short.is_file() else (folder.resolve() / told).resolve()  # links on the way
    try:
        return path, load_recipe(path)
    except RecipeError:
        return None
