"""Entities of a published map: those of some tiles, read by row group from where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from catalog.published.layout import ENTITIES_PATH
from catalog.published.publication import Publication
from pwcat.osm.schema import BOX_NUMBERS, ENTITY_SCHEMA

if TYPE_CHECKING:
    from catalog.published.groups import RowGroups

__all__ = ["read_published_entities"]

# By which the rows of a tile are found.
NAMES = ("id", "collection")


def read_published_entities(
    publication: Publication, collection: str, ids: Sequence[str], *, columns: Sequence[str] | None = None
) -> pa.Table:
    """Entities of some tiles, as :data:`~pwcat.osm.schema.ENTITY_SCHEMA` says, tile by tile in the order asked for.

    Of the file no more is fetched than the names of its rows' tiles, which are kept, and the row groups that hold these tiles.

    Args:
        publication: that holds the map.
        collection: that the tiles are of, by name.
        ids: of the items; ``index`` of an entity is the place of its tile among them.
        columns: those wanted, in their order in the schema; all where not given.

    Raises:
        CatalogError: the file cannot be read.
    """
    wanted = pa.array(ids, pa.string())
    schema = pa.schema([field for field in ENTITY_SCHEMA if columns is None or field.name in columns])
    read = tuple(name for name in schema.names if name != "index")
    parts = [
        _part(publication.groups, group, rows, index, read, schema)
        for group, rows, index in _found(publication.groups, collection, wanted)
    ]
    whole = pa.concat_tables([schema.empty_table().append_column("_place", pa.array([], pa.int64())), *parts])
    order = np.argsort(whole["_place"].to_numpy(), kind="stable")
    return whole.drop_columns("_place").take(pa.array(order))


def _found(
    groups: RowGroups, collection: str, wanted: pa.Array
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """Row groups that hold some of the tiles: their numbers, the rows, and the place of each row's tile."""
    for group in range(groups.footer(ENTITIES_PATH).num_row_groups):
        names = groups.read(ENTITIES_PATH, group, NAMES)
        place = pc.index_in(names["id"], wanted)
        place = pc.if_else(pc.equal(names["collection"], collection), place, None).combine_chunks()
        rows = np.flatnonzero(place.is_valid().to_numpy(zero_copy_only=False))
        if len(rows):
            yield group, rows, place.take(pa.array(rows)).to_numpy().astype(np.int64)


def _part(
    groups: RowGroups,
    group: int,
    rows: NDArray[np.int64],
    place: NDArray[np.int64],
    read: tuple[str, ...],
    schema: pa.Schema,
) -> pa.Table:
    """Rows of a row group, as the schema says, and the place of each one's tile."""
    found = groups.read(ENTITIES_PATH, group, read).take(pa.array(rows)).combine_chunks() if read else None
    columns = {name: _typed(found[name].combine_chunks(), schema.field(name).type) for name in read if found}
    if "index" in schema.names:
        columns["index"] = pa.array(place, pa.int64())
    table = pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)
    return table.append_column("_place", pa.array(place))


def _typed(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Lists of pairs as maps, and lists of eight as such; all else as it is."""
    if isinstance(values, pa.ChunkedArray):
        values = values.chunk(0) if values.num_chunks else pa.array([], values.type)
    if pa.types.is_map(kind):
        pairs = values.flatten()
        offsets = pc.subtract(values.offsets, values.offsets[0])
        return pa.MapArray.from_arrays(offsets, pairs.field("key"), pairs.field("value"))
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(values.flatten(), BOX_NUMBERS)
    return values.cast(kind)
