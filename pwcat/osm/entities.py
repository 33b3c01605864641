"""The entities of a map collection: ``entities.parquet`` and ``tags.parquet``, written from a map, read by tile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pwcat.errors import CatalogError
from pwcat.osm.exclusion import Exclusion
from pwcat.osm.schema import ENTITY_SCHEMA
from pwcat.osm.tiles import Tile

__all__ = ["ENTITIES", "TAGS", "Extracted", "read_entities", "write_entities"]

ENTITIES: Final = "entities.parquet"
TAGS: Final = "tags.parquet"


@dataclass(frozen=True, kw_only=True, eq=False)
class Extracted:
    """What became of a map.

    Attributes:
        zoom: of the tiles.
        tiles: ``(n, 2)`` x and y of each tile, by ``index``.
        counts: ``(n,)`` how many rows each has.
        entities: how many entities lie on them.
        left_out: entities, or parts of them, that are not there, by the reason.
        mended: entities that are there though they were broken, by what was wrong.
        day: up to which the map has what was mapped, where it says so.
        bounds: west, south, east, north of what the map says it covers, degrees: beyond it nothing is known.
    """

    zoom: int
    tiles: NDArray[np.int64]
    counts: NDArray[np.int64]
    entities: int
    left_out: Mapping[str, int]
    mended: Mapping[str, int]
    day: date | None
    bounds: tuple[float, float, float, float] | None


def write_entities(
    source: Path,
    folder: Path,
    *,
    zoom: int,
    within: tuple[float, float, float, float] | None = None,
    only: Sequence[Tile] | None = None,
    also: Sequence[Tile] = (),
    exclude: Exclusion | None = None,
    leave: Sequence[str] = (),
    progress: Callable[[str, int], None] | None = None,
) -> Extracted:
    """Write ``entities.parquet`` and ``tags.parquet`` of a map into a folder; each appears whole or not at all.

    Tiles are numbered (``index``) in the order of :func:`pwcat.osm.tiles.encode_tiles`, by which groups of any zoom lie
    together. The same map gives the same bytes, in whatever order it has its objects. Meanwhile there are files beside them
    for what is sorted, several times as large.

    Args:
        source: an ``.osm.pbf`` (or ``.osm``, ``.osm.gz``, ``.osm.bz2``), or any vector file that GDAL reads: its columns are
            tags.
        folder: is made where it is not there.
        zoom: of the tiles.
        within: west, south, east, north in degrees: only tiles that share an area with it. Where neither it nor ``only`` is
            given, the box that an extract says it covers: beyond it lie but the ends of what reaches out, borders at sea, say.
        only: only these tiles.
        also: tiles that are numbered even where no entity lies on them.
        exclude: tags that are left out; what has no tag left is no entity. The usual list where not given.
        leave: columns of a vector file that are no tags, ``label`` say.
        progress: is told what is done (``reading``, ``sorting``), and with how many entities or rows so far.

    Raises:
        SourceError: the map is missing or cannot be read.
        PwcatError: tiles of another zoom.
    """
    from pwcat.osm.extraction import Asked, extract_entities  # readers of maps are slow to import, and for builds alone

    return extract_entities(
        source,
        folder,
        asked=Asked(zoom=zoom, within=within, only=only, also=also),
        exclude=exclude or Exclusion(),
        leave=leave,
        progress=progress or (lambda what, so_far: None),
    )


def read_entities(
    folder: Path, index: NDArray[np.int64] | None = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """Entities of a map collection, as :data:`~pwcat.osm.schema.ENTITY_SCHEMA` says, in the order of the file.

    Args:
        folder: of the collection.
        index: rows of the tiles in the cube, in any order; only the row groups that hold some of them are read. All where
            not given.
        columns: those wanted, in their order in the file; all where not given.

    Raises:
        CatalogError: there are no entities, or the file is damaged.
    """
    path = folder / ENTITIES
    names = [name for name in ENTITY_SCHEMA.names if columns is None or name in columns]
    try:
        with pq.ParquetFile(path) as file:
            if index is None:
                return file.read(columns=names)
            wanted = np.unique(np.asarray(index, dtype=np.int64))
            groups = _groups_with(file.metadata, wanted)
            table = file.read_row_groups(groups, columns=[*dict.fromkeys([*names, "index"])])
    except FileNotFoundError as exc:
        raise CatalogError(f"{path}: there are no map entities; is {folder} a map collection?") from exc
    except (OSError, pa.ArrowException) as exc:
        reason = " ".join(str(exc).split())
        raise CatalogError(f"{path} cannot be read: {reason}; build the collection anew") from exc
    return table.filter(np.isin(table["index"].to_numpy(), wanted)).select(names)


def _groups_with(metadata: pq.FileMetaData, wanted: NDArray[np.int64]) -> list[int]:
    """Row groups that hold tiles of these numbers, which are sorted, as far as the statistics say."""
    column = metadata.schema.to_arrow_schema().get_field_index("index")
    groups = []
    for number in range(metadata.num_row_groups):
        bounds = metadata.row_group(number).column(column).statistics
        if bounds is None or _any_between(wanted, bounds.min, bounds.max):
            groups.append(number)
    return groups


def _any_between(wanted: NDArray[np.int64], low: int, high: int) -> bool:
    first = int(np.searchsorted(wanted, low))
    return first < len(wanted) and bool(wanted[first] <= high)
