"""Entities of a subset's tiles, wherever its collections lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from catalog.published.entities import read_published_entities
from catalog.published.place import PublishedPlace
from pwcat.osm.entities import read_entities
from pwcat.osm.schema import ENTITY_SCHEMA

if TYPE_CHECKING:
    from catalog.query import Collection
    from catalog.subset import Subset

__all__ = ["entities_of"]


def entities_of(
    subset: Subset, collection: Collection, rows: NDArray[np.int64], *, columns: Sequence[str] | None = None
) -> pa.Table:
    """Entities of some tiles of a subset, as :data:`pwcat.osm.schema.ENTITY_SCHEMA` says, tile by tile in the order asked for.

    Args:
        subset: the tiles.
        collection: that they are of, here or published.
        rows: of the subset; ``index`` of an entity is the place of its tile among them.
        columns: those wanted; all where not given.

    Raises:
        CatalogError: they cannot be read, or lie elsewhere.
    """
    place = collection.place
    if isinstance(place, PublishedPlace):
        ids = subset.rows["id"].take(pa.array(rows)).to_pylist()
        return read_published_entities(place.publication, collection.name, ids, columns=columns)
    index = subset.index[rows]
    found = read_entities(place.local("entities"), index, [*(columns or ENTITY_SCHEMA.names), "index"])
    ascending = np.argsort(index)
    number = ascending[np.searchsorted(index[ascending], found["index"].to_numpy())]
    found = found.set_column(found.column_names.index("index"), "index", pa.array(number, pa.int64()))
    if np.any(np.diff(number) < 0):
        found = found.take(pa.array(np.argsort(number, kind="stable")))
    return found.select([name for name in found.column_names if columns is None or name in columns])
