"""Entities of several row groups put together as those of one batch.

Shapes: E entities, A tags of theirs, P vertices, R edges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.osm.compiling import compiled
from training.osm.entities import Entities, TagList
from training.osm.groups import Group
from training.osm.ragged import starts_of

__all__ = ["gather"]

Index = NDArray[np.int64]


def gather(
    parts: Mapping[int, Group], *, sample: Index, row: Index, group: Index, local: Index, tag_list: TagList
) -> Entities:
    """Some entities of some row groups, in their order; those that have no tags left are left out.

    Args:
        parts: row groups by their numbers.
        sample: (E,) place of the tile in the batch.
        row: (E,) of the file.
        group: (E,) number of the row group that it lies in.
        local: (E,) its place there.
        tag_list: what the tags stand for.
    """
    tag_counts = _counts(parts, group, local)
    if not (left := tag_counts > 0).all():
        sample, row, group, local, tag_counts = sample[left], row[left], group[left], local[left], tag_counts[left]
    at = _places(group)
    vertex_counts, edge_counts = np.zeros((2, len(row)), dtype=np.int64)
    for number, to in at.items():
        part, of = parts[number], local[to]
        vertex_counts[to] = part.vertex_starts[of + 1] - part.vertex_starts[of]
        edge_counts[to] = part.edge_starts[of + 1] - part.edge_starts[of]
    tag_starts, vertex_starts, edge_starts = (starts_of(each) for each in (tag_counts, vertex_counts, edge_counts))
    kinds, boxes = np.empty(len(row), dtype=np.int64), np.empty((len(row), 4, 2), dtype=np.float32)
    tags, vertices = np.empty(tag_starts[-1], dtype=np.int64), np.empty((vertex_starts[-1], 2), dtype=np.float32)
    edges, edge_kinds = np.empty((2, edge_starts[-1]), dtype=np.int64), np.empty(edge_starts[-1], dtype=np.int64)
    for number, to in at.items():
        part, of = parts[number], local[to]
        kinds[to], boxes[to] = part.kinds[of], part.boxes[of]
        _copy(part.tags, part.tag_starts, of, tags, tag_starts, to)
        _copy(part.vertices, part.vertex_starts, of, vertices, vertex_starts, to)
        _copy(part.edge_kinds, part.edge_starts, of, edge_kinds, edge_starts, to)
        _copy_edges(part.edges, part.edge_starts, of, edges, edge_starts, to, vertex_starts)
    entities = np.arange(len(row))
    return Entities(
        sample=torch.from_numpy(sample),
        boxes=torch.from_numpy(boxes),
        kinds=torch.from_numpy(kinds),
        tags=torch.from_numpy(tags),
        tag_entity=torch.from_numpy(np.repeat(entities, tag_counts)),
        vertices=torch.from_numpy(vertices),
        vertex_entity=torch.from_numpy(np.repeat(entities, vertex_counts)),
        edges=torch.from_numpy(edges),
        edge_kinds=torch.from_numpy(edge_kinds),
        tag_list=tag_list,
        rows=torch.from_numpy(row),
    )


def _counts(parts: Mapping[int, Group], group: Index, local: Index) -> Index:
    """(E,) tags of each."""
    counts = np.zeros(len(group), dtype=np.int64)
    for number, to in _places(group).items():
        starts = parts[number].tag_starts
        counts[to] = starts[local[to] + 1] - starts[local[to]]
    return counts


def _places(group: Index) -> dict[int, Index]:
    """Which entities lie in each row group."""
    if not len(group):
        return {}
    order = group.argsort(kind="stable")
    numbers, starts = np.unique(group[order], return_index=True)
    return dict(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True))


@compiled
def _copy(
    values: NDArray[Any], value_starts: Index, of: Index, out: NDArray[Any], out_starts: Index, to: Index
) -> None:  # pragma: no cover
    """Copy some lists to the places of others."""
    for i in range(len(of)):
        first, place = value_starts[of[i]], out_starts[to[i]]
        for j in range(value_starts[of[i] + 1] - first):
            out[place + j] = values[first + j]


@compiled
def _copy_edges(
    values: NDArray[Any],
    value_starts: Index,
    of: Index,
    out: Index,
    out_starts: Index,
    to: Index,
    vertex_starts: Index,
) -> None:  # pragma: no cover
    """Copy edges, whose vertices are counted from the first of the batch then."""
    for i in range(len(of)):
        first, place, vertex = value_starts[of[i]], out_starts[to[i]], vertex_starts[to[i]]
        for j in range(value_starts[of[i] + 1] - first):
            out[0, place + j] = vertex + np.int64(values[0, first + j])
            out[1, place + j] = vertex + np.int64(values[1, first + j])
