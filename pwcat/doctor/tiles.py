"""A look at all that lies in the folder of a collection of map tiles: plan, entities, cube, every shard, what describes it."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pwcat.atomic import find_leftovers
from pwcat.building.ledger import digest_of, join_ledgers, ledger_path, read_one
from pwcat.building.losses import count_losses
from pwcat.building.strays import find_strays
from pwcat.cube import Cube, band_columns, shard_path
from pwcat.doctor.described import description_faults, listing_fault
from pwcat.doctor.findings import Diagnosis, Finding
from pwcat.doctor.mending import UNKNOWN, Mending
from pwcat.errors import CubeError, PwcatError, RecipeError
from pwcat.lock import holder_of
from pwcat.materialize import require_same_cube
from pwcat.origin import origin_path
from pwcat.osm.building import map_coordinates
from pwcat.osm.columns import ENTITY_COUNT
from pwcat.osm.document import MapRecipe, is_map_recipe, load_map_recipe
from pwcat.osm.entities import ENTITIES, TAGS
from pwcat.osm.plan import IMAGES, TILES, MapPlan, is_map_folder, read_tiles
from pwcat.recipe import differing_keys

__all__ = ["examine_tiles", "holds_tiles"]


def holds_tiles(folder: Path) -> bool:
    """Whether a folder is, or was to be, that of a collection of map tiles."""
    return is_map_folder(folder) or is_map_recipe(folder / "recipe.yaml")


def examine_tiles(folder: Path, *, recipe: Path | None = None) -> Diagnosis:
    """What is wrong in the folder of a collection of map tiles. Reads every byte of its shards, changes nothing.

    Args:
        folder: of the collection, within its catalog.
        recipe: the file that it was planned from, to be compared and named in commands.

    Raises:
        RecipeError: the recipe's file cannot be read.
    """
    given = load_map_recipe(recipe) if recipe is not None else None
    case = _Case(folder=folder, mending=_MapMending(folder=folder, given=recipe))
    findings = [*case.at_work()]
    plan = case.plan(findings)
    if plan is None:
        return case.told(findings, Counter(), 0)
    findings += [*case.of_plan(plan, given), *case.of_map(plan), *case.of_images(plan)]
    state = {shard: case.state(plan, shard) for shard in range(plan.spec.num_shards)}
    findings += case.of_shards(state)
    ledger = join_ledgers(read_one(ledger_path(folder, shard)) for shard, what in state.items() if what == "whole")
    counts = Counter("with an image" if s == "written" else _STATUS.get(s, s) for s in ledger["status"].to_pylist())
    if missing := len(plan) - len(ledger):
        counts["missing"] = missing
    elif case.holder is None:
        findings += case.of_description(plan, ledger)
    for loss in count_losses(ledger):
        if loss.status == "failed":
            findings.append(Finding(kind="failed", what=f"{loss}; a build tries again", mend=case.mending.build))
    return case.told(findings, counts, plan.spec.num_shards)


_STATUS = {"empty": "without an image"}


class _MapMending(Mending):
    """Commands that mend a collection of map tiles."""

    @cached_property
    def _name(self) -> str:
        """The recipe's file: as given, as noted, or the copy in the folder where it names no file beside the original."""
        if self.given is not None:
            return shlex.quote(str(self.given))
        copy = self.folder / "recipe.yaml"
        own, noted = _recipe_at(copy), self._noted()
        there = _recipe_at(noted) if noted is not None else None
        if noted is not None and there is not None and (own is None or own.hash == there.hash):
            return shlex.quote(str(noted))
        return shlex.quote(str(copy)) if own is not None and _stands_alone(own) else UNKNOWN

    def _noted(self) -> Path | None:
        """The file that was noted when it was planned."""
        try:
            told = json.loads(origin_path(self.folder).read_text(encoding="utf-8"))["path"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        path = self.folder / str(told)
        return path.resolve() if path.is_file() else None


def _recipe_at(path: Path) -> MapRecipe | None:
    try:
        return load_map_recipe(path, planned=True)
    except RecipeError:
        return None


def _stands_alone(recipe: MapRecipe) -> bool:
    images = recipe.images
    paths = [recipe.map.path if recipe.map else None, recipe.tiles.within]
    paths += [images.files, images.tiles, images.source.path if images.source else None] if images else []
    return all(Path(path).is_absolute() for path in paths if path is not None)


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A folder, and the commands that mend what is wrong in it."""

    folder: Path
    mending: _MapMending

    @property
    def holder(self) -> str | None:
        """Who builds it just now."""
        return holder_of(self.folder / "ledger" / "_lock")

    def at_work(self) -> Iterator[Finding]:
        """Whether somebody builds it just now."""
        if (holder := self.holder) is not None:
            what = f"a build is at work ({holder}): what follows is of this moment. Wait for its end, and look again"
            yield Finding(kind="at work", what=what)

    def plan(self, findings: list[Finding]) -> MapPlan | None:
        """The plan; ``None``, and why, where it cannot be read."""
        if not is_map_folder(self.folder):
            findings.append(Finding(kind="no plan", what="there is no plan", mend=self.mending.build))
            return None
        try:
            return read_tiles(self.folder)
        except RecipeError as exc:
            findings.append(Finding(kind="recipe", what=self._within(exc), mend=self.mending.anew()))
        except PwcatError as exc:
            findings.append(Finding(kind="plan", what=self._within(exc), mend=self.mending.rm(self.folder / TILES)))
        return None

    def of_plan(self, plan: MapPlan, given: MapRecipe | None) -> Iterator[Finding]:
        """What does not fit the plan as a whole."""
        if given is not None and given.hash != plan.recipe.hash:
            keys = differing_keys(plan.recipe.model_dump(mode="json"), given.model_dump(mode="json"))
            what = f"{self.mending.given} has changed since the plan was made, in {', '.join(keys)}"
            yield Finding(kind="recipe", what=what, mend=self.mending.anew())
        name = plan.recipe.name
        if self.folder.resolve().name != name:
            target = self.folder.parent / name
            mend = None if target.exists() else shlex.join(["mv", str(self.folder), str(target)])
            what = f"the folder was renamed, or is a copy: its recipe calls it {name!r}, and a build looks for it there"
            yield Finding(kind="renamed", what=what, mend=mend)
        if strays := find_strays(self.folder, plan.spec):
            names = ", ".join(str(path.relative_to(self.folder)) for path in strays[:8])
            what = f"no shard or ledger of this plan, and in their way: {names}"
            yield Finding(kind="strays", what=what, mend=self.mending.rm(*strays))
        cube = self.folder / "cube.zarr"
        if not (cube / "chips" / "zarr.json").is_file():
            yield Finding(kind="no cube", what="there is no cube yet", mend=self.mending.build)
            return
        try:
            require_same_cube(self.folder, plan.spec, recipe_hash=plan.recipe.hash)
        except CubeError as exc:
            mend = self.mending.rm(cube, self.folder / "ledger")
            yield Finding(kind="other cube", what=self._within(exc).partition(". Remove")[0], mend=mend)

    def of_map(self, plan: MapPlan) -> Iterator[Finding]:
        """Whether the entities and tags are there, and as many as were planned; every byte of them is read."""
        if plan.recipe.map is None:
            return
        mend = self.mending.rm(self.folder / TILES)  # the plan is made again, and with it the map is read
        for name in (ENTITIES, TAGS):
            try:
                rows = _rows_of(self.folder / name, len(plan))
            except FileNotFoundError:
                yield Finding(kind="map", what=f"{name} is missing", mend=mend)
                continue
            except (pa.ArrowException, OSError, KeyError) as exc:
                yield Finding(kind="map", what=f"{name} cannot be read ({exc})", mend=mend)
                continue
            if rows is not None and not np.array_equal(rows, plan.table[ENTITY_COUNT].to_numpy()):
                yield Finding(kind="map", what=f"{name} has other entities than the plan counts", mend=mend)

    def of_images(self, plan: MapPlan) -> Iterator[Finding]:
        """Whether it is known where the images lie."""
        if plan.recipe.images is None:
            return
        try:
            known = plan.documents().keys()
        except (PwcatError, ValueError, KeyError) as exc:
            yield Finding(kind="images", what=self._within(exc), mend=self.mending.rm(self.folder / TILES))
            return
        named = {name for names in plan.table["images"].to_pylist() for name in names}
        if lost := named - known:
            what = f"{IMAGES} lacks {len(lost):,} of the images that the plan names, such as {min(lost)}"
            yield Finding(kind="images", what=what, mend=self.mending.rm(self.folder / TILES))

    def state(self, plan: MapPlan, shard: int) -> str:
        """What a shard is."""
        path, ledger = shard_path(self.folder / "cube.zarr", shard), ledger_path(self.folder, shard)
        if not path.is_file() or not ledger.is_file():
            return "missing"
        try:
            notes = pq.read_table(ledger).schema.metadata or {}
        except (pa.ArrowInvalid, OSError):
            return "bad ledger"
        if notes.get(b"pwcat:plan", b"").decode() != plan.hash:
            return "older plan"
        return "whole" if digest_of(path) == notes.get(b"pwcat:shard_sha256", b"").decode() else "damaged"

    def of_shards(self, state: dict[int, str]) -> Iterator[Finding]:
        """Shards that are not whole."""
        for kind, words in _SHARDS.items():
            if shards := [shard for shard, what in state.items() if what == kind]:
                numbers = ", ".join(map(str, shards[:8])) + (
                    f" and {len(shards) - 8:,} more" if len(shards) > 8 else ""
                )
                paths = [shard_path(self.folder / "cube.zarr", shard) for shard in shards]
                mend = self.mending.rm(*paths) if kind == "damaged" else self.mending.build
                what = f"{len(shards):,} of {len(state):,} shards {words}: {numbers}"
                yield Finding(kind=kind, what=what, mend=mend)

    def of_description(self, plan: MapPlan, ledger: pa.Table) -> Iterator[Finding]:
        """Whether tiles are described as they are, in the cube and beside it, and listed in the catalog."""
        cube = Cube(self.folder / "cube.zarr")
        expected = {**map_coordinates(plan, ledger), **band_columns(plan.spec)}
        wrong = [name for name, values in expected.items() if not _is_stored(cube, name, values)]
        if wrong:
            what = f"cube.zarr: {', '.join(wrong)}: missing, or not what plan and ledgers say"
            yield Finding(kind="coordinates", what=what, mend=self.mending.build)
        has = pc.equal(ledger["status"], "written").to_numpy() | (plan.table[ENTITY_COUNT].to_numpy() > 0)
        ids = plan.table["id"].filter(pa.array(has)).to_pylist()
        name = plan.recipe.name
        for path, fault in description_faults(self.folder, name=name, recipe_hash=plan.recipe.hash, ids=ids):
            yield Finding(kind="undescribed", what=f"{path.name} {fault}", mend=self.mending.build)
        if ids and (listing := listing_fault(self.folder, name)) is not None:
            path, fault = listing
            yield Finding(kind="unlisted", what=f"the catalog's {path.name} {fault}", mend=self.mending.build)

    def told(self, findings: list[Finding], counts: Counter[str], shards: int) -> Diagnosis:
        """All that was found."""
        if left := len(find_leftovers(self.folder)):
            files = "1 half-written file" if left == 1 else f"{left:,} half-written files"
            what = f"{files} of killed writers; they do no harm, and a build removes them"
            findings = [*findings, Finding(kind="leftovers", what=what, mend=self.mending.build)]
        notes = []
        if any(UNKNOWN in shlex.split(finding.mend or "") for finding in findings):
            notes.append(f"{UNKNOWN} stands for the recipe's file: put its path there, or name it with --recipe FILE")
        return Diagnosis(folder=self.folder, counts=dict(counts), shards=shards, findings=findings, notes=notes)

    def _within(self, exc: Exception) -> str:
        """A message without the folder that all of it is about."""
        return str(exc).removeprefix(f"{self.folder}: ").removeprefix(f"{self.folder}/")


_SHARDS = {
    "missing": "are missing or not finished",
    "damaged": "are damaged: their bytes are not those that their ledgers name",
    "bad ledger": "have ledgers that cannot be read",
    "older plan": "are of an older plan",
}


def _rows_of(path: Path, num_tiles: int) -> np.ndarray | None:
    """Entities by tile, ``(n,)``; ``None`` of a file that has no tiles. Reads every byte."""
    counts = np.zeros(num_tiles, dtype=np.int64)
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        of_tiles = {"index", "part"} <= set(file.schema_arrow.names)
        for batch in file.iter_batches(use_threads=False):
            if of_tiles:
                whole = batch.filter(pc.equal(batch["part"], 0))
                counts += np.bincount(whole["index"].to_numpy(), minlength=num_tiles)[:num_tiles]
    return counts if of_tiles else None


def _is_stored(cube: Cube, name: str, values: np.ndarray) -> bool:
    there = cube.stored(name)
    if there is None or there.shape != values.shape or (there.dtype == object) != (values.dtype == object):
        return False
    return bool(np.array_equal(there, values, equal_nan=values.dtype.kind == "f"))
