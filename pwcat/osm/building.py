"""From the plan of a map collection to its cube: images read onto the tiles' pixels, shards written whole, ledgers first.

A tile without an image has a row of zeros; one whose image could not be read has too, and the next run tries it again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import zarr
from numpy.typing import NDArray

from pwcat.atomic import remove_leftovers
from pwcat.building.execution import Work, run_shards
from pwcat.building.ledger import (
    ledger_path,
    ledger_settles,
    read_ledger,
    read_shard_ledger,
    write_ledger,
)
from pwcat.building.losses import Loss, count_losses
from pwcat.building.standing import OnStanding, Standing, untold
from pwcat.building.strays import require_no_strays
from pwcat.cube import CubeSpec, create_cube, encode_shard, open_cube, shard_path, write_coordinates, write_shard
from pwcat.lock import locked
from pwcat.materialize import require_same_cube
from pwcat.osm.imagery import Imagery
from pwcat.osm.imagery.numbers import meaning_of
from pwcat.osm.imagery.offers import MERCATOR, TileImage
from pwcat.osm.plan import MapPlan, read_tiles
from pwcat.osm.tiles import parse_tile
from pwcat.sensors.files import Unread

__all__ = ["NO_IMAGE", "MapReport", "build_tiles", "map_coordinates"]

# Why a tile that no image covers has none: it is no loss.
NO_IMAGE = "no image"


@dataclass(frozen=True, kw_only=True)
class MapReport:
    """What a build of a map collection did.

    Attributes:
        tiles: in all.
        pictured: that have an image.
        mapped: that have entities.
        failed: whose image could not be read.
        entities: rows of entities, over all tiles.
        losses: images that could not be read or hold nothing, by cause, the most frequent first.
        shards_built: shards made now; the others were there.
        shards: all of them.
        retries: requests that were sent again in this run.
        seconds: of this run.
    """

    tiles: int
    pictured: int
    mapped: int
    failed: int
    entities: int
    losses: list[Loss]
    shards_built: int
    shards: int
    retries: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ImageTask:
    """Everything a worker needs to make one shard.

    Attributes:
        folder: the collection's; must be the same place for every worker.
        spec: of its cube.
        shard: its number.
        rows: of the plan: id, tile and images of each.
        documents: what it takes to read these images, by id.
        imagery: reads them; ``None`` where there are none.
        plan_hash: of the plan's bytes, to tie the ledger to it.
        share: not used; every task of a cluster has one.
    """

    folder: Path
    spec: CubeSpec
    shard: int
    rows: list[dict[str, Any]]
    documents: Mapping[str, Mapping[str, Any]]
    imagery: Imagery | None
    plan_hash: str
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class ImageResult:
    """What became of a task: rows that were read now, how often files were asked for again, and pixels in bytes."""

    shard: int
    samples: int
    read: int
    retries: int
    bytes: int


def build_tiles(
    folder: Path, *, imagery: Imagery | None, scheduler: str | None = None, progress: OnStanding = untold
) -> MapReport:
    """Make the cube of a plan; what is there already is left alone, and images that failed are tried again.

    Args:
        folder: of the collection, with its plan; gets ``cube.zarr`` and ``ledger/``.
        imagery: the recipe's images, open.
        scheduler: address of a Dask scheduler whose workers see ``folder``; threads of this process where ``None``.
        progress: told how far the build has come.

    Raises:
        CubeError: the folder holds a cube of another shape or recipe, or a shard cannot be made; the others are by then.
        PwcatError: there is no plan, or another build is at work in the folder.
    """
    started = time.monotonic()
    with locked(folder / "ledger" / "_lock", doing=f"{folder}: another build"):
        plan = read_tiles(folder)
        run = _Run(plan=plan, imagery=imagery, progress=progress, started=started)
        run.prepare()
        run.make(scheduler)
        ledger = read_ledger(folder)
        write_coordinates(folder / "cube.zarr", map_coordinates(plan, ledger))
    return _report(run, ledger)


@dataclass(kw_only=True)
class _Run:
    """What one run has done so far."""

    plan: MapPlan
    imagery: Imagery | None
    progress: OnStanding
    started: float
    settled: int = 0
    read: int = 0
    retries: int = 0
    bytes: int = 0
    made: list[int] = field(default_factory=list)

    def prepare(self) -> None:
        """See that the folder can take the cube, and write its metadata."""
        plan, spec = self.plan, self.plan.spec
        path = plan.folder / "cube.zarr"
        remove_leftovers(plan.folder)
        require_no_strays(plan.folder, spec)
        require_same_cube(plan.folder, spec, recipe_hash=plan.recipe.hash)
        create_cube(path, spec, attributes=_attributes(plan))
        _say_what_chips_are(path, plan)

    def make(self, scheduler: str | None) -> None:
        """Make what is missing."""
        spec = self.plan.spec
        missing = [shard for shard in range(spec.num_shards) if not self._is_done(shard)]
        self.settled = len(self.plan) - sum(len(self._rows(shard)) for shard in missing)
        self._tell()
        results = run_shards(
            cast("Work", make_images), cast("Iterator[Any]", self._tasks(missing)), scheduler=scheduler
        )
        with closing(results):
            for result in cast("Iterator[ImageResult]", results):
                self.made.append(result.shard)
                self.settled += result.samples
                self.read += result.read
                self.retries += result.retries
                self.bytes += result.bytes
                self._tell()

    def _rows(self, shard: int) -> pa.Table:
        size = self.plan.spec.shard_size
        return self.plan.table.slice(shard * size, size)

    def _is_done(self, shard: int) -> bool:
        path = shard_path(self.plan.folder / "cube.zarr", shard)
        return path.is_file() and ledger_settles(
            ledger_path(self.plan.folder, shard),
            plan_hash=self.plan.hash,
            shard_bytes=path.stat().st_size,
            ids=self._rows(shard)["id"].to_pylist(),
        )

    def _tasks(self, missing: list[int]) -> Iterator[ImageTask]:
        documents = self.plan.documents() if missing and self.imagery is not None else {}
        for shard in missing:
            rows = self._rows(shard).select(["id", "tile", "images"]).to_pylist()
            named = {name for row in rows for name in row["images"]}
            yield ImageTask(
                folder=self.plan.folder,
                spec=self.plan.spec,
                shard=shard,
                rows=rows,
                documents={name: documents[name] for name in sorted(named)},
                imagery=self.imagery,
                plan_hash=self.plan.hash,
            )

    def _tell(self) -> None:
        self.progress(
            Standing(
                samples=self.settled,
                total=len(self.plan),
                read=self.read,
                shards=len(self.made),
                bytes=self.bytes,
                requests=None,
                transferred=None,
                retries=self.retries,
                seconds=time.monotonic() - self.started,
                flying=0,
                quiet_s=0.0,
            )
        )


def _attributes(plan: MapPlan) -> dict[str, Any]:
    recipe = plan.recipe
    scale, offset = meaning_of(recipe.images.depth if recipe.images is not None else 8)
    return {
        "scale": scale,
        "offset": offset,
        "title": recipe.title,
        "license": recipe.license,
        "attribution": recipe.attribution or "",
        "recipe_hash": recipe.hash,
        "resolution_m": plan.pixel_m,
        "pwcat_version": version("pwcat"),
    }


def _say_what_chips_are(path: Path, plan: MapPlan) -> None:
    depth = plan.recipe.images.depth if plan.recipe.images is not None else 8
    said = {"long_name": "aerial image", "units": "1", "coordinates": "lon lat"}
    if depth == 8:
        said["comment"] = "of 8 bits, each number one higher: 1 is black, 256 is full, 0 is no image"
    zarr.open_array(path / "chips", mode="r+").attrs.update(said)


def make_images(task: ImageTask) -> ImageResult:
    """Read and write one shard, its ledger first; images that an earlier run settled are kept as they are."""
    kept = _kept(task)
    chips = np.zeros((len(task.rows), *task.spec.chip_shape), dtype=np.uint16)
    if kept:
        chips[list(kept)] = open_cube(task.folder / "cube.zarr").read_shard(task.shard)[list(kept)]
    entries = [kept.get(row) or _entry(task, said) for row, said in enumerate(task.rows)]
    wanted = [row for row, said in enumerate(task.rows) if row not in kept and said["images"]]
    retries = _read(task, wanted, chips, entries)
    payload = encode_shard(task.spec, task.shard, chips)
    write_ledger(ledger_path(task.folder, task.shard), entries, plan_hash=task.plan_hash, shard=payload)
    write_shard(task.folder / "cube.zarr", task.shard, payload)
    read = sum(int(entries[row]["bytes"]) for row in wanted)
    return ImageResult(shard=task.shard, samples=len(task.rows), read=len(wanted), retries=retries, bytes=read)


def _read(task: ImageTask, wanted: list[int], chips: NDArray[np.uint16], entries: list[dict[str, Any]]) -> int:
    """Read some images into their places; returns how often files were asked for again."""
    if task.imagery is None or not wanted:
        return 0
    started, asked_again = time.monotonic(), 0
    images = [
        TileImage(tile=parse_tile(task.rows[row]["tile"]), items=tuple(task.rows[row]["images"])) for row in wanted
    ]
    for place, outcome, retries in task.imagery.read(images, task.documents):
        entry, row = entries[wanted[place]], wanted[place]
        entry["attempts"], entry["retries"] = len(images[place].items), retries
        asked_again += retries
        if isinstance(outcome, Unread):
            entry |= {"status": "failed", "cause": outcome.cause, "reason": outcome.reason}
            continue
        valid = float((outcome != 0).all(axis=0).mean())
        entry |= {"status": "written", "valid_fraction": valid, "bytes": int(outcome.nbytes)}
        if valid == 0.0:
            entry |= {"status": "empty", "cause": "no data", "reason": "no pixel has data in every band", "bytes": 0}
        else:
            chips[row, 0] = outcome
    for row in wanted:
        entries[row]["seconds"] = (time.monotonic() - started) / len(wanted)
    return asked_again


def _entry(task: ImageTask, said: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the ledger, of a tile that has no image so far."""
    there = bool(said["images"]) and task.imagery is not None
    return {
        "id": said["id"],
        "status": "empty",
        "reason": None if there else "no image covers it",
        "cause": None if there else NO_IMAGE,
        "attempts": 0,
        "retries": 0,
        "bytes": 0,
        "seconds": 0.0,
        "valid_fraction": 0.0,
        "boa_offset": [0],
        "source": [task.imagery.name if there and task.imagery is not None else None],
        "item": [said["images"][0] if there else None],
        "cloud_fraction": [None],
        "offset_flag": [None],
        "without": [],
    }


def _kept(task: ImageTask) -> dict[int, dict[str, Any]]:
    """What an earlier run settled of this shard, by row; nothing where ledger and shard are not of one writing."""
    ledger, shard = ledger_path(task.folder, task.shard), shard_path(task.folder / "cube.zarr", task.shard)
    if not (ledger.is_file() and shard.is_file()):
        return {}
    digest = sha256(shard.read_bytes()).hexdigest()
    rows = read_shard_ledger(ledger, plan_hash=task.plan_hash, shard_sha256=digest)
    return {
        number: row
        for number, row in enumerate(rows)
        if row["status"] != "failed" and row["id"] == task.rows[number]["id"]
    }


def map_coordinates(plan: MapPlan, ledger: pa.Table) -> dict[str, NDArray[Any]]:
    """What a map's cube says of its samples, by array.

    Args:
        plan: of the collection.
        ledger: of all its shards.
    """
    table, count = plan.table, len(plan)
    seconds = table["datetime"].cast(pa.int64()).to_numpy() // 1_000_000
    scenes = [(names or [""])[0] for names in table["images"].to_pylist()]
    return {
        "id": np.array(table["id"].to_pylist(), dtype=object),
        **{name: table[name].to_numpy() for name in ("lon", "lat", "x0", "y0")},
        "epsg": np.full(count, MERCATOR, dtype=np.int32),
        "datetime": seconds.astype(np.int64)[:, None],
        "scene_id": np.array(scenes, dtype=object)[:, None],
        "boa_offset": np.zeros((count, 1), dtype=np.int32),
        "valid_fraction": ledger["valid_fraction"].to_numpy(),
    }


def _report(run: _Run, ledger: pa.Table) -> MapReport:
    counts = Counter(ledger["status"].to_pylist())
    entities = run.plan.table["map:entities"].to_numpy()
    return MapReport(
        tiles=len(run.plan),
        pictured=counts["written"],
        mapped=int((entities > 0).sum()),
        failed=counts["failed"],
        entities=int(entities.sum()),
        losses=[loss for loss in count_losses(ledger) if loss.cause != NO_IMAGE],
        shards_built=len(run.made),
        shards=run.plan.spec.num_shards,
        retries=run.retries,
        seconds=time.monotonic() - run.started,
    )
