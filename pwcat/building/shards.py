"""One shard: its chips read, harmonised and written whole, its ledger first. This is what a worker does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwcat.building.coming import made_of
from pwcat.building.ledger import Status, ledger_path, read_shard_ledger, write_ledger
from pwcat.building.sensing import NO_SCENE, Lack, SensorTask, read_task
from pwcat.costs.traffic import Traffic, metered
from pwcat.cube import CubeSpec, encode_shard, open_cube, shard_path, write_shard
from pwcat.pixels.composites import Stacks, scenes_by_date, usable
from pwcat.pixels.quality import offset_check
from pwcat.pixels.reasons import Cause
from pwcat.pixels.serving import Desk, Effort, Failed, Served
from pwcat.providers import OpenSource
from pwcat.providers.limits import share_limits
from pwcat.readers import ReaderName
from pwcat.recipe import Chip
from pwcat.scenes import Scene

__all__ = ["ShardResult", "ShardTask", "make_shard"]

# In a collection's folder: which items of other sources stood in for those of the plan. Readers of the ledger skip the name.
FALLBACK = Path("ledger") / "_fallback"


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
        fallback: other sources of the same acquisitions, in the order in which they are tried.
        max_chip_cloud: per cent of a chip that may be cloud, shadow or no data; ``None`` where it is not looked at.
        last: the last shard that wants each scene, where a process is to let go of what none will want.
        share: of each source's requests a second that the worker's process may send: one of the number of processes.
        sensors: whose bands stand behind the chip's, in the cube's order.
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
    fallback: Sequence[OpenSource] = ()
    max_chip_cloud: float | None = None
    last: Mapping[str, int] = field(default_factory=dict)
    share: float = 1.0
    sensors: Sequence[SensorTask] = ()

    @property
    def main(self) -> slice:
        """Bands of the plan's source among the cube's."""
        return slice(len(self.chip.bands))

    @property
    def composed(self) -> bool:
        """Whether dates are medians of scenes."""
        return any("composite_ids" in row for row in self.rows)

    @property
    def files_until(self) -> dict[str, tuple[int, list[str]]]:
        """The last shard that wants each scene, and where its files are."""
        files = {name: [asset["href"] for asset in self.scenes[name].item["assets"].values()] for name in self.last}
        return {name: (self.last[name], [self.source.locate(href) for href in hrefs]) for name, hrefs in files.items()}

    @property
    def desk(self) -> Desk:
        """Where its chips are asked for."""
        return Desk(
            chip=self.chip,
            source=self.source,
            fallback=self.fallback,
            folder=self.folder / FALLBACK,
            max_cloud=None if self.composed else self.max_chip_cloud,
            threads=self.threads,
            reader=self.reader,
            masked=self.composed,
        )


@dataclass(frozen=True, kw_only=True)
class ShardResult:
    """What became of a task.

    Attributes:
        shard: its number.
        samples: in the shard.
        bytes: of pixels that were made now, uncompressed.
        read: rows of the shard that were read now; the others had been settled.
        retries: reads of a scene's chips that repeat one which failed; requests that repeat one are in the traffic.
        traffic: that reading took, shared with shards that the process made at the same time.
    """

    shard: int
    samples: int
    bytes: int
    read: list[int]
    retries: int
    traffic: Traffic


def make_shard(task: ShardTask) -> ShardResult:
    """Read, harmonise and write one shard; its ledger first.

    Samples of it that an earlier run has settled are kept as they are: only those that failed, or are new, are read.
    """
    for source in (task.source, *task.fallback, *(sensor.instrument.source for sensor in task.sensors)):
        share_limits(source, task.share)
    with metered() as traffic, made_of(task.folder, task.shard, task.files_until):
        shard = _Shard.begin(task)
        shard.read()
        shard.write()
    made = [shard.entries[row] for row in shard.made]
    return ShardResult(
        shard=task.shard,
        samples=len(task.rows),
        bytes=sum(entry.bytes for entry in made),
        read=shard.made,
        retries=sum(entry.effort.retries for entry in made),
        traffic=traffic,
    )


@dataclass(kw_only=True)
class _Shard:
    """A shard in the making.

    Attributes:
        chips: ``(sample, time, band, y, x)``.
        valid: where all bands of the plan's source have data at all dates, ``(sample, y, x)``.
        entries: of the ledger.
        made: rows that are read now.
        stacks: scenes of dates that are medians, until all are there.
    """

    task: ShardTask
    chips: NDArray[np.uint16]
    valid: NDArray[np.bool_]
    entries: list[_Entry]
    made: list[int]
    stacks: Stacks

    @classmethod
    def begin(cls, task: ShardTask) -> _Shard:
        """The shard with what an earlier run settled of it."""
        rows, spec, kept = len(task.rows), task.spec, _kept(task)
        chips = np.zeros((rows, *spec.chip_shape), dtype=np.uint16)
        if kept:
            chips[list(kept)] = open_cube(task.folder / "cube.zarr").read_shard(task.shard)[list(kept)]
        return cls(
            task=task,
            chips=chips,
            valid=np.ones((rows, spec.size_px, spec.size_px), dtype=bool),
            entries=[kept.get(row) or _Entry.new(task.rows[row]["id"], spec.num_times) for row in range(rows)],
            made=[row for row in range(rows) if row not in kept],
            stacks=Stacks(task.rows),
        )

    def read(self) -> None:
        """Read what is missing. A sample that is settled by a sensor, or one date, is not read for the others."""
        self._require_scenes()
        self._read_scenes()
        for row in self.made:
            self.entries[row].settle(float(self.valid[row].mean()), int(self.chips[row].nbytes))
        for sensor in self.task.sensors:
            self._read_sensor(sensor)
        for row in self.made:
            if self.entries[row].status != "written":
                self.chips[row] = 0

    def _read_scenes(self) -> None:
        """Read the plan's source, scene by scene."""
        task, made, desk = self.task, set(self.made), self.task.desk
        for scene_id, time, wanted in _by_scene(task.rows):
            members = [row for row in wanted if row in made and self.entries[row].status == "written"]
            corners = {row: (task.rows[row]["x0"], task.rows[row]["y0"]) for row in members}
            efforts = {row: self.entries[row].effort for row in members}
            for outcome in desk.serve(task.scenes[scene_id], corners, efforts) if members else ():
                if isinstance(outcome, Failed):
                    for row in outcome.members:
                        self.entries[row].end("failed", outcome.cause, outcome.reason)
                        self.stacks.forget(row)
                elif task.composed:
                    self._stack(outcome, time, scene_id)
                else:
                    self._take(outcome, time)

    def _require_scenes(self) -> None:
        """Settle samples for which a sensor that they cannot do without has no scene."""
        for sensor in self.task.sensors:
            for row in self.made if sensor.required else ():
                if self.entries[row].status == "written" and (bare := sensor.bare(row)):
                    self._end_without(sensor, row, Lack(time=bare[0], why=NO_SCENE))

    def _read_sensor(self, sensor: SensorTask) -> None:
        """Read a sensor for the samples that have pixels, and put its bands behind the others."""
        task, started = self.task, monotonic()
        rows = {}
        for row in self.made:
            if self.entries[row].status == "written":
                rows[row] = self._date(row, 0).epsg, (task.rows[row]["x0"], task.rows[row]["y0"])
        for taken in read_task(sensor, rows, self.chips, threads=task.threads):
            entry = self.entries[taken.row]
            entry.effort.attempts += taken.reads
            entry.effort.retries += taken.retries
            if taken.unread is not None:
                entry.end("failed", taken.unread.cause, f"{sensor.name}: {taken.unread.reason}")
            elif taken.lacks and sensor.required:
                self._end_without(sensor, taken.row, taken.lacks[0])
            else:
                entry.without += [{"sensor": sensor.name, **vars(lack)} for lack in taken.lacks]
        for row in rows:
            self.entries[row].effort.seconds += (monotonic() - started) / len(rows)

    def _end_without(self, sensor: SensorTask, row: int, lack: Lack) -> None:
        """Settle a sample for which a sensor that it cannot do without has nothing."""
        date, within = self._date(row, lack.time).time.date(), sensor.instrument.sensor.within_days
        when = "" if within is None else f" within {within} days of {date}"
        self.entries[row].end("empty", "no data", f"{sensor.name}: {lack.why}{when}")

    def _date(self, row: int, time: int) -> Scene:
        """The scene that a date of a sample is of; of several, the nearest."""
        return self.task.scenes[self.task.rows[row]["scene_ids"][time]]

    def _take(self, served: Served, time: int) -> None:
        """Put chips of one date in their places, harmonised by the rules of whoever served them."""
        task, scene, source = self.task, served.scene, served.source
        offset = source.boa_offset(scene.item["properties"]) if task.chip.harmonise else 0
        flag = self._flag(served) if len(served.dn) else None
        for row in (*served.members, *served.cloudy):
            entry = self.entries[row]
            entry.source[time], entry.item[time] = source.name, scene.id
            entry.cloud_fraction[time] = served.cloud.get(row)
        for row, dn in zip(served.members, served.dn, strict=True):
            self.valid[row] &= (dn != 0).all(axis=0)
            self.chips[row, time, task.main] = np.where(dn > offset, dn - offset, 0)
            self.entries[row].boa_offset[time], self.entries[row].offset_flag[time] = offset, flag
        for row in served.cloudy:
            share = f"{100 * served.cloud[row]:.1f} % is cloud, shadow or no data"
            reason = f"{scene.id}: {share}, more than {task.max_chip_cloud:g} %"
            self.entries[row].end("cloudy", "cloud", reason)

    def _stack(self, served: Served, time: int, planned: str) -> None:
        """Keep chips of one scene of a date, harmonised, until all scenes are there; the ledger tells of the nearest."""
        task, scene, source = self.task, served.scene, served.source
        offset = source.boa_offset(scene.item["properties"]) if task.chip.harmonise else 0
        flag = self._flag(served) if len(served.dn) else None
        for number, (row, dn) in enumerate(zip(served.members, served.dn, strict=True)):
            entry = self.entries[row]
            if task.rows[row]["scene_ids"][time] == planned:
                entry.source[time], entry.item[time] = source.name, scene.id
                entry.boa_offset[time], entry.offset_flag[time] = offset, flag
            clear = None if served.clear is None else served.clear[number]
            whole = self.stacks.add(row, time, usable(dn, offset=offset, clear=clear))
            if whole is not None:
                self._compose(row, time, whole)

    def _compose(self, row: int, time: int, pixels: NDArray[np.uint16]) -> None:
        """Put the median of a date in its place, unless too much of it is hidden in every scene."""
        entry, most, seen = self.entries[row], self.task.max_chip_cloud, (pixels != 0).all(axis=0)
        self.chips[row, time, self.task.main] = pixels
        self.valid[row] &= seen
        if most is None:
            return
        entry.cloud_fraction[time] = hidden = 1 - float(seen.mean())
        if hidden * 100 > most:
            scenes = len(scenes_by_date(self.task.rows[row])[time])
            share = f"{100 * hidden:.1f} % is cloud, shadow or no data in each of {scenes} scenes"
            entry.end("cloudy", "cloud", f"{self.task.rows[row]['scene_ids'][time]}: {share}, more than {most:g} %")
            self.stacks.forget(row)

    def _flag(self, served: Served) -> str | None:
        """What pixels say against the offset that the scene states."""
        if not self.task.chip.harmonise:
            return None
        check = offset_check(served.dn, served.scene, chip=self.task.chip, source=served.source)
        return None if check is None or not check.suspect else str(check)

    def write(self) -> None:
        """Write the ledger, then the shard."""
        task = self.task
        payload = encode_shard(task.spec, task.shard, self.chips)
        ledger = ledger_path(task.folder, task.shard)
        write_ledger(ledger, [entry.row() for entry in self.entries], plan_hash=task.plan_hash, shard=payload)
        write_shard(task.folder / "cube.zarr", task.shard, payload)


def _kept(task: ShardTask) -> dict[int, _Entry]:
    """What an earlier run settled of this shard, by row; nothing where ledger and shard are not of one writing."""
    ledger, shard = ledger_path(task.folder, task.shard), shard_path(task.folder / "cube.zarr", task.shard)
    if not (ledger.is_file() and shard.is_file()):
        return {}
    digest = sha256(shard.read_bytes()).hexdigest()
    rows = read_shard_ledger(ledger, plan_hash=task.plan_hash, shard_sha256=digest)
    return {
        number: _Entry.of(row, task.spec.num_times)
        for number, row in enumerate(rows)
        if row["status"] != "failed" and row["id"] == task.rows[number]["id"]
    }


@dataclass(kw_only=True)
class _Entry:
    """A row of the ledger in the making; lists have one element a date."""

    id: str
    boa_offset: list[int]
    source: list[str | None]
    item: list[str | None]
    cloud_fraction: list[float | None]
    offset_flag: list[str | None]
    effort: Effort = field(default_factory=Effort)
    status: Status = "written"
    reason: str | None = None
    cause: str | None = None
    bytes: int = 0
    valid_fraction: float = 0.0
    without: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def new(cls, name: str, times: int) -> _Entry:
        """Of a sample that is to be read."""
        lists: dict[str, Any] = {key: [None] * times for key in _BY_DATE}
        return cls(id=name, boa_offset=[0] * times, **lists)

    @classmethod
    def of(cls, row: Mapping[str, Any], times: int) -> _Entry:
        """Of a sample that an earlier run settled; older ledgers say less."""
        said = dict(row)
        effort = Effort(**{key: said.pop(key) or 0 for key in ("attempts", "retries", "seconds")})
        lists = {key: said[key] or [None] * times for key in _BY_DATE}
        return cls(**said | lists | {"without": said["without"] or []}, effort=effort)

    def row(self) -> dict[str, Any]:
        """As the ledger has it."""
        return {key: value for key, value in vars(self).items() if key != "effort"} | vars(self.effort)

    def end(self, status: Status, cause: Cause, reason: str) -> None:
        """Settle it without pixels."""
        self.status, self.cause, self.reason = status, cause, reason
        self.bytes, self.valid_fraction, self.without = 0, 0.0, []

    def settle(self, valid_fraction: float, size: int) -> None:
        """Fill in what is known once all dates are read."""
        if self.status != "written":
            return
        self.valid_fraction, self.bytes = valid_fraction, size
        if valid_fraction == 0.0:
            self.end("empty", "no data", "no pixel has data in every band and date")


_BY_DATE = ("source", "item", "cloud_fraction", "offset_flag")


def _by_scene(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, int, list[int]]]:
    """Scene id, date index, and the rows that want that scene for that date."""
    wanted: dict[tuple[str, int], list[int]] = {}
    for number, row in enumerate(rows):
        for time_index, names in enumerate(scenes_by_date(row)):
            for scene_id in names:
                wanted.setdefault((scene_id, time_index), []).append(number)
    composed = any("composite_ids" in row for row in rows)  # date by date, so that the scenes of one alone are kept
    for (scene_id, time_index), members in sorted(wanted.items(), key=lambda entry: entry[0][1] if composed else 0):
        yield scene_id, time_index, members
