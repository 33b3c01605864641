"""Commands that mend: what they are called with, and that nothing is removed before it is sure that it can be made again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pwcat.errors import RecipeError
from pwcat.origin import noted_recipe
from pwcat.recipe import Recipe, load_recipe

__all__ = ["UNKNOWN", "Mending"]

UNKNOWN = "RECIPE"


@dataclass(frozen=True, kw_only=True)
class Mending:
    """Commands for one dataset.

    Attributes:
        folder: of the dataset.
        given: the file that its recipe is said to be in, if any.
    """

    folder: Path
    given: Path | None

    @property
    def build(self) -> str:
        """The command that builds it, or goes on doing so."""
        return self._command("build", self._name)

    @property
    def plan(self) -> str:
        """The command that plans it, or goes on doing so."""
        return self._command("plan", self._name)

    def rm(self, *paths: Path) -> str:
        """Remove some files, and build again."""
        return f"{self._sure}rm -r {shlex.join(map(str, paths))} && {self.build}"

    def anew(self) -> str:
        """Remove all, and build the recipe that is given; a noted one is as old as the plan, one within would be removed."""
        given = self.given is not None and not self.given.resolve().is_relative_to(self.folder.resolve())
        name, sure = (self._name, "") if given else (UNKNOWN, f"test -f {UNKNOWN} && ")
        return f"{sure}rm -r {shlex.quote(str(self.folder))} && {self._command('build', name)}"

    def put_back(self, recipe: Recipe | None) -> str:
        """What mends a copy of the recipe that is not the plan's: the very recipe put back, else all made again."""
        known = [(self.given, recipe)] if self.given is not None and recipe is not None else []
        noted = noted_recipe(self.folder)
        for path, one in (*known, *([noted] if noted else [])):
            if path is not None and one is not None and one.hash == self._planned_hash:
                return shlex.join(["cp", str(path), str(self.folder / "recipe.yaml")])
        return self.anew()

    def _command(self, what: str, name: str) -> str:
        return f"pwcat {what} {name} --catalog {shlex.quote(str(self.folder.parent))}"

    @property
    def _sure(self) -> str:
        return f"test -f {UNKNOWN} && " if self._name == UNKNOWN else ""

    @cached_property
    def _name(self) -> str:
        """The recipe's file: as given, as noted, or the copy in the folder where it names no file beside the original."""
        if self.given is not None:
            return shlex.quote(str(self.given))
        copy = self.folder / "recipe.yaml"
        try:
            recipe = load_recipe(copy, planned=True)
        except RecipeError:
            recipe = None
        noted = noted_recipe(self.folder)
        if noted is not None and self._is_it(noted[1], recipe):
            return shlex.quote(str(noted[0]))
        return shlex.quote(str(copy)) if recipe is not None and _stands_alone(recipe) else UNKNOWN

    def _is_it(self, noted: Recipe, copy: Recipe | None) -> bool:
        """Whether a recipe goes on with the plan that is there; where there is none, whether it makes one of the name."""
        if self._planned_hash is None:
            return noted.name == self.folder.resolve().name
        if noted.hash == self._planned_hash:
            return True
        return copy is not None and copy.hash == self._planned_hash and not copy.differs_from(noted)

    @cached_property
    def _planned_hash(self) -> str | None:
        """Hash of the recipe that the plan was made from; ``None`` where no plan can be read."""
        try:
            notes = pq.read_schema(self.folder / "plan.parquet").metadata or {}
        except (pa.ArrowException, OSError):
            return None
        return notes.get(b"pwcat:recipe_hash", b"").decode()


def _stands_alone(recipe: Recipe) -> bool:
    sources = (recipe.source, *recipe.source.fallback, *(sensor.source for sensor in recipe.sensors.values()))
    return all(Path(each.path).is_absolute() for each in sources if each.path is not None)
