"""Presto's network: the transformer that reads tokens of a series, the one that restores them, and their settings.

Shapes as in :mod:`training.models.presto`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
import torch
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional

from pwcat.errors import TrainingError
from training.models.blocks import Block
from training.models.presto_channels import (
    BANDS,
    GROUND,
    GROUND_GROUP,
    GROUND_ROW,
    NUM_CLASSES,
    STEP_GROUPS,
)
from training.models.presto_masks import STRATEGIES, Strategy
from training.models.presto_series import Series

__all__ = [
    "LAYER_NORM_EPS",
    "MAX_STEPS",
    "MONTHS",
    "NUM_STEP_GROUPS",
    "SIZES",
    "Decoder",
    "Encoder",
    "PrestoConfig",
    "month_code",
    "position_code",
]

MAX_STEPS = 24  # rows of the released table of positions
MONTHS = 12
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
