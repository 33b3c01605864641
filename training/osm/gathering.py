"""Entities of several row groups put together as those of one batch.

Shapes: E entities, A tags of theirs, P vertices, R edges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.osm.entities import Entities, TagList
from training.osm.groups import Group
from training.osm.ragged import places_of, starts_of

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
    edges, edge_kinds = np.empty((edge_starts[-1], 2), dtype=np.int64), np.empty(edge_starts[-1], dtype=np.int64)
    for number, to in at.items():
        part, of = parts[number], local[to]
        kinds[to], boxes[to] = part.kinds[of], part.boxes[of]
        _put(tag_starts[to], tag_counts[to], part.tag_starts[of], (tags, part.tags))
        _put(vertex_starts[to], vertex_counts[to], part.vertex_starts[of], (vertices, part.vertices))
        _put(edge_starts[to], edge_counts[to], part.edge_starts[of], (edges, part.edges), (edge_kinds, part.edge_kinds))
    edges += np.repeat(vertex_starts[:-1], edge_counts)[:, None]
    entities = np.arange(len(row))
    return Entities(
        sample=torch.from_numpy(sample),
        boxes=torch.from_numpy(boxes),
        kinds=torch.from_numpy(kinds),
        tags=torch.from_numpy(tags),
        tag_entity=torch.from_numpy(np.repeat(entities, tag_counts)),
        vertices=torch.from_numpy(vertices),
        vertex_entity=torch.from_numpy(np.repeat(entities, vertex_counts)),
        edges=torch.from_numpy(np.ascontiguousarray(edges.T)),
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


def _put(to: Index, counts: Index, of: Index, *arrays: tuple[NDArray[Any], NDArray[Any]]) -> None:
    """Copy lists of these lengths, from where they begin in the second array of each pair to where in the first."""
    there, here = places_of(to, counts), places_of(of, counts)
    for out, values in arrays:
        out[there] = values[here]
