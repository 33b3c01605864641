"""The most and the mean, over a tile's entities, of the vectors of their tags: meanings, without learning.

Source: ``EntityTagAvg`` of GeoJEPA, src/modules/tag_models.py at 675ce0b. There padding is pooled too, and the vectors are of a
language model; here only entities are, and the vectors are those of :func:`training.osm.texts.encode_texts`.

Shapes: B tiles, E entities, W length of a tag's vector.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import ConfigDict
from torch import Tensor

from pwcat.errors import TrainingError
from training.batch import Batch
from training.models.base import ModelFacts
from training.models.geojepa_tokens import TagVectors
from training.models.untrained import Untrained, entities_of
from training.osm.texts import HASHING, encode_texts
from training.osm.vocabulary import fit_vocabulary

if TYPE_CHECKING:
    from catalog.subset import Subset
    from training.normalize import Normalization

__all__ = ["TagPool", "TagPoolConfig"]


@dataclass(frozen=True, kw_only=True)
class TagPoolConfig:
    """Which tags have vectors, and which.

    Attributes:
        most: tags and keys, the most frequent ones; the source has 3,800.
        least_count: entities that have one of these.
        encoder: of their texts, see :func:`training.osm.texts.encode_texts`.
        dim: length of a vector, W; a sentence model says its own.
        vocabulary: the tags and keys, once they are known.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    most: int = 3800
    least_count: int = 2
    encoder: str = HASHING
    dim: int = 1024
    vocabulary: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if faults := [name for name in ("most", "least_count", "dim") if getattr(self, name) < 1]:
            raise TrainingError(f"this tagpool cannot be built: {' and '.join(faults)} must be 1 or more")


class TagPool(Untrained):
    """Pooled vectors of entities' tags."""

    architecture: ClassVar[str] = "tagpool"
    config_class: ClassVar[type[TagPoolConfig]] = TagPoolConfig
    config: TagPoolConfig

    def __init__(self, config: TagPoolConfig, *, normalization: Normalization | None = None) -> None:
        super().__init__(config, normalization=normalization)
        self.tag_vectors = TagVectors(config.vocabulary, dim=config.dim)

    @property
    def embedding_dim(self) -> int:
        """Twice the length of a tag's vector."""
        return 2 * self.config.dim

    def take(self, subset: Subset) -> None:
        """Take the vocabulary of a subset, and its vectors."""
        known = fit_vocabulary(subset, most=self.config.most, least_count=self.config.least_count)
        vectors = torch.from_numpy(encode_texts(known.rows, encoder=self.config.encoder, dim=self.config.dim))
        self.config = replace(self.config, vocabulary=known.rows, dim=vectors.shape[1])
        self.tag_vectors = TagVectors(known.rows, dim=self.config.dim)
        self.tag_vectors.vectors_VW[1:] = vectors

    def encode(self, batch: Batch) -> Tensor:
        """The most and the mean of each tile's entities, (B, 2 W) float32; zeros of a tile without any."""
        entities = entities_of(batch, self.architecture)
        vectors_EW = self.tag_vectors(entities)
        counts_B = torch.bincount(entities.sample, minlength=len(batch))
        tile_EW = entities.sample[:, None].expand_as(vectors_EW)
        nothing_BW = vectors_EW.new_zeros(len(batch), self.config.dim)
        most_BW = nothing_BW.scatter_reduce(0, tile_EW, vectors_EW, "amax", include_self=False)
        sums_BW = nothing_BW.index_add(0, entities.sample, vectors_EW)
        return torch.cat([most_BW, sums_BW / counts_B.clamp(min=1)[:, None]], dim=1).float()

    def facts(self) -> ModelFacts:
        """What a model card says of it."""
        return ModelFacts(
            name="TagPool",
            reads="the tags of a map tile's entities",
            pooling="the largest and the mean value, over entities, of the summed vectors of their tags",
            scaling="each entity's sum is brought to mean 0 and variance 1",
            limits=("It knows neither where an entity is nor what shape it has, and hardly how many there are.",),
        )
