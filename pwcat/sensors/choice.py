"""Which items of each sensor serve each date of each sample."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta
from datetime import datetime as moment_of
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from pwcat.errors import SourceError
from pwcat.providers import OpenSource
from pwcat.recipe import Recipe
from pwcat.search import Answer, find_items, require_collection
from pwcat.sensors.document import SLOPE, Sensor
from pwcat.sensors.frozen import EVERY_DATE, SENSORS_SCHEMA
from pwcat.sensors.offers import SensorItems, collect_items
from pwcat.sensors.opening import open_sensors
from pwcat.sensors.outlines import chip_outlines, points_of

__all__ = ["MOST_ITEMS", "SensorChoice", "Tally", "choose_items", "choose_sensors"]

log = logging.getLogger(__name__)

# Items that a chip of one date is put together from, at most.
MOST_ITEMS = 4
# Slopes and bilinear pixels take what is around them, and files of tiles end half a pixel from where their items say (those of
# the Copernicus DEM do): chips are looked for with this much around them, two pixels of 30 m.
MARGIN_M = 60.0
# Less of a chip than this is none of it: geometries are rounded, to 1 cm or so where chips may be 10 m wide.
NO_SHARE = 1e-3

# How much of a chip is covered.
NONE, PART, WHOLE = 0, 1, 2

DAY_S = 86_400.0
CHIPS_AT_ONCE, SAMPLES_AT_ONCE = 4_096, 65_536


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How many dates of the plan's samples a sensor has; of one that is the same at every date, how many samples.

    Attributes:
        dates: in all.
        whole: for which its items cover all of the chip.
        part: for which they cover some of it.
        items: that serve any of them, or any of the reserve's.
    """

    dates: int
    whole: int
    part: int
    items: int

    @property
    def none(self) -> int:
        """Dates that it has nothing for."""
        return self.dates - self.whole - self.part


@dataclass(frozen=True, kw_only=True)
class SensorChoice:
    """What serves samples of a plan and of its reserve.

    Attributes:
        ids: of the samples, those of the plan first.
        keys: sensor and date of each row that a sample has.
        chosen: ``(sample, row, MOST_ITEMS)`` numbers of items of the row's sensor, in the order in which they are read; -1
            where there are no more.
        items: those that are named, by sensor.
        tallies: by sensor.
    """

    ids: pa.ChunkedArray
    keys: list[tuple[str, int]]
    chosen: NDArray[np.int32]
    items: dict[str, list[dict[str, Any]]]
    tallies: dict[str, Tally]

    def tables(self) -> Iterator[pa.Table]:
        """Rows of :data:`pwcat.sensors.frozen.SENSORS_SCHEMA`, some at a time."""
        starts = np.cumsum([0, *(len(items) for items in self.items.values())])
        first = dict(zip(self.items, starts.tolist(), strict=False))
        names = pa.array([item["id"] for items in self.items.values() for item in items], pa.string())
        offsets = np.array([first[sensor] for sensor, _ in self.keys], dtype=np.int64)
        for start in range(0, len(self.chosen), SAMPLES_AT_ONCE):
            part = self.chosen[start : start + SAMPLES_AT_ONCE].astype(np.int64)
            n, k, _ = part.shape
            there = part >= 0
            ends = np.concatenate([[0], np.cumsum(there.sum(axis=2).ravel())])
            flat = names.take(pa.array((part + offsets[:, None])[there]))
            columns = [
                self.ids.slice(start, n).take(pa.array(np.repeat(np.arange(n), k))),
                pa.array(np.tile([sensor for sensor, _ in self.keys], n), pa.string()),
                pa.array(np.tile([time for _, time in self.keys], n), pa.int16()),
                pa.ListArray.from_arrays(pa.array(ends, pa.int32()), flat),
            ]
            yield pa.table(columns, schema=SENSORS_SCHEMA)


@dataclass(frozen=True, kw_only=True)
class _Chips:
    """Chips of the plan's samples and of the reserve's.

    Attributes:
        epsg: ``(n,)``.
        x0: ``(n,)``.
        y0: ``(n,)``.
        side_m: of every chip.
        moments: ``(n, t)`` when the main scene of each date was taken, seconds since 1970.
        planned: how many are the plan's; they come first.
        outlines: ``(n,)`` EPSG:4326.
    """

    epsg: NDArray[np.int64]
    x0: NDArray[np.float64]
    y0: NDArray[np.float64]
    side_m: float
    moments: NDArray[np.float64]
    planned: int
    outlines: NDArray[np.object_] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "outlines", self.grown(0.0))

    @classmethod
    def of(cls, recipe: Recipe, table: pa.Table, planned: int) -> _Chips:
        times = table["datetime"].combine_chunks().flatten().cast(pa.int64()).to_numpy(zero_copy_only=False)
        return cls(
            epsg=table["epsg"].to_numpy().astype(np.int64),
            x0=table["x0"].to_numpy(),
            y0=table["y0"].to_numpy(),
            side_m=recipe.chip.size_px * recipe.chip.resolution_m,
            moments=times.reshape(len(table), -1) / 1e6,
            planned=planned,
        )

    def grown(self, by_m: float) -> NDArray[np.object_]:
        return chip_outlines(self.epsg, self.x0, self.y0, side_m=self.side_m, grow_m=by_m)


def choose_sensors(
    recipe: Recipe, table: pa.Table, reserve: pa.Table, *, base_dir: Path, pages: Path | None = None
) -> SensorChoice | None:
    """What each sensor of a recipe has for the samples of a plan and of its reserve; ``None`` where it names no sensors.

    Args:
        recipe: of the plan.
        table: samples of the plan.
        reserve: those of its reserve.
        base_dir: the folder that relative paths of the recipe start from.
        pages: folder for what sources have answered so far, so that a plan that breaks there goes on there.

    Raises:
        SourceError: a source does not answer; it has no items that can serve, or none for any sample; or a band has numbers
            that the cube cannot hold, and no encoding.
    """
    if not recipe.sensors:
        return None
    both = pa.concat_tables([part.select(["id", "datetime", "epsg", "x0", "y0"]) for part in (table, reserve)])
    chips = _Chips.of(recipe, both, len(table))
    keys: list[tuple[str, int]] = []
    chosen: list[NDArray[np.int32]] = []
    items, tallies = {}, {}
    with open_sensors(recipe.sensors, base_dir=base_dir) as sources:
        for name, sensor in recipe.sensors.items():
            source = sources[name]
            own = source.provider == "archive"  # at hand, and may have changed
            folder = None if pages is None or own else pages / "sensors" / name
            one = _choose(name, sensor, source, chips, folder)
            keys += [(name, time) for time in one.times]
            chosen.append(one.chosen)
            items[name], tallies[name] = one.items, one.tally
    return SensorChoice(ids=both["id"], keys=keys, chosen=np.concatenate(chosen, axis=1), items=items, tallies=tallies)


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """What one sensor has: see :class:`SensorChoice`."""

    times: Sequence[int]
    chosen: NDArray[np.int32]
    items: list[dict[str, Any]]
    tally: Tally


def _choose(name: str, sensor: Sensor, source: OpenSource, chips: _Chips, folder: Path | None) -> _Chosen:
    tiled = sensor.static or SLOPE in sensor.bands
    wanted = chips.grown(MARGIN_M) if tiled else chips.outlines
    answer = Answer()
    found = find_items(
        source, datetime=_period(sensor, chips.moments), sites=points_of(wanted), folder=folder, answer=answer
    )
    offers = collect_items(found, name=name, sensor=sensor, source=source)
    if not answer.items:
        require_collection(source)  # most APIs find nothing in a collection that they do not have
    chosen, share = choose_items(
        offers,
        chips.outlines,
        wanted=wanted,
        moments=None if sensor.static else chips.moments,
        within_days=sensor.within_days or 0,
    )
    if not (chosen >= 0).any():
        raise SourceError(_nothing(name, sensor, source, answer.items))
    used = np.unique(chosen[chosen >= 0])
    chosen[chosen >= 0] = np.searchsorted(used, chosen[chosen >= 0])
    share = share[: chips.planned]
    counts = {"dates": share.size, "whole": int((share == WHOLE).sum()), "part": int((share == PART).sum())}
    return _Chosen(
        times=[EVERY_DATE] if sensor.static else range(chips.moments.shape[1]),
        chosen=chosen,
        items=[offers.item(number) for number in used.tolist()],
        tally=Tally(**counts, items=len(used)),
    )


def _nothing(name: str, sensor: Sensor, source: OpenSource, found: int) -> str:
    near = "" if sensor.static else f" within {_days(sensor.within_days or 0)} of any of their dates"
    wider = "" if sensor.static else "widen `within_days`, "
    return (
        f"sensors.{name}: {source.collection} of {source.provider} has nothing for any of the samples{near} ({found:,} items "
        f"found): {wider}take another collection, or leave the sensor out"
    )


def _days(count: int) -> str:
    return f"{count:,} day{'' if count == 1 else 's'}"


def _period(sensor: Sensor, moments: NDArray[np.float64]) -> str | None:
    """The span to ask for, as STAC has it: all that can be near enough to any date."""
    if sensor.within_days is None:
        return None
    first, last = (moment_of.fromtimestamp(float(edge), UTC).date() for edge in (moments.min(), moments.max()))
    start = first - min(timedelta(days=sensor.within_days), first - date.min)
    end = last + min(timedelta(days=sensor.within_days), date.max - last)
    return f"{start.isoformat()}T00:00:00Z/{end.isoformat()}T23:59:59Z"


def choose_items(
    offers: SensorItems,
    outlines: NDArray[np.object_],
    *,
    wanted: NDArray[np.object_],
    moments: NDArray[np.float64] | None,
    within_days: int,
) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """Items for each date of each chip, and how much of the chip they cover.

    Of the items near enough, by distance in time and then by id, the first that holds all that is wanted; where none does,
    those that add to what the ones before cover, until it is whole.

    Args:
        offers: items, by id.
        outlines: ``(n,)`` chips, EPSG:4326.
        wanted: ``(n,)`` what is to be covered: the chips, or somewhat more.
        moments: ``(n, t)`` dates, seconds since 1970; ``None`` where an item of any date will do, and then there is one.
        within_days: between the (UTC) days of a date and of an item, at most; an item's span is near to every day in it.

    Returns:
        ``(n, t, MOST_ITEMS)`` numbers of items, -1 where there are no more, and ``(n, t)``: 0 for none of the chip, 1 for a
        part, 2 for the whole.
    """
    times = 1 if moments is None else moments.shape[1]
    chosen = np.full((len(outlines), times, MOST_ITEMS), -1, dtype=np.int32)
    share = np.zeros((len(outlines), times), dtype=np.int8)
    tree = shapely.STRtree(offers.outlines)
    shapely.prepare(offers.outlines)
    for start in range(0, len(outlines), CHIPS_AT_ONCE):
        here = slice(start, start + CHIPS_AT_ONCE)
        chip, item = tree.query(wanted[here], predicate="intersects")
        holds = shapely.covers(offers.outlines[item], wanted[here][chip])
        for time in range(times):
            late = np.zeros(len(item))
            if moments is not None:
                late = _seconds_apart(moments[here, time][chip], offers, item, within_days)
            near = np.isfinite(late)
            order = np.flatnonzero(near)[np.lexsort((item[near], late[near], chip[near]))]
            candidates = _Candidates(chip=chip[order], item=item[order], holds=holds[order])
            candidates.choose(chosen[here, time], share[here, time], offers.outlines, outlines[here], wanted[here])
    return chosen, share


def _seconds_apart(
    moments: NDArray[np.float64], offers: SensorItems, item: NDArray[np.int64], within_days: int
) -> NDArray[np.float64]:
    """From dates to items, ``(m,)``, 0 within an item's span; infinite where their days are too far apart."""
    start, end = offers.start[item], offers.end[item]
    day, first, last = (np.floor(edge / DAY_S) for edge in (moments, start, end))
    days = np.maximum(np.maximum(first - day, day - last), 0)
    seconds = np.maximum(np.maximum(start - moments, moments - end), 0)
    return np.where(days <= within_days, seconds, np.inf)


@dataclass(frozen=True, kw_only=True)
class _Candidates:
    """Pairs of a chip and an item that is near enough: by chip, the best first.

    Attributes:
        chip: ``(m,)``, ascending.
        item: ``(m,)``.
        holds: ``(m,)`` whether the item holds all that is wanted.
    """

    chip: NDArray[np.int64]
    item: NDArray[np.int64]
    holds: NDArray[np.bool_]

    def choose(
        self,
        chosen: NDArray[np.int32],
        share: NDArray[np.int8],
        footprints: NDArray[np.object_],
        outlines: NDArray[np.object_],
        wanted: NDArray[np.object_],
    ) -> None:
        """Fill in items ``(n, MOST_ITEMS)`` and shares ``(n,)`` of one date."""
        chips, first = np.unique(self.chip[self.holds], return_index=True)
        chosen[chips, 0], share[chips] = self.item[self.holds][first], WHOLE
        rest = np.flatnonzero(~np.isin(self.chip, chips))
        starts = np.flatnonzero(np.diff(self.chip[rest], prepend=-1))
        for rows in np.split(rest, starts[1:]) if len(rest) else []:
            row = int(self.chip[rows[0]])
            items, covered = _together(self.item[rows], footprints, outlines[row], wanted[row])
            chosen[row, : len(items)], share[row] = items, covered


def _together(
    items: NDArray[np.int64], footprints: NDArray[np.object_], outline: shapely.Geometry, wanted: shapely.Geometry
) -> tuple[list[int], int]:
    """Those of the items, in their order, that add to what the ones before cover; and how much of the chip that is."""
    taken: list[int] = []
    left, least = wanted, NO_SHARE * shapely.area(outline)
    for number in items.tolist():
        smaller = shapely.difference(left, footprints[number])
        if shapely.area(left) - shapely.area(smaller) > least:
            taken.append(number)
            left = smaller
        if len(taken) == MOST_ITEMS or shapely.area(left) <= least:
            break
    missing = shapely.area(shapely.intersection(outline, left))
    covered = WHOLE if missing <= least else PART if missing < shapely.area(outline) - least else NONE
    return (taken, covered) if covered else ([], NONE)
