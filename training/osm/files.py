"""One ``entities.parquet``: where the entities of each tile lie in it, and its row groups."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pwcat.errors import TrainingError
from pwcat.osm.schema import ENTITY_SCHEMA
from training.osm.groups import COLUMNS, Group, decode, tags_of
from training.osm.ragged import starts_of
from training.osm.tags import TagNumbers

__all__ = ["ENTITIES", "EntityFile"]

ENTITIES = "entities.parquet"

Index = NDArray[np.int64]


@lru_cache(maxsize=64)
def _digest(path: Path, *_: int) -> bytes:
    """SHA-256 of a file; worked out once while it does not change. Its footer will not do: a moved vertex can leave that."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


class EntityFile:
    """The entities of a collection. Opening it reads the footer alone.

    Args:
        path: of the file.
        tiles: of the collection.

    Attributes:
        tiles: see above.

    Raises:
        TrainingError: it is damaged, or lacks columns.
    """

    def __init__(self, path: Path, *, tiles: int) -> None:
        self._path, self.tiles = path, tiles
        self._own = threading.local()  # Arrow's readers are of one thread each
        try:
            self._about = pq.read_metadata(path)
        except (OSError, pa.ArrowException) as exc:
            raise self._damaged(exc) from exc
        names = {self._about.schema.column(place).path.split(".")[0] for place in range(self._about.num_columns)}
        if missing := [name for name in ENTITY_SCHEMA.names if name not in names]:
            raise self._damaged(f"columns {', '.join(missing)} are missing")

    @property
    def num_groups(self) -> int:
        """Row groups."""
        return int(self._about.num_row_groups)

    @cached_property
    def group_starts(self) -> Index:
        """(G + 1,) first row of each row group."""
        return starts_of(np.array([self._about.row_group(n).num_rows for n in range(self.num_groups)], dtype=np.int64))

    @property
    def stored_bytes(self) -> int:
        """What the file's columns take before they are compressed."""
        return sum(self._about.row_group(number).total_byte_size for number in range(self.num_groups))

    def digest(self) -> bytes:
        """What identifies the file's content, byte for byte."""
        about = self._path.stat()
        return _digest(self._path, about.st_ino, about.st_size, about.st_mtime_ns)

    @cached_property
    def starts(self) -> Index:
        """(tiles + 1,) first row of each tile.

        Raises:
            TrainingError: rows are not in the order of tiles, or of tiles that are not there.
        """
        counts, last = np.zeros(self.tiles, dtype=np.int64), 0
        for number in range(self.num_groups):
            index = np.asarray(self._read(number, ["index"])["index"], dtype=np.int64)
            if not len(index):
                continue
            if index[0] < last or index[-1] >= self.tiles or (np.diff(index) < 0).any():
                raise self._damaged(f"rows are not in the order of its {self.tiles:,} tiles")
            counts[last : index[-1] + 1] += np.bincount(index - last, minlength=int(index[-1]) - last + 1)
            last = int(index[-1])
        return starts_of(counts)

    def decode(self, number: int, numbers: TagNumbers, gone: tuple[NDArray[np.bool_], NDArray[np.bool_]]) -> Group:
        """A row group; see :func:`training.osm.groups.decode`.

        Args:
            number: of the row group.
            numbers: of all tags.
            gone: tags that are taken away, and those that take their entity with them.
        """
        try:
            return decode(self._read(number, COLUMNS), numbers, dropped=gone[0], taken=gone[1])
        except TrainingError as exc:
            raise self._damaged(exc) from exc

    def tags(self, numbers: TagNumbers, *, groups: Index) -> Iterator[tuple[Index, Index, Index]]:
        """Of some row groups their rows' tiles, where the tags of each row begin, and their numbers."""
        for number in groups.tolist():
            table = self._read(number, ["index", "tags"])
            try:
                yield np.asarray(table["index"], dtype=np.int64), *tags_of(table, numbers)
            except TrainingError as exc:
                raise self._damaged(exc) from exc

    def _read(self, number: int, columns: Sequence[str]) -> pa.Table:
        if not hasattr(self._own, "file"):
            self._own.file = pq.ParquetFile(self._path, metadata=self._about)
        try:
            return self._own.file.read_row_group(number, columns=list(columns), use_threads=False)
        except (OSError, pa.ArrowException) as exc:
            raise self._damaged(exc) from exc

    def _damaged(self, why: object) -> TrainingError:
        return TrainingError(f"{self._path} is damaged ({why}): build the collection again")
