"""What is known of tiles before a pixel is read: their region labels, and what the map says of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pwcat.osm.columns import ENTITY_COUNT, TAG_ENTROPY
from pwcat.osm.entities import read_entities
from pwcat.osm.imagery.offers import corners_of
from pwcat.osm.targets import TARGET_COLUMNS, tile_labels
from pwcat.osm.tiles import from_mercator
from pwcat.regions import RegionLayer, Regions, majority, shares
from pwcat.sites.judging import LANDCOVER_POINTS, POINTS_AT_ONCE
from pwcat.sites.tables import fraction_column, name_column

__all__ = ["count_of_tiles", "label_tiles"]

# Tiles whose entities are looked at together.
TILES_AT_ONCE = 2048


def label_tiles(codes: NDArray[np.int64], zoom: int, regions: Regions) -> dict[str, pa.Array]:
    """Continent, biome, ecoregion and land cover of tiles, by column: of the centre, land cover with its shares of the area.

    Args:
        codes: of the tiles, ``(n,)``.
        zoom: of them.
        regions: the layers; what is left out labels nothing.
    """
    centres = _points(codes, zoom, 1)[:, 0]
    columns: dict[str, pa.Array] = {}
    for name, layer in regions.layers.items():
        if name == "landcover":
            found = _landcover(layer, codes, zoom)
            columns[name] = name_column(majority(found), layer.classes)
            columns["landcover_fractions"] = fraction_column(found, layer.classes)
        else:
            columns[name] = name_column(layer.codes(centres), layer.classes)
    return columns


def _landcover(layer: RegionLayer, codes: NDArray[np.int64], zoom: int) -> NDArray[np.float32]:
    """Shares of each class, ``(n, K)``, over as many points a side as recipes' chips have."""
    least, most = LANDCOVER_POINTS
    side = corners_of(codes, zoom)[2]
    points = min(max(int(np.ceil(2 * side / layer.pixel_m)), least), most) if layer.pixel_m else most
    parts = np.array_split(codes, max(1, len(codes) * points**2 // POINTS_AT_ONCE))
    return np.concatenate([shares(layer, _points(part, zoom, points)) for part in parts])


def _points(codes: NDArray[np.int64], zoom: int, points: int) -> NDArray[np.float64]:
    """Longitude and latitude of points spread evenly over tiles, ``(n, points**2, 2)``."""
    x0, y0, side = corners_of(codes, zoom)
    steps = (np.arange(points) + 0.5) / points * side
    across, down = (each.ravel() for each in np.meshgrid(steps, steps))
    return np.stack(from_mercator(x0[:, None] + across, y0[:, None] - down), axis=-1)


def count_of_tiles(folder: Path, num_tiles: int) -> dict[str, NDArray[Any]]:
    """What a map says of its tiles, ``(n,)`` each, by column: entities, the diversity of their tags, the labels of tasks.

    An entity counts once in each tile that holds a piece of it. The entropy is of all tags on a tile, ``key=value``, in nats;
    NaN where there are none.

    Args:
        folder: of the collection, with its entities.
        num_tiles: rows of its cube; the last ones may have no entity.
    """
    names = [ENTITY_COUNT, TAG_ENTROPY, *TARGET_COLUMNS]
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    for start in range(0, num_tiles, TILES_AT_ONCE):
        index = np.arange(start, min(start + TILES_AT_ONCE, num_tiles))
        entities = read_entities(folder, index, ["index", "part", "kind", "tags"])
        for name, values in _counts(_renumbered(entities, start), len(index)).items():
            parts[name].append(values)
    return {name: np.concatenate(values) if values else np.empty(0) for name, values in parts.items()}


def _renumbered(entities: pa.Table, start: int) -> pa.Table:
    place = entities.column_names.index("index")
    return entities.set_column(place, "index", pc.subtract(entities["index"], start))


def _counts(entities: pa.Table, num_tiles: int) -> Mapping[str, NDArray[Any]]:
    once = entities.filter(pc.equal(entities["part"], 0))
    index = once["index"].to_numpy()
    return {
        ENTITY_COUNT: np.bincount(index, minlength=num_tiles).astype(np.int64),
        TAG_ENTROPY: _tag_entropy(once["tags"], index, num_tiles),
        **tile_labels(entities, num_tiles),
    }


def _tag_entropy(tags: pa.ChunkedArray, index_E: NDArray[np.int64], num_tiles: int) -> NDArray[np.float64]:
    """Entropy of the tags on each tile, nats."""
    maps = tags.combine_chunks()
    if not len(maps):
        return np.full(num_tiles, np.nan)
    lengths = np.diff(maps.offsets.to_numpy())
    first, last = maps.offsets[0].as_py(), maps.offsets[-1].as_py()
    keys, values = (part.slice(first, last - first) for part in (maps.keys, maps.items))
    codes = pc.binary_join_element_wise(keys, values, "=").dictionary_encode().indices.to_numpy()
    width = int(codes.max()) + 1
    cells, counts = np.unique(np.repeat(index_E, lengths) * width + codes, return_counts=True)
    tile = cells // width
    totals = np.bincount(tile, weights=counts, minlength=num_tiles)
    share = counts / totals[tile]
    entropy = np.bincount(tile, weights=-share * np.log(share), minlength=num_tiles)
    return np.where(totals > 0, np.maximum(entropy, 0.0), np.nan)
