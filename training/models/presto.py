"""Presto: a masked autoencoder of pixel series from many sensors, light enough for maps of whole countries.

After Tseng et al. (2023), "Lightweight, Pre-trained Transformers for Remote Sensing Timeseries". Written anew; names of
parameters are those of the released weights, so that these load by name (:mod:`training.weights.presto`).

Each group of bands of each month is a token; the ground (elevation and slope) and the place have one each. What the
channels are is in :mod:`training.models.presto_channels`, how a cube's dates become months in
:mod:`training.models.presto_series`, what is hidden in :mod:`training.models.presto_masks`.

Shapes: B batch, S dates of the cube, T steps (months), C = 15 channels of a month, G = 9 groups of a month (Dynamic World the
last), L = T * G + 1 tokens (month by month, the ground last; the place not counted), V visible ones, D width of the
encoder, E width of the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import numpy as np
import torch
from pydantic import ConfigDict
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
    BANDS,
    DYNAMIC_WORLD,
    GROUND,
    GROUND_GROUP,
    GROUND_ROW,
    NUM_CLASSES,
    STEP_CHANNELS,
    STEP_GROUPS,
)
from training.models.presto_masks import STRATEGIES, MaskNoise, Strategy, draw_hidden, num_hidden
from training.models.presto_series import Series, most_tokens, read_series

if TYPE_CHECKING:
    from training.normalize import Normalization
    from training.recipe import Augment

__all__ = ["Presto", "PrestoConfig", "month_code", "position_code"]

MAX_STEPS = 24  # rows of the released table of positions
MONTHS = 12
SERIES_AT_ONCE = 1024  # of the pixels of chips: about 0.7 GB of the released size and all bands
LAYER_NORM_EPS = 1e-5  # torch's own
SIZES = [len(channels) for channels in STEP_GROUPS.values()]
NUM_STEP_GROUPS = len(STEP_GROUPS) + 1  # and Dynamic World


@dataclass(frozen=True, kw_only=True)
class PrestoConfig:
    """Everything that fixes a Presto but its weights. The defaults are the released one.

    Attributes:
        bands: those it may read, of the names of :data:`~training.models.presto_channels.BANDS`; of them it takes what the
            data have.
        months: length of a series, 1 to 24.
        dim: width of the encoder; a quarter codes the month, a quarter the group, half the position.
        depth: blocks of the encoder.
        heads: attention heads of the encoder.
        mlp_ratio: width of the hidden layer of a block, in widths.
        decoder_dim: width of the decoder.
        decoder_depth: blocks of the decoder.
        decoder_heads: attention heads of the decoder.
        mask_ratio: share of the tokens with data that is hidden in pretraining.
        strategies: ways to choose them, one drawn for each sample.
        world_weight: what a class of Dynamic World weighs in the loss, in numbers of the other channels.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    bands: tuple[str, ...] = BANDS
    months: int = MONTHS
    dim: int = 128
    depth: int = 2
    heads: int = 8
    mlp_ratio: float = 4.0
    decoder_dim: int = 128
    decoder_depth: int = 2
    decoder_heads: int = 8
    mask_ratio: float = 0.75
    strategies: tuple[Strategy, ...] = STRATEGIES
    world_weight: float = 2.0

    def __post_init__(self) -> None:
        if faults := self._faults():
            raise TrainingError("this Presto cannot be built: " + "; ".join(faults))

    def _faults(self) -> list[str]:
        rest = self.decoder_dim - self.dim // 4
        checks = {
            f"bands {self.bands} must be some of {', '.join(BANDS)}, each once": bool(self.bands)
            and set(self.bands) <= set(BANDS)
            and len(set(self.bands)) == len(self.bands),
            f"months {self.months} must be 1 to {MAX_STEPS}": 1 <= self.months <= MAX_STEPS,
            f"dim {self.dim} must be a multiple of 8": self.dim > 0 and self.dim % 8 == 0,
            f"decoder_dim {self.decoder_dim} must leave a positive multiple of 4 beside dim / 4": rest > 0
            and rest % 4 == 0,
            f"heads {self.heads} must divide dim {self.dim}": self.heads > 0 and self.dim % self.heads == 0,
            f"decoder_heads {self.decoder_heads} must divide decoder_dim {self.decoder_dim}": self.decoder_heads > 0
            and self.decoder_dim % self.decoder_heads == 0,
            f"mask_ratio {self.mask_ratio} must be above 0 and below 1": 0 < self.mask_ratio < 1,
            f"strategies {self.strategies} must be at least one": bool(self.strategies),
        }
        return [text for text, holds in checks.items() if not holds]

    @property
    def code_dim(self) -> int:
        """Length of the learned code of a group, which encoder and decoder share."""
        return self.dim // 4


def position_code(length: int, *, dim: int) -> np.ndarray:
    """Codes of the first positions, (length, dim) float64: sines and cosines in turn, base 1000."""
    angles = np.outer(np.arange(length), 1000.0 ** (-np.arange(0, dim, 2) / dim))
    return np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(length, dim)


def month_code(dim: int) -> np.ndarray:
    """Codes of the months, (12, dim) float64: the sine of the time of year, dim / 2 times, then its cosine as often."""
    angles = 2 * np.pi * np.arange(MONTHS) / MONTHS
    return np.repeat(np.stack([np.sin(angles), np.cos(angles)], axis=1), dim // 2, axis=1)


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


class Encoder(nn.Module):
    """Tokens of a series, mixed by transformer blocks."""

    def __init__(self, c: PrestoConfig) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(
            torch.from_numpy(position_code(MAX_STEPS, dim=c.dim - 2 * c.code_dim)).float()[None], requires_grad=False
        )
        self.eo_patch_embed = nn.ModuleDict(
            {name: nn.Linear(len(channels), c.dim) for name, channels in STEP_GROUPS.items()}
            | {GROUND_GROUP: nn.Linear(len(GROUND), c.dim)}
        )
        self.dw_embed = nn.Embedding(NUM_CLASSES + 1, c.dim)
        self.latlon_embed = nn.Linear(3, c.dim)
        self.blocks = nn.ModuleList(
            Block(c.dim, heads=c.heads, mlp_ratio=c.mlp_ratio, eps=LAYER_NORM_EPS) for _ in range(c.depth)
        )
        self.norm = nn.LayerNorm(c.dim, eps=LAYER_NORM_EPS)
        self.month_embed = _table(month_code(c.code_dim))
        self.channel_embed = nn.Embedding(NUM_STEP_GROUPS + 1, c.code_dim)

    def forward(self, series: Series) -> Tensor:
        """Embeddings, (B, D)."""
        tokens_BLD = self.tokens(series.x_BTC, series.ground_B2, series.world_BT, series.months_BT)
        mixed, seen = self._mix(tokens_BLD, series.place_B3, series.there_BL)
        total_BD = (mixed * seen.unsqueeze(2)).sum(dim=1)
        return cast(Tensor, self.norm(total_BD / seen.sum(dim=1, keepdim=True)))

    def visible(
        self,
        x_BTC: Tensor,
        ground_B2: Tensor,
        world_BT: Tensor,
        months_BT: Tensor,
        place_B3: Tensor,
        keep_BV: Tensor,
        seen_BV: Tensor,
    ) -> Tensor:
        """The place and the visible tokens after the encoder, (B, 1 + V, D)."""
        tokens_BLD = self.tokens(x_BTC, ground_B2, world_BT, months_BT)
        kept_BVD = tokens_BLD.gather(1, keep_BV.unsqueeze(2).expand(-1, -1, tokens_BLD.shape[2]))
        return cast(Tensor, self.norm(self._mix(kept_BVD, place_B3, seen_BV)[0]))

    def tokens(self, x_BTC: Tensor, ground_B2: Tensor, world_BT: Tensor, months_BT: Tensor) -> Tensor:
        """All tokens with their codes but the place's, (B, L, D)."""
        parts = zip(STEP_GROUPS, torch.split(x_BTC, SIZES, dim=2), strict=True)
        values = [self.eo_patch_embed[name](part_BTc) for name, part_BTc in parts]
        values_BTGD = torch.stack([*values, self.dw_embed(world_BT)], dim=2)
        ground_BD = self.eo_patch_embed[GROUND_GROUP](ground_B2)
        return _coded(values_BTGD, ground_BD, self.month_embed(months_BT), self.channel_embed.weight, self.pos_embed)

    def _mix(self, tokens_BLD: Tensor, place_B3: Tensor, seen_BL: Tensor) -> tuple[Tensor, Tensor]:
        """The place and the tokens after the blocks, (B, 1 + L, D), and which of them stand for something, (B, 1 + L)."""
        x = torch.cat([self.latlon_embed(place_B3).unsqueeze(1), tokens_BLD], dim=1)
        seen = functional.pad(seen_BL, (1, 0), value=True)
        for block in self.blocks:
            x = block(x, seen[:, None, None, :])
        return x, seen


class Decoder(nn.Module):
    """Predictions of all channels, hidden or not, from what the encoder saw."""

    def __init__(self, c: PrestoConfig, channel_embeddings: nn.Embedding) -> None:
        super().__init__()
        dim = c.decoder_dim
        code = (dim - c.code_dim) // 2
        self.mask_token = nn.Parameter(torch.zeros(dim))
        self.pos_embed = nn.Parameter(
            torch.from_numpy(position_code(MAX_STEPS, dim=code)).float()[None], requires_grad=False
        )
        self.decoder_embed = nn.Linear(c.dim, dim)
        self.decoder_blocks = nn.ModuleList(
            Block(dim, heads=c.decoder_heads, mlp_ratio=c.mlp_ratio, eps=LAYER_NORM_EPS) for _ in range(c.decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.eo_decoder_pred = nn.ModuleDict(
            {name: nn.Linear(dim, len(channels)) for name, channels in STEP_GROUPS.items()}
            | {GROUND_GROUP: nn.Linear(dim, len(GROUND))}
        )
        self.dw_decoder_pred = nn.Linear(dim, NUM_CLASSES)
        self.channel_embeddings = channel_embeddings  # the encoder's own table
        self.month_embed = _table(month_code(code))

    def forward(
        self, latent: Tensor, keep_BV: Tensor, seen_BV: Tensor, months_BT: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Channels of the months (B, T, C), the ground (B, 2) and logits of Dynamic World's classes (B, T, 9)."""
        x = self.decoder_embed(latent)
        batch, steps, dim = len(x), months_BT.shape[1], x.shape[2]
        mask_E = self.mask_token.to(x.dtype)
        # places that pad what is visible get the mask token, as all others that were not seen
        kept_BVE = torch.where(seen_BV.unsqueeze(2), x[:, 1:], mask_E)
        full_BLE = mask_E.expand(batch, steps * NUM_STEP_GROUPS + 1, dim)
        full_BLE = full_BLE.scatter(1, keep_BV.unsqueeze(2).expand_as(kept_BVE), kept_BVE)
        steps_BTGE = full_BLE[:, :-1].view(batch, steps, NUM_STEP_GROUPS, dim)
        month_BTm = self.month_embed(months_BT)
        coded = _coded(steps_BTGE, full_BLE[:, -1], month_BTm, self.channel_embeddings.weight, self.pos_embed)
        x = torch.cat([x[:, :1], coded], dim=1)
        for block in self.decoder_blocks:
            x = block(x)
        return self._predict(self.decoder_norm(x), steps)

    def _predict(self, x: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        x_BTGE = x[:, 1:-1].reshape(len(x), steps, NUM_STEP_GROUPS, -1)
        channels = [self.eo_decoder_pred[name](x_BTGE[:, :, g]) for g, name in enumerate(STEP_GROUPS)]
        ground_B2 = self.eo_decoder_pred[GROUND_GROUP](x[:, -1])
        return torch.cat(channels, dim=2), ground_B2, self.dw_decoder_pred(x_BTGE[:, :, -1])


def _table(code: np.ndarray) -> nn.Embedding:
    """A table of fixed codes, one a row."""
    table = nn.Embedding(*code.shape)
    table.weight = nn.Parameter(torch.from_numpy(code).float(), requires_grad=False)
    return table


def _coded(values_BTGD: Tensor, ground_BD: Tensor, month_BTm: Tensor, groups_Nc: Tensor, places_1Np: Tensor) -> Tensor:
    """Tokens (B, L, D) with the codes of month, group and position; the ground has that of its group alone."""
    batch, steps, groups, _ = values_BTGD.shape
    group_Gc = torch.cat([groups_Nc[:GROUND_ROW], groups_Nc[GROUND_ROW + 1 :]])
    code_BTGD = torch.cat(
        [
            month_BTm.unsqueeze(2).expand(-1, -1, groups, -1),
            group_Gc.expand(batch, steps, -1, -1),
            places_1Np[:, :steps].unsqueeze(2).expand(batch, -1, groups, -1),
        ],
        dim=3,
    )
    code_D = functional.pad(groups_Nc[GROUND_ROW], (month_BTm.shape[2], places_1Np.shape[2]))
    return torch.cat([(values_BTGD + code_BTGD).flatten(1, 2), (ground_BD + code_D).unsqueeze(1)], dim=1)


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
