"""All tags of some maps, each with a number.

A country has millions of them, names of streets above all: they are kept as Arrow keeps texts, and looked up by hash.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pwcat.errors import TrainingError
from training.osm.entities import TagList
from training.osm.hashing import hash_pairs

__all__ = ["TAGS", "TagNumbers", "TagPairs", "columns_of", "read_tags"]

TAGS = "tags.parquet"
SEEDS = range(
    16
)  # two different tags with one hash are met once in 2e12 lists of a million; then another seed is taken


class TagPairs(Sequence[tuple[str, str]]):
    """Keys and values, as Arrow keeps them.

    Args:
        keys: (V,) texts.
        values: (V,) texts.
    """

    def __init__(self, keys: pa.Array, values: pa.Array) -> None:
        self.keys, self.values = keys, values

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, place: int) -> tuple[str, str]: ...
    @overload
    def __getitem__(self, place: slice) -> TagPairs: ...
    def __getitem__(self, place: int | slice) -> tuple[str, str] | TagPairs:
        if isinstance(place, slice):
            return TagPairs(self.keys[place], self.values[place])
        return self.keys[place].as_py(), self.values[place].as_py()

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(zip(self.keys.to_pylist(), self.values.to_pylist(), strict=True))


def columns_of(tag_list: TagList) -> tuple[pa.Array, pa.Array]:
    """Keys and values of a list, each (V,) texts."""
    pairs = tag_list.pairs
    if isinstance(pairs, TagPairs):
        return pairs.keys, pairs.values
    return pa.array([key for key, _ in pairs], pa.string()), pa.array([value for _, value in pairs], pa.string())


def read_tags(folders: Sequence[Path]) -> TagList:
    """The tags of some map collections, each once: the most frequent first, then by key and value.

    Args:
        folders: of the collections.

    Raises:
        TrainingError: a list is missing or damaged.
    """
    tables = [_read(folder / TAGS) for folder in folders]
    whole = pa.concat_tables(tables).group_by(["key", "value"]).aggregate([("count", "sum")])
    order = [("count_sum", "descending"), ("key", "ascending"), ("value", "ascending")]
    listed = whole.sort_by(order).combine_chunks()
    keys, values = (pa.concat_arrays(listed[name].chunks or [pa.array([], pa.string())]) for name in ("key", "value"))
    return TagList(pairs=TagPairs(keys, values))


def _read(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path, columns=["key", "value", "count"])
    except FileNotFoundError as exc:
        raise TrainingError(
            f"{path} is missing, without which its tags have no numbers: build the collection again"
        ) from exc
    except (OSError, pa.ArrowException) as exc:
        raise TrainingError(f"{path} cannot be read ({exc}): build the collection again") from exc
    return table.cast(pa.schema([("key", pa.string()), ("value", pa.string()), ("count", pa.int64())]))


class TagNumbers:
    """Finds the number of a tag in a list.

    Args:
        tag_list: the list.
    """

    def __init__(self, tag_list: TagList) -> None:
        keys, values = columns_of(tag_list)
        for seed in SEEDS:
            hashes = hash_pairs(keys, values, seed=seed)
            order = hashes.argsort(kind="stable")
            self._seed, self._hashes, self._order = seed, hashes[order], order
            if not (self._hashes[1:] == self._hashes[:-1]).any():
                return
        raise TrainingError("the list of tags has some of them twice: build the collection again")

    def of(self, keys: pa.Array, values: pa.Array) -> NDArray[np.int64]:
        """The number of each, (n,); -1 where it is not in the list."""
        hashes = hash_pairs(keys, values, seed=self._seed)
        if not len(self._hashes):
            return np.full(len(hashes), -1, dtype=np.int64)
        found = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        return np.where(self._hashes[found] == hashes, self._order[found], -1)
