"""Which images there are of which tiles, whatever they come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.osm.tiles import Tile, decode_tiles
from pwcat.sensors.choice import NONE, choose_items
from pwcat.sensors.files import Unread
from pwcat.sensors.grids import PixelGrid
from pwcat.sensors.offers import SensorItems
from pwcat.sensors.outlines import chip_outlines

__all__ = ["MERCATOR", "Imagery", "Offer", "TileImage", "corners_of", "grid_of", "newest_first", "offer_items"]

MERCATOR = 3857


@dataclass(frozen=True, kw_only=True)
class TileImage:
    """What a tile's image is made of.

    Attributes:
        tile: of the grid.
        items: ids of images, the newest first; the first that has data for a pixel gives it.
    """

    tile: Tile
    items: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Offer:
    """The images of some tiles.

    Attributes:
        items: by the code of the tile (:func:`pwcat.osm.tiles.encode_tiles`), ids of its images; of tiles that have any.
        documents: what it takes to read each image, JSON, by id.
        moments: seconds since 1970 that each image is of, by id; NaN where nothing says it.
    """

    items: Mapping[int, tuple[str, ...]]
    documents: Mapping[str, Mapping[str, Any]]
    moments: Mapping[str, float]


class Imagery(Protocol):
    """Where images come from. Picklable once it is open: workers get a copy."""

    @property
    def name(self) -> str:
        """As ledgers call it."""
        ...

    def where(self, zoom: int) -> NDArray[np.int64] | None:
        """Codes of the tiles that it has images of, sorted; ``None`` where that cannot be said without asking tile by tile."""
        ...

    def offer(self, codes: NDArray[np.int64], zoom: int) -> Offer:
        """The images of some tiles.

        Raises:
            SourceError: it does not answer, or has nothing that can serve.
        """
        ...

    def read(
        self, images: Sequence[TileImage], documents: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[tuple[int, NDArray[np.uint16] | Unread, int]]:
        """Images, ``(band, y, x)`` with 0 for no data, by their place among those asked for, each once; or why one cannot be
        had; and how often files were asked for again for it.
        """
        ...


def newest_first(items: SensorItems) -> SensorItems:
    """The same items, the newest first; those without a date last, and of one date by their ids."""
    order = np.lexsort((np.arange(len(items)), np.nan_to_num(-items.start, nan=np.inf)))
    return replace(
        items,
        packed=[items.packed[row] for row in order],
        outlines=items.outlines[order],
        start=items.start[order],
        end=items.end[order],
    )


def offer_items(items: SensorItems, codes: NDArray[np.int64], zoom: int) -> Offer:
    """The newest item that holds a tile, or several that hold it together, newest first: of each tile that any lies on.

    Args:
        items: in the order in which they are preferred.
        codes: of tiles.
        zoom: of them.
    """
    x0, y0, side = corners_of(codes, zoom)
    outlines = chip_outlines(np.full(len(codes), MERCATOR), x0, y0, side_m=side)
    shapely.prepare(outlines)
    chosen, share = choose_items(items, outlines, wanted=outlines, moments=None, within_days=0)
    documents = {number: items.item(number) for number in np.unique(chosen[chosen >= 0]).tolist()}
    ids = {number: str(document["id"]) for number, document in documents.items()}
    covered = np.flatnonzero(share[:, 0] != NONE)
    return Offer(
        items={
            int(codes[row]): tuple(ids[number] for number in chosen[row, 0].tolist() if number >= 0) for row in covered
        },
        documents={ids[number]: document for number, document in documents.items()},
        moments={ids[number]: float(items.start[number]) for number in documents},
    )


def corners_of(codes: NDArray[np.int64], zoom: int) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Easting and northing of tiles' upper-left corners, ``(n,)`` EPSG:3857, and the side of one, metres there."""
    west, _, east, north = Tile(0, 0, 0).mercator_bounds()
    side = (east - west) / 2**zoom
    x, y = decode_tiles(codes)
    return west + x * side, north - y * side, side


def grid_of(tile: Tile, size_px: int) -> PixelGrid:
    """The pixels of a tile's image."""
    west, _, east, north = tile.mercator_bounds()
    return PixelGrid(epsg=MERCATOR, left=west, top=north, gsd=(east - west) / size_px, width=size_px, height=size_px)
