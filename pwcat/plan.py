"""The plan: which samples, from which scenes, at which pixels, before one pixel of them is read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pwcat.atomic import replacing
from pwcat.copies import require_no_copy
from pwcat.errors import PwcatError, RecipeError, SourceError
from pwcat.lock import locked_in_turn
from pwcat.origin import forget_recipe, note_recipe
from pwcat.providers import OpenSource, open_source
from pwcat.recipe import Recipe, load_recipe
from pwcat.recovery import note_digest, recover_scenes, scenes_named
from pwcat.regions import Regions, open_regions
from pwcat.reserve import apply_replacements, read_replacements
from pwcat.samplers import Spectral, Stratum
from pwcat.samplers.world import World
from pwcat.scenes import Scene, read_scenes, search_scenes, write_scenes
from pwcat.search import Refused
from pwcat.sensors.choice import SensorChoice, choose_sensors
from pwcat.sensors.frozen import PLAN_NOTE, remove_sensors, write_sensors
from pwcat.sites.drawing import OnDrawn, choose_sites, unheard
from pwcat.sites.locators import NominalLocator, SceneLocator
from pwcat.sites.schema import PLAN_SCHEMA
from pwcat.sites.tables import to_tables
from pwcat.spectra.choice import SpectralChoice, choose_by_spectrum

__all__ = [
    "PLAN_SCHEMA",
    "FrozenPlan",
    "Plan",
    "draw_sites",
    "freeze_plan",
    "make_plan",
    "read_plan",
    "require_plan",
    "write_plan",
]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be read, as a table, and the scenes it comes from.

    Attributes:
        recipe: what was asked.
        table: :data:`PLAN_SCHEMA`, in Hilbert order.
        reserve: extra samples, of the same columns, in the order in which they are to be used; they are in no shard.
        scenes: those that the tables name, by id.
        layers: source of each region layer.
        spectral: what a choice by spectra looked at; ``None`` for other strategies.
        sensors: what sensors beside the source have; ``None`` where the recipe names none.
    """

    recipe: Recipe
    table: pa.Table
    reserve: pa.Table
    scenes: list[Scene]
    layers: dict[str, str]
    spectral: SpectralChoice | None = None
    sensors: SensorChoice | None = None

    def __len__(self) -> int:
        return len(self.table)


def make_plan(
    recipe: Recipe | str | Path,
    *,
    base_dir: Path | None = None,
    source: OpenSource | None = None,
    pages: Path | None = None,
    progress: OnDrawn = unheard,
) -> Plan:
    """The plan of a recipe: deterministic for one recipe and one answer of the source.

    Args:
        recipe: a recipe, or the path of its file.
        base_dir: the folder that relative paths of the recipe start from; its file's folder, else the current one.
        source: the recipe's source if it is open already.
        pages: folder for what the source has answered so far, so that a plan that breaks there goes on there.
        progress: told how far the drawing of sites has come.

    Raises:
        RecipeError, RegionError, SourceError: as the parts raise them; so where a quota cannot be met, which says how many
            could be placed, why, and what to relax.
    """
    if not isinstance(recipe, Recipe):
        base_dir = base_dir or Path(recipe).parent
        recipe = load_recipe(recipe)
    base_dir = base_dir or Path()
    if source is not None:
        return _plan(recipe, base_dir, source, pages, progress)
    with open_source(recipe.source, base_dir=base_dir) as opened:
        return _plan(recipe, base_dir, opened, pages, progress)


def _plan(recipe: Recipe, base_dir: Path, source: OpenSource, pages: Path | None, progress: OnDrawn) -> Plan:
    regions = open_regions(recipe.regions, base_dir=base_dir, source=source)
    scenes = _every_scene(recipe, source, pages) if recipe.sampler.draws_from_scenes() else None
    strata = _strata(recipe, regions, scenes or [], base_dir)
    locator = SceneLocator(recipe, source, scenes=scenes, base_dir=base_dir, pages=pages)
    choice = None
    if isinstance(recipe.sampler, Spectral):
        sites, reserve, choice = choose_by_spectrum(
            recipe, strata, regions=regions, locator=locator, source=source, base_dir=base_dir, progress=progress
        )
    else:
        sites, reserve = choose_sites(
            recipe, strata, regions=regions, locator=locator, base_dir=base_dir, progress=progress
        )
    used = np.unique(np.concatenate([part.placements.every_scene().ravel() for part in (sites, reserve)]))
    table, extra = to_tables(recipe, strata, regions, sites, reserve, locator.scenes)
    return Plan(
        recipe=recipe,
        table=table,
        reserve=extra,
        scenes=sorted((locator.scenes[number] for number in used[used >= 0]), key=lambda scene: scene.id),
        layers=regions.sources(),
        spectral=choice,
        sensors=choose_sensors(recipe, table, extra, base_dir=base_dir, pages=pages),
    )


def _every_scene(recipe: Recipe, source: OpenSource, pages: Path | None) -> list[Scene]:
    scenes = search_scenes(source, recipe.when, bands=recipe.chip.bands, folder=pages)
    if not scenes:
        raise SourceError(
            f"{source.provider} ({source.collection}) has no scene from {recipe.when.start} to {recipe.when.end} under "
            f"{recipe.when.max_cloud_cover:g} % cloud with the bands {', '.join(recipe.chip.bands)}"
        )
    return scenes


def _strata(recipe: Recipe, regions: Regions, scenes: Sequence[Scene], base_dir: Path) -> list[Stratum]:
    world = World(
        regions=regions,
        footprints=[scene.footprint for scene in scenes],
        base_dir=base_dir,
        chip_km=recipe.chip_km,
    )
    return recipe.sampler.strata(recipe.num_samples, world=world)


def draw_sites(
    recipe: Recipe, *, base_dir: Path, source: OpenSource | None = None, progress: OnDrawn = unheard
) -> pa.Table:
    """The places of a recipe alone, without asking for scenes: the plan's columns, with chips on the grid of their UTM zone.

    Args:
        recipe: its sampler must not draw from scenes, nor its constraints speak of them.
        base_dir: the folder that relative paths of the recipe start from.
        source: the recipe's, for layers that are a collection there.
        progress: told how far the drawing has come.

    Raises:
        RecipeError: the places hang on scenes.
        RegionError: a quota cannot be met, or as the parts raise it.
    """
    if reasons := _needs_scenes(recipe):
        raise RecipeError(
            f"{recipe.name}: its places cannot be drawn without scenes, for {' and '.join(reasons)}; "
            "`pwcat plan RECIPE` asks the source and draws them"
        )
    regions = open_regions(recipe.regions, base_dir=base_dir, source=source)
    strata = _strata(recipe, regions, [], base_dir)
    locator = NominalLocator(recipe, base_dir=base_dir)
    sites, reserve = choose_sites(
        recipe, strata, regions=regions, locator=locator, base_dir=base_dir, progress=progress
    )
    return to_tables(recipe, strata, regions, sites, reserve, [])[0]


def _needs_scenes(recipe: Recipe) -> list[str]:
    """What in a recipe makes its places hang on scenes, in words."""
    limits = recipe.constraints
    reasons = {
        "its sampler chooses them by their pixels": isinstance(recipe.sampler, Spectral),
        "its sampler draws from footprints of scenes": recipe.sampler.draws_from_scenes(),
        "`constraints.max_sites_per_scene` counts them by scene": limits.max_sites_per_scene is not None,
        "`constraints.min_sites_per_scene` counts them by scene": limits.min_sites_per_scene > 1,
    }
    return [reason for reason, holds in reasons.items() if holds]


def write_plan(plan: Plan, folder: Path) -> None:
    """Write ``plan.parquet`` and all that belongs to it; the plan last: where it is, all are."""
    folder.mkdir(parents=True, exist_ok=True)
    notes = {"pwcat:recipe_hash": plan.recipe.hash, "pwcat:layers": json.dumps(plan.layers, sort_keys=True)}
    if plan.spectral is not None:
        notes["pwcat:spectral"] = json.dumps(plan.spectral.to_dict(), sort_keys=True)
    with replacing(folder / "recipe.yaml") as temporary:
        temporary.write_text(plan.recipe.to_yaml(), encoding="utf-8")
    with replacing(folder / "scenes.parquet") as temporary:
        write_scenes(temporary, plan.scenes)
    for name in ("reserve.parquet", "replacements.parquet"):  # of an earlier plan
        (folder / name).unlink(missing_ok=True)
    if len(plan.reserve):
        with replacing(folder / "reserve.parquet") as temporary:
            pq.write_table(plan.reserve, temporary, compression="zstd")
    remove_sensors(folder)
    if plan.sensors is not None:
        found, tallies = plan.sensors, {name: vars(tally) for name, tally in plan.sensors.tallies.items()}
        notes[PLAN_NOTE] = write_sensors(folder, found.tables(), found.items, tallies=tallies)
    with replacing(folder / "plan.parquet") as temporary:
        pq.write_table(plan.table.replace_schema_metadata(notes), temporary, compression="zstd")


@dataclass(frozen=True, kw_only=True)
class FrozenPlan:
    """A plan as it lies on disk; its scenes are read when they are needed.

    Attributes:
        folder: the collection's.
        recipe: what was asked.
        table: :data:`PLAN_SCHEMA`, in Hilbert order, with samples that a build replaced already replaced.
        reserve: what is left of the extra samples.
        layers: source of each region layer.
        spectral: what a choice by spectra looked at, as JSON; ``None`` for other strategies.
    """

    folder: Path
    recipe: Recipe
    table: pa.Table
    reserve: pa.Table
    layers: dict[str, str]
    spectral: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.table)

    def scenes(self, source: OpenSource) -> list[Scene]:
        """The scenes that the table names, by id."""
        return read_scenes(self.folder / "scenes.parquet", source=source, bands=self.recipe.chip.bands)


def require_plan(folder: Path) -> Path:
    """The file of the plan in a collection's folder.

    Raises:
        PwcatError: there is none.
    """
    path = folder / "plan.parquet"
    if not path.is_file():
        raise PwcatError(f"{path}: no plan there; make one with `pwcat plan RECIPE`")
    return path


def read_plan(folder: Path, *, columns: Collection[str] | None = None) -> FrozenPlan:
    """The plan in a collection's folder.

    Args:
        folder: of the collection.
        columns: of its tables, as far as they have them; all where ``None``.

    Raises:
        PwcatError: there is none, or it is of another recipe than the one beside it, or replacements of another plan lie there.
    """
    table = _read(require_plan(folder), columns)
    recipe = load_recipe(folder / "recipe.yaml", planned=True)
    notes = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if notes.get("pwcat:recipe_hash") != recipe.hash:
        raise RecipeError(f"{folder}: recipe.yaml is not the recipe that plan.parquet was made from; plan again")
    table = table.replace_schema_metadata(None)
    reserve = (
        _read(folder / "reserve.parquet", columns)
        if (folder / "reserve.parquet").is_file()
        else table.schema.empty_table()
    )
    table, reserve = apply_replacements(table, reserve, read_replacements(folder))
    return FrozenPlan(
        folder=folder,
        recipe=recipe,
        table=table,
        reserve=reserve,
        layers=json.loads(notes.get("pwcat:layers", "{}")),
        spectral=json.loads(notes.get("pwcat:spectral", "null")),
    )


def _read(path: Path, columns: Collection[str] | None) -> pa.Table:
    try:
        return pq.read_table(path) if columns is None else _read_frugally(path, columns)
    except (pa.ArrowInvalid, OSError) as exc:
        raise PwcatError(f"{path}: cannot be read ({exc}); remove it and plan again") from exc


def _read_frugally(path: Path, columns: Collection[str]) -> pa.Table:
    """Some columns, one after the other: what decoding one takes, several times the column, is free for the next."""
    with pq.ParquetFile(path) as file:
        schema, read = file.schema_arrow, {}
        for name in (name for name in schema.names if name in columns):
            read[name] = file.read([name], use_threads=False)[name]
            pa.default_memory_pool().release_unused()
    return pa.table(read).replace_schema_metadata(schema.metadata)


def freeze_plan(
    recipe: Recipe,
    *,
    catalog: Path,
    base_dir: Path,
    source: OpenSource,
    recipe_file: Path | None = None,
    progress: OnDrawn = unheard,
) -> Path:
    """Make and write the plan of a recipe, unless its very plan is there; return the collection's folder.

    Where a source stops answering, what it has answered stays in the folder, and the next call goes on from there. One process
    at a time plans a dataset: others wait for it, and take its plan. A plan stays what it is where a recipe asks its source in
    another way, or another source after it (:meth:`~pwcat.recipe.Recipe.differs_from`). Scenes
    that were lost are asked for again.

    Args:
        recipe: what is asked.
        catalog: the folder that gets a folder of the recipe's name.
        base_dir: the folder that relative paths of the recipe start from.
        source: the recipe's, open.
        recipe_file: where the recipe lies, to be noted for the doctor.
        progress: told how far the drawing of sites has come.

    Raises:
        RecipeError: the folder holds the plan of another recipe of this name.
        PwcatError: as the plan's making does.
    """
    folder = catalog / recipe.name
    require_no_copy(folder, doing="plan or build")
    if not (folder / "plan.parquet").is_file():
        # Beside the folder, which is not there before there is a plan
        with locked_in_turn(catalog / f".{recipe.name}.planning", doing=f"{folder}: another planning"):
            if not (folder / "plan.parquet").is_file():
                with _kept_pages(folder, source, recipe_file) as pages:
                    plan = make_plan(recipe, base_dir=base_dir, source=source, pages=pages, progress=progress)
                    write_plan(plan, folder)
                    note_digest(folder / "scenes.parquet")
    _require_planned(folder, recipe, source)
    if recipe_file is not None:
        note_recipe(folder, recipe_file)
    return folder


def _require_planned(folder: Path, recipe: Recipe, source: OpenSource) -> None:
    """See that a plan is the recipe's, and has its scenes."""
    plan = read_plan(folder, columns={"id", "shard", "scene_ids", "composite_ids"})
    if keys := plan.recipe.differs_from(recipe):
        raise RecipeError(
            f"{folder}: holds the plan of another recipe of this name ({plan.recipe.hash[:12]}, not {recipe.hash[:12]}); they "
            f"differ in {', '.join(keys)}. Remove the folder, or give the recipe another name"
        )
    named = scenes_named(plan.table, plan.reserve)
    recover_scenes(folder / "scenes.parquet", named, source=source, bands=recipe.chip.bands)


@contextmanager
def _kept_pages(folder: Path, source: OpenSource, recipe_file: Path | None) -> Iterator[Path | None]:
    """Where pages of answers are kept while a plan is made; only where the source stopped answering they stay.

    Raises:
        PwcatError: as the plan's making does.
    """
    pages = None if source.provider == "archive" else folder / "_search"  # an archive is at hand, and may have changed
    if pages is not None and recipe_file is not None:
        note_recipe(folder, recipe_file)
    try:
        yield pages
    except PwcatError as exc:
        if pages is not None and not isinstance(exc, Refused):
            shutil.rmtree(pages, ignore_errors=True)
            forget_recipe(folder)
        raise
    if pages is not None:
        shutil.rmtree(pages, ignore_errors=True)
