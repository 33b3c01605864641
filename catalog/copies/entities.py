"""The map of a copy: the entities of its tiles, which have other numbers in the copy's cube, and their tags counted anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from catalog.copies.shards import CopyJob
from catalog.measures.tally import Tally
from catalog.query import Collection
from catalog.querying.entities import entities_of
from pwcat.atomic import replacing
from pwcat.osm.counting import count_things
from pwcat.osm.entities import ENTITIES, TAGS
from pwcat.osm.schema import OSM_TYPES
from pwcat.osm.vocabulary import TagCounter
from pwcat.osm.writing import EntityFileWriter

__all__ = ["copy_entities"]

# Tiles whose entities are read together.
TILES_AT_ONCE: Final = 2048


def copy_entities(job: CopyJob) -> Tally:
    """Write ``entities.parquet`` and ``tags.parquet`` of a copy, some tiles at a time.

    Returns:
        What the map holds on its tiles, as a tally of no samples.

    Raises:
        CatalogError: the original's entities cannot be read.
    """
    whole, seen = Tally(), _Seen()
    with TemporaryDirectory(dir=job.folder, prefix=".tags-", suffix=".partial") as scratch:
        counter = TagCounter(Path(scratch))
        with (
            replacing(job.folder / ENTITIES) as temporary,
            EntityFileWriter(temporary, zoom=_zoom(job.collection)) as file,
        ):
            for start, stop in _stretches(job.spec.num_samples):
                rows = entities_of(job.part, job.collection, job.order[start:stop])
                if not len(rows):
                    continue
                index = rows["index"].to_numpy()
                rows = rows.set_column(0, "index", pa.array(index + start, pa.int64()))
                file.write(rows.cast(file.schema), np.bincount(index, minlength=stop - start))
                counter.add(rows["index"].combine_chunks(), rows["tags"].combine_chunks(), pa.array(seen.first(rows)))
                whole = whole + Tally(things=count_things(rows))
        with replacing(job.folder / TAGS) as temporary:
            counter.write(temporary)
    return whole


def _stretches(count: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + TILES_AT_ONCE, count)) for start in range(0, count, TILES_AT_ONCE))


def _zoom(collection: Collection) -> int:
    """Of the tiles: their names begin with it."""
    names = collection.items.engine.table(f'SELECT "map:tile" AS tile FROM {collection.items.source} LIMIT 1')  # noqa: S608
    return int(str(names["tile"][0].as_py()).partition("/")[0])


class _Seen:
    """Entities that were met: one lies on several tiles, and counts once."""

    def __init__(self) -> None:
        self._known: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def first(self, rows: pa.Table) -> NDArray[np.bool_]:
        """Whether each row is the first of its entity, ``(n,)``."""
        kind = pc.index_in(rows["osm_type"], pa.array(OSM_TYPES)).to_numpy()
        names, places = np.unique(rows["osm_id"].to_numpy() * len(OSM_TYPES) + kind, return_index=True)
        at = np.searchsorted(self._known, names)
        new = np.ones(len(names), dtype=bool)
        within = at < len(self._known)
        new[within] = self._known[at[within]] != names[within]
        self._known = np.sort(np.concatenate([self._known, names[new]]), kind="stable")
        first = np.zeros(len(rows), dtype=bool)
        first[places[new]] = True
        return first
