"""From a plan to a cube: shards are read and written whole, side by side, on one machine or a Dask cluster.

A shard's file appears last, after its ledger, in one rename; so what is there is done, and a rerun does what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pwcat.atomic import remove_leftovers
from pwcat.building.assignments import ROW_FIELDS, ScenePack, assign_shard
from pwcat.building.coming import forget_scenes, last_shards
from pwcat.building.coordinates import write_samples
from pwcat.building.execution import run_shards
from pwcat.building.ledger import UNUSABLE, ledger_path, ledger_settles, read_ledger
from pwcat.building.losses import Loss, count_lacks, count_losses, count_stand_ins
from pwcat.building.sensing import SensorPack
from pwcat.building.shards import ShardResult, ShardTask, make_shard
from pwcat.building.standing import OnStanding, Standing, untold
from pwcat.building.strays import require_no_strays
from pwcat.costs.comparison import RunCost, compare_costs, keep_costs
from pwcat.costs.reads import Reads, estimate_reads
from pwcat.costs.traffic import Traffic, under_way
from pwcat.cube import CubeSpec, create_cube, open_cube, shard_path, unreadable_metadata
from pwcat.errors import CubeError
from pwcat.lock import locked
from pwcat.pixels.composites import scenes_by_row
from pwcat.plan import FrozenPlan, read_plan, require_plan
from pwcat.providers import OpenSource
from pwcat.readers import ReaderName
from pwcat.reserve import Choice, choose_replacements, plan_hash, read_replacements, write_replacements
from pwcat.sensors.meaning import sensor_bands
from pwcat.sharding import shard_size

__all__ = ["BuildReport", "build_cube", "require_same_cube", "spec_of"]

# What is read of the plan and of the ledgers as a whole: the rest is read shard by shard, or not at all.
PLAN_COLUMNS = {*ROW_FIELDS, "stratum", "split", "shard"}
OUTCOME_COLUMNS = {"id", "status", "reason", "cause", "without", "source"}


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What a build did.

    Attributes:
        counts: samples by status, over the whole dataset.
        losses: samples without pixels, counted by cause, the most frequent first.
        flagged: items whose pixels contradict the offset that they state, with what was seen.
        replaced: samples that are sites of the reserve by now, over the whole dataset.
        reserve_left: sites of the reserve that are unused; ``None`` where the plan has no reserve.
        lacks: for how many dates of samples that have pixels each sensor has nothing; empty without sensors.
        fallback: how many dates of samples that have pixels each of the other sources served, by its name.
        short: samples without pixels for which the reserve has no site left of their stratum, by stratum.
        shards_built: shards made now; the others were there.
        shards: all of them.
        bytes: of pixels that were made now, uncompressed.
        retries: requests that were sent again in this run.
        seconds: of this run.
        cost: what reading took in this run beside the estimate of it; ``None`` where nothing was read.
    """

    counts: dict[str, int]
    losses: list[Loss]
    flagged: dict[str, str]
    replaced: int
    reserve_left: int | None
    lacks: dict[str, int]
    fallback: dict[str, int]
    short: dict[str, int]
    shards_built: int
    shards: int
    bytes: int
    retries: int
    seconds: float
    cost: RunCost | None

    @property
    def missing(self) -> int:
        """Samples without pixels: how many fewer there are than the recipe asks for."""
        return sum(count for status, count in self.counts.items() if status != "written")


def build_cube(
    folder: Path,
    *,
    source: OpenSource,
    scheduler: str | None = None,
    replace_failed: bool = False,
    reader: ReaderName = "auto",
    fallback: Sequence[OpenSource] = (),
    sensors: Mapping[str, OpenSource] = MappingProxyType({}),
    progress: OnStanding = untold,
) -> BuildReport:
    """Materialise the plan in a collection's folder; what is there already is left alone.

    Samples whose scenes have no data there are replaced by sites of the plan's reserve, and their shards made again, until
    none is left or the reserve is used up.

    Args:
        folder: holds ``plan.parquet``, ``scenes.parquet``, ``recipe.yaml``; gets ``cube.zarr`` and ``ledger/``, and
            ``replacements.parquet`` where samples are replaced.
        source: the plan's source, open.
        scheduler: address of a Dask scheduler whose workers see ``folder``; threads of this process where ``None``.
        replace_failed: replace samples that could not be read as well; else another run tries them again.
        reader: of the pixels.
        fallback: the recipe's other sources, open, in its order.
        sensors: sources of the recipe's sensors, open, by name.
        progress: told how far the build has come, first of what was there, then whenever a shard is done, and about every
            second while none is.

    Raises:
        CubeError: the folder holds a cube of another shape or recipe, or a shard cannot be made; the others are by then.
        SourceError: the scheduler does not answer, or is lost on the way.
        PwcatError: there is no plan, or another build is at work in the folder.
    """
    require_plan(folder)
    statuses = (*UNUSABLE, "failed") if replace_failed else UNUSABLE
    # In the ledger's folder, under a name that readers of its Parquet skip
    with locked(folder / "ledger" / "_lock", doing=f"{folder}: another build"):
        run = _Run(
            folder=folder,
            source=source,
            scheduler=scheduler,
            reader=reader,
            fallback=fallback,
            sensor_sources=sensors,
            progress=progress,
        )
        return _build(run, statuses)


def _build(run: _Run, statuses: Sequence[str]) -> BuildReport:
    """Make what is missing, and replace samples of these statuses while the reserve lasts."""
    started = time.monotonic()
    folder, plan, spec = run.folder, run.plan, run.spec
    remove_leftovers(folder)
    require_no_strays(folder, spec)
    require_same_cube(folder, spec, recipe_hash=plan.recipe.hash)
    create_cube(folder / "cube.zarr", spec, attributes=_attributes(plan), sensors=sensor_bands(plan.recipe))
    missing = [shard for shard in range(spec.num_shards) if not _is_done(plan, spec, shard, run.plan_hash)]
    run.settled = len(plan) - sum(_rows_of(spec, shard) for shard in missing)
    run.tell()
    try:
        while True:
            run.make(plan, missing)
            ledger = read_ledger(folder, columns=OUTCOME_COLUMNS)
            choice = choose_replacements(plan.table, plan.reserve, ledger, statuses=statuses)
            if not len(choice.replacements):
                break
            write_replacements(folder, pa.concat_tables([read_replacements(folder), choice.replacements]))
            plan = read_plan(folder, columns=PLAN_COLUMNS)
            missing = sorted({row // spec.shard_size for row in choice.replacements["position"].to_pylist()})
    finally:
        cost = run.keep_cost(plan)
    flagged = write_samples(folder, ledger["id"])
    return BuildReport(
        counts=_tally(ledger["status"]),
        losses=count_losses(ledger),
        flagged=flagged,
        lacks=count_lacks(ledger, plan.recipe.sensors),
        fallback=count_stand_ins(ledger, plan.recipe.source),
        **_replaced(plan, choice),
        shards_built=len(run.shards),
        shards=spec.num_shards,
        bytes=run.bytes,
        retries=run.retries,
        seconds=time.monotonic() - started,
        cost=cost,
    )


def _replaced(plan: FrozenPlan, choice: Choice) -> dict[str, Any]:
    """What the report says of the reserve."""
    replaced = len(read_replacements(plan.folder)["position"].unique())
    has_reserve = replaced > 0 or len(plan.reserve) > 0
    return {
        "replaced": replaced,
        "reserve_left": len(plan.reserve) if has_reserve else None,
        "short": choice.short if has_reserve else {},
    }


@dataclass(kw_only=True)
class _Run:
    """What one run has done so far, over all rounds of making shards.

    Attributes:
        settled: samples, those of earlier runs included.
        shards: that were made.
        bytes: of pixels, uncompressed.
        traffic: of all workers.
        seconds: spent making shards, in rounds that have ended.
        done_at: when a shard of this run was last done, or it began, on the monotonic clock.
        rounds: the first makes what is missing, each further one what was replaced.
        retries: requests that were sent again, and reads of a scene's chips that repeat one which failed.
        expected: reads of what this run has read, those of the reserve included.
        samples_read: how many rows of the plan those are.
    """

    folder: Path
    source: OpenSource
    scheduler: str | None
    reader: ReaderName
    fallback: Sequence[OpenSource]
    sensor_sources: Mapping[str, OpenSource]
    progress: OnStanding
    settled: int = 0
    shards: set[int] = field(default_factory=set)
    bytes: int = 0
    traffic: Traffic = field(default_factory=Traffic)
    seconds: float = 0.0
    retries: int = 0
    rounds: int = 0
    expected: Reads = field(default_factory=lambda: Reads(requests=0, bytes=0.0, scenes=0))
    samples_read: int = 0
    done_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.plan = read_plan(self.folder, columns=PLAN_COLUMNS)
        self.plan_hash = plan_hash(self.folder)
        self.spec = spec_of(self.plan)

    @cached_property
    def scenes(self) -> ScenePack:
        """The plan's scenes, those of its reserve included, read once they are needed."""
        return ScenePack(self.folder, source=self.source, bands=self.plan.recipe.chip.bands)

    @cached_property
    def sensors(self) -> SensorPack:
        """The plan's sensors, read once they are needed."""
        return SensorPack(self.plan, self.sensor_sources)

    def make(self, plan: FrozenPlan, shards: Sequence[int]) -> None:
        """Make some shards of a plan."""
        if not shards:
            return
        started, before = time.monotonic(), self.seconds
        self.done_at = started
        read: dict[int, list[int]] = {}

        def wait(flying: int) -> None:
            self.seconds = before + time.monotonic() - started
            self.tell(flying=flying)

        tasks = self._tasks(plan, shards)
        try:
            with closing(run_shards(make_shard, tasks, scheduler=self.scheduler, waiting=wait)) as results:
                for result in results:
                    self.done_at = time.monotonic()
                    self.seconds = before + self.done_at - started
                    read[result.shard] = result.read
                    self._take(result)
        finally:
            forget_scenes(self.folder.resolve())
            self._expect(plan, read)
            self.rounds += 1
            self.seconds = before + time.monotonic() - started

    def _expect(self, plan: FrozenPlan, read: Mapping[int, Sequence[int]]) -> None:
        """Estimate what was read in a round, by shard and rows of it."""
        at = [np.array(rows, np.int64) + shard * self.spec.shard_size for shard, rows in sorted(read.items())]
        if not sum(map(len, at)):
            return
        positions = np.concatenate(at)
        shard = pa.array(positions // self.spec.shard_size, pa.int32())
        named = [name for name in ROW_FIELDS if name in plan.table.column_names]
        rows = plan.table.select(named).take(pa.array(positions)).append_column("shard", shard)
        scenes = map(self.scenes.one, pc.unique(scenes_by_row(rows)[0]).to_pylist())
        self.expected += estimate_reads(plan.recipe, rows, scenes)

    def _take(self, result: ShardResult) -> None:
        self.samples_read += len(result.read)
        self.retries += result.retries + result.traffic.retries
        self.shards.add(result.shard)
        self.bytes += result.bytes
        self.traffic.add(result.traffic)
        self.settled += 0 if self.rounds else result.samples
        self.tell()

    def tell(self, *, flying: int = 0) -> None:
        """Tell how far the run has come; of shards that are being made, what the tile reader has asked for."""
        measured, now = self.traffic.measured, under_way() if flying else Traffic()
        self.progress(
            Standing(
                samples=self.settled,
                total=len(self.plan),
                read=self.samples_read,
                shards=len(self.shards),
                bytes=self.bytes,
                requests=self.traffic.requests + now.requests if measured else None,
                transferred=self.traffic.bytes + now.bytes if measured else None,
                retries=self.retries + now.retries,
                seconds=self.seconds,
                flying=flying,
                quiet_s=time.monotonic() - self.done_at if flying else 0.0,
            )
        )

    def _tasks(self, plan: FrozenPlan, shards: Sequence[int]) -> Iterator[ShardTask]:
        last = last_shards(plan, shards, self.spec)
        for shard in shards:
            yield assign_shard(
                plan,
                shard,
                spec=self.spec,
                scenes=self.scenes,
                sensors=self.sensors,
                source=self.source,
                plan_hash=self.plan_hash,
                reader=self.reader,
                fallback=self.fallback,
                last=last,
                max_chip_cloud=plan.recipe.when.max_chip_cloud,
            )

    def keep_cost(self, plan: FrozenPlan) -> RunCost | None:
        """Compare what was read with its estimate, and keep it in the ledger's folder; also of a run that was stopped."""
        if not self.samples_read:
            return None
        cost = compare_costs(
            self.expected,
            samples=self.samples_read,
            shards=len(self.shards),
            traffic=self.traffic,
            seconds=self.seconds,
        )
        keep_costs(plan.folder, cost)
        return cost


def spec_of(plan: FrozenPlan) -> CubeSpec:
    """Shape and layout of a plan's cube."""
    recipe = plan.recipe
    return CubeSpec(
        num_samples=len(plan),
        num_times=len(plan.table["scene_ids"][0]),
        bands=tuple(recipe.bands),
        size_px=recipe.chip.size_px,
        shard_size=shard_size(recipe),
    )


def _rows_of(spec: CubeSpec, shard: int) -> int:
    return min(spec.shard_size, spec.num_samples - shard * spec.shard_size)


def _attributes(plan: FrozenPlan) -> dict[str, Any]:
    recipe = plan.recipe
    return {
        "title": recipe.title,
        "license": recipe.license,
        "attribution": recipe.attribution or "",
        "recipe_hash": recipe.hash,
        "resolution_m": recipe.chip.resolution_m,
        "harmonised": recipe.chip.harmonise,
        "pwcat_version": version("pwcat"),
    }


def require_same_cube(folder: Path, spec: CubeSpec, *, recipe_hash: str) -> None:
    """See that the cube in a collection's folder, if there is one, is that of a recipe, and of this shape.

    Of one whose metadata cannot be read nothing can be told; its shards are tied to their plan by their ledgers.

    Raises:
        CubeError: it is another's.
    """
    path = folder / "cube.zarr"
    if not all((path / part).is_file() for part in ("zarr.json", "chips/zarr.json")) or unreadable_metadata(path):
        return
    cube = open_cube(path)
    band = cube.stored("band")
    bands = spec.bands if band is None else tuple(band.tolist())
    there = (cube.num_samples, *cube.chip_shape, cube.shard_size)
    wanted = (spec.num_samples, *spec.chip_shape, spec.shard_size)
    made_by = str(cube.attrs.get("recipe_hash"))
    if there != wanted or (bands != spec.bands and made_by != recipe_hash):
        raise CubeError(
            f"{folder}: holds a cube of another plan ({there}, bands {', '.join(bands)}; the plan says {wanted}, "
            f"bands {', '.join(spec.bands)}). Remove the folder, or give the recipe another name"
        )
    if made_by != recipe_hash:
        raise CubeError(
            f"{folder}: holds a cube of another recipe ({made_by[:12]}, not {recipe_hash[:12]}). Remove the folder, or give "
            "the recipe another name"
        )


def _is_done(plan: FrozenPlan, spec: CubeSpec, shard: int, plan_hash: str) -> bool:
    path = shard_path(plan.folder / "cube.zarr", shard)
    if not path.is_file():
        return False
    ids = plan.table["id"].slice(shard * spec.shard_size, spec.shard_size).to_pylist()
    ledger = ledger_path(plan.folder, shard)
    return ledger_settles(ledger, plan_hash=plan_hash, shard_bytes=path.stat().st_size, ids=ids)


def _tally(column: pa.ChunkedArray) -> dict[str, int]:
    return {entry["values"].as_py(): entry["counts"].as_py() for entry in column.value_counts()} if len(column) else {}
