"""Images from a folder of tiles, ``zoom_x_y.webp`` each, as tile servers hand them out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling

from pwcat.errors import SourceError
from pwcat.osm.document import MapImages
from pwcat.osm.imagery.files import moment_of, read_each
from pwcat.osm.imagery.numbers import as_stored, require_depth
from pwcat.osm.imagery.offers import Offer, TileImage
from pwcat.osm.tiles import Tile, encode_tiles
from pwcat.plain import PICTURES, open_plain
from pwcat.sensors.files import Unread

__all__ = ["FolderImages"]

_NAME = re.compile(r"(\d+)_(\d+)_(\d+)\.(webp|png|jpg|jpeg)", re.IGNORECASE)


@dataclass(frozen=True)
class FolderImages:
    """Images of a folder of tiles.

    Attributes:
        said: what the recipe says of them.
        base_dir: the folder that the path starts from.
    """

    said: MapImages
    base_dir: Path

    @property
    def name(self) -> str:
        """As ledgers call it."""
        return "tiles"

    @property
    def folder(self) -> Path:
        """Of the tiles."""
        assert self.said.tiles is not None, "the recipe's validator saw to it"
        return self.base_dir / self.said.tiles

    @cached_property
    def _files(self) -> dict[Tile, str]:
        """Names of the files by tile; of several of one tile the first by name.

        Raises:
            SourceError: the folder holds none.
        """
        found: dict[Tile, str] = {}
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            if named := _NAME.fullmatch(path.name):
                found.setdefault(Tile(*(int(part) for part in named.groups()[:3])), path.name)
        if not found:
            raise SourceError(f"images.tiles: {self.folder} holds no zoom_x_y.webp, .png or .jpg")
        return found

    def where(self, zoom: int) -> NDArray[np.int64]:
        """Codes of the tiles that are there.

        Raises:
            SourceError: all are of another zoom.
        """
        tiles = [tile for tile in self._files if tile.zoom == zoom]
        if not tiles:
            zooms = sorted({tile.zoom for tile in self._files})
            raise SourceError(
                f"images.tiles: those of {self.folder} are of zoom {', '.join(map(str, zooms))}, not {zoom}"
            )
        return np.unique(encode_tiles([tile.x for tile in tiles], [tile.y for tile in tiles]))

    def offer(self, codes: NDArray[np.int64], zoom: int) -> Offer:
        """The file of each tile."""
        there = {int(encode_tiles(tile.x, tile.y)): name for tile, name in self._files.items() if tile.zoom == zoom}
        items = {int(code): (there[int(code)],) for code in codes if int(code) in there}
        names = [name for (name,) in items.values()]
        return Offer(
            items=items,
            documents={name: {"id": name, "path": name} for name in names},
            moments=dict.fromkeys(names, moment_of(self.said.day)),
        )

    def read(
        self, images: Sequence[TileImage], documents: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[tuple[int, NDArray[np.uint16] | Unread, int]]:
        """Images, a tile at a time in each thread."""
        return read_each(images, self._read)

    def _read(self, image: TileImage) -> NDArray[np.uint16]:
        size, bands = self.said.size_px, len(self.said.bands)
        with open_plain(str(self.folder / image.items[0]), drivers=PICTURES) as raster:
            if raster.count < bands:
                raise SourceError(f"{raster.name}: it has {raster.count} band(s), `images.bands` names {bands}")
            require_depth(raster.dtypes[0], self.said.depth, where=raster.name)
            resampling = Resampling[self.said.resampling]
            if resampling == Resampling.bilinear and min(raster.shape) > size:
                resampling = Resampling.average
            shape = (bands, size, size)
            values = raster.read(list(range(1, bands + 1)), out_shape=shape, resampling=resampling, masked=True)
        return as_stored(values.astype(np.float32).filled(np.nan), self.said.depth)  # where it is transparent
