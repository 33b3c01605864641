"""From a plan to a cube: shards are read and written whole, side by side, on one machine or a Dask cluster.

A shard's file appears last, after its ledger, in one rename; so what is there is done, and a rerun does what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pwcat.atomic import remove_leftovers
from pwcat.costs.comparison import RunCost, compare_costs, keep_costs
from pwcat.costs.traffic import Traffic
from pwcat.cube import CubeSpec, create_cube, open_cube, shard_path, write_coordinates
from pwcat.errors import CubeError, SourceError
from pwcat.ledger import ledger_path, ledger_settles, read_ledger
from pwcat.lock import locked
from pwcat.plan import FrozenPlan, read_plan, require_plan
from pwcat.providers import OpenSource
from pwcat.reserve import Choice, choose_replacements, plan_hash, read_replacements, write_replacements
from pwcat.scenes import Scene
from pwcat.sharding import shard_size
from pwcat.shards import ShardResult, ShardTask, make_shard

__all__ = ["BuildReport", "build_cube"]

SCHEDULER_TIMEOUT_S = 10.0

# Shards in flight on one machine, and reads at a time in each: enough to hide an API's latency from two cores.
LOCAL_SHARDS = 2
READ_THREADS = 8


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What a build did.

    Attributes:
        counts: samples by status, over the whole dataset.
        reasons: why samples failed or are empty, with counts.
        replaced: samples that are sites of the reserve by now, over the whole dataset.
        reserve_left: sites of the reserve that are unused; ``None`` where the plan has no reserve.
        short: samples without pixels for which the reserve has no site left of their stratum, by stratum.
        shards_built: shards made now; the others were there.
        shards: all of them.
        bytes: of pixels that were made now, uncompressed.
        seconds: of this run.
        cost: what reading took in this run beside the estimate of it; ``None`` where nothing was read.
    """

    counts: dict[str, int]
    reasons: dict[str, int]
    replaced: int
    reserve_left: int | None
    short: dict[str, int]
    shards_built: int
    shards: int
    bytes: int
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
    progress: Callable[[int, int], None] = lambda samples, size: None,
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
        progress: called with samples and bytes whenever a shard is done, first with those that were there.

    Raises:
        CubeError: the folder holds a cube of another shape or recipe.
        SourceError: the scheduler does not answer.
        PwcatError: there is no plan, or another build is at work in the folder.
    """
    require_plan(folder)
    statuses = ("empty", "failed") if replace_failed else ("empty",)
    # In the ledger's folder, under a name that readers of its Parquet skip
    with locked(folder / "ledger" / "_lock", doing=f"{folder}: another build"):
        return _build(folder, source, scheduler, statuses, progress)


def _build(
    folder: Path,
    source: OpenSource,
    scheduler: str | None,
    statuses: Sequence[str],
    progress: Callable[[int, int], None],
) -> BuildReport:
    """Make what is missing, and replace samples of these statuses while the reserve lasts."""
    started = time.monotonic()
    plan = read_plan(folder)
    spec = _spec_of(plan)
    remove_leftovers(folder)
    _require_same_cube(folder, spec, recipe_hash=plan.recipe.hash)
    create_cube(folder / "cube.zarr", spec, attributes=_attributes(plan))
    run = _Run(spec=spec, source=source, scheduler=scheduler, plan_hash=plan_hash(folder), progress=progress)
    missing = [shard for shard in range(spec.num_shards) if not _is_done(plan, spec, shard, run.plan_hash)]
    progress(len(plan) - sum(_rows_of(spec, shard) for shard in missing), 0)
    try:
        while True:
            run.make(plan, missing)
            ledger = read_ledger(folder)
            choice = choose_replacements(plan.table, plan.reserve, ledger, statuses=statuses)
            if not len(choice.replacements):
                break
            write_replacements(folder, pa.concat_tables([read_replacements(folder), choice.replacements]))
            plan = read_plan(folder)
            missing = sorted({row // spec.shard_size for row in choice.replacements["position"].to_pylist()})
    finally:
        cost = run.keep_cost(plan)
    _finish(folder, plan, ledger)
    return BuildReport(
        counts=_tally(ledger["status"]),
        reasons=_tally(ledger["reason"].filter(pa.compute.is_valid(ledger["reason"]))),
        **_replaced(plan, choice),
        shards_built=len(run.shards),
        shards=spec.num_shards,
        bytes=run.bytes,
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
        shards: that were made.
        bytes: of pixels, uncompressed.
        traffic: of all workers.
        seconds: spent making shards.
        rounds: the first makes what is missing, each further one what was replaced.
        read: round, shard, and scenes and corners of the plan's rows that were read for it.
        scenes: of the plan, by id, once they are needed.
    """

    spec: CubeSpec
    source: OpenSource
    scheduler: str | None
    plan_hash: str
    progress: Callable[[int, int], None]
    shards: set[int] = field(default_factory=set)
    bytes: int = 0
    traffic: Traffic = field(default_factory=Traffic)
    seconds: float = 0.0
    rounds: int = 0
    read: list[tuple[int, int, pa.Table]] = field(default_factory=list)
    scenes: dict[str, Scene] = field(default_factory=dict)

    def make(self, plan: FrozenPlan, shards: Sequence[int]) -> None:
        """Make some shards of a plan."""
        started = time.monotonic()
        try:
            for result in _results(self._tasks(plan, shards), self.scheduler):
                self._take(plan, result)
        finally:
            self.rounds += 1
            self.seconds += time.monotonic() - started

    def _take(self, plan: FrozenPlan, result: ShardResult) -> None:
        rows = plan.table.select(["scene_ids", "x0", "y0"]).slice(
            result.shard * self.spec.shard_size, self.spec.shard_size
        )
        self.read.append((self.rounds, result.shard, rows.take(pa.array(result.read, pa.int64()))))
        self.shards.add(result.shard)
        self.bytes += result.bytes
        self.traffic.add(result.traffic)
        self.progress(0 if self.rounds else result.samples, result.bytes)

    def _scenes(self, plan: FrozenPlan) -> dict[str, Scene]:
        """The plan's scenes, those of its reserve included, read once."""
        if not self.scenes:
            self.scenes = {scene.id: scene for scene in plan.scenes(self.source)}
        return self.scenes

    def _tasks(self, plan: FrozenPlan, shards: Sequence[int]) -> Iterator[ShardTask]:
        if not shards:
            return
        scenes, size = self._scenes(plan), self.spec.shard_size
        for shard in shards:
            rows = plan.table.slice(shard * size, size).select(["id", "scene_ids", "x0", "y0"]).to_pylist()
            yield ShardTask(
                folder=plan.folder.resolve(),
                spec=self.spec,
                shard=shard,
                rows=rows,
                scenes={name: scenes[name] for row in rows for name in row["scene_ids"]},
                chip=plan.recipe.chip,
                source=self.source,
                plan_hash=self.plan_hash,
                threads=READ_THREADS,
            )

    def keep_cost(self, plan: FrozenPlan) -> RunCost | None:
        """Compare what was read with its estimate, and keep it in the ledger's folder; also of a run that was stopped."""
        parts = []
        for number, shard, rows in sorted(self.read, key=lambda part: part[:2]):
            again = pa.array([number * self.spec.num_shards + shard] * len(rows), pa.int32())
            parts.append(rows.append_column("shard", again))
        rows = pa.concat_tables(parts) if parts else ()
        if not len(rows):
            return None
        cost = compare_costs(
            plan.recipe,
            rows,
            list(self._scenes(plan).values()),
            shards=len(self.shards),
            traffic=self.traffic,
            seconds=self.seconds,
        )
        keep_costs(plan.folder, cost)
        return cost


def _spec_of(plan: FrozenPlan) -> CubeSpec:
    recipe = plan.recipe
    return CubeSpec(
        num_samples=len(plan),
        num_times=len(plan.table["scene_ids"][0]),
        bands=tuple(recipe.chip.bands),
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


def _require_same_cube(folder: Path, spec: CubeSpec, *, recipe_hash: str) -> None:
    if not (folder / "cube.zarr" / "chips" / "zarr.json").is_file():
        return
    cube = open_cube(folder / "cube.zarr")
    there = (cube.num_samples, *cube.chip_shape, cube.shard_size)
    wanted = (spec.num_samples, *spec.chip_shape, spec.shard_size)
    if there != wanted or cube.bands != spec.bands:
        raise CubeError(
            f"{folder}: holds a cube of another plan ({there}, bands {', '.join(cube.bands)}; the plan says {wanted}, "
            f"bands {', '.join(spec.bands)}). Remove the folder, or give the recipe another name"
        )
    if (made_by := str(cube.attrs.get("recipe_hash"))) != recipe_hash:
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


def _results(tasks: Iterator[ShardTask], scheduler: str | None) -> Iterator[ShardResult]:
    """Results of the tasks as they come, with a sliding window of a few in flight."""
    with _executor(scheduler) as (executor, window):
        flying: set[Future[ShardResult]] = {executor.submit(make_shard, task) for task in islice(tasks, window)}
        while flying:
            landed, flying = wait(flying, return_when=FIRST_COMPLETED)
            flying |= {executor.submit(make_shard, task) for task in islice(tasks, len(landed))}
            for future in landed:
                yield future.result()


@contextmanager
def _executor(scheduler: str | None) -> Iterator[tuple[Executor, int]]:
    if scheduler is None:
        executor = ThreadPoolExecutor(LOCAL_SHARDS)
        try:
            yield executor, LOCAL_SHARDS
        finally:
            executor.shutdown(wait=True, cancel_futures=True)
        return
    from distributed import Client

    try:
        client = Client(scheduler, timeout=SCHEDULER_TIMEOUT_S)
    except (OSError, ValueError) as exc:
        raise SourceError(f"the Dask scheduler at {scheduler} does not answer: {exc}") from exc
    with client:
        slots = sum(client.nthreads().values())
        if not slots:
            raise SourceError(f"the Dask scheduler at {scheduler} has no workers")
        yield client.get_executor(pure=False, retries=2), 2 * slots


def _finish(folder: Path, plan: FrozenPlan, ledger: pa.Table) -> None:
    """Write the coordinates, once every shard is there, and gather the metadata for readers that want it in one piece."""
    if ledger["id"].to_pylist() != plan.table["id"].to_pylist():
        raise CubeError(f"{folder}: the ledger does not list the plan's samples in order; build again")
    table = plan.table
    seconds = np.array([[t.timestamp() for t in times] for times in table["datetime"].to_pylist()]).round()
    scene_ids = np.array(table["scene_ids"].to_pylist(), dtype=object)
    columns: dict[str, NDArray[Any]] = {
        "id": np.array(table["id"].to_pylist(), dtype=object),
        **{name: table[name].to_numpy() for name in ("lon", "lat", "epsg", "x0", "y0")},
        "datetime": seconds.astype(np.int64),
        "scene_id": scene_ids,
        "boa_offset": np.array(ledger["boa_offset"].to_pylist(), dtype=np.int32),
        "valid_fraction": ledger["valid_fraction"].to_numpy(),
    }
    write_coordinates(folder / "cube.zarr", columns)


def _tally(column: pa.ChunkedArray) -> dict[str, int]:
    return {entry["values"].as_py(): entry["counts"].as_py() for entry in column.value_counts()} if len(column) else {}
