"""Models of map tiles that learn no weights: what of the map can be told without learning, for others to beat."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NoReturn

import torch
from torch import Tensor

from pwcat.errors import TrainingError
from training.batch import Batch
from training.chance import Chance
from training.models.base import Model, ModelInput
from training.osm.entities import Entities, TagList
from training.osm.vocabulary import TagIndex
from training.preparing import Preparing, in_silence

if TYPE_CHECKING:
    from catalog.subset import Subset
    from training.recipe import Augment

__all__ = ["TagLookup", "Untrained", "entities_of"]


class Untrained(Model):
    """Base of models that take a vocabulary from their data, and nothing else."""

    reads_entities: ClassVar[bool] = True
    scales_itself: ClassVar[bool] = True

    @property
    def bands(self) -> tuple[str, ...]:
        """None: it reads no image."""
        return ()

    @property
    def image_size(self) -> int:
        """0: it reads no image."""
        return 0

    def fit(
        self, subset: Subset, *, device: torch.device, folder: Path | None, preparing: Preparing = in_silence
    ) -> None:
        """See :meth:`training.models.base.Model.fit`."""
        if folder is not None:
            raise self._nothing_to_train()
        self.take(subset)

    @abstractmethod
    def take(self, subset: Subset) -> None:
        """Take the vocabulary of a subset."""

    def prepare(self, batch: Batch, *, chance: Chance, augment: Augment | None = None) -> NoReturn:
        """Refused: there is nothing to train."""
        raise self._nothing_to_train()

    def forward(self, **inputs: Tensor) -> NoReturn:
        """Refused: there is nothing to train."""
        raise self._nothing_to_train()

    def sample_losses(self, **inputs: Tensor) -> NoReturn:
        """Refused: there is nothing to train."""
        raise self._nothing_to_train()

    def flops_per_sample(self) -> int:
        """0: there is nothing to train."""
        return 0

    def inputs(self) -> tuple[ModelInput, ...]:
        """What it takes, for a catalog of models."""
        return (
            ModelInput(
                name="tags",
                shape=(-1,),
                dim_order=("tag",),
                dtype="int64",
                description="Tags of the entities of map tiles, as places in a list of keys and values.",
            ),
        )

    def _nothing_to_train(self) -> TrainingError:
        return TrainingError(
            f"a {self.architecture} has nothing to train: score it as it is, `pwcat evaluate none DATA --control "
            f"{self.architecture}`, or with `trained: false` among a study's models"
        )


class TagLookup:
    """Places of a list's tags among those that are known, looked up once a list and device."""

    def __init__(self, rows: Sequence[str]) -> None:
        self.index = TagIndex(tuple(rows))
        self._found: tuple[TagList, Tensor] | None = None

    def of(self, tag_list: TagList, device: torch.device) -> Tensor:
        """(V,) int64, -1 where nothing of a tag is known."""
        if self._found is None or self._found[0] is not tag_list or self._found[1].device != device:
            self._found = tag_list, torch.from_numpy(self.index.places(tag_list)).to(device)
        return self._found[1]


def entities_of(batch: Batch, architecture: str) -> Entities:
    """The entities of a batch.

    Raises:
        TrainingError: there are none.
    """
    if batch.entities is None:
        raise TrainingError(
            f"a {architecture} reads the tags of map tiles, and these samples have none: take a map collection (`pwcat build` "
            "of a recipe of kind map)"
        )
    return batch.entities
