"""Map entities of a subset's tiles, for batches: from ``entities.parquet``, row group by row group, from any thread.

Row groups are decoded once and kept as long as memory was given for: the tiles of a loader's window lie in few of them.

Shapes: B tiles, E entities.
"""

from __future__ import annotations

import hashlib
import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pwcat.errors import TrainingError
from training.loading.memory import available_ram
from training.osm.entities import Entities, TagList
from training.osm.files import ENTITIES, EntityFile
from training.osm.gathering import gather
from training.osm.groups import Group, Lately
from training.osm.ragged import places_of, starts_of
from training.osm.rules import TagRule
from training.osm.tags import TAGS, TagNumbers, read_tags

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["ENTITIES", "EntityReader", "TagRule", "holds_entities", "memory_for_entities"]

# Bytes of decoded row groups that are kept, and the share of the memory there is, of all processes that train on a machine. A
# loader's window of 32,768 tiles of a town takes about half a gigabyte.
KEPT_BYTES = 4 * 2**30
KEPT_SHARE = 0.25

Index = NDArray[np.int64]


def holds_entities(subset: Subset) -> bool:
    """Whether all of a subset's samples are tiles of maps."""
    return bool(subset.collections) and not _without(subset)


def memory_for_entities(ranks: int = 1) -> int:
    """Bytes that decoded row groups may take in each of so many processes of this machine."""
    ram = available_ram()
    return KEPT_BYTES if ram is None else min(KEPT_BYTES, int(KEPT_SHARE * ram / ranks))


def _without(subset: Subset) -> list[str]:
    return [each.name for each in subset.collections if not each.place.has(ENTITIES)]


class EntityReader:
    """What lies on the tiles of a subset.

    Args:
        subset: the samples, of one or more map collections.
        removing: tags that are taken away; what is left without any goes.
        budget: bytes that decoded row groups may take; a share of the memory there is where ``None``.

    Attributes:
        budget: see above.

    Raises:
        TrainingError: a collection is no map, or its files are damaged.
    """

    def __init__(self, subset: Subset, removing: TagRule | None = None, *, budget: int | None = None) -> None:
        if missing := _without(subset):
            others = [each.name for each in subset.collections if each.name not in missing]
            raise TrainingError(
                f"{', '.join(missing)}: no map entities are there"
                + (f", as there are of {', '.join(others)}" if others else "")
                + f" ({ENTITIES}), which this model or task reads: take map collections alone (`pwcat build` of a map recipe)"
            )
        self._subset, self.budget = subset, memory_for_entities() if budget is None else budget
        self._files = _Files(subset, removing, budget=self.budget)

    def of(self, subset: Subset) -> EntityReader:
        """A reader of other samples of the same collections, which shares what is decoded."""
        if not all(self._files.holds(each.name, each.path) for each in subset.collections):
            return EntityReader(subset, self._files.removing)
        reader = object.__new__(EntityReader)
        reader._subset, reader._files, reader.budget = subset, self._files, self.budget
        return reader

    @property
    def tag_list(self) -> TagList:
        """All tags of the collections, those that are taken away among them; the same object as in all batches."""
        return self._files.tag_list

    @cached_property
    def fingerprint(self) -> str:
        """What identifies the maps' content, and what is taken away of it: another extract has another one."""
        return self._files.fingerprint

    @cached_property
    def tile_bytes(self) -> int:
        """What the entities of a tile take in a batch, about."""
        return self._files.tile_bytes

    @cached_property
    def _tiles(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(N,) number of each sample's file, and its row in the cube."""
        number = np.empty(len(self._subset), dtype=np.int64)
        for collection, rows in self._subset.parts():
            number[rows] = self._files.names[collection.name]
        return number, self._subset.index

    def batch(self, rows: NDArray[np.int64]) -> Entities:
        """The entities of some samples, whose places in the batch are those among ``rows``; from any thread.

        Args:
            rows: (B,) of the subset, in any order.

        Raises:
            TrainingError: the files are damaged.
        """
        file, tile = (of_each[np.asarray(rows, dtype=np.int64)] for of_each in self._tiles)
        first, count = self._files.rows_of(file, tile)
        sample = np.repeat(np.arange(len(rows)), count)
        return self._files.entities(sample, file[sample], places_of(first, count))

    def counts(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B,) how many entities lie on each of some tiles, those among them that have no tags left."""
        file, tile = (of_each[np.asarray(rows, dtype=np.int64)] for of_each in self._tiles)
        return self._files.rows_of(file, tile)[1]

    def tag_counts(self) -> NDArray[np.int64]:
        """(V,) how many entities of the subset's tiles have each tag; one in several tiles counts in each."""
        counts = np.zeros(len(self.tag_list), dtype=np.int64)
        number, tile = self._tiles
        for file in np.unique(number).tolist():
            counts += self._files.tag_counts(file, tile[number == file])
        return counts


def _between(firsts: Index, lasts: Index) -> Index:
    """All numbers from each first to its last, each once."""
    return np.unique(places_of(firsts, lasts - firsts + 1))


class _Files:
    """The files of some collections, and what was decoded of them."""

    def __init__(self, subset: Subset, removing: TagRule | None, *, budget: int) -> None:
        self.removing = removing
        self.names = {each.name: number for number, each in enumerate(subset.collections)}
        self._folders = [each.path for each in subset.collections]
        self._files = [EntityFile(each.path / ENTITIES, tiles=each.cube.num_samples) for each in subset.collections]
        self._first_group = starts_of(np.array([file.num_groups for file in self._files]))
        self._lately = Lately(budget)
        self._lock = threading.RLock()  # what is read once is read once, however many threads ask

    def holds(self, name: str, folder: Path) -> bool:
        number = self.names.get(name)
        return number is not None and self._folders[number] == folder

    @property
    def tag_list(self) -> TagList:
        with self._lock:
            return self._tag_list

    @cached_property
    def _tag_list(self) -> TagList:
        return read_tags(self._folders)

    @cached_property
    def _numbers(self) -> TagNumbers:
        return TagNumbers(self.tag_list)

    @cached_property
    def _gone(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Tags that are taken away, and those that take their entity with them."""
        if self.removing is None:
            return np.zeros(len(self.tag_list), dtype=bool), np.zeros(len(self.tag_list), dtype=bool)
        return self.removing.dropped(self.tag_list.pairs), self.removing.taken(self.tag_list.pairs)

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for folder, file in zip(self._folders, self._files, strict=True):
            digest.update(file.digest())
            digest.update((folder / TAGS).read_bytes())
        for mask in self._gone:
            digest.update(np.packbits(mask).tobytes())
        return digest.hexdigest()

    @cached_property
    def tile_bytes(self) -> int:
        tiles = sum(file.tiles for file in self._files)
        return int(sum(file.stored_bytes for file in self._files) / max(1, tiles))

    def rows_of(self, file: Index, tile: Index) -> tuple[Index, Index]:
        """The first entity of each tile in its file, and how many there are."""
        first, count = np.empty(len(file), dtype=np.int64), np.empty(len(file), dtype=np.int64)
        for number in np.unique(file).tolist():
            mine = file == number
            starts = self._starts(number)
            first[mine] = starts[tile[mine]]
            count[mine] = starts[tile[mine] + 1] - first[mine]
        return first, count

    def _starts(self, number: int) -> Index:
        with self._lock:
            return self._files[number].starts

    def _group(self, number: int) -> Group:
        """A row group, counted over all files."""
        file = int(np.searchsorted(self._first_group, number, side="right")) - 1
        with self._lock:
            numbers, gone = self._numbers, self._gone

        def make() -> Group:
            return self._files[file].decode(number - int(self._first_group[file]), numbers, gone)

        return self._lately.get(number, make)

    def tag_counts(self, number: int, tiles: Index) -> Index:
        """(V,) how many entities of these tiles of a file have each tag; other row groups than theirs are not read."""
        file, starts = self._files[number], self._starts(number)
        wanted = np.zeros(file.tiles, dtype=bool)
        wanted[tiles] = True
        there = np.flatnonzero(wanted & (np.diff(starts) > 0))
        ends = np.searchsorted(file.group_starts, [starts[there], starts[there + 1] - 1], side="right") - 1
        with self._lock:
            numbers = self._numbers
        counts = np.zeros(len(self.tag_list), dtype=np.int64)
        for index, starts, tags in file.tags(numbers, groups=_between(*ends)):
            counts += np.bincount(tags[np.repeat(wanted[index], np.diff(starts))], minlength=len(counts))
        return counts

    def entities(self, sample: Index, file: Index, row: Index) -> Entities:
        """The entities of some rows of some files, in this order, without those that have no tags left."""
        group = np.empty(len(row), dtype=np.int64)
        local = np.empty(len(row), dtype=np.int64)
        for number in np.unique(file).tolist():
            mine, starts = file == number, self._files[number].group_starts
            place = np.searchsorted(starts, row[mine], side="right") - 1
            group[mine], local[mine] = place + self._first_group[number], row[mine] - starts[place]
        parts = {number: self._group(number) for number in np.unique(group).tolist()}
        return gather(parts, sample=sample, row=row, group=group, local=local, tag_list=self.tag_list)
