"""From a plan to a cube: shards are read and written whole, side by side, on one machine or a Dask cluster.

A shard's file appears last, after its ledger, in one rename; so what is there is done, and a rerun does what is missing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pwcat.atomic import remove_leftovers
from pwcat.cube import CubeSpec, create_cube, encode_shard, open_cube, shard_path, write_coordinates, write_shard
from pwcat.errors import CubeError, SourceError
from pwcat.ledger import ledger_path, ledger_settles, read_ledger, read_shard_ledger, write_ledger
from pwcat.plan import FrozenPlan, read_plan, shard_size
from pwcat.providers import OpenSource
from pwcat.readers import read_chips
from pwcat.recipe import Chip
from pwcat.scenes import Scene

__all__ = ["BuildReport", "build_cube"]

log = logging.getLogger(__name__)

ATTEMPTS = 3
RETRY_DELAY_S = 0.5
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
        shards_built: shards made now; the others were there.
        shards: all of them.
        bytes: of pixels that were made now, uncompressed.
        seconds: of this run.
    """

    counts: dict[str, int]
    reasons: dict[str, int]
    shards_built: int
    shards: int
    bytes: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """Everything a worker needs to make one shard. Picklable, a few kilobytes a scene.

    Attributes:
        folder: the collection's; must be the same place for every worker.
        rows: the plan's rows of this shard.
        scenes: those that the rows name, by id.
        plan_hash: of the plan's bytes, to tie the ledger to it.
    """

    folder: Path
    spec: CubeSpec
    shard: int
    rows: Sequence[Mapping[str, Any]]
    scenes: Mapping[str, Scene]
    chip: Chip
    source: OpenSource
    plan_hash: str
    threads: int


def build_cube(
    folder: Path,
    *,
    source: OpenSource,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] = lambda samples, size: None,
) -> BuildReport:
    """Materialise the plan in a collection's folder; what is there already is left alone.

    Args:
        folder: holds ``plan.parquet``, ``scenes.parquet``, ``recipe.yaml``; gets ``cube.zarr`` and ``ledger/``.
        source: the plan's source, open.
        scheduler: address of a Dask scheduler whose workers see ``folder``; threads of this process where ``None``.
        progress: called with samples and bytes whenever a shard is done, first with those that were there.

    Raises:
        CubeError: the folder holds a cube of another shape or recipe.
        SourceError: the scheduler does not answer.
    """
    started = time.monotonic()
    plan = read_plan(folder)
    spec = _spec_of(plan)
    plan_hash = sha256((folder / "plan.parquet").read_bytes()).hexdigest()
    remove_leftovers(folder)
    _require_same_cube(folder, spec, recipe_hash=plan.recipe.hash)
    create_cube(folder / "cube.zarr", spec, attributes=_attributes(plan))
    missing = [shard for shard in range(spec.num_shards) if not _is_done(folder, shard, plan_hash)]
    progress(len(plan) - sum(_rows_of(spec, shard) for shard in missing), 0)
    tasks = _tasks(plan, spec, missing, source, plan_hash)
    made = 0
    for result in _run(tasks, scheduler):
        made += result["bytes"]
        progress(result["samples"], result["bytes"])
    ledger = read_ledger(folder)
    _finish(folder, plan, ledger)
    return BuildReport(
        counts=_tally(ledger["status"]),
        reasons=_tally(ledger["reason"].filter(pa.compute.is_valid(ledger["reason"]))),
        shards_built=len(missing),
        shards=spec.num_shards,
        bytes=made,
        seconds=time.monotonic() - started,
    )


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


def _is_done(folder: Path, shard: int, plan_hash: str) -> bool:
    path = shard_path(folder / "cube.zarr", shard)
    if not path.is_file():
        return False
    return ledger_settles(ledger_path(folder, shard), plan_hash=plan_hash, shard_bytes=path.stat().st_size)


def _tasks(
    plan: FrozenPlan, spec: CubeSpec, shards: Sequence[int], source: OpenSource, plan_hash: str
) -> Iterator[ShardTask]:
    recipe = plan.recipe
    columns = ["id", "scene_ids", "x0", "y0"]
    if not shards:
        return
    scenes = {scene.id: scene for scene in plan.scenes(source)}
    for shard in shards:
        rows = plan.table.slice(shard * spec.shard_size, spec.shard_size).select(columns).to_pylist()
        named = {name for row in rows for name in row["scene_ids"]}
        yield ShardTask(
            folder=plan.folder.resolve(),
            spec=spec,
            shard=shard,
            rows=rows,
            scenes={name: scenes[name] for name in named},
            chip=recipe.chip,
            source=source,
            plan_hash=plan_hash,
            threads=READ_THREADS,
        )


def _run(tasks: Iterator[ShardTask], scheduler: str | None) -> Iterator[dict[str, int]]:
    """Results of the tasks as they come, with a sliding window of a few in flight."""
    with _executor(scheduler) as (executor, window):
        flying: set[Future[dict[str, int]]] = {executor.submit(make_shard, task) for task in islice(tasks, window)}
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


def make_shard(task: ShardTask) -> dict[str, int]:
    """Read, harmonise and write one shard; its ledger first. Returns counts of samples and bytes.

    Samples of it that an earlier run has settled are kept as they are: only those that failed are read.
    """
    rows = len(task.rows)
    chips = np.zeros((rows, *task.spec.chip_shape), dtype=np.uint16)
    valid = np.ones((rows, task.spec.size_px, task.spec.size_px), dtype=bool)
    entries = [_Entry(id=row["id"], boa_offset=[0] * task.spec.num_times) for row in task.rows]
    kept = _kept(task)
    for row, entry in kept.items():
        entries[row] = entry
    if kept:
        chips[list(kept)] = open_cube(task.folder / "cube.zarr").read_shard(task.shard)[list(kept)]
    for scene_id, time_index, wanted in _by_scene(task.rows):
        members = [member for member in wanted if member not in kept]
        if not members:
            continue
        scene = task.scenes[scene_id]
        offset = task.source.boa_offset(scene.item["properties"]) if task.chip.harmonise else 0
        for member, raw in _read(task, scene, members, entries):
            valid[member] &= (raw != 0).all(axis=0)
            chips[member, time_index] = np.where(raw > offset, raw - offset, 0)
            entries[member].boa_offset[time_index] = offset
    made = [row for row in range(rows) if row not in kept]
    for row in made:
        entries[row].settle(float(valid[row].mean()), int(chips[row].nbytes))
        if entries[row].status != "written":
            chips[row] = 0
    _write(task, chips, entries)
    return {"samples": rows, "bytes": sum(entries[row].bytes for row in made)}


def _kept(task: ShardTask) -> dict[int, _Entry]:
    """What an earlier run settled of this shard, by row; nothing where ledger and shard are not of one writing."""
    ledger, shard = ledger_path(task.folder, task.shard), shard_path(task.folder / "cube.zarr", task.shard)
    if not (ledger.is_file() and shard.is_file()):
        return {}
    digest = sha256(shard.read_bytes()).hexdigest()
    rows = read_shard_ledger(ledger, plan_hash=task.plan_hash, shard_sha256=digest)
    return {number: _Entry(**row) for number, row in enumerate(rows) if row["status"] != "failed"}


def _write(task: ShardTask, chips: NDArray[np.uint16], entries: Sequence[_Entry]) -> None:
    payload = encode_shard(task.spec, task.shard, chips)
    ledger = ledger_path(task.folder, task.shard)
    write_ledger(ledger, [vars(entry) for entry in entries], plan_hash=task.plan_hash, shard=payload)
    write_shard(task.folder / "cube.zarr", task.shard, payload)


@dataclass
class _Entry:
    """A row of the ledger in the making."""

    id: str
    boa_offset: list[int]
    status: str = "written"
    reason: str | None = None
    attempts: int = 0
    bytes: int = 0
    seconds: float = 0.0
    valid_fraction: float = 0.0

    def settle(self, valid_fraction: float, size: int) -> None:
        """Fill in what is known once all dates are read."""
        if self.status == "failed":
            return
        self.valid_fraction, self.bytes = valid_fraction, size
        if valid_fraction == 0.0:
            self.status, self.reason, self.bytes = "empty", "no pixel has data in every band and date", 0


def _by_scene(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, int, list[int]]]:
    """Scene id, date index, and the rows that want that scene for that date."""
    wanted: dict[tuple[str, int], list[int]] = {}
    for number, row in enumerate(rows):
        for time_index, scene_id in enumerate(row["scene_ids"]):
            wanted.setdefault((scene_id, time_index), []).append(number)
    for (scene_id, time_index), members in wanted.items():
        yield scene_id, time_index, members


def _read(
    task: ShardTask, scene: Scene, members: Sequence[int], entries: Sequence[_Entry]
) -> Iterator[tuple[int, NDArray[np.uint16]]]:
    """Chips of one scene; those that cannot be read are told in their entries.

    All chips are read at once; where that fails for good, one by one, so that a damaged tile costs only its own chips.
    """
    corners = [(task.rows[member]["x0"], task.rows[member]["y0"]) for member in members]
    together = _attempt(task, scene, corners, [entries[member] for member in members])
    if not isinstance(together, str):
        yield from zip(members, together, strict=True)
        return
    for member, corner in zip(members, corners, strict=True):
        alone = _attempt(task, scene, [corner], [entries[member]], attempts=1) if len(members) > 1 else together
        if isinstance(alone, str):
            entries[member].status, entries[member].reason = "failed", f"{scene.id}: {alone}"
        else:
            yield member, alone[0]


def _attempt(
    task: ShardTask,
    scene: Scene,
    corners: Sequence[tuple[float, float]],
    entries: Sequence[_Entry],
    *,
    attempts: int = ATTEMPTS,
) -> NDArray[np.uint16] | str:
    """The chips, or why they could not be read."""
    started = time.monotonic()
    outcome: NDArray[np.uint16] | str = "never tried"
    for attempt in range(attempts):
        if attempt:
            time.sleep(RETRY_DELAY_S * 2 ** (attempt - 1))
        for entry in entries:
            entry.attempts += 1
        try:
            outcome = read_chips(scene, corners, chip=task.chip, source=task.source, threads=task.threads)
            break
        except RuntimeError as exc:
            outcome = " ".join(task.source.unsign(str(exc)).split())
            log.info("scene %s, attempt %d: %s", scene.id, attempt + 1, outcome)
    for entry in entries:
        entry.seconds += (time.monotonic() - started) / len(entries)
    return outcome


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
