"""A small graph network over the outlines of shapes and over what their vertices see: a vector a shape, and what it tells.

Shapes: P vertices, E entities, R edges, W width, D length of a vector, T numbers that tell a shape.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.geometry_shapes import (
    EDGE_FEATURES,
    NUM_TARGETS,
    VERTEX_FEATURES,
    Shapes,
    edge_features,
    vertex_features,
)

__all__ = ["LARGEST", "ShapeEncoder", "ShapeTeller"]

LARGEST = 1e6  # a vector's numbers go no further. Source: GeoJEPA, which clamps those of its geometry encoder


class Passing(nn.Module):
    """A round of messages: each vertex learns of those along the outline and of those that it sees, each the mean of them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.sender, self.receiver = nn.Linear(width, 2 * width), nn.Linear(width, 2 * width, bias=False)
        self.edge = nn.Linear(EDGE_FEATURES, 2 * width, bias=False)
        self.mix = nn.Sequential(nn.Linear(3 * width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x_PW: Tensor, edges: tuple[Tensor, Tensor], features: tuple[Tensor, Tensor]) -> Tensor:
        """Vertices after the round, (P, W).

        Args:
            x_PW: vertices before it.
            edges: (2, R) along outlines, and (2, R) of sight: who sends, who receives.
            features: of these edges, (R, G) each.
        """
        normed_PW = self.norm(x_PW)
        sent, received = self.sender(normed_PW).chunk(2, dim=1), self.receiver(normed_PW).chunk(2, dim=1)
        weights = self.edge.weight.chunk(2)
        heard = [
            _mean_heard(sent[i], received[i], functional.linear(features[i], weights[i]), edges[i]) for i in range(2)
        ]
        return x_PW + cast(Tensor, self.mix(torch.cat([normed_PW, *heard], dim=1)))


def _mean_heard(sent_PW: Tensor, received_PW: Tensor, edge_RW: Tensor, edges_2R: Tensor) -> Tensor:
    """The mean of what each vertex hears, (P, W); 0 of those that hear nothing."""
    source, target = edges_2R
    message_RW = functional.gelu(sent_PW.index_select(0, source) + received_PW.index_select(0, target) + edge_RW)
    total_PW = torch.zeros_like(sent_PW, dtype=message_RW.dtype).index_add(0, target, message_RW)
    return total_PW / torch.bincount(target, minlength=len(sent_PW)).clamp_min(1)[:, None]


class ShapeEncoder(nn.Module):
    """A vector a shape: rounds of messages between its vertices, which are added up then."""

    def __init__(self, *, width: int, layers: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.first = nn.Linear(VERTEX_FEATURES, width)
        self.rounds = nn.ModuleList(Passing(width) for _ in range(layers))
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, dim))

    def forward(self, shapes: Shapes) -> Tensor:
        """Vectors (E, D), within ``LARGEST``; of an entity without a vertex, zeros."""
        edges = (shapes.outline, shapes.sight)
        features = (edge_features(shapes.xy, shapes.outline), edge_features(shapes.xy, shapes.sight))
        x_PW = self.first(vertex_features(shapes))
        for passing in self.rounds:
            x_PW = passing(x_PW, edges, features)
        told_PD = self.last(x_PW).float()
        summed_ED = told_PD.new_zeros(len(shapes), self.dim).index_add(0, shapes.entity, told_PD)
        return cast(Tensor, summed_ED.clamp(-LARGEST, LARGEST))


class ShapeTeller(nn.Module):
    """What a vector tells of its shape; of the vector's direction alone, however long many vertices have made it."""

    def __init__(self, *, dim: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(dim, elementwise_affine=False), nn.Linear(dim, width), nn.GELU(), nn.Linear(width, NUM_TARGETS)
        )

    def forward(self, vectors_ED: Tensor) -> Tensor:
        """The numbers of :func:`~training.models.geometry_shapes.told`, (E, T)."""
        return cast(Tensor, self.layers(vectors_ED))
