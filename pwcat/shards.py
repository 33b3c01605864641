"""One shard: its chips read, harmonised and written whole, its ledger first. This is what a worker does."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwcat.costs.traffic import Traffic, metered
from pwcat.cube import CubeSpec, encode_shard, open_cube, shard_path, write_shard
from pwcat.ledger import ledger_path, read_shard_ledger, write_ledger
from pwcat.providers import OpenSource
from pwcat.readers import ReaderName, read_chips
from pwcat.recipe import Chip
from pwcat.scenes import Scene

__all__ = ["ShardResult", "ShardTask", "make_shard"]

log = logging.getLogger(__name__)

ATTEMPTS = 3
RETRY_DELAY_S = 0.5


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """Everything a worker needs to make one shard. Picklable, a few kilobytes a scene.

    Attributes:
        folder: the collection's; must be the same place for every worker.
        rows: the plan's rows of this shard.
        scenes: those that the rows name, by id.
        plan_hash: of the plan's bytes, to tie the ledger to it.
        threads: reads at a time, where GDAL reads.
        reader: of the pixels.
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
    reader: ReaderName = "auto"


@dataclass(frozen=True, kw_only=True)
class ShardResult:
    """What became of a task.

    Attributes:
        shard: its number.
        samples: in the shard.
        bytes: of pixels that were made now, uncompressed.
        read: rows of the shard that were read now; the others had been settled.
        traffic: that reading took, shared with shards that the process made at the same time.
    """

    shard: int
    samples: int
    bytes: int
    read: list[int]
    traffic: Traffic


def make_shard(task: ShardTask) -> ShardResult:
    """Read, harmonise and write one shard; its ledger first.

    Samples of it that an earlier run has settled are kept as they are: only those that failed, or are new, are read.
    """
    with metered() as traffic:
        read, size = _make(task)
    return ShardResult(shard=task.shard, samples=len(task.rows), bytes=size, read=read, traffic=traffic)


def _make(task: ShardTask) -> tuple[list[int], int]:
    """Make the shard; the rows that were read, and the bytes of their pixels."""
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
    return made, sum(entries[row].bytes for row in made)


def _kept(task: ShardTask) -> dict[int, _Entry]:
    """What an earlier run settled of this shard, by row; nothing where ledger and shard are not of one writing."""
    ledger, shard = ledger_path(task.folder, task.shard), shard_path(task.folder / "cube.zarr", task.shard)
    if not (ledger.is_file() and shard.is_file()):
        return {}
    digest = sha256(shard.read_bytes()).hexdigest()
    rows = read_shard_ledger(ledger, plan_hash=task.plan_hash, shard_sha256=digest)
    return {
        number: _Entry(**row)
        for number, row in enumerate(rows)
        if row["status"] != "failed" and row["id"] == task.rows[number]["id"]
    }


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
            outcome = read_chips(
                scene, corners, chip=task.chip, source=task.source, threads=task.threads, reader=task.reader
            )
            break
        except RuntimeError as exc:
            outcome = " ".join(task.source.unsign(str(exc)).split())
            log.info("scene %s, attempt %d: %s", scene.id, attempt + 1, outcome)
    for entry in entries:
        entry.seconds += (time.monotonic() - started) / len(entries)
    return outcome
