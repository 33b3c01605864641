"""Pieces as rows of a table, on their way to ``entities.parquet``: its columns, and those that it is sorted by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from pwcat.osm.boxes import smallest_boxes
from pwcat.osm.cutting import Pieces
from pwcat.osm.features import Features
from pwcat.osm.schema import BOX_NUMBERS, ENTITY_SCHEMA
from pwcat.osm.shapes import LINE, POINT
from pwcat.osm.tiles import encode_tiles, from_world

__all__ = ["ORDER", "ROW_SCHEMA", "piece_rows", "tag_column"]

# Nine decimals of a degree: a tenth of a millimetre. What was not cut gets the numbers back that the map has.
DECIMALS: Final = 9

# The tile first; what differs in none of these is the same piece.
ORDER: Final = ("code", "osm_type", "osm_id", "order_0", "order_1", "order_2")

ROW_SCHEMA: Final = pa.schema(
    [
        pa.field("code", pa.int64()),  # of the tile
        pa.field("osm_type", pa.int8()),
        pa.field("osm_id", pa.int64()),
        *(pa.field(f"order_{k}", pa.float64()) for k in range(3)),
        pa.field("first", pa.bool_()),  # whether no other piece stands for the thing where things are counted
        pa.field("kind", pa.int8()),
        *(ENTITY_SCHEMA.field(name) for name in ("cut", "tags", "geometry", "xy", "rings", "box")),
    ]
)


def tag_column(features: Features) -> pa.MapArray:
    """The tags of each thing."""
    counts = np.array([len(tags) for tags in features.tags], dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    keys = pa.array([key for tags in features.tags for key, _ in tags], pa.string())
    values = pa.array([value for tags in features.tags for _, value in tags], pa.string())
    return pa.MapArray.from_arrays(pa.array(offsets), keys, values)


def piece_rows(
    pieces: Pieces, features: Features, *, tags: pa.MapArray, first: NDArray[np.bool_], zoom: int
) -> pa.Table:
    """Rows of :data:`ROW_SCHEMA`.

    Args:
        pieces: of some of the features.
        features: what was cut.
        tags: their column, as :func:`tag_column` makes it.
        first: ``(n,)`` pieces that stand for their thing where things are counted.
        zoom: of the tiles.
    """
    xy, rings = _vertices(pieces)
    boxes = smallest_boxes(pieces.geometry, pieces.tiles.astype(np.float64))
    columns: Sequence[object] = (
        encode_tiles(*pieces.tiles.T),
        features.osm_type[pieces.owner],
        features.osm_id[pieces.owner],
        *pieces.order.T,
        first,
        np.full(len(pieces), pieces.kind, dtype=np.int8),
        pieces.cut,
        tags.take(pa.array(pieces.owner)),
        shapely.to_wkb(_in_degrees(pieces.geometry, zoom), byte_order=1),
        xy,
        rings,
        pa.FixedSizeListArray.from_arrays(pa.array(boxes.ravel()), BOX_NUMBERS),
    )
    arrays = [
        each if isinstance(each, pa.Array) else pa.array(each, field.type)
        for each, field in zip(columns, ROW_SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=ROW_SCHEMA)


def _vertices(pieces: Pieces) -> tuple[pa.ListArray, pa.ListArray]:
    """The columns ``xy`` and ``rings``."""
    vertices, owner = shapely.get_coordinates(pieces.geometry, return_index=True)
    if pieces.kind in (POINT, LINE):
        in_ring = np.bincount(owner, minlength=len(pieces))
        ring_counts = np.ones(len(pieces), dtype=np.int64)
    else:
        rings, ring_owner = shapely.get_rings(pieces.geometry, return_index=True)
        closed = shapely.get_num_coordinates(rings)
        is_last = np.zeros(len(vertices), dtype=bool)
        is_last[np.cumsum(closed) - 1] = True
        vertices, owner, in_ring = vertices[~is_last], owner[~is_last], closed - 1
        ring_counts = np.bincount(ring_owner, minlength=len(pieces))
    local = np.clip(vertices - pieces.tiles[owner], 0, 1).astype(np.float32)
    counts = 2 * np.bincount(owner, minlength=len(pieces))
    return _lists(counts, pa.array(local.ravel())), _lists(ring_counts, pa.array(in_ring.astype(np.int32)))


def _lists(counts: NDArray[np.int64], values: pa.Array) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _in_degrees(geometry: NDArray[np.object_], zoom: int) -> NDArray[np.object_]:
    x, y = shapely.get_coordinates(geometry).T
    lon, lat = from_world(x, y, zoom)
    return shapely.set_coordinates(geometry.copy(), np.round(np.column_stack([lon, lat]), DECIMALS))
