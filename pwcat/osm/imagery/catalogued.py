"""Images from a collection of a provider, or of the embedded archive: read as a recipe's sensors are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwcat.errors import SourceError
from pwcat.osm.document import MapImages
from pwcat.osm.imagery.offers import MERCATOR, Offer, TileImage, corners_of, newest_first, offer_items
from pwcat.providers import OpenSource
from pwcat.recipe import Chip
from pwcat.search import Answer, find_items, require_collection
from pwcat.sensors.document import Encode, Sensor
from pwcat.sensors.files import Unread
from pwcat.sensors.offers import collect_items
from pwcat.sensors.outlines import chip_outlines, points_of
from pwcat.sensors.reading import Instrument, Wish, read_sensor

__all__ = ["CataloguedImages"]

THREADS = 8  # files read at a time: it waits for the net, not for a processor
# The largest number that 8 bits become
MOST_OF_8_BITS = 256


@dataclass(frozen=True, kw_only=True)
class CataloguedImages:
    """Images of a provider's collection.

    Attributes:
        said: what the recipe says of them.
        source: its source, open.
        pages: folder for what the source has answered so far, so that a search that breaks goes on there; ``None`` for none.
    """

    said: MapImages
    source: OpenSource
    pages: Path | None = None

    @property
    def name(self) -> str:
        """As ledgers call it."""
        return self.source.name

    @property
    def sensor(self) -> Sensor:
        """The images as a sensor: of any date, its numbers kept as :mod:`pwcat.osm.imagery.numbers` says."""
        assert self.said.source is not None, "the recipe's validator saw to it"
        encode = Encode(scale=1.0, offset=-1.0 if self.said.depth == 8 else 0.0)
        return Sensor(
            source=self.said.source,
            bands=list(self.said.bands),
            resampling=self.said.resampling,
            encode=dict.fromkeys(self.said.bands, encode),
        )

    def where(self, zoom: int) -> NDArray[np.int64] | None:
        """Nothing: only the source knows."""
        return None

    def offer(self, codes: NDArray[np.int64], zoom: int) -> Offer:
        """The newest items on each tile.

        Raises:
            SourceError: the source does not answer, or its items lack the bands.
        """
        x0, y0, side = corners_of(codes, zoom)
        sites = points_of(chip_outlines(np.full(len(codes), MERCATOR), x0, y0, side_m=side))
        answer = Answer()
        found = find_items(self.source, datetime=self._span, sites=sites, folder=self.pages, answer=answer)
        try:
            items = collect_items(found, name="images", sensor=self.sensor, source=self.source)
        except SourceError as exc:
            raise SourceError(str(exc).replace("sensors.images", "images")) from exc
        if not answer.items:
            require_collection(self.source)  # most APIs find nothing in a collection that they do not have
        if not len(items):
            return Offer(items={}, documents={}, moments={})
        return offer_items(newest_first(items), codes, zoom)

    @property
    def _span(self) -> str | None:
        """The dates to ask for, as STAC has it."""
        if self.said.start is None and self.said.end is None:
            return None
        first = f"{self.said.start}T00:00:00Z" if self.said.start else ".."
        last = f"{self.said.end}T23:59:59Z" if self.said.end else ".."
        return f"{first}/{last}"

    def read(
        self, images: Sequence[TileImage], documents: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[tuple[int, NDArray[np.uint16] | Unread, int]]:
        """Images, read file by file, with patience."""
        wishes = []
        for image in images:
            west, _, east, north = image.tile.mercator_bounds()
            wishes.append(Wish(epsg=MERCATOR, corner=(west, north), items=image.items))
        chip = Chip(
            size_px=self.said.size_px,
            resolution_m=(east - west) / self.said.size_px if images else 1.0,
            bands=list(self.said.bands),
            harmonise=False,
        )
        instrument = Instrument(name="images", sensor=self.sensor, source=self.source, chip=chip)
        for place, outcome, retries in read_sensor(instrument, wishes, items=documents, threads=THREADS):
            yield place, self._checked(outcome, images[place]), retries

    def _checked(self, outcome: NDArray[np.uint16] | Unread, image: TileImage) -> NDArray[np.uint16] | Unread:
        """The same, unless its numbers are of more bits than the recipe says."""
        if isinstance(outcome, Unread) or self.said.depth == 16 or outcome.max(initial=0) <= MOST_OF_8_BITS:
            return outcome
        reason = f"{image.items[0]}: numbers above 255, and `images.depth` is 8; say `depth: 16`"
        return Unread(cause="other", reason=reason)
