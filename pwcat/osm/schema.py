"""What ``entities.parquet`` and ``tags.parquet`` of a map collection hold.

``entities.parquet`` is GeoParquet 1.1: a row is what one tile holds of one entity, anything on the map that has tags. Rows
are sorted by ``index``, then by ``osm_type`` (node, way, relation) and ``osm_id``, then by ``part``, so that the entities of a
tile lie together, and the same map gives the same rows in whatever order it was read.

Tile coordinates run from 0 to 1: x from the western edge to the east, y from the northern edge to the south, straight in web
mercator, as the pixels of the tile's image do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pyarrow as pa

__all__ = ["BOX_NUMBERS", "ENTITY_MEANINGS", "ENTITY_SCHEMA", "KINDS", "OSM_TYPES", "TAG_SCHEMA"]

KINDS: Final = ("point", "line", "polygon")
OSM_TYPES: Final = ("node", "way", "relation")
BOX_NUMBERS: Final = 8  # four corners, x and y each

_COLUMNS: Final[Mapping[str, tuple[pa.DataType, str]]] = {
    "index": (pa.int64(), "row of the tile in the cube"),
    "tile": (pa.string(), "zoom/x/y of the tile, as in the items' ids"),
    "osm_type": (pa.string(), "node, way or relation"),
    "osm_id": (pa.int64(), "number of the entity among those of its type; of other vector data, its row"),
    "part": (pa.int32(), "0; more, where the tile's edge cuts one entity into several pieces"),
    "kind": (pa.string(), "point, line or polygon: what the piece is"),
    "cut": (pa.bool_(), "whether the tile's edge cut it"),
    "tags": (pa.map_(pa.string(), pa.string()), "keys and values, by key; never empty"),
    "geometry": (pa.binary(), "the piece, WKB, EPSG:4326"),
    "xy": (
        pa.list_(pa.float32()),
        "its vertices in tile coordinates: x, y, x, y ...; rings without the closing vertex",
    ),
    "rings": (pa.list_(pa.int32()), "how many of these vertices each ring or line has: the outer ring, then its holes"),
    "box": (pa.list_(pa.float32(), BOX_NUMBERS), "corners of the smallest rotated rectangle around it, clockwise"),
}
ENTITY_SCHEMA: Final = pa.schema([pa.field(name, kind) for name, (kind, _) in _COLUMNS.items()])
ENTITY_MEANINGS: Final = {name: meaning for name, (_, meaning) in _COLUMNS.items()}

# The vocabulary: each key=value of the map, the most frequent first, then by key and value.
TAG_SCHEMA: Final = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("value", pa.string()),
        pa.field("count", pa.int64()),  # entities that have it, each once, however many tiles it lies in
        pa.field("tiles", pa.int64()),  # tiles that have an entity with it
    ]
)
