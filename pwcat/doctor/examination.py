"""A look at all that lies in a dataset's folder: plan, cube, every shard against its ledger, and what killed writers left."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pwcat.atomic import find_leftovers
from pwcat.building.ledger import UNUSABLE, digest_of, join_ledgers, ledger_path, read_one
from pwcat.building.losses import count_losses
from pwcat.cube import CubeSpec, shard_path
from pwcat.doctor.findings import Diagnosis, Finding
from pwcat.errors import CubeError, PwcatError, RecipeError
from pwcat.lock import holder_of
from pwcat.materialize import require_same_cube, spec_of
from pwcat.plan import FrozenPlan, read_plan
from pwcat.recipe import Recipe, load_recipe
from pwcat.reserve import choose_replacements, plan_hash, read_replacements
from pwcat.sensors.frozen import check_sensors

__all__ = ["examine"]

PARTS = ("plan.parquet", "recipe.yaml", "scenes.parquet", "cube.zarr", "ledger")


def examine(folder: Path, *, recipe: Path | None = None) -> Diagnosis:
    """What is wrong in a dataset's folder. Reads every byte of its shards, changes nothing.

    Args:
        folder: of the dataset, within its catalog.
        recipe: the file that it was planned from, to be compared and named in commands.

    Raises:
        PwcatError: there is no dataset; says what is there instead.
        RecipeError: the recipe's file cannot be read.
    """
    pages = sorted(folder.rglob("page-*.json.gz"))
    if not pages and not any((folder / name).exists() for name in PARTS):
        raise PwcatError(_no_dataset(folder))
    loaded = load_recipe(recipe) if recipe is not None else None
    case = _Case(folder=folder, recipe_file=recipe, recipe=loaded)
    findings = list(case.outside(len(pages)))
    plan = case.plan(findings)
    if plan is None:
        return Diagnosis(folder=folder, counts={}, shards=0, findings=findings)
    spec = spec_of(plan)
    findings += case.of_plan(plan)
    state, more = case.shards(plan, spec)
    findings += more
    ledger = case.ledger(state)
    counts = Counter(ledger["status"].to_pylist())
    if missing := len(plan) - counts.total():
        counts["missing"] = missing
    findings += case.samples(plan, ledger)
    return Diagnosis(folder=folder, counts=dict(counts), shards=spec.num_shards, findings=findings)


def _no_dataset(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder}: no such folder"
    datasets = sorted(path.parent.name for path in folder.glob("*/plan.parquet"))
    if datasets:
        return f"{folder}: a catalog, not a dataset; ask after one of its datasets: {', '.join(datasets)}"
    return f"{folder}: no dataset there (looked for {', '.join(PARTS)}); `pwcat build RECIPE` makes one"


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A folder and the recipe that is said to have made it."""

    folder: Path
    recipe_file: Path | None
    recipe: Recipe | None

    @property
    def build(self) -> str:
        """The command that builds it, or goes on doing so."""
        return self._command("build")

    def _command(self, name: str) -> str:
        catalog = shlex.quote(str(self.folder.parent))
        return f"pwcat {name} {self._recipe_name} --catalog {catalog}"

    @property
    def _recipe_name(self) -> str:
        """The recipe's file; the copy in the folder where that does as well, for it names no file beside the original."""
        if self.recipe_file is not None:
            return shlex.quote(str(self.recipe_file))
        copy = self.folder / "recipe.yaml"
        try:
            recipe = load_recipe(copy)
        except RecipeError:
            return "RECIPE"
        sources = (recipe.source, *recipe.source.fallback, *(sensor.source for sensor in recipe.sensors.values()))
        paths = [each.path for each in sources if each.path is not None]
        return shlex.quote(str(copy)) if all(Path(path).is_absolute() for path in paths) else "RECIPE"

    def _rm(self, *paths: Path) -> str:
        return f"rm -r {shlex.join(map(str, paths))} && {self.build}"

    def outside(self, pages: int) -> Iterator[Finding]:
        """What is told of the folder before its plan is read."""
        if (holder := holder_of(self.folder / "ledger" / "_lock")) is not None:
            what = f"a build is at work ({holder}): what follows is of this moment. Wait for its end, and look again"
            yield Finding(kind="at work", what=what)
        if leftovers := find_leftovers(self.folder):
            what = f"{len(leftovers):,} half-written files of killed writers; they do no harm, and a build removes them"
            yield Finding(kind="leftovers", what=what, mend=self.build)
        if pages:
            what = f"a search for scenes was left half-way; its {pages:,} pages are kept for a day"
            yield Finding(kind="search", what=what, mend=self._command("plan"))

    def plan(self, findings: list[Finding]) -> FrozenPlan | None:
        """The plan; ``None``, and why, where it cannot be read."""
        path = self.folder / "plan.parquet"
        if not path.is_file():
            if not any(finding.kind == "search" for finding in findings):
                findings.append(Finding(kind="no plan", what="there is no plan", mend=self.build))
            return None
        try:
            return read_plan(self.folder)
        except RecipeError as exc:
            findings.append(Finding(kind="recipe", what=_within(self.folder, exc), mend=self._recipe_again(path)))
        except PwcatError as exc:
            broken = self.folder / ("replacements.parquet" if "replacements.parquet" in str(exc) else path.name)
            findings.append(Finding(kind="plan", what=_within(self.folder, exc), mend=self._rm(broken)))
        return None

    def _recipe_again(self, plan: Path) -> str:
        """What mends a copy of the recipe that is not the plan's: the very recipe put back, else all made again."""
        try:
            notes = pq.read_schema(plan).metadata or {}
        except (pa.ArrowInvalid, OSError):
            notes = {}
        if self.recipe is not None and notes.get(b"pwcat:recipe_hash", b"").decode() == self.recipe.hash:
            assert self.recipe_file is not None
            return shlex.join(["cp", str(self.recipe_file), str(self.folder / "recipe.yaml")])
        name = self._recipe_name if self.recipe_file is not None else "RECIPE"
        return f"rm -r {shlex.quote(str(self.folder))} && pwcat build {name} --catalog {shlex.quote(str(self.folder.parent))}"

    def of_plan(self, plan: FrozenPlan) -> Iterator[Finding]:
        """What does not fit the plan as a whole."""
        name = plan.recipe.name
        if self.recipe is not None and self.recipe.hash != plan.recipe.hash:
            hashes = f"{self.recipe.hash[:12]}, not {plan.recipe.hash[:12]}"
            what = f"{self.recipe_file} has changed since the plan was made ({hashes})"
            yield Finding(kind="recipe", what=what, mend=f"rm -r {shlex.quote(str(self.folder))} && {self.build}")
        if self.folder.resolve().name != name:
            target = self.folder.parent / name
            what = f"the folder was renamed: its recipe calls it {name!r}, and a build looks for it under that name"
            yield Finding(kind="renamed", what=what, mend=shlex.join(["mv", str(self.folder), str(target)]))
        if not (self.folder / "scenes.parquet").is_file():
            what = "scenes.parquet is missing, without which nothing can be read"
            yield Finding(kind="scenes", what=what, mend=self._rm(self.folder / "plan.parquet"))
        try:
            check_sensors(self.folder)
        except PwcatError as exc:
            what = _within(self.folder, exc).partition("; remove")[0]
            yield Finding(kind="sensors", what=what, mend=self._rm(self.folder / "plan.parquet"))
        cube = self.folder / "cube.zarr"
        if not (cube / "chips" / "zarr.json").is_file():
            yield Finding(kind="no cube", what="there is no cube yet", mend=self.build)
            return
        try:
            require_same_cube(self.folder, spec_of(plan), recipe_hash=plan.recipe.hash)
        except CubeError as exc:
            mend = self._rm(cube, self.folder / "ledger")
            yield Finding(kind="other cube", what=_within(self.folder, exc).partition(". Remove")[0], mend=mend)
            return
        if not (cube / "lon" / "zarr.json").is_file() or not (self.folder / "collection.json").is_file():
            yield Finding(
                kind="undescribed", what="the samples are not described yet: a build ended early", mend=self.build
            )

    def shards(self, plan: FrozenPlan, spec: CubeSpec) -> tuple[dict[int, str], list[Finding]]:
        """What each shard is, and what that means."""
        named, hashed = plan.table["id"], plan_hash(self.folder)
        state = {
            shard: self._state(shard, hashed, named.slice(shard * spec.shard_size, spec.shard_size).to_pylist())
            for shard in range(spec.num_shards)
        }
        by_state: dict[str, list[int]] = {}
        for shard, what in state.items():
            by_state.setdefault(what, []).append(shard)
        found = []
        for kind, words in _SHARDS.items():
            if shards := by_state.get(kind):
                what = f"{len(shards):,} of {spec.num_shards:,} shards {words}: {_listed(shards)}"
                found.append(Finding(kind=kind, what=what, mend=self._mend(kind, shards)))
        return state, found

    def _state(self, shard: int, hashed: str, ids: list[str]) -> str:
        path, ledger = shard_path(self.folder / "cube.zarr", shard), ledger_path(self.folder, shard)
        if not path.is_file() or not ledger.is_file():
            return "missing"
        try:
            table = pq.read_table(ledger)
        except (pa.ArrowInvalid, OSError):
            return "bad ledger"
        notes = table.schema.metadata or {}
        if notes.get(b"pwcat:plan", b"").decode() != hashed:
            return "older plan"
        if table["id"].to_pylist() != ids:
            return "older samples"
        return "whole" if digest_of(path) == notes.get(b"pwcat:shard_sha256", b"").decode() else "damaged"

    def _mend(self, kind: str, shards: list[int]) -> str:
        if kind == "damaged":
            return self._rm(*(shard_path(self.folder / "cube.zarr", shard) for shard in shards))
        if kind == "bad ledger":
            return self._rm(*(ledger_path(self.folder, shard) for shard in shards))
        return self.build

    def ledger(self, state: dict[int, str]) -> pa.Table:
        """What is known of samples in shards that are whole."""
        return join_ledgers(
            read_one(ledger_path(self.folder, shard)) for shard, what in state.items() if what == "whole"
        )

    def samples(self, plan: FrozenPlan, ledger: pa.Table) -> Iterator[Finding]:
        """Samples without pixels, by cause."""
        whole = ledger["id"].to_pylist() == plan.table["id"].to_pylist()
        for loss in count_losses(ledger):
            if loss.status not in UNUSABLE:
                yield Finding(kind=loss.status, what=f"{loss}; a build tries them again", mend=self.build)
                continue
            choice = choose_replacements(plan.table, plan.reserve, ledger, statuses=(loss.status,)) if whole else None
            if choice is None or len(choice.replacements):
                yield Finding(kind=loss.status, what=f"{loss}; a build replaces them from the reserve", mend=self.build)
            else:
                used = "the reserve is used up" if len(read_replacements(self.folder)) else "the recipe has no reserve"
                what = f"{loss}; {used}: plan anew, under another name, with a larger `constraints.reserve_fraction`"
                yield Finding(kind=loss.status, what=what)


# What is wrong with shards, in words, in the order in which it is told.
_SHARDS = {
    "missing": "are missing or not finished",
    "damaged": "are damaged: their bytes are not those that their ledger names",
    "bad ledger": "have a ledger that cannot be read",
    "older plan": "are of an older plan",
    "older samples": "hold samples that were replaced since",
}


def _listed(shards: list[int], most: int = 8) -> str:
    """Numbers, the first few."""
    rest = f" and {len(shards) - most:,} more" if len(shards) > most else ""
    return ", ".join(map(str, shards[:most])) + rest


def _within(folder: Path, exc: Exception) -> str:
    """A message without the folder that all of it is about."""
    return str(exc).removeprefix(f"{folder}: ").removeprefix(f"{folder}/")
