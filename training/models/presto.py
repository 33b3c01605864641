"""Presto: a masked autoencoder of pixel series from many sensors, light enough for maps of whole countries.

After Tseng et al. (2023), "Lightweight, Pre-trained Transformers for Remote Sensing Timeseries". Written anew; names of
parameters are those of the released weights, so that these load by name (:mod:`training.weights.presto`).

Each group of bands of each month is a token; the ground (elevation and slope) and the place have one each. What the
channels are is in :mod:`training.models.presto_channels`, what mixes tokens in :mod:`training.models.presto_network`, how a
cube's dates become months in :mod:`training.models.presto_series`, what is hidden in :mod:`training.models.presto_masks`.

Shapes: B batch, S dates of the cube, T steps (months), C = 15 channels of a month, G = 9 groups of a month (Dynamic World the
last), L = T * G + 1 tokens (month by month, the ground last; the place not counted), V visible ones, D width of the
encoder, E width of the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from pwcat.errors import TrainingError
from training.batch import UNKNOWN_TIME, Batch
from training.chance import Chance, to_device
from training.flops import block_flops, linear_flops, training_flops
from training.looping.distributed import global_sum
from training.models.base import Model, ModelFacts, ModelInput
from training.models.blocks import Block, initialise_linear
from training.models.presto_channels import (
    DYNAMIC_WORLD,
    GROUND,
    NUM_CLASSES,
    STEP_CHANNELS,
    STEP_GROUPS,
)
from training.models.presto_masks import MaskNoise, draw_hidden, num_hidden
from training.models.presto_network import MAX_STEPS, NUM_STEP_GROUPS, SIZES, Decoder, Encoder, PrestoConfig
from training.models.presto_series import Series, most_tokens, read_series

if TYPE_CHECKING:
    from training.normalize import Normalization
    from training.recipe import Augment

__all__ = ["Presto", "PrestoConfig"]

SERIES_AT_ONCE = 1024  # of the pixels of chips: about 0.7 GB of the released size and all bands


class Presto(Model):
    """Masked autoencoder of pixel series, with a scaling of its own: it reads physical values, not statistics of its data."""

    architecture: ClassVar[str] = "presto"
    config_class: ClassVar[type[PrestoConfig]] = PrestoConfig
    times: ClassVar[Literal["first", "all"]] = "all"
    scales_itself: ClassVar[bool] = True

    config: PrestoConfig

    def __init__(self, config: PrestoConfig | None = None, *, normalization: Normalization | None = None) -> None:
        config = config or PrestoConfig()
        super().__init__(config, normalization=normalization)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config, self.encoder.channel_embed)
        self.apply(initialise_linear)
        self._dates_seen = False

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands that it can read; any of them will do."""
        return self.config.bands

    @property
    def image_size(self) -> int:
        """One pixel: larger chips give their centre, or in training any of their pixels."""
        return 1

    @property
    def embedding_dim(self) -> int:
        """Length of an embedding, D."""
        return self.config.dim

    def choose_bands(self, available: Sequence[str]) -> tuple[str, ...]:
        """Those of its bands that the data have, in its order; at least one group of them must be whole.

        Raises:
            TrainingError: none is.
        """
        chosen = tuple(band for band in self.bands if band in available)
        if not most_tokens(chosen, steps=1):
            groups = [*STEP_GROUPS.values(), GROUND, (DYNAMIC_WORLD,)]
            raise TrainingError(
                f"the data have bands {', '.join(available)}, and Presto, which may read {', '.join(self.bands)}, needs one "
                "of these groups whole: " + "; ".join(" + ".join(group) for group in groups if group != ("NDVI",))
            )
        return chosen

    def prepare(self, batch: Batch, *, chance: Chance, augment: Augment | None = None) -> dict[str, Tensor]:
        """The series of the batch, which tokens are visible and hidden, and what errors weigh in the loss.

        Of chips larger than a pixel, one pixel is drawn, or the centre taken where ``augment.crop`` is "center".
        """
        self._require_dates(batch)
        c, dates = self.config, batch.times.shape[1]
        noise_BN = to_device(chance.uniform(1 + dates + 1 + MaskNoise.size(c.months, NUM_STEP_GROUPS)), batch.device)
        central = augment is None or augment.crop == "center"
        series = read_series(
            batch,
            steps=c.months,
            bands=self.bands,
            pixel_B=None if central else noise_BN[:, 0],
            start_BS=noise_BN[:, 1 : dates + 2],
        )
        noise = MaskNoise.of(noise_BN[:, dates + 2 :], steps=c.months, groups=NUM_STEP_GROUPS)
        hidden_BL = draw_hidden(series.there_BL, noise, ratio=c.mask_ratio, strategies=c.strategies)
        keep_BV, seen_BV = _visible(series.there_BL & ~hidden_BL, self._most_visible(batch))
        inputs = {**series.tensors(), "hidden_BL": hidden_BL, "keep_BV": keep_BV, "seen_BV": seen_BV}
        inputs.pop("there_BL")
        return {**inputs, "weights_2": self._loss_weights(hidden_BL, chance.world_size)}

    def forward(self, *, weights_2: Tensor, **inputs: Tensor) -> Tensor:  # type: ignore[override]
        """The loss of a masked reconstruction: mean squared error plus ``min(1, 2 n / m)`` times cross-entropy.

        Over all hidden numbers (m) and classes of Dynamic World (n) of the global batch.

        Args:
            weights_2: what the sums of squares and of cross-entropies are multiplied with.
            inputs: the rest of what :meth:`prepare` gives.
        """
        square_B, entropy_B = self._errors(**inputs)
        return square_B.sum() * weights_2[0] + entropy_B.sum() * weights_2[1]

    def sample_losses(self, *, weights_2: Tensor | None = None, **inputs: Tensor) -> Tensor:
        """The loss of each sample alone, (B,) float32, as in :meth:`forward`; NaN where nothing is hidden."""
        square_B, entropy_B = self._errors(**inputs)
        numbers_B, classes_B = _count_hidden(inputs["hidden_BL"])
        weight_B = self._world_weight(numbers_B, classes_B)
        loss_B = square_B / numbers_B.clamp(min=1) + weight_B * entropy_B / classes_B.clamp(min=1)
        return loss_B.masked_fill(numbers_B + classes_B == 0, float("nan"))

    def encode(self, batch: Batch) -> Tensor:
        """Embeddings (B, D) float32: the mean of the tokens with data and of the place, then a layer norm.

        A series begins with the month of the first date; of larger chips the centre pixel is taken. A sample without data
        in any group of bands is told by its place alone.
        """
        self._require_dates(batch)
        return self.encode_series(read_series(batch, steps=self.config.months, bands=self.bands))

    def encode_dense(self, batch: Batch) -> Tensor:
        """Embeddings (B, H, W, D) float32: every pixel of a chip is a series, whose place is that of the chip.

        So many series at once as memory bounds; where gradients are wanted, those of before are computed anew for them.
        """
        self._require_dates(batch)
        if batch.chips is None:
            raise TrainingError("Presto reads chips, and this batch has none: it cannot tell places within them apart")
        height, width = batch.chips.shape[-2:]
        words = batch.chips.view(torch.int16).flatten(3)  # torch has not all of its kernels for unsigned words
        step = max(1, SERIES_AT_ONCE // len(batch)) if len(batch) else height * width
        parts = [self._encode_pixels(batch, part_BSCn) for part_BSCn in torch.split(words, step, dim=3)]
        return torch.cat(parts, dim=1).view(len(batch), height, width, -1)

    def encode_series(self, series: Series) -> Tensor:
        """Embeddings (B, D) float32 of series of 1 to 24 months; see :meth:`encode`."""
        if not 1 <= series.num_steps <= MAX_STEPS:
            raise TrainingError(f"Presto reads series of 1 to {MAX_STEPS} months, these have {series.num_steps}")
        return cast(Tensor, self.encoder(series)).float()

    def encoder_layers(self) -> list[list[nn.Parameter]]:
        """Embeddings of channels, classes, the place and the groups, then each block; the last norm goes with the last."""
        modules = [self.encoder.blocks, self.encoder.norm]
        later = {id(parameter) for module in modules for parameter in module.parameters()}
        embedding = [parameter for parameter in self.encoder.parameters() if id(parameter) not in later]
        layers = [embedding, *(list(block.parameters()) for block in self.encoder.blocks)]
        layers[-1] += self.encoder.norm.parameters()
        return layers

    def encoder_blocks(self) -> Sequence[Block]:
        """The encoder's blocks."""
        return [cast(Block, block) for block in self.encoder.blocks]

    def num_visible(self, tokens: int) -> int:
        """Tokens that the encoder sees in pretraining of so many with data, the place's not counted."""
        return tokens - num_hidden(tokens, self.config.mask_ratio)

    def flops_per_sample(self) -> int:
        """See :meth:`training.models.base.Model.flops_per_sample`; of data with all of its bands."""
        c = self.config
        embed = linear_flops(c.months, len(STEP_CHANNELS), c.dim) + linear_flops(1, len(GROUND) + 3, c.dim)
        seen = 1 + self.num_visible(most_tokens(c.bands, steps=c.months))
        tokens = 1 + c.months * NUM_STEP_GROUPS + 1
        forward = (
            embed
            + c.depth * block_flops(seen, c.dim, mlp_ratio=c.mlp_ratio)
            + linear_flops(seen, c.dim, c.decoder_dim)
            + c.decoder_depth * block_flops(tokens, c.decoder_dim, mlp_ratio=c.mlp_ratio)
            + linear_flops(c.months, c.decoder_dim, len(STEP_CHANNELS) + NUM_CLASSES)
            + linear_flops(1, c.decoder_dim, len(GROUND))
        )
        return training_flops(forward, first=embed)

    def facts(self) -> ModelFacts:
        """What a model card says of it."""
        return ModelFacts(
            name="Presto",
            paper="Tseng et al. (2023), Lightweight, Pre-trained Transformers for Remote Sensing Timeseries",
            arxiv="2304.14065",
            source="https://github.com/nasaharvest/presto",
            reads=f"series of {self.config.months} months of one pixel: radar, Sentinel-2, weather, ground and land cover, "
            "as far as there are, and the place",
            pooling="mean over all tokens with data and the place's, then a layer norm",
            scaling="(x + shift) / divisor of physical values, the same for all data; NDVI is computed",
            limits=(
                "It sees one pixel, and nothing of what is around it.",
                "Dates without a known time are left out, and so are months beyond a series.",
                "Where a month has several dates, it reads their mean.",
            ),
        )

    def inputs(self) -> tuple[ModelInput, ...]:
        """What it takes, for a catalog of models."""
        return (
            ModelInput(
                name="chips",
                shape=(-1, -1, len(self.bands), 1, 1),
                dim_order=("batch", "time", "bands", "height", "width"),
                dtype="uint16",
                description="Digital numbers that scale, offset and unit make physical values, 0 where there is none; bands "
                "may be left out.",
                bands=self.bands,
            ),
            ModelInput(
                name="times",
                shape=(-1, -1),
                dim_order=("batch", "time"),
                dtype="int64",
                description="Dates of the chips, in seconds since 1970-01-01 UTC; months are read of them.",
            ),
            ModelInput(
                name="lonlat",
                shape=(-1, 2),
                dim_order=("batch", "coordinate"),
                dtype="float64",
                description="Longitude and latitude of the samples, in degrees, EPSG:4326.",
            ),
        )

    def _encode_pixels(self, batch: Batch, words_BSCn: Tensor) -> Tensor:
        """Embeddings (B, n, D) of some pixels, the bits of whose digital numbers these are."""
        count = words_BSCn.shape[3]
        pixels = replace(
            batch,
            chips=words_BSCn.permute(0, 3, 1, 2).flatten(0, 1)[..., None, None].contiguous().view(torch.uint16),
            lonlat=batch.lonlat.repeat_interleave(count, dim=0),
            times=batch.times.repeat_interleave(count, dim=0),
            rows=np.repeat(batch.rows, count),
        )
        series = read_series(pixels, steps=self.config.months, bands=self.bands)
        if torch.is_grad_enabled():
            embedded = cast(Tensor, checkpoint(self.encode_series, series, use_reentrant=False))
        else:
            embedded = self.encode_series(series)
        return embedded.view(len(batch), count, -1)

    def _require_dates(self, batch: Batch) -> None:
        """Look at the times once: later batches are not waited for, for the sake of a GPU."""
        if not self._dates_seen and bool((batch.times == UNKNOWN_TIME).all()):
            raise TrainingError(
                "Presto reads months, and no sample of this batch has a date whose time is known: give data with dates"
            )
        self._dates_seen = True

    def _most_visible(self, batch: Batch) -> int:
        """Visible tokens of a sample that has data in all bands of the batch, the place's not counted."""
        bands = tuple(band for band in batch.bands.names if band in self.bands)
        tokens = most_tokens(bands, steps=self.config.months)
        if not num_hidden(tokens, self.config.mask_ratio):
            raise TrainingError(
                f"series of {self.config.months} months of {', '.join(bands)} have {tokens} token, of which none can be hidden "
                "to be learnt: take more months (model.months) or more bands"
            )
        return self.num_visible(tokens)

    def _loss_weights(self, hidden_BL: Tensor, world_size: int) -> Tensor:
        """What sums of squares and of cross-entropies of this rank are multiplied with, (2,)."""
        own = torch.stack([count_B.sum() for count_B in _count_hidden(hidden_BL)])
        numbers, classes = global_sum(own).unbind()
        weight = self._world_weight(numbers, classes)
        return world_size * torch.stack([1 / numbers.clamp(min=1), weight / classes.clamp(min=1)])

    def _world_weight(self, numbers: Tensor, classes: Tensor) -> Tensor:
        return (self.config.world_weight * classes / numbers.clamp(min=1)).clamp(max=1)

    def _errors(
        self, *, hidden_BL: Tensor, keep_BV: Tensor, seen_BV: Tensor, **series: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Each sample's sums over what is hidden, (B,) float32: of squared errors, and of cross-entropies."""
        latent = self.encoder.visible(**series, keep_BV=keep_BV, seen_BV=seen_BV)
        x_BTC, ground_B2, logits_BTK = self.decoder(latent, keep_BV, seen_BV, series["months_BT"])
        hidden_BTG = hidden_BL[:, :-1].view(*series["world_BT"].shape, NUM_STEP_GROUPS)
        steps_BTC = (x_BTC.float() - series["x_BTC"]).square() * _by_channel(hidden_BTG)
        ground = (ground_B2.float() - series["ground_B2"]).square() * hidden_BL[:, -1:]
        classes_BT = torch.where(hidden_BTG[..., -1], series["world_BT"], NUM_CLASSES)
        entropy_BT = functional.cross_entropy(
            logits_BTK.float().flatten(0, 1), classes_BT.flatten(), ignore_index=NUM_CLASSES, reduction="none"
        )
        return steps_BTC.sum(dim=(1, 2)) + ground.sum(dim=1), entropy_BT.view(classes_BT.shape).sum(dim=1)


def _visible(visible_BL: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Places of the visible tokens (B, V), padded with others, and which of them are no padding (B, V)."""
    order_BL = (~visible_BL).to(torch.uint8).argsort(dim=1, stable=True)
    keep_BV = order_BL[:, :count]
    return keep_BV, visible_BL.gather(1, keep_BV)


def _by_channel(hidden_BTG: Tensor) -> Tensor:
    """Which channels of the months are hidden, (B, T, C), of their groups."""
    parts = [hidden_BTG[..., g : g + 1].expand(-1, -1, size) for g, size in enumerate(SIZES)]
    return torch.cat(parts, dim=2)


def _count_hidden(hidden_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden numbers, and hidden classes of Dynamic World, of each sample, (B,) float32."""
    by_group = hidden_BL[:, :-1].view(len(hidden_BL), -1, NUM_STEP_GROUPS).sum(dim=1).unbind(1)
    numbers_B = hidden_BL[:, -1] * len(GROUND) + sum(
        count_B * size for count_B, size in zip(by_group[:-1], SIZES, strict=True)
    )
    return numbers_B.float(), by_group[-1].float()
