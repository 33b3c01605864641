"""Recipes that come with pwcat: those of the papers that it reproduces, and a few more. One YAML file each."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from pwcat.atomic import replacing
from pwcat.errors import RecipeError

if TYPE_CHECKING:
    from pwcat.osm.document import MapRecipe
    from pwcat.recipe import Recipe

__all__ = ["copy_recipe", "list_recipes", "load_builtin", "recipe_text"]

FOLDER = Path(__file__).parent


def list_recipes() -> list[str]:
    """Names of the recipes, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def recipe_text(name: str) -> str:
    """A recipe as it is written, comments included.

    Raises:
        RecipeError: there is none of that name; names the close ones, or all.
    """
    return _path(name).read_text(encoding="utf-8")


def load_builtin(name: str) -> Recipe | MapRecipe:
    """A recipe of either kind, checked.

    Raises:
        RecipeError: there is none of that name.
    """
    from pwcat.osm.document import load_any_recipe

    return load_any_recipe(_path(name))


def copy_recipe(name: str, to: Path) -> Path:
    """Copy a recipe, to be changed, and return where it is.

    Args:
        name: of the recipe.
        to: a file that is not there yet, or a folder.

    Raises:
        RecipeError: there is none of that name, or the file is there already.
    """
    text = recipe_text(name)
    target = to / f"{name}.yaml" if to.is_dir() or to.suffix not in {".yaml", ".yml"} else to
    if target.exists():
        raise RecipeError(f"{target} is there already, and is not replaced: remove it, or give another name")
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return target


def _path(name: str) -> Path:
    names = list_recipes()
    if name in names:
        return FOLDER / f"{name}.yaml"
    folded = name.casefold().replace("_", "-").replace(" ", "-")
    parts = [known for known in names if folded and folded in known]
    close = list(dict.fromkeys([*parts, *difflib.get_close_matches(folded, names, n=3, cutoff=0.5)]))
    hint = f"did you mean {' or '.join(map(repr, close[:3]))}? " if close else ""
    raise RecipeError(f"no built-in recipe {name!r}: {hint}There are {', '.join(names)}")
