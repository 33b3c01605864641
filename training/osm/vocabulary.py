"""The tags that a model knows, and what it takes for those that it does not know.

Shapes: V tags of a list.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pwcat.errors import TrainingError
from training.osm.entities import TagList
from training.osm.reading import EntityReader
from training.osm.tags import columns_of

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["TagIndex", "fit_vocabulary"]

SUFFIX = ":[^:]*$"  # of a key, such as ":lanes" of "turn:lanes"


@dataclass(frozen=True)
class TagIndex:
    """Tags that are known, by their places.

    A tag that is not there as key and value is taken for its key; that one, where it is not there either, for the key without
    its last ``:suffix``, and so on. Source: GeoJEPA, ``src/modules/tag_encoder.py``, ``TagIndexer.tag_to_index``; there, a key
    without a place of its own is taken for the first of its values that has one, here for none.

    Attributes:
        rows: ``key=value`` or ``key``, each once.
    """

    rows: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.rows)) < len(self.rows):
            twice = sorted({row for row in self.rows if self.rows.count(row) > 1})
            raise TrainingError(f"tags {', '.join(twice)} stand twice in a vocabulary: each has one place")

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def _texts(self) -> pa.Array:
        return pa.array(self.rows, pa.string())

    def places(self, tag_list: TagList) -> NDArray[np.int64]:
        """(V,) the place of each tag of a list, -1 where nothing of it is known."""
        keys, values = columns_of(tag_list)
        found = self._find(pc.binary_join_element_wise(keys, values, "="))
        while True:
            unknown = np.flatnonzero(found < 0)
            found[unknown] = self._find(keys.take(pa.array(unknown)))
            shorter = pc.replace_substring_regex(keys, SUFFIX, "")
            if shorter.equals(keys):
                return found
            keys = shorter

    def _find(self, texts: pa.Array) -> NDArray[np.int64]:
        found = pc.fill_null(pc.index_in(texts, value_set=self._texts), -1)
        return np.array(found, dtype=np.int64)


def fit_vocabulary(subset: Subset, *, most: int, least_count: int = 1) -> TagIndex:
    """The most frequent tags and keys of the entities on a subset's tiles; one that several tiles cut counts in each.

    Keys count as often as their tags together, so that each is there before its values are. Of those that are as frequent, the
    first by their bytes come first.

    Args:
        subset: of map collections.
        most: tags and keys together.
        least_count: of entities that have one of these.

    Raises:
        TrainingError: nothing is so frequent, or these are no maps.
    """
    if most < 1 or least_count < 1:
        raise TrainingError(
            f"a vocabulary of {most} tags of {least_count} entities at least cannot be: both are 1 or more"
        )
    reader = EntityReader(subset)
    keys, values = columns_of(reader.tag_list)
    tags = pa.table({"text": pc.binary_join_element_wise(keys, values, "="), "key": keys, "count": reader.tag_counts()})
    of_keys = tags.group_by("key").aggregate([("count", "sum")])
    listed = pa.table(
        {
            "text": pa.chunked_array([*tags["text"].chunks, *of_keys["key"].chunks]),
            "count": pa.chunked_array([*tags["count"].chunks, *of_keys["count_sum"].chunks]),
        }
    )
    listed = listed.group_by("text").aggregate([("count", "sum")])  # "a=b" may be a tag, and the key of another
    listed = listed.filter(pc.greater_equal(listed["count_sum"], least_count))
    if not len(listed):
        raise TrainingError(
            f"no tag of these {len(subset):,} tiles is on {least_count} entities or more: lower least_count, or take more tiles"
        )
    order = listed.sort_by([("count_sum", "descending"), ("text", "ascending")])
    return TagIndex(rows=tuple(order["text"][:most].to_pylist()))
