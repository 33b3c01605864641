"""Sensors of a shard: what a worker is told of them, and their bands put behind those of the main source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwcat.errors import PwcatError, SourceError
from pwcat.plan import FrozenPlan
from pwcat.providers import OpenSource
from pwcat.sensors.bands import stored_band
from pwcat.sensors.files import Unread
from pwcat.sensors.frozen import EVERY_DATE, read_sensors
from pwcat.sensors.reading import Instrument, Wish, read_sensor

__all__ = ["NO_DATA", "NO_SCENE", "Lack", "SensorPack", "SensorTask", "Taken", "read_task"]

# Why a sensor has nothing for a date of a sample.
NO_SCENE, NO_DATA = "no scene", "no data"

# Of an asset: where the pixels are, and on which grid. What nobody reads is not sent to workers.
ASSET_FIELDS = ("href", "gsd", "roles", "bands", "eo:bands")
GRID_PREFIX = "proj:"


@dataclass(frozen=True, kw_only=True)
class SensorTask:
    """What a worker is told of a sensor. Picklable, under a kilobyte an item.

    Attributes:
        instrument: what is read.
        first: place of its first band among the cube's.
        items: those that the shard's samples want, by id, with what reading needs.
        names: ids of items of each row and date, in the order in which they are read.
    """

    instrument: Instrument
    first: int
    items: Mapping[str, Mapping[str, Any]]
    names: Sequence[Sequence[tuple[str, ...]]]

    @property
    def name(self) -> str:
        """Of the sensor."""
        return self.instrument.name

    @property
    def required(self) -> bool:
        """Whether samples that it has nothing for are given up."""
        return self.instrument.sensor.required

    @property
    def bands(self) -> slice:
        """Its bands among the cube's."""
        return slice(self.first, self.first + len(self.instrument.sensor.bands))

    def bare(self, row: int) -> list[int]:
        """Dates of a row for which it has no scene."""
        return [time for time, names in enumerate(self.names[row]) if not names]


@dataclass(frozen=True, kw_only=True)
class Lack:
    """A date of a sample for which a sensor has nothing.

    Attributes:
        time: index of the date.
        why: :data:`NO_SCENE` or :data:`NO_DATA`.
    """

    time: int
    why: str


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a sensor has for a row.

    Attributes:
        row: of the shard.
        lacks: dates for which it has nothing, for one of its bands at least.
        reads: chips of it that were asked for.
        retries: reads of them that repeat one which failed.
        unread: why it cannot be had.
    """

    row: int
    lacks: list[Lack]
    reads: int
    retries: int
    unread: Unread | None = None


def read_task(
    task: SensorTask,
    rows: Mapping[int, tuple[int, tuple[float, float]]],
    chips: NDArray[np.uint16],
    *,
    threads: int,
) -> Iterator[Taken]:
    """Put a sensor's bands of some rows in their places; what came of each row, once.

    Args:
        task: of the sensor.
        rows: EPSG code and corner of the chip of each.
        chips: of the shard, ``(sample, time, band, y, x)``; rows whose pixels cannot be had are left half-way.
        threads: files at a time.
    """
    dates: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    for row in rows:
        for time, names in enumerate(task.names[row]):
            if names:
                dates.setdefault((row, names), []).append(time)
    keys = list(dates)
    wishes = [Wish(epsg=rows[row][0], corner=rows[row][1], items=names) for row, names in keys]
    unread: dict[int, Unread] = {}
    reads, retries = dict.fromkeys(rows, 0), dict.fromkeys(rows, 0)
    for number, outcome, again in read_sensor(task.instrument, wishes, items=task.items, threads=threads):
        row = keys[number][0]
        reads[row] += 1
        retries[row] += again
        if isinstance(outcome, Unread):
            unread.setdefault(row, outcome)
        else:
            for time in dates[keys[number]]:
                chips[row, time, task.bands] = outcome
    for row in rows:
        lacks = [] if row in unread else _lacks(task, row, chips[row, :, task.bands])
        yield Taken(row=row, lacks=lacks, reads=reads[row], retries=retries[row], unread=unread.get(row))


def _lacks(task: SensorTask, row: int, pixels: NDArray[np.uint16]) -> list[Lack]:
    """Dates without a scene, or of whose bands one is without any data."""
    empty = ~(pixels != 0).any(axis=(2, 3)).all(axis=1)
    return [
        Lack(time=time, why=NO_DATA if names else NO_SCENE) for time, names in enumerate(task.names[row]) if empty[time]
    ]


class SensorPack:
    """The sensors of a plan with their items, those of its reserve included, for the tasks of a build."""

    def __init__(self, plan: FrozenPlan, sources: Mapping[str, OpenSource]) -> None:
        """Read what the plan has of them.

        Args:
            plan: of the build.
            sources: of each sensor, open, by name.

        Raises:
            PwcatError: it cannot be read, or a source is missing.
        """
        recipe = plan.recipe
        if missing := [name for name in recipe.sensors if name not in sources]:
            raise PwcatError(f"{plan.folder}: the recipe has sensors whose sources are not open: {', '.join(missing)}")
        self._frozen = read_sensors(plan.folder) if recipe.sensors else None
        if recipe.sensors and self._frozen is None:
            names = ", ".join(recipe.sensors)
            raise PwcatError(f"{plan.folder}: the plan says nothing of {names}; remove the folder and plan again")
        self._instruments = [
            Instrument(name=name, sensor=sensor, source=sources[name], chip=recipe.chip)
            for name, sensor in recipe.sensors.items()
        ]
        self._main = len(recipe.chip.bands)

    def of(self, ids: Sequence[str], times: int) -> tuple[SensorTask, ...]:
        """What a worker is told of each sensor for the samples of a shard.

        Raises:
            PwcatError: the plan names what is not there.
        """
        if self._frozen is None:
            return ()
        named, first, tasks = self._frozen.names_of(ids), self._main, []
        for instrument in self._instruments:
            kept = [EVERY_DATE] * times if instrument.sensor.static else range(times)
            rows = [[tuple(named[name, instrument.name, time]) for time in kept] for name in ids]
            wanted = (name for row in rows for names in row for name in names)
            items = self._frozen.items(instrument.name, wanted)
            cut = {name: _cut(item, instrument) for name, item in items.items()}
            tasks.append(SensorTask(instrument=instrument, first=first, items=cut, names=rows))
            first += len(instrument.sensor.bands)
        return tuple(tasks)


def _cut(item: Mapping[str, Any], instrument: Instrument) -> dict[str, Any]:
    """An item with the assets of the sensor's bands alone, each without what nobody reads."""
    assets, source, kept = item["assets"], instrument.source, {}
    for band in instrument.sensor.bands:
        try:
            key = source.band_asset(stored_band(source, band, assets), assets)
        except SourceError:
            continue
        kept[key] = {
            name: value for name, value in assets[key].items() if name in ASSET_FIELDS or name.startswith(GRID_PREFIX)
        }
    return {"id": item["id"], "properties": item["properties"], "assets": kept}
