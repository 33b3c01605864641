"""Tiles that a map recipe asks for by their places: by name, in boxes, or on the areas of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.errors import SourceError
from pwcat.osm.document import TileGrid
from pwcat.osm.imagery.offers import corners_of
from pwcat.osm.tiles import encode_tiles, from_mercator, parse_tile, tiles_within
from pwcat.regions.vector import read_vector

__all__ = ["codes_asked"]


def codes_asked(grid: TileGrid, *, base_dir: Path) -> NDArray[np.int64] | None:
    """Codes of the tiles that a recipe asks for by their places, sorted; ``None`` where it does not.

    Raises:
        RegionError: the file of areas cannot be read.
        SourceError: it holds no areas.
    """
    if grid.only is not None:
        tiles = [parse_tile(name) for name in grid.only]
        return np.unique(encode_tiles([tile.x for tile in tiles], [tile.y for tile in tiles]))
    if grid.areas is not None:
        return np.unique(np.concatenate([_codes_in(tuple(box), grid.zoom) for box in grid.areas]))
    if grid.within is not None:
        return _codes_on(base_dir / grid.within, grid.zoom)
    return None


def _codes_in(bounds: Any, zoom: int) -> NDArray[np.int64]:
    x0, y0, x1, y1 = tiles_within(bounds, zoom)
    columns, rows = np.meshgrid(np.arange(x0, x1 + 1), np.arange(y0, y1 + 1))
    return encode_tiles(columns.ravel(), rows.ravel())


def _codes_on(path: Path, zoom: int) -> NDArray[np.int64]:
    """Codes of the tiles that share an area with any polygon of a file."""
    if not path.is_file():
        raise SourceError(f"tiles.within: {path} is no file")
    shapes = read_vector(path, name="tiles.within").geometry.to_numpy()
    areas = np.array([shape for shape in shapes if shape is not None and shapely.area(shape) > 0], dtype=object)
    if not len(areas):
        raise SourceError(f"tiles.within: {path} holds no areas")
    codes = np.unique(np.concatenate([_codes_in(shapely.bounds(area), zoom) for area in areas]))
    x0, y0, side = corners_of(codes, zoom)
    west, north = from_mercator(x0, y0)
    east, south = from_mercator(x0 + side, y0 - side)
    boxes = shapely.box(west, south, east, north)
    tree = shapely.STRtree(boxes)
    _, touched = tree.query(areas, predicate="intersects")
    return np.asarray(codes[np.unique(touched)])
