"""A vector for the shape of each map entity, by a graph network that learns to tell the shape from the vector.

The source of GeoJEPA takes these vectors from PolyGNN, whose weights cannot be had; so a network of this kind is trained here
(:mod:`training.models.geometry_network`). What is to be told of a shape hangs neither on where it lies nor on how it is turned
(:func:`training.models.geometry_shapes.told`), nor does the vector: both stand in the entity's box, which GeoJEPA reads too.

Shapes: B batch, E entities, P vertices, R edges, D length of a vector, T numbers that tell a shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional

from pwcat.errors import TrainingError
from training.batch import Batch
from training.chance import Chance, to_device
from training.flops import linear_flops
from training.models.base import Model, ModelFacts, ModelInput
from training.models.geometry_network import ShapeEncoder, ShapeTeller
from training.models.geometry_shapes import (
    EDGE_FEATURES,
    NUM_TARGETS,
    VERTEX_FEATURES,
    Shapes,
    target_weights,
    told,
)
from training.osm.entities import Entities

if TYPE_CHECKING:
    from training.normalize import Normalization
    from training.recipe import Augment

__all__ = ["GeometryConfig", "GeometryNet"]

TOGETHER = 262_144  # edges of the entities that are encoded at once
GOLDEN = 0.6180339887498949
USUAL_VERTICES, USUAL_EDGES = 8, 5  # of an entity, and those that lead to each of them; for counting operations


@dataclass(frozen=True, kw_only=True)
class GeometryConfig:
    """Everything that fixes a geometry network but its weights.

    Attributes:
        width: of a vertex while messages are passed.
        layers: rounds of messages.
        dim: length of a vector, D. Source: GeoJEPA's configurations 01 to 07.
        telling: width of what tells the shape from the vector; it is trained along, and not used after.
        entities: of a tile, that are learned from at a step, about; they are drawn. Where a tile has no more, all.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    width: int = 128
    layers: int = 3
    dim: int = 1024
    telling: int = 256
    entities: int = 64

    def __post_init__(self) -> None:
        if faults := [f"{name} {value} must be at least 1" for name, value in vars(self).items() if value < 1]:
            raise TrainingError("this geometry network cannot be built: " + "; ".join(faults))


class GeometryNet(Model):
    """Graph network over outlines and sights, and what tells the shape again."""

    architecture: ClassVar[str] = "geometry"
    config_class: ClassVar[type[GeometryConfig]] = GeometryConfig
    reads_entities: ClassVar[bool] = True
    scales_itself: ClassVar[bool] = True
    config: GeometryConfig
    target_weights: Tensor

    def __init__(self, config: GeometryConfig, *, normalization: Normalization | None = None) -> None:
        super().__init__(config, normalization=normalization)
        self.encoder = ShapeEncoder(width=config.width, layers=config.layers, dim=config.dim)
        self.teller = ShapeTeller(dim=config.dim, width=config.telling)
        self.register_buffer("target_weights", target_weights(), persistent=False)

    @property
    def bands(self) -> tuple[str, ...]:
        """None: it reads no image."""
        return ()

    @property
    def image_size(self) -> int:
        """0: it reads no image."""
        return 0

    @property
    def embedding_dim(self) -> int:
        """Length of a vector, D."""
        return self.config.dim

    @property
    def entity_dim(self) -> int:
        """Length of the vector of an entity, D."""
        return self.config.dim

    def encode_entities(self, batch: Batch | Entities) -> Tensor:
        """Vectors (E, D) float32 of a batch's entities, in their order; where no gradient is kept, of so many as there are.

        Raises:
            TrainingError: the batch has no entities.
        """
        entities = batch if isinstance(batch, Entities) else _entities_of(batch)
        if torch.is_grad_enabled():
            return cast(Tensor, self.encoder(Shapes.of(entities)))
        parts = [self.encoder(Shapes.of(entities, chosen_E)) for chosen_E in _parts(entities)]
        return torch.cat(parts) if parts else torch.zeros(0, self.embedding_dim, device=entities.kinds.device)

    def encode(self, batch: Batch) -> Tensor:
        """Embeddings (B, D) float32 of tiles: the mean of their entities' vectors, each at length 1; of no entity, zeros."""
        entities = _entities_of(batch)
        units_ED = functional.normalize(self.encode_entities(entities), dim=1)
        return _mean_of(units_ED, entities.sample, len(batch))

    def prepare(self, batch: Batch, *, chance: Chance, augment: Augment | None = None) -> dict[str, Tensor]:
        """Some entities of each tile as shapes, what tells them (E, T), and the tile of each (E,)."""
        entities = _entities_of(batch)
        first_B = to_device(chance.uniform(), entities.kinds.device)
        chosen_E = _drawn(entities.sample, first_B, most=self.config.entities)
        shapes = Shapes.of(entities, chosen_E)
        return {
            **vars(shapes),
            "told_ET": told(shapes),
            "sample_E": entities.sample[chosen_E],
            "rows_B": torch.arange(len(batch), device=entities.kinds.device),
            "share": self.share(batch, chance),
        }

    def forward(self, **inputs: Tensor) -> Tensor:
        """The loss, a scalar: this rank's share of the mean over the global batch, times the number of ranks.

        Takes what :meth:`prepare` gives.
        """
        return self.sample_losses(**inputs).mean() * inputs["share"]

    def sample_losses(self, **inputs: Tensor) -> Tensor:
        """The loss of each tile, (B,) float32: the mean over its entities; 0 of a tile without any.

        Of an entity, the squared differences between what is told and what is so, by weights that are 1 together.
        """
        shapes = Shapes(**{name: inputs[name] for name in Shapes.__dataclass_fields__})
        said_ET = self.teller(self.encoder(shapes)).float()
        loss_E = ((said_ET - inputs["told_ET"]).square() * self.target_weights).sum(dim=1)
        return _mean_of(loss_E[:, None], inputs["sample_E"], len(inputs["rows_B"])).squeeze(1)

    def encoder_layers(self) -> list[list[nn.Parameter]]:
        """What reads vertices, each round of messages, and what makes the vector."""
        parts = (self.encoder.first, *self.encoder.rounds, self.encoder.last)
        return [list(part.parameters()) for part in parts]

    def flops_per_sample(self) -> int:
        """Operations of a tile of as many entities as are drawn, of some eight vertices with five edges each."""
        c = self.config
        vertices = c.entities * USUAL_VERTICES
        passing = linear_flops(vertices, c.width, 4 * c.width) + linear_flops(vertices, 4 * c.width, c.width)
        passing += linear_flops(vertices * USUAL_EDGES, EDGE_FEATURES, 2 * c.width)
        first = linear_flops(vertices, VERTEX_FEATURES, c.width)
        last = linear_flops(vertices, c.width, c.width + c.dim)
        telling = linear_flops(c.entities, c.dim, c.telling) + linear_flops(c.entities, c.telling, NUM_TARGETS)
        return 2 * first + 3 * (c.layers * passing + last + telling)

    def facts(self) -> ModelFacts:
        """What a model card says of it."""
        return ModelFacts(
            name="Geometry network",
            reads="the outlines of a map tile's points, lines and polygons, and which vertices of a polygon see each other",
            pooling=f"of an entity, its vertices' {self.embedding_dim} numbers added up; of a tile, the mean over its "
            "entities, each brought to length 1",
            scaling="each shape about the middle of its outline, in units of its farthest vertex; its size is told beside",
            limits=(
                "It knows shapes and sizes: neither where an entity lies on the tile, nor how it is turned, nor what it is.",
                "All points have the same vector.",
                "Sizes are in tiles, whose metres change with latitude and zoom.",
            ),
        )

    def inputs(self) -> tuple[ModelInput, ...]:
        """What it takes, for a catalog of models."""
        return (
            ModelInput(
                name="vertices",
                shape=(-1, 2),
                dim_order=("vertex", "coordinate"),
                dtype="float32",
                description="Vertices of map entities in tile coordinates: 0 to 1 from the west and from the north.",
            ),
            ModelInput(
                name="edges",
                shape=(2, -1),
                dim_order=("end", "edge"),
                dtype="int64",
                description="From vertex to vertex: along outlines, and between vertices of a polygon that see each other.",
            ),
        )


def _entities_of(batch: Batch) -> Entities:
    if batch.entities is None:
        raise TrainingError(
            "a geometry model reads the entities of map tiles, and these samples have none: take a map collection "
            "(`pwcat build` of a recipe of kind map)"
        )
    return batch.entities


def _drawn(sample_E: Tensor, first_B: Tensor, *, most: int) -> Tensor:
    """Some entities of each tile, (E,) bool: about ``most``, and all where there are no more.

    The n-th entity is taken where its place in a sequence of golden steps, from the tile's own start, is below the share that
    is wanted: any part of the sequence is spread evenly, so that the number hardly varies.
    """
    counts_B = torch.bincount(sample_E, minlength=len(first_B))
    rank_E = torch.arange(len(sample_E), device=sample_E.device) - (counts_B.cumsum(0) - counts_B)[sample_E]
    place_E = (first_B.double()[sample_E] + rank_E * GOLDEN) % 1.0
    return place_E * counts_B[sample_E] < most


def _mean_of(values_EX: Tensor, sample_E: Tensor, count: int) -> Tensor:
    """The mean over the entities of each tile, (B, X); 0 where there is none."""
    total_BX = values_EX.new_zeros(count, values_EX.shape[1]).index_add(0, sample_E, values_EX)
    return total_BX / torch.bincount(sample_E, minlength=count).clamp_min(1)[:, None]


def _parts(entities: Entities) -> Iterator[Tensor | None]:
    """Entities that are encoded together, (E,) bool each, in their order; ``None`` where that is all of them."""
    count = len(entities)
    if count and entities.edges.shape[1] <= TOGETHER:
        yield None
    elif count:
        edges_E = torch.bincount(entities.vertex_entity[entities.edges[0]], minlength=count)
        part_E = (edges_E.cumsum(0) - edges_E) // TOGETHER
        yield from (part_E == part for part in torch.unique(part_E))
