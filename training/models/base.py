"""What pretraining, evaluation, checkpoints and publishing ask of a model.

A training step is two calls: ``prepare`` does all that is random and all preprocessing, without gradients; ``forward`` is a
pure function of the tensors that come from it, so that it can be compiled and wrapped for several devices. Evaluation
calls ``encode``, which takes the same batches and draws nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from pwcat.errors import TrainingError
from training.batch import Batch
from training.chance import Chance
from training.preparing import Preparing, in_silence

if TYPE_CHECKING:
    from catalog.subset import Subset
    from training.models.blocks import Block
    from training.normalize import Normalization
    from training.recipe import Augment

__all__ = ["Model", "ModelFacts", "ModelInput"]


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a model card says of an architecture.

    Attributes:
        name: as its authors write it.
        reads: what it takes, in a sentence.
        pooling: how an embedding is made of tokens, in a sentence.
        scaling: how digital numbers become its input, in a sentence.
        paper: authors, year and title; ``None`` where there is none.
        arxiv: identifier on arXiv, such as "2207.08051"; likewise.
        source: where its released code or weights are; likewise.
        limits: what it is not good for, a sentence each.
    """

    name: str
    reads: str
    pooling: str
    scaling: str
    paper: str | None = None
    arxiv: str | None = None
    source: str | None = None
    limits: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModelInput:
    """One input of a model, as STAC's machine-learning extension describes it.

    Attributes:
        name: of the input.
        shape: -1 where any length will do.
        dim_order: name of each axis.
        dtype: of its values.
        description: what it is, with units.
        bands: names of its bands, where it has any.
    """

    name: str
    shape: tuple[int, ...]
    dim_order: tuple[str, ...]
    dtype: str
    description: str
    bands: tuple[str, ...] = ()


class Model(nn.Module, ABC):
    """Base of all architectures; to add one, see ``docs/adding-a-model.md``."""

    architecture: ClassVar[str]  # its name in ARCHITECTURES
    config_class: ClassVar[type]  # a frozen dataclass of JSON values that says everything but the weights
    times: ClassVar[Literal["first", "all"]] = "first"  # of a sample's dates, those that it reads
    ema_decay: ClassVar[float | None] = (
        None  # of an average of its weights, where it needs one; a recipe may ask for another
    )
    encodes: ClassVar[Literal["chips", "places"]] = (
        "chips"  # what an embedding is made of; of places, no chips are read
    )
    compares_samples: ClassVar[bool] = False  # the loss of a sample hangs on the others of its batch
    reads_entities: ClassVar[bool] = False  # of map tiles: `Batch.entities` is there; without bands, no chips are
    drops_out: ClassVar[bool] = False  # in training, by torch's generator; the loop seeds it for every batch
    is_watched: ClassVar[bool] = False  # `watch` has something to say
    scales_itself: ClassVar[bool] = (
        False  # by fixed numbers, from any unit that it can convert; not by its data's statistics
    )

    def __init__(self, config: Any, *, normalization: Normalization | None = None) -> None:
        super().__init__()
        self.config = config
        self.normalization = normalization  # statistics of the data of its pretraining, kept by checkpoints

    @property
    @abstractmethod
    def bands(self) -> tuple[str, ...]:
        """Names of the bands that it knows, in order."""

    @property
    @abstractmethod
    def image_size(self) -> int:
        """Side of what it reads, in pixels."""

    @property
    @abstractmethod
    def embedding_dim(self) -> int:
        """Length of an embedding, D."""

    def choose_bands(self, available: Sequence[str]) -> tuple[str, ...]:
        """The bands to be read of data that have these.

        Raises:
            TrainingError: the model cannot do with them; the message lists both sides.
        """
        if missing := [band for band in self.bands if band not in available]:
            raise TrainingError(
                f"the model reads bands {', '.join(self.bands)}, but the data have {', '.join(available)}: "
                f"{', '.join(missing)} are missing. Choose data with these bands, or pretrain on the bands there are "
                "(model.bands and model.groups of the recipe)"
            )
        return self.bands

    def fit(
        self, subset: Subset, *, device: torch.device, folder: Path | None, preparing: Preparing = in_silence
    ) -> None:
        """Take from the data what is no weight that a step trains, such as a vocabulary; nothing by default.

        Called each time that a training begins or goes on, before weights are loaded, and of a model with random weights before
        it is scored: it must give the same of the same data. Of several processes the first is through before the others begin.

        Args:
            subset: the samples that it learns from.
            device: that trains; the model itself is still on the CPU.
            folder: of the run, where what takes long may be kept, named by all that bears on it; it may not be there yet.
                ``None`` where there is none.
            preparing: told what is done, and how many samples of how many.

        Raises:
            TrainingError: the data do not fit the model.
        """

    @abstractmethod
    def prepare(self, batch: Batch, *, chance: Chance, augment: Augment | None = None) -> dict[str, Tensor]:
        """Arguments of ``forward`` on the batch's device: chips scaled, cut and flipped, masks drawn.

        Args:
            batch: the samples.
            chance: where every draw comes from.
            augment: how images are cut and flipped; their middle is taken where it is ``None``.
        """

    @abstractmethod
    def forward(self, **inputs: Tensor) -> Tensor:
        """The loss, a scalar: this rank's share of the mean over the global batch, times the number of ranks."""

    @abstractmethod
    def sample_losses(self, **inputs: Tensor) -> Tensor:
        """The loss of each sample, (B,) float32, of the same arguments as ``forward``."""

    def after_step(self, step: int, total_steps: int) -> None:
        """Follow a step of the optimiser, as the teacher of a student does; nothing by default.

        Args:
            step: its number, from 1.
            total_steps: of the whole training.
        """

    def watch(self, batches: Sequence[Batch]) -> dict[str, float]:
        """What to keep an eye on while it trains, by name, such as the effective rank of embeddings; nothing by default.

        Asked once an epoch, after its last step of as many samples as a step has, in eval mode without gradients, on all ranks
        at once.

        Args:
            batches: what this rank had of the step's batches, on the device.
        """
        return {}

    @abstractmethod
    def encode(self, batch: Batch) -> Tensor:
        """Embeddings (B, D) float32 of the samples: nothing is drawn, chips are cut to their middle."""

    def encode_dense(self, batch: Batch) -> Tensor:
        """Embeddings of places within the chips, (B, h, w, D) float32, row by row from the top left.

        The chips that :meth:`encode` reads are divided evenly into h x w parts, such as patches or pixels. Nothing is drawn.

        Raises:
            TrainingError: the model has none.
        """
        raise TrainingError(
            f"a {self.architecture} embeds a sample as a whole, and has no embeddings of the places within it: take another "
            "model, or a task that has one target a sample"
        )

    @property
    def entity_dim(self) -> int:
        """Length of an embedding of a map entity; 0 where it has none."""
        return 0

    def encode_entities(self, batch: Batch) -> Tensor:
        """Embeddings (E, D) float32 of the map entities of a batch, in their order; nothing is drawn.

        Raises:
            TrainingError: the model has none.
        """
        raise TrainingError(
            f"a {self.architecture} embeds samples, and has no embeddings of the entities on them: take a model of maps, such "
            "as geometry or geojepa"
        )

    def encoder_layers(self) -> list[list[nn.Parameter]]:
        """The parameters behind :meth:`encode` by depth: what embeds the input, then each block; no decoder's.

        Fine-tuning trains the first layers least. One layer of everything, where an architecture does not say.
        """
        return [list(self.parameters())]

    def unfreeze_encoder(self) -> None:
        """Let what :meth:`encode` uses train, for fine-tuning, where pretraining makes it otherwise; nothing by default."""

    def encoder_blocks(self) -> Sequence[Block]:
        """Blocks of the encoder in their order, whose branches fine-tuning may leave out at random; none by default."""
        return ()

    @abstractmethod
    def flops_per_sample(self) -> int:
        """Operations of a forward and backward pass of one training sample: matrix products, 2 a multiply-add."""

    @abstractmethod
    def facts(self) -> ModelFacts:
        """What a model card says of it."""

    @abstractmethod
    def inputs(self) -> tuple[ModelInput, ...]:
        """What it takes, for a catalog of models."""

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write ``model.safetensors`` and ``config.json`` to a folder, which is made; its path."""
        from training.models.folder import save_model_folder

        return save_model_folder(self, folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """The model of such a folder, in eval mode, on the CPU; of the Hub, ``pwcat.load_model`` fetches it first.

        Raises:
            TrainingError: the folder holds no such model, or one of another architecture.
        """
        from training.models.folder import load_model_folder

        model = load_model_folder(folder)
        if not isinstance(model, cls):
            raise TrainingError(f"{folder} holds a {model.architecture}, not a {cls.__name__}")
        return model

    def config_json(self) -> dict[str, Any]:
        """The config as JSON values, from which :func:`training.models.build_model` builds it again."""
        return asdict(self.config)

    def require_normalization(self) -> Normalization:
        """Its normalisation.

        Raises:
            TrainingError: it has none, or needs one and there was no data of a band.
        """
        if self.normalization is None:
            raise TrainingError(
                "the model has no normalisation, so chips cannot be scaled for it: take a pretrained one, or measure the "
                "statistics of the data (training.normalize.measure)"
            )
        if not self.scales_itself:
            self.normalization.require_data()
        return self.normalization

    def share(self, batch: Batch, chance: Chance) -> Tensor:
        """What this rank's mean is to be multiplied with, a scalar on the batch's device."""
        return torch.full((), chance.share, device=batch.device)  # a kernel, where a copy would wait for the device
