"""The map entities of a batch, as tensors.

Shapes: B tiles, E entities, A tags of entities, P vertices, R edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

__all__ = ["Entities", "TagList"]


@dataclass(frozen=True, eq=False)
class TagList:
    """The tags that numbers of a batch stand for; one object for all batches of a loader: a model looks it up once.

    Attributes:
        pairs: key and value of each; of many, read from where they lie.
    """

    pairs: Sequence[tuple[str, str]]

    def __len__(self) -> int:
        return len(self.pairs)


@dataclass(frozen=True, kw_only=True)
class Entities:
    """What lies on the tiles of a batch: entities by tile, in the order of ``entities.parquet``.

    A tile without entities has none here; a point has one vertex and no edge.

    Attributes:
        sample: (E,) int64, place of the tile in the batch, ascending.
        boxes: (E, 4, 2) float32, corners of the smallest rotated rectangle, tile coordinates.
        kinds: (E,) int64, place in :data:`pwcat.osm.schema.KINDS`.
        tags: (A,) int64, place in ``tag_list``.
        tag_entity: (A,) int64, the entity of each, ascending; every entity has one at least.
        vertices: (P, 2) float32, tile coordinates.
        vertex_entity: (P,) int64, the entity of each, ascending.
        edges: (2, R) int64, vertices from and to; every edge is there both ways.
        edge_kinds: (R,) int64, 0 along an outline, 1 between vertices that see each other.
        tag_list: what ``tags`` stand for.
        rows: (E,) int64 on the host, rows of the collection's ``entities.parquet``; for those who want to name entities.
    """

    sample: Tensor
    boxes: Tensor
    kinds: Tensor
    tags: Tensor
    tag_entity: Tensor
    vertices: Tensor
    vertex_entity: Tensor
    edges: Tensor
    edge_kinds: Tensor
    tag_list: TagList
    rows: Tensor

    def __len__(self) -> int:
        return len(self.sample)

    def to(self, device: torch.device | str, *, non_blocking: bool = True) -> Entities:
        """The same on a device; ``rows`` stay on the host."""
        moved: dict[str, Any] = {
            each.name: getattr(self, each.name).to(device, non_blocking=non_blocking)
            for each in fields(self)
            if each.name not in {"tag_list", "rows"}
        }
        return replace(self, **moved)
