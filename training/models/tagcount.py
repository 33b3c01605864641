"""How many entities of a tile have each tag: what a head can make of a map without shapes, places or meanings.

Source: ``TagCountEncoder`` of GeoJEPA, src/modules/tag_models.py at 675ce0b; its normalisation and layers are the head's here.

Shapes: B tiles, E entities, A tags of entities, K known tags.
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
from training.models.untrained import TagLookup, Untrained, entities_of
from training.osm.vocabulary import fit_vocabulary

if TYPE_CHECKING:
    from catalog.subset import Subset
    from training.normalize import Normalization

__all__ = ["TagCount", "TagCountConfig"]


@dataclass(frozen=True, kw_only=True)
class TagCountConfig:
    """Which tags are counted.

    Attributes:
        most: tags and keys, the most frequent ones; the source has 3,800.
        least_count: entities that have one of these.
        vocabulary: the tags and keys, once they are known.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    most: int = 3800
    least_count: int = 2
    vocabulary: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if faults := [name for name in ("most", "least_count") if getattr(self, name) < 1]:
            raise TrainingError(f"this tagcount cannot be built: {' and '.join(faults)} must be 1 or more")


class TagCount(Untrained):
    """Counts of the tags of a vocabulary."""

    architecture: ClassVar[str] = "tagcount"
    config_class: ClassVar[type[TagCountConfig]] = TagCountConfig
    config: TagCountConfig

    def __init__(self, config: TagCountConfig, *, normalization: Normalization | None = None) -> None:
        super().__init__(config, normalization=normalization)
        self._lookup = TagLookup(config.vocabulary)

    @property
    def embedding_dim(self) -> int:
        """Tags that are counted, K."""
        return len(self.config.vocabulary)

    def take(self, subset: Subset) -> None:
        """Take the vocabulary of a subset."""
        known = fit_vocabulary(subset, most=self.config.most, least_count=self.config.least_count)
        self.config = replace(self.config, vocabulary=known.rows)
        self._lookup = TagLookup(known.rows)

    def encode(self, batch: Batch) -> Tensor:
        """Entities of each tile that have each tag, (B, K) float32; one with several that come to the same counts once."""
        entities, known = entities_of(batch, self.architecture), self.embedding_dim
        place_A = self._lookup.of(entities.tag_list, entities.tags.device)[entities.tags]
        here_A = place_A >= 0
        once = torch.unique(entities.tag_entity[here_A] * max(1, known) + place_A[here_A])
        cell = entities.sample[once // max(1, known)] * known + once % max(1, known)
        return torch.bincount(cell, minlength=len(batch) * known).reshape(len(batch), known).float()

    def facts(self) -> ModelFacts:
        """What a model card says of it."""
        return ModelFacts(
            name="TagCount",
            reads="the tags of a map tile's entities",
            pooling=f"how many entities have each of {self.embedding_dim} tags",
            scaling="numbers of entities, as they are",
            limits=("It knows neither where an entity is nor what shape it has.",),
        )
