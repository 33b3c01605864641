"""Entities of one row group of an ``entities.parquet``, decoded, and those that were decoded lately.

Shapes: n entities, A tags of theirs, P vertices, N rings, R edges.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pwcat.errors import TrainingError
from pwcat.osm.schema import BOX_NUMBERS, KINDS
from training.osm.ragged import starts_of
from training.osm.tags import TagNumbers
from training.osm.visibility import edges_of

__all__ = ["COLUMNS", "Group", "Lately", "decode", "tags_of"]

COLUMNS = ("kind", "tags", "xy", "rings", "box")

Index = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Entities in the order of their rows.

    Attributes:
        kinds: (n,) int8.
        boxes: (n, 4, 2) float32.
        tag_starts: (n + 1,) where the tags of each begin.
        tags: (A,) int32, numbers in the list of tags.
        vertex_starts: (n + 1,) where the vertices of each begin.
        vertices: (P, 2) float32.
        edge_starts: (n + 1,) where the edges of each begin.
        edges: (2, R) of the smallest unsigned type, vertices from and to, counted from the first of their entity.
        edge_kinds: (R,) int8.
    """

    kinds: NDArray[np.int8]
    boxes: NDArray[np.float32]
    tag_starts: Index
    tags: NDArray[np.int32]
    vertex_starts: Index
    vertices: NDArray[np.float32]
    edge_starts: Index
    edges: NDArray[np.unsignedinteger]
    edge_kinds: NDArray[np.int8]

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return sum(getattr(self, field.name).nbytes for field in fields(self))


def decode(table: pa.Table, numbers: TagNumbers, *, dropped: NDArray[np.bool_], taken: NDArray[np.bool_]) -> Group:
    """A row group's entities; one that is taken away has no tags left.

    Args:
        table: the row group, :data:`COLUMNS` of it.
        numbers: of all tags.
        dropped: (V,) tags that are taken away.
        taken: (V,) tags that take their entity with them.

    Raises:
        TrainingError: a row is none of an entity.
    """
    if empty := [name for name in COLUMNS if table[name].null_count]:
        raise TrainingError(f"rows have no {', '.join(empty)}")
    kinds = np.asarray(pc.fill_null(pc.index_in(_whole(table["kind"]), value_set=pa.array(KINDS)), -1), dtype=np.int8)
    tag_starts, tags = _left(*tags_of(table, numbers), dropped, taken)
    ring_starts, rings = _lists(table["rings"], np.int64)
    number_starts, numbers_P2 = _lists(table["xy"], np.float32)
    vertex_starts, vertices = number_starts // 2, numbers_P2.reshape(-1, 2) if not len(numbers_P2) % 2 else None
    whole = vertices is not None and (kinds >= 0).all() and not (number_starts % 2).any()
    if vertices is None or not whole or not np.array_equal(starts_of(rings)[ring_starts], vertex_starts):
        raise TrainingError("kinds are unknown, or rings and vertices of entities do not go together")
    boxes = np.asarray(_whole(table["box"]).flatten(), dtype=np.float32).reshape(-1, BOX_NUMBERS // 2, 2)
    if not np.isfinite(boxes).all():  # one would make a whole tile's embedding no number
        raise TrainingError("corners of boxes are no numbers")
    edge_starts, edges, edge_kinds = _edges(kinds, vertex_starts, vertices, ring_starts, rings)
    return Group(
        kinds=kinds,
        boxes=boxes,
        tag_starts=tag_starts,
        tags=tags,
        vertex_starts=vertex_starts,
        vertices=vertices,
        edge_starts=edge_starts,
        edges=edges,
        edge_kinds=edge_kinds,
    )


def tags_of(table: pa.Table, numbers: TagNumbers) -> tuple[Index, Index]:
    """Where each row's tags begin, (n + 1,), and their numbers (A,).

    Raises:
        TrainingError: one is not in the list.
    """
    tags = _whole(table["tags"])
    starts = np.asarray(tags.offsets, dtype=np.int64)
    inside = slice(int(starts[0]), int(starts[-1]))
    keys, values = tags.keys[inside], tags.items[inside]
    found = numbers.of(keys, values)
    if len(missing := np.flatnonzero(found < 0)):
        place = int(missing[0])
        raise TrainingError(f"tag {keys[place]}={values[place]} is not in the list of tags")
    return starts - starts[0], found


def _left(
    starts: Index, tags: Index, dropped: NDArray[np.bool_], taken: NDArray[np.bool_]
) -> tuple[Index, NDArray[np.int32]]:
    """The tags that are left of each entity."""
    entity = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    gone = dropped[tags] | taken[tags]
    if taken.any():
        whole = np.zeros(len(starts) - 1, dtype=bool)
        whole[entity[taken[tags]]] = True
        gone |= whole[entity]
    left = np.bincount(entity[~gone], minlength=len(starts) - 1)
    return starts_of(left), tags[~gone].astype(np.int32)


def _edges(
    kinds: NDArray[np.int8], vertex_starts: Index, vertices: NDArray[np.float32], ring_starts: Index, rings: Index
) -> tuple[Index, NDArray[np.unsignedinteger], NDArray[np.int8]]:
    """Edges of each entity, counted from its first vertex; with where each entity's begin, and of what kind they are."""
    entities = np.arange(len(kinds))
    vertex_ring = np.repeat(np.arange(len(rings)), rings)
    ring_entity = np.repeat(entities, np.diff(ring_starts))
    edges, edge_kinds = edges_of(vertices, vertex_ring, ring_entity, kinds.astype(np.int64))
    owner = np.repeat(entities, np.diff(vertex_starts))[edges[0]]
    order = owner.argsort(kind="stable")
    local = (edges - vertex_starts[owner])[:, order]
    starts = starts_of(np.bincount(owner, minlength=len(kinds)))
    smallest = np.min_scalar_type(int(local.max(initial=0)))
    return starts, local.astype(smallest), edge_kinds[order].astype(np.int8)


def _whole(column: pa.ChunkedArray) -> Any:
    joined = column.combine_chunks()
    return joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined


def _lists(column: pa.ChunkedArray, dtype: type) -> tuple[Index, NDArray[Any]]:
    lists = _whole(column)
    return np.asarray(starts_of(np.asarray(lists.value_lengths()))), np.asarray(lists.flatten(), dtype=dtype)


class Lately:
    """Row groups that were decoded lately, no more of them than memory was given for; one is decoded once at a time.

    Args:
        budget: bytes that they may take; the last one is kept even so.
    """

    def __init__(self, budget: int) -> None:
        self._budget, self._taken = budget, 0
        self._kept: OrderedDict[Hashable, Future[Group]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Group]) -> Group:
        """The row group of a name; made here if it is not there, waited for if another thread is making it."""
        with self._lock:
            known = self._kept.get(key)
            if known is not None:
                self._kept.move_to_end(key)
            else:
                own = self._kept[key] = Future()
        if known is not None:
            return known.result()
        try:
            group = make()
        except BaseException as exc:
            with self._lock:
                del self._kept[key]
            own.set_exception(exc)
            raise
        own.set_result(group)
        self._make_room(group.nbytes)
        return group

    def _make_room(self, more: int) -> None:
        with self._lock:
            self._taken += more
            for key in list(self._kept)[:-1]:
                if self._taken <= self._budget:
                    return
                if self._kept[key].done():
                    self._taken -= self._kept.pop(key).result().nbytes
