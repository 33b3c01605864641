"""Chips of a sensor on the very pixels of the main source's: items read file by file, laid over each other, encoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling

from pwcat.errors import SourceError
from pwcat.pixels.reasons import cause_of
from pwcat.providers import OpenSource
from pwcat.recipe import Chip
from pwcat.sensors.bands import stored_band
from pwcat.sensors.document import ELEVATION, SLOPE, Sensor, encoding_of
from pwcat.sensors.encoding import encode
from pwcat.sensors.files import Asset, Unread, read_asset
from pwcat.sensors.grids import PixelGrid, around, sampling_m
from pwcat.sensors.slope import slope_degrees
from pwcat.sensors.warping import warp_values

__all__ = ["Instrument", "Wish", "read_sensor"]

# Chips that a thread reads from a file with one opening.
CHIPS_AT_ONCE = 32

Outcome = NDArray[np.float32] | Unread


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """A sensor that can be read now.

    Attributes:
        name: in the recipe.
        sensor: what the recipe says of it.
        source: its source, open.
        chip: of the recipe; the sensor's bands come on its pixels.
    """

    name: str
    sensor: Sensor
    source: OpenSource
    chip: Chip

    def files(self, item: Mapping[str, Any]) -> list[_File]:
        """What is read of an item: a file for each asset that has bands of the sensor, and grid that it is read on."""
        layers: dict[tuple[str, bool], dict[str, str]] = {}
        for band in self.sensor.bands:
            stored = stored_band(self.source, band, item["assets"])
            try:
                key = self.source.band_asset(stored, item["assets"])
            except SourceError:  # some scenes lack a polarisation: it is without data there
                continue
            terrain = band == SLOPE and stored == ELEVATION
            layers.setdefault((key, terrain), {})[_TERRAIN if terrain else band] = stored
        return [self._file(item, key, terrain, names) for (key, terrain), names in layers.items()]

    def _file(self, item: Mapping[str, Any], key: str, terrain: bool, layers: Mapping[str, str]) -> _File:
        known = [self.source.record.band(stored) for stored in layers.values()]
        asset = Asset(
            href=item["assets"][key]["href"],
            indexes=tuple(band.index if band is not None and band.asset == key else 1 for band in known),
            # What a provider's unlisted collections have in common is said of main sources; a sensor is anything
            nodata=self.source.record.nodata if self.source.collection in self.source.profile.collections else None,
            unencoded=tuple(band for band in layers if band != _TERRAIN and encoding_of(self.sensor, band) is None),
            # Elevations of the nearest pixels would make stairs
            resampling=Resampling.bilinear if terrain else Resampling[self.sensor.resampling],
        )
        gsd = None
        if terrain:
            gsd = known[0].gsd_m if known[0] is not None and known[0].gsd_m else sampling_m(item, key)
        shift = self.source.boa_offset(item["properties"]) if self.chip.harmonise else 0
        return _File(asset=asset, layers=tuple(layers), gsd=gsd, shift=shift)

    def grid(self, wish: Wish) -> PixelGrid:
        """The pixels of a chip."""
        size, (left, top) = self.chip.size_px, wish.corner
        return PixelGrid(epsg=wish.epsg, left=left, top=top, gsd=self.chip.resolution_m, width=size, height=size)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a chip wants of a sensor.

    Attributes:
        epsg: CRS of the chip's pixels.
        corner: easting and northing of the chip's upper-left corner, metres.
        items: ids of the items that give its pixels, one at least; the first that has data for a pixel gives it.
    """

    epsg: int
    corner: tuple[float, float]
    items: tuple[str, ...]


def read_sensor(
    instrument: Instrument, wishes: Sequence[Wish], *, items: Mapping[str, Mapping[str, Any]], threads: int
) -> Iterator[tuple[int, NDArray[np.uint16] | Unread, int]]:
    """Chips of a sensor, ``(band, y, x)``, by the place of their wishes, each once, or why a chip cannot be had; and how often
    files were asked for again for it.

    A chip's pixels do not hang on what else is asked for.

    Args:
        instrument: what is read.
        wishes: of chips.
        items: that they name, by id.
        threads: files at a time.
    """
    chips = [_Chip(instrument=instrument, wish=wish) for wish in wishes]
    jobs = _jobs(instrument, chips, items)
    for number, chip in enumerate(chips):
        if not chip.waiting:
            yield number, chip.finish(), 0
    with ThreadPoolExecutor(max(1, min(threads, len(jobs))), thread_name_prefix="pwcat-sensor") as pool:
        work = {pool.submit(job.read, instrument.source) for job in jobs}
        try:
            while work:  # what is done is let go: its pixels are in chips
                done, work = wait(work, return_when=FIRST_COMPLETED)
                for task in done:
                    for place, outcome, retries in task.result():
                        chip = chips[place.chip]
                        if chip.take(place, outcome, retries):
                            yield place.chip, chip.finish(), chip.retries
        finally:
            for task in work:
                task.cancel()


# Name of the layer of elevations that slopes are computed of; no band has it.
_TERRAIN = ""


@dataclass(frozen=True, kw_only=True)
class _File:
    """What is read of an item at once.

    Attributes:
        asset: of the item.
        layers: what its bands are: names of the sensor's, or :data:`_TERRAIN`.
        gsd: of the grid around the chip that it is read on, metres; ``None`` for the chip's own.
        shift: to be subtracted from the numbers: the offset that Sentinel-2 states, where it is a sensor.
    """

    asset: Asset
    layers: tuple[str, ...]
    gsd: float | None
    shift: int


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where pixels belong: to which chip, from which of its items, what they are, on which grid, and
    what is subtracted from them.
    """

    chip: int
    item: int
    layers: tuple[str, ...]
    grid: PixelGrid
    shift: int


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One file, for some chips."""

    asset: Asset
    places: list[_Place]

    def read(self, source: OpenSource) -> list[tuple[_Place, Outcome, int]]:
        """What came of each place, and how often it was asked for again."""
        grids = [place.grid for place in self.places]
        came = read_asset(self.asset, grids, source=source)
        return [(self.places[number], outcome, retries) for number, outcome, retries in came]


def _jobs(instrument: Instrument, chips: Sequence[_Chip], items: Mapping[str, Mapping[str, Any]]) -> list[_Job]:
    """What is to be read for chips, which are told how much of it they wait for."""
    files: dict[str, list[_File]] = {}
    places: dict[Asset, list[_Place]] = {}
    for number, chip in enumerate(chips):
        try:
            for name in chip.wish.items:
                if name not in files:
                    files[name] = instrument.files(items[name])
        except SourceError as exc:
            chip.unread = Unread(cause=cause_of(exc), reason=str(exc))
            continue
        for position, name in enumerate(chip.wish.items):
            for file in files[name]:
                grid = chip.grid(file.gsd)
                place = _Place(chip=number, item=position, layers=file.layers, grid=grid, shift=file.shift)
                places.setdefault(file.asset, []).append(place)
                chip.waiting += 1
    return [
        _Job(asset=asset, places=wanted[start : start + CHIPS_AT_ONCE])
        for asset, wanted in places.items()
        for start in range(0, len(wanted), CHIPS_AT_ONCE)
    ]


@dataclass(kw_only=True)
class _Chip:
    """A chip in the making.

    Attributes:
        parts: pixels of each layer, by the place of the item that they are of.
        waiting: files that it still wants.
        terrain: the grid of elevations around it, once it is known how fine these are.
        unread: why it cannot be had.
        retries: how often files were asked for again for it.
    """

    instrument: Instrument
    wish: Wish
    parts: dict[str, dict[int, NDArray[np.float32]]] = field(default_factory=dict)
    waiting: int = 0
    terrain: PixelGrid | None = None
    unread: Unread | None = None
    retries: int = 0

    def grid(self, gsd: float | None) -> PixelGrid:
        """The grid that a file is read on: the chip's, or one around it, as fine as the first of such files."""
        if gsd is None:
            return self.instrument.grid(self.wish)
        self.terrain = self.terrain or around(self.instrument.grid(self.wish), gsd)
        return self.terrain

    def take(self, place: _Place, outcome: Outcome, retries: int) -> bool:
        """Keep pixels; whether all are there."""
        self.waiting -= 1
        self.retries += retries
        if isinstance(outcome, Unread):
            self.unread = self.unread or outcome
        elif self.unread is None:
            for layer, pixels in zip(place.layers, outcome, strict=True):
                self.parts.setdefault(layer, {})[place.item] = pixels - place.shift if place.shift else pixels
        return self.waiting == 0

    def finish(self) -> NDArray[np.uint16] | Unread:
        """Its bands, ``(band, y, x)``, encoded; or why they cannot be had."""
        if self.unread is not None:
            return self.unread
        sensor = self.instrument.sensor
        bands = [encode(self._values(band), encoding_of(sensor, band)) for band in sensor.bands]
        self.parts.clear()
        return np.stack(bands)

    def _values(self, band: str) -> NDArray[np.float32]:
        grid = self.instrument.grid(self.wish)
        if band in self.parts:
            return self._laid_over(band)
        if band == SLOPE and self.terrain is not None:
            slope = slope_degrees(self._laid_over(_TERRAIN), self.terrain.gsd)
            return warp_values(slope, self.terrain, grid, Resampling[self.instrument.sensor.resampling])
        return np.full(grid.shape, np.nan, dtype=np.float32)

    def _laid_over(self, layer: str) -> NDArray[np.float32]:
        """Pixels of all items: of each, the first that has data."""
        first, *others = (pixels for _, pixels in sorted(self.parts[layer].items()))
        for pixels in others:
            first = np.where(np.isnan(first), pixels, first)
        return first
