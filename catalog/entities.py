"""Embeddings of map entities in a file, and which entities are like others: the nearest by cosine similarity.

``pwcat embed --entities`` writes such a file: a row is what one tile holds of one entity, with its vector. It is read a few
rows at a time, so that the vectors of a country's buildings need not be in memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from catalog.cosine import best_of, is_known, most_similar, to_units
from catalog.querying.beside import matrix_of
from pwcat.errors import CatalogError
from pwcat.osm.schema import OSM_TYPES

__all__ = ["NOTES", "VECTOR", "EntityFile", "LikeEntities", "entity_schema", "is_entity_file", "nearest_entities"]

NOTES: Final = b"pwcat:entities"  # that such a file has
VECTOR: Final = "embedding"
BLOCK_ROWS = 8_192
MOST_LIKE = 1_000  # rows that one search may be like: a road's pieces are hundreds

KEY = re.compile(rf"({'|'.join(OSM_TYPES)})/(\d+)(?:@(\d+/\d+/\d+))?")


def entity_schema(number: pa.DataType) -> pa.Schema:
    """Columns of a file of embeddings of entities.

    Args:
        number: type of the vectors' numbers.
    """
    return pa.schema(
        [
            pa.field("collection", pa.string()),
            pa.field("tile", pa.string()),  # zoom/x/y
            pa.field("osm_type", pa.string()),
            pa.field("osm_id", pa.int64()),
            pa.field("part", pa.int32()),
            pa.field("kind", pa.string()),
            pa.field("tags", pa.map_(pa.string(), pa.string())),
            pa.field(VECTOR, pa.list_(number)),
        ]
    )


def is_entity_file(path: str | Path) -> bool:
    """Whether there is a file of embeddings of entities at a path."""
    try:
        return Path(path).is_file() and NOTES in (pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowException):
        return False


class EntityFile:
    """Embeddings of entities, in a file.

    Args:
        path: of the file.

    Attributes:
        path: see above.
        meaning: what the vectors are, in a few words.
        made: how they were made.

    Raises:
        CatalogError: it is no such file.
    """

    def __init__(self, path: str | Path) -> None:
        if not is_entity_file(path):
            raise CatalogError(
                f"{path}: no embeddings of map entities; `pwcat embed RUN MAP --entities -o FILE` writes them"
            )
        self.path = Path(path)
        notes = json.loads(pq.read_schema(path).metadata[NOTES])
        self.meaning, self.made = str(notes["meaning"]), dict(notes["made"])

    def __len__(self) -> int:
        return int(pq.read_metadata(self.path).num_rows)

    @cached_property
    def keys(self) -> pa.Table:
        """Tile, type, number and kind of each row."""
        words = ["tile", "osm_type", "kind"]  # few that are many times the same
        return pq.read_table(self.path, columns=[*words, "osm_id"], read_dictionary=words).unify_dictionaries()

    def rows_of(self, entity: str) -> NDArray[np.int64]:
        """Rows of an entity, such as ``way/123``: one a tile and part; of one tile where it is named, ``way/123@16/34/22``.

        Raises:
            CatalogError: that names no entity, or none of the file.
        """
        named = KEY.fullmatch(entity)
        if named is None:
            raise CatalogError(
                f"{entity!r} names no entity: way/123 is wanted, or way/123@16/34166/22942 for what a tile holds of it"
            )
        kind, number, tile = named.groups()
        keys = self.keys
        mine = pc.and_(pc.equal(keys["osm_type"], kind), pc.equal(keys["osm_id"], int(number)))
        if tile is not None:
            mine = pc.and_(mine, pc.equal(keys["tile"], tile))
        rows = np.flatnonzero(mine.to_numpy())
        if not len(rows):
            raise CatalogError(f"{self.path} has no {entity} among its {len(self):,} rows")
        return rows

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Numbers of rows (n,), ascending, and their vectors at length 1 (n, D), a few at a time, where there are any."""
        start = 0
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(BLOCK_ROWS, columns=[VECTOR]):
                vectors = matrix_of(pa.chunked_array([batch.column(0)]))
                known = is_known(vectors)
                yield start + np.flatnonzero(known), to_units(vectors[known])
                start += len(batch)

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Vectors of some rows, ascending, (n, D)."""
        return matrix_of(self._taken(rows, [VECTOR])[VECTOR])

    def about(self, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
        """What some rows are, in any order: collection, tile, osm_type, osm_id, part, kind and tags."""
        chosen, back = np.unique(rows, return_inverse=True)
        found = self._taken(chosen, [name for name in entity_schema(pa.float32()).names if name != VECTOR]).to_pylist()
        return [{**found[place], "tags": dict(found[place]["tags"])} for place in back.tolist()]

    def _taken(self, rows: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """Some rows, ascending; the groups that hold them are read one after the other."""
        parts, start = [], 0
        with pq.ParquetFile(self.path) as file:
            for group in range(file.num_row_groups):
                stop = start + file.metadata.row_group(group).num_rows
                low, high = np.searchsorted(rows, [start, stop])
                if low < high:
                    parts.append(file.read_row_group(group, columns=list(columns)).take(rows[low:high] - start))
                start = stop
        return pa.concat_tables(parts)


@dataclass(frozen=True, kw_only=True, eq=False)
class LikeEntities:
    """Entities like some others, the most similar first.

    Attributes:
        file: that was searched.
        rows: of the file, (n,).
        similarity: the largest cosine that each has with one of those it is to be like, (n,).
        like: which of those that is, (n,), a row of the file; of vectors that were given, their place.
    """

    file: EntityFile
    rows: NDArray[np.int64]
    similarity: NDArray[np.float64]
    like: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def to_list(self) -> list[dict[str, Any]]:
        """What each is, with its similarity."""
        about = self.file.about(self.rows) if len(self) else []
        return [{**one, "similarity": float(value)} for one, value in zip(about, self.similarity, strict=True)]


def nearest_entities(
    file: EntityFile | str | Path,
    like: str | Sequence[str] | NDArray[Any],
    *,
    limit: int = 10,
    other_tiles: bool = False,
    same_kind: bool = False,
) -> LikeEntities:
    """The entities of a file that are most like some others.

    Args:
        file: of embeddings of entities.
        like: names of entities, such as ``way/123``, all of whose pieces are left out of the answer; or vectors, (D,) or
            (M, D).
        limit: how many to find.
        other_tiles: leave out what lies on the same tiles, too.
        same_kind: look among points, lines or polygons only, as those are that it is to be like.

    Raises:
        CatalogError: there is no such file or entity, or nothing with a direction to be like, or that is of another length.
    """
    file = file if isinstance(file, EntityFile) else EntityFile(file)
    if limit < 1:
        raise CatalogError(f"limit={limit}: at least one entity is wanted")
    if isinstance(like, np.ndarray):
        if other_tiles or same_kind:
            raise CatalogError(
                "vectors have no tile and no kind: other tiles or the same kind can be asked for entities only"
            )
        queries, rows = (
            _units(np.atleast_2d(like), f"vectors of shape {like.shape}"),
            np.arange(len(np.atleast_2d(like))),
        )
        left_out = np.zeros(len(file), dtype=bool)
    else:
        names = [like] if isinstance(like, str) else list(like)
        rows = np.unique(np.concatenate([file.rows_of(name) for name in names]))
        if len(rows) > MOST_LIKE:
            raise CatalogError(
                f"{', '.join(names)}: {len(rows):,} pieces, and {MOST_LIKE:,} may be asked for: name a tile (way/123@16/34/22)"
            )
        vectors = file.vectors(rows)
        rows = rows[is_known(vectors)]
        queries = _units(vectors[is_known(vectors)], ", ".join(names))
        left_out = _left_out(file, rows, names, other_tiles=other_tiles, same_kind=same_kind)

    def blocks() -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        for numbers, units in file.blocks():
            if units.shape[1] != queries.shape[1]:
                raise CatalogError(
                    f"{file.path} has vectors of {units.shape[1]} numbers, and those to be like have {queries.shape[1]}: they "
                    "are of another model"
                )
            wanted = ~left_out[numbers]
            if wanted.any():
                yield numbers[wanted], units[wanted]

    numbers_Mk, similarity_Mk = most_similar(queries, blocks(), k=limit)
    found, place, similarity = best_of(numbers_Mk, similarity_Mk, limit)
    return LikeEntities(file=file, rows=found, similarity=similarity, like=rows[place])


def _units(vectors: NDArray[Any], what: str) -> NDArray[np.float32]:
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or not len(vectors) or not is_known(vectors).all():
        raise CatalogError(
            f"{what}: nothing there has a direction to be like; (D,) or (M, D) numbers are wanted, none of them all zeros and "
            "none without a value"
        )
    return to_units(vectors)


def _left_out(
    file: EntityFile, rows: NDArray[np.int64], names: Sequence[str], *, other_tiles: bool, same_kind: bool
) -> NDArray[np.bool_]:
    """Rows that are no answer: the entities themselves, and what is not asked for."""
    keys = file.keys
    gone = np.zeros(len(file), dtype=bool)
    for name in names:
        gone[file.rows_of(name.partition("@")[0])] = True
    if other_tiles:
        gone |= _is_in(keys["tile"], rows)  # of any collection: the place is the same
    if same_kind:
        gone |= ~_is_in(keys["kind"], rows)
    return gone


def _is_in(column: pa.ChunkedArray, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which values of a column some rows have, too."""
    words = column.combine_chunks()
    codes: NDArray[np.bool_] = np.isin(words.indices.to_numpy(), words.indices.take(pa.array(rows)).to_numpy())
    return codes
