"""A look at all that lies in a dataset's folder: plan, cube, every shard against its ledger, and what killed writers left."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pwcat.atomic import find_leftovers
from pwcat.building.ledger import UNUSABLE, digest_of, flagged_scenes, join_ledgers, ledger_path, read_one
from pwcat.building.losses import count_losses, count_stand_ins
from pwcat.building.strays import find_strays
from pwcat.copies import ORIGIN
from pwcat.cube import CubeSpec, shard_path
from pwcat.doctor.contents import look_at_description, look_at_metadata, look_at_notes, look_at_scenes
from pwcat.doctor.copies import examine_copy, is_copy
from pwcat.doctor.findings import Diagnosis, Finding
from pwcat.doctor.mending import UNKNOWN, Mending
from pwcat.doctor.tiles import examine_tiles, holds_tiles
from pwcat.errors import CubeError, PwcatError, RecipeError
from pwcat.lock import holder_of
from pwcat.materialize import require_same_cube, spec_of
from pwcat.osm.plan import TILES
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
    if is_copy(folder):
        return examine_copy(folder)
    if holds_tiles(folder):
        return examine_tiles(folder, recipe=recipe)
    pages = sorted(folder.rglob("page-*.json.gz"))
    if not pages and not any((folder / name).exists() for name in PARTS):
        raise PwcatError(_no_dataset(folder))
    loaded = load_recipe(recipe) if recipe is not None else None
    case = _Case(folder=folder, recipe=loaded, mending=Mending(folder=folder, given=recipe))
    findings = list(case.outside(len(pages)))
    plan = case.plan(findings)
    if plan is None:
        return _diagnosis(folder, Counter(), 0, [*findings, *case.leftovers()], [])
    spec = spec_of(plan)
    findings += case.of_plan(plan, spec)
    state, more = case.shards(plan, spec)
    findings += more
    ledger = case.ledger(state)
    counts = Counter(ledger["status"].to_pylist())
    if missing := len(plan) - counts.total():
        counts["missing"] = missing
    findings += case.description(plan, spec, state, ledger)
    findings += [*case.samples(plan, ledger), *look_at_notes(folder), *case.leftovers()]
    return _diagnosis(folder, counts, spec.num_shards, findings, [*_stand_ins(ledger, plan), *_doubts(ledger)])


def _diagnosis(folder: Path, counts: Counter[str], shards: int, findings: list[Finding], notes: list[str]) -> Diagnosis:
    if any(UNKNOWN in shlex.split(finding.mend or "") for finding in findings):
        notes.append(
            f"{UNKNOWN} stands for the recipe's file, which is not where it lay when this was planned or built, or has changed "
            "since: put its path there, or name it with --recipe FILE"
        )
    return Diagnosis(folder=folder, counts=dict(counts), shards=shards, findings=findings, notes=notes)


def _stand_ins(ledger: pa.Table, plan: FrozenPlan) -> Iterator[str]:
    """What other sources than the plan's served."""
    for name, count in count_stand_ins(ledger, plan.recipe.source).items():
        yield f"{'1 date' if count == 1 else f'{count:,} dates'} of samples from a fallback, {name}"


def _doubts(ledger: pa.Table) -> Iterator[str]:
    """Scenes whose pixels contradict what they say of themselves."""
    for name, seen in flagged_scenes(ledger).items():
        yield f"{name} contradicts the offset that it states: {seen}; its pixels are left as its metadata has them"


def _no_dataset(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder}: no such folder"
    if (folder / "import.json").is_file():
        return f"{folder}: was added from elsewhere, not built; `pwcat catalog validate {folder}` checks it"
    named = ("plan.parquet", TILES, ORIGIN)
    datasets = sorted({path.parent.name for name in named for path in folder.glob(f"*/{name}")})
    if datasets:
        return f"{folder}: a catalog, not a dataset; look at one of those in it: {', '.join(datasets)}"
    return f"{folder}: no dataset there (looked for {', '.join(PARTS)}); `pwcat build RECIPE` makes one"


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A folder and the recipe that is said to have made it."""

    folder: Path
    recipe: Recipe | None
    mending: Mending

    @property
    def holder(self) -> str | None:
        """Who builds it just now."""
        return holder_of(self.folder / "ledger" / "_lock")

    def outside(self, pages: int) -> Iterator[Finding]:
        """What is told of the folder before its plan is read."""
        if (holder := self.holder) is not None:
            what = f"a build is at work ({holder}): what follows is of this moment. Wait for its end, and look again"
            yield Finding(kind="at work", what=what)
        if pages:
            what = f"a search for scenes was left half-way; {_count(pages, 'page')} of it {_are(pages)} kept for a day"
            yield Finding(kind="search", what=what, mend=self.mending.plan)

    def leftovers(self) -> Iterator[Finding]:
        """What killed writers left."""
        if count := len(find_leftovers(self.folder)):
            what = f"{_count(count, 'half-written file')} of killed writers; they do no harm, and a build removes them"
            yield Finding(kind="leftovers", what=what, mend=self.mending.build)

    def plan(self, findings: list[Finding]) -> FrozenPlan | None:
        """The plan; ``None``, and why, where it cannot be read."""
        path = self.folder / "plan.parquet"
        if not path.is_file():
            if not any(finding.kind == "search" for finding in findings):
                findings.append(Finding(kind="no plan", what="there is no plan", mend=self.mending.build))
            return None
        try:
            return read_plan(self.folder)
        except RecipeError as exc:
            findings.append(
                Finding(kind="recipe", what=_within(self.folder, exc), mend=self.mending.put_back(self.recipe))
            )
        except PwcatError as exc:
            broken = self.folder / ("replacements.parquet" if "replacements.parquet" in str(exc) else path.name)
            findings.append(Finding(kind="plan", what=_within(self.folder, exc), mend=self.mending.rm(broken)))
        return None

    def of_plan(self, plan: FrozenPlan, spec: CubeSpec) -> Iterator[Finding]:
        """What does not fit the plan as a whole."""
        name = plan.recipe.name
        if self.recipe is not None and (keys := plan.recipe.differs_from(self.recipe)):
            hashes = f"{self.recipe.hash[:12]}, not {plan.recipe.hash[:12]}"
            what = f"{self.mending.given} has changed since the plan was made ({hashes}), in {', '.join(keys)}"
            yield Finding(kind="recipe", what=what, mend=self.mending.anew())
        if self.folder.resolve().name != name:
            yield self._renamed(name)
        yield from self._strays(spec)
        yield from look_at_scenes(plan, self.mending)
        try:
            check_sensors(self.folder)
        except PwcatError as exc:
            what = _within(self.folder, exc).partition("; remove")[0]
            yield Finding(kind="sensors", what=what, mend=self.mending.rm(self.folder / "plan.parquet"))
        cube = self.folder / "cube.zarr"
        if not (cube / "chips" / "zarr.json").is_file():
            yield Finding(kind="no cube", what="there is no cube yet", mend=self.mending.build)
            return
        yield from look_at_metadata(self.folder, self.mending)
        try:
            require_same_cube(self.folder, spec, recipe_hash=plan.recipe.hash)
        except CubeError as exc:
            mend = self.mending.rm(cube, self.folder / "ledger")
            yield Finding(kind="other cube", what=_within(self.folder, exc).partition(". Remove")[0], mend=mend)

    def _renamed(self, name: str) -> Finding:
        target = self.folder.parent / name
        if target.exists():  # it would be moved into that
            what = f"this is a copy, or another dataset under its name: its recipe calls it {name!r}, and that is there"
            return Finding(kind="renamed", what=what)
        what = f"the folder was renamed: its recipe calls it {name!r}, and a build looks for it under that name"
        return Finding(kind="renamed", what=what, mend=shlex.join(["mv", str(self.folder), str(target)]))

    def _strays(self, spec: CubeSpec) -> Iterator[Finding]:
        if strays := find_strays(self.folder, spec):
            names = _listed([str(path.relative_to(self.folder)) for path in strays])
            what = f"no shard or ledger of this plan, and in their way: {names}"
            yield Finding(kind="strays", what=what, mend=self.mending.rm(*strays))

    def description(
        self, plan: FrozenPlan, spec: CubeSpec, state: Mapping[int, str], ledger: pa.Table
    ) -> Iterator[Finding]:
        """What says something else of the samples than plan and ledgers; a build that makes shards writes all of it again."""
        is_there = (self.folder / "cube.zarr" / "chips" / "zarr.json").is_file()
        if is_there and self.holder is None and set(state.values()) == {"whole"} and not find_strays(self.folder, spec):
            yield from look_at_description(plan, spec, ledger, self.mending)

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
                told = words[len(shards) > 1]
                what = f"{len(shards):,} of {spec.num_shards:,} shards {told}: {_listed(list(map(str, shards)))}"
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
            return self.mending.rm(*(shard_path(self.folder / "cube.zarr", shard) for shard in shards))
        return self.mending.build

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
                yield Finding(kind=loss.status, what=f"{loss}; a build tries them again", mend=self.mending.build)
                continue
            choice = choose_replacements(plan.table, plan.reserve, ledger, statuses=(loss.status,)) if whole else None
            if choice is None or len(choice.replacements):
                yield Finding(
                    kind=loss.status, what=f"{loss}; a build replaces them from the reserve", mend=self.mending.build
                )
            else:
                has = len(plan.reserve) + len(read_replacements(self.folder)) > 0
                used, more = ("the reserve is used up", "a larger") if has else ("the recipe has no reserve", "a")
                what = f"{loss}; {used}: plan anew, under another name, with {more} `constraints.reserve_fraction`"
                yield Finding(kind=loss.status, what=what)


# What is wrong with one shard, and with several, in words, in the order in which it is told.
_SHARDS = {
    "missing": ("is missing or not finished", "are missing or not finished"),
    "damaged": (
        "is damaged: its bytes are not those that its ledger names",
        "are damaged: their bytes are not those that their ledgers name",
    ),
    "bad ledger": ("has a ledger that cannot be read", "have ledgers that cannot be read"),
    "older plan": ("is of an older plan", "are of an older plan"),
    "older samples": ("holds samples that were replaced since", "hold samples that were replaced since"),
}


def _listed(names: list[str], most: int = 8) -> str:
    """Names, the first few."""
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _within(folder: Path, exc: Exception) -> str:
    """A message without the folder that all of it is about."""
    return str(exc).removeprefix(f"{folder}: ").removeprefix(f"{folder}/")
