"""Shapes of map entities as a graph network sees them, and what it is to tell of them: the same wherever they lie, and turned.

A shape is told in a frame of its own: from the middle of its outline, each piece weighed by its length, in units of the
farthest vertex' distance from there. What is left of place and turning in that frame goes when all is told by distances and by
angles to the middle.

Shapes: P vertices, E entities, R edges, S segments, A angles, K radii, H harmonics, F vertex features, G edge features,
T numbers that tell a shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from pwcat.osm.schema import KINDS
from training.osm.entities import Entities
from training.osm.visibility import OUTLINE, SIGHT

__all__ = [
    "EDGE_FEATURES",
    "NUM_TARGETS",
    "VERTEX_FEATURES",
    "Shapes",
    "edge_features",
    "target_weights",
    "told",
    "vertex_features",
]

SMALLEST = 1e-6  # of a tile: what is smaller is a point
MIDDLE = 0.05  # within it of the middle, the direction to the middle fades
POLYGON = KINDS.index("polygon")
VERTEX_FEATURES: Final = 3 + len(KINDS)
EDGE_FEATURES: Final = 6

RADII: Final = (0.1, 0.3, 0.5, 0.7, 0.9, 1.1)
ANGLES, HARMONICS = 32, 8
EDGE = 0.03  # of the unit: as far from the outline, a place is three quarters inside or outside
GROUPS: Final = (len(RADII), len(RADII) * HARMONICS, 2 * (len(RADII) - 1) * HARMONICS, 1, 1, 1, len(KINDS))
WEIGHTS: Final = (0.25, 0.25, 0.15, 0.1, 0.05, 0.1, 0.1)  # of each group in a loss
NUM_TARGETS: Final = sum(GROUPS)
SEGMENTS: Final = 8_192  # looked at together: 1.6 million distances

# What brings each group to a spread of about 1: of the lines and polygons of a town of 4,826, rounded.
DISTANCE_SPREAD, HARMONIC_SPREAD, CROSS_SPREAD = 0.25, 0.015, 0.01
SIZE_MEAN, SIZE_SPREAD = -4.0, 1.2


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Some entities of a batch, each in its own frame.

    Attributes:
        xy: (P, 2) float32, vertices; a point's is 0.
        entity: (P,) int64, the entity of each, ascending.
        size: (E,) float32, unit of each frame, in tiles.
        length: (E,) float32, of all outlines of an entity, in its unit.
        kinds: (E,) int64, place in :data:`pwcat.osm.schema.KINDS`.
        outline: (2, R) int64, edges along outlines, each both ways.
        sight: (2, R) int64, edges between vertices that see each other, each both ways.
    """

    xy: Tensor
    entity: Tensor
    size: Tensor
    length: Tensor
    kinds: Tensor
    outline: Tensor
    sight: Tensor

    def __len__(self) -> int:
        return len(self.kinds)

    @classmethod
    def of(cls, entities: Entities, chosen_E: Tensor | None = None) -> Shapes:
        """Shapes of a batch's entities, or of those that are chosen, (E,) bool, in their order.

        Places that are no numbers are taken for the tile's corner.
        """
        kinds, entity, edges, edge_kinds = entities.kinds, entities.vertex_entity, entities.edges, entities.edge_kinds
        xy_P2 = torch.nan_to_num(entities.vertices.float(), nan=0.0, posinf=0.0, neginf=0.0)
        if chosen_E is not None:
            kept_P = chosen_E[entity]
            kept_R = kept_P[edges[0]]
            numbers_E, numbers_P = chosen_E.cumsum(0) - 1, kept_P.cumsum(0) - 1
            kinds, entity, xy_P2 = kinds[chosen_E], numbers_E[entity[kept_P]], xy_P2[kept_P]
            edges, edge_kinds = numbers_P[edges[:, kept_R]], edge_kinds[kept_R]
        outline, sight = edges[:, edge_kinds == OUTLINE], edges[:, edge_kinds == SIGHT]
        return _framed(xy_P2, entity, kinds, outline, sight)


def _framed(xy_P2: Tensor, entity: Tensor, kinds: Tensor, outline: Tensor, sight: Tensor) -> Shapes:
    count = len(kinds)
    start, stop = xy_P2[outline[0]], xy_P2[outline[1]]
    length_R = (stop - start).norm(dim=1)
    length_E = _sums(length_R, entity[outline[0]], count)
    long_P = (length_E > SMALLEST)[entity, None]  # the vertices of others count alike
    edges_P3 = _sums(
        torch.cat([(start + stop) / 2, torch.ones_like(start[:, :1])], 1) * length_R[:, None], outline[0], len(xy_P2)
    )
    alike_P3 = torch.cat([xy_P2, torch.ones_like(xy_P2[:, :1])], dim=1)
    weighed_E3 = _sums(torch.where(long_P, edges_P3, alike_P3), entity, count)
    middle_E2 = weighed_E3[:, :2] / weighed_E3[:, 2:].clamp_min(1e-12)
    xy_P2 = xy_P2 - middle_E2[entity]
    size_E = xy_P2.new_zeros(count).scatter_reduce_(0, entity, xy_P2.norm(dim=1), "amax")
    extended_E = size_E > SMALLEST
    unit_E = torch.where(extended_E, size_E, torch.ones_like(size_E))
    return Shapes(
        xy=torch.where(extended_E[entity, None], xy_P2 / unit_E[entity, None], torch.zeros_like(xy_P2)),
        entity=entity,
        size=size_E,
        length=torch.where(extended_E, length_E / 2 / unit_E, torch.zeros_like(length_E)),
        kinds=kinds,
        outline=outline,
        sight=sight,
    )


def _sums(values: Tensor, places: Tensor, count: int) -> Tensor:
    """Values of the same place added up, (count, ...)."""
    return values.new_zeros(count, *values.shape[1:]).index_add_(0, places, values)


def vertex_features(shapes: Shapes) -> Tensor:
    """What a vertex is by itself, (P, F): its distance from the middle, how large the shape is, and of which kind."""
    radius_P = shapes.xy.norm(dim=1)
    kinds_EK = torch.nn.functional.one_hot(shapes.kinds, len(KINDS)).to(radius_P.dtype)
    return torch.cat(
        [
            radius_P[:, None],
            radius_P.square()[:, None],
            _log_size(shapes)[shapes.entity, None],
            kinds_EK[shapes.entity],
        ],
        dim=1,
    )


def edge_features(xy_P2: Tensor, edges_2R: Tensor) -> Tensor:
    """What an edge is, seen from either end, (R, G): its length, and how it lies to the way to the middle at both ends."""
    step_R2 = xy_P2[edges_2R[1]] - xy_P2[edges_2R[0]]
    length_R = step_R2.norm(dim=1, keepdim=True)
    outward_P2 = xy_P2 / (xy_P2.square().sum(dim=1, keepdim=True) + MIDDLE**2).sqrt()
    parts = [length_R, length_R.clamp_min(1e-4).log() / 4]
    for end in edges_2R:
        outward_R2 = outward_P2[end]
        parts += [(step_R2 * outward_R2).sum(1, keepdim=True), _cross(step_R2, outward_R2)[:, None]]
    return torch.cat(parts, dim=1)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _log_size(shapes: Shapes) -> Tensor:
    return (shapes.size.clamp(SMALLEST, 1e3).log() - SIZE_MEAN) / SIZE_SPREAD


def told(shapes: Shapes) -> Tensor:
    """What tells a shape however it lies, (E, T), each number of about the same spread.

    The distance to the outline, positive inside, on circles about the middle: its mean on each circle; the sizes of its waves
    around it, which do not change where the shape is turned; and how the waves of one circle lie to those of the next, which
    says how they belong together. Then size, length of the outline, share of the disk that is inside, and kind. It needs no
    first vertex and no sense of turning, and holes, lines, points and rings that cross themselves have it, too.
    """
    distance_EKA = _distances(shapes)
    turns_HA = torch.arange(HARMONICS + 1, device=distance_EKA.device)[:, None] * _angles(distance_EKA.device)
    real_EKH, imag_EKH = distance_EKA @ turns_HA.cos().T / ANGLES, distance_EKA @ turns_HA.sin().T / ANGLES
    mean_EK, (re, im) = real_EKH[:, :, 0], (real_EKH[:, :, 1:], imag_EKH[:, :, 1:])
    size_EKH = (re.square() + im.square()).sqrt()
    inner_EKH, outer_EKH = size_EKH[:, :-1], size_EKH[:, 1:]
    between_EKH = (inner_EKH * outer_EKH).sqrt().clamp_min(1e-4)
    together_EKH = (re[:, :-1] * re[:, 1:] + im[:, :-1] * im[:, 1:]) / between_EKH
    ahead_EKH = (re[:, :-1] * im[:, 1:] - im[:, :-1] * re[:, 1:]) / between_EKH
    circles_K = distance_EKA.new_tensor(RADII)
    inside_E = ((distance_EKA / EDGE).sigmoid().mean(dim=2) * circles_K).sum(dim=1) / circles_K.sum()
    kinds_EK = torch.nn.functional.one_hot(shapes.kinds, len(KINDS)).float()
    numbers = [
        mean_EK / DISTANCE_SPREAD + 1,
        size_EKH.flatten(1) / HARMONIC_SPREAD,
        together_EKH.flatten(1) / CROSS_SPREAD,
        ahead_EKH.flatten(1) / CROSS_SPREAD,
        _log_size(shapes)[:, None],
        (shapes.length.clamp_min(0.1).log() - 1.2)[:, None] * 2,
        inside_E[:, None] * 6,
        kinds_EK * 2.5,
    ]
    return torch.cat(numbers, dim=1).clamp(-10, 10)


def target_weights() -> Tensor:
    """What each number that tells a shape counts in a loss, (T,); 1 together."""
    return torch.cat([torch.full((size,), weight / size) for size, weight in zip(GROUPS, WEIGHTS, strict=True)])


def _distances(shapes: Shapes) -> Tensor:
    """Distance to the outline at places on circles about the middle, positive inside, (E, K, A), in the shape's unit."""
    angle_A = _angles(shapes.xy.device)
    circle_A2 = torch.stack([angle_A.cos(), angle_A.sin()], dim=1)
    places_Q2 = (shapes.xy.new_tensor(RADII)[:, None, None] * circle_A2).reshape(-1, 2)
    nearest_EQ = shapes.xy.new_full((len(shapes), len(places_Q2)), torch.inf)
    crossings_EQ = torch.zeros_like(nearest_EQ)
    start, stop, entity, bounds = _segments(shapes)
    for first in range(0, len(entity), SEGMENTS):
        part = slice(first, first + SEGMENTS)
        distance_SQ, crossed_SQ = _to_segments(places_Q2, shapes.xy[start[part]], shapes.xy[stop[part]])
        to_SQ = entity[part, None].expand_as(distance_SQ)
        nearest_EQ.scatter_reduce_(0, to_SQ, distance_SQ, "amin")
        crossings_EQ.index_add_(0, entity[part], crossed_SQ * bounds[part, None])
    nearest_EQ = torch.where(
        nearest_EQ.isfinite(), nearest_EQ, torch.zeros_like(nearest_EQ)
    )  # of an entity without a vertex
    signed_EQ = torch.where(crossings_EQ % 2 == 1, nearest_EQ, -nearest_EQ)
    return signed_EQ.view(len(shapes), len(RADII), ANGLES)


def _angles(device: torch.device) -> Tensor:
    return torch.arange(ANGLES, device=device) * (2 * math.pi / ANGLES)


def _segments(shapes: Shapes) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ends of each piece of outline, once; its entity; whether it bounds an area. A vertex without one is a piece itself."""
    once = shapes.outline[:, shapes.outline[0] < shapes.outline[1]]
    ends_P = torch.bincount(once.flatten(), minlength=len(shapes.xy))
    alone = torch.nonzero(ends_P == 0).squeeze(1)
    start, stop = torch.cat([once[0], alone]), torch.cat([once[1], alone])
    entity = shapes.entity[start]
    closed = (ends_P[start] == 2) & (ends_P[stop] == 2) & (start != stop)
    return start, stop, entity, (closed & (shapes.kinds[entity] == POLYGON)).float()


def _to_segments(places_Q2: Tensor, start_S2: Tensor, stop_S2: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (S, Q) of places to segments, and whether a ray from each place to the right crosses them, (S, Q)."""
    px, py = places_Q2.T
    ax, ay = start_S2.T[:, :, None]
    dx, dy = (stop_S2 - start_S2).T[:, :, None]
    along_SQ = ((px - ax) * dx + (py - ay) * dy) / (dx * dx + dy * dy).clamp_min(1e-12)
    along_SQ = along_SQ.clamp(0, 1)
    distance_SQ = ((px - ax - along_SQ * dx).square() + (py - ay - along_SQ * dy).square()).sqrt()
    straddles_SQ = (ay > py) != (ay + dy > py)
    at_SQ = ax + (py - ay) / torch.where(dy == 0, torch.ones_like(dy), dy) * dx
    return distance_SQ, (straddles_SQ & (at_SQ > px)).float()
