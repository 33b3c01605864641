"""Encoder, predictor, and codes of place and modality of GeoJEPA.

Shapes: B tiles, L tokens, D width, C tokens of the context, M targets, K tokens of a target.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.blocks import Block, Mlp

__all__ = ["EPS", "MODALITIES", "Codes", "Encoder", "Predictor", "take"]

EPS = 1e-5  # of the norms, torch's own, as the source has them

# What a token is, by the number of its one-hot code: nothing, an entity of the map, (unused since), a patch of an image.
MODALITIES = {"none": 0, "map": 1, "geometry": 2, "image": 3}

BOX_NUMBERS = 8


class Encoder(nn.Module):
    """Pre-norm transformer over tokens, of which padding is looked at by none."""

    def __init__(self, dim: int, *, depth: int, heads: int, dropout: float, registers: int = 0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(dim, heads=heads, eps=EPS, dropout=dropout, bend="relu") for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.registers = nn.Parameter(torch.randn(1, registers, dim)) if registers else None

    def forward(self, x_BLD: Tensor, seen_BL: Tensor) -> Tensor:
        """Tokens after the last block and norm, (B, L, D); those that are not seen hold numbers without a meaning."""
        length = x_BLD.shape[1]
        # where nothing is to be seen, all is: attention over nothing would be 0 / 0
        seen_BL = seen_BL | ~seen_BL.any(dim=1, keepdim=True)
        if self.registers is not None:
            x_BLD = torch.cat([self.registers.expand(len(x_BLD), -1, -1).to(x_BLD.dtype), x_BLD], dim=1)
            seen_BL = functional.pad(seen_BL, (self.registers.shape[1], 0), value=True)
        seen_B11L = seen_BL[:, None, None, :]
        for block in self.blocks:
            x_BLD = block(x_BLD, seen_B11L)
        return cast(Tensor, self.norm(x_BLD[:, x_BLD.shape[1] - length :]))


class PlaceMlp(Mlp):
    """Two layers over corners of boxes, of which the first is never in bfloat16: that knows 128 places along half a tile."""

    def forward(self, boxes_BL8: Tensor) -> Tensor:
        """Codes of places, (B, L, outputs)."""
        with torch.autocast(boxes_BL8.device.type, enabled=False):
            hidden = self.bend(self.fc1(boxes_BL8.float()))
        hidden = functional.dropout(hidden, self.dropout, training=self.training)
        return cast(Tensor, self.fc2(hidden))


class Codes(nn.Module):
    """What is added to tokens: the four corners of a token's box and its modality, fused."""

    def __init__(self, dim: int, *, dropout: float) -> None:
        super().__init__()
        self.position = PlaceMlp(BOX_NUMBERS, hidden=4 * dim, outputs=dim, dropout=dropout)
        self.modality = Mlp(len(MODALITIES), hidden=4 * dim, outputs=dim, dropout=dropout)
        self.fusion = Mlp(2 * dim, hidden=2 * dim, outputs=dim, dropout=dropout)

    def forward(self, boxes_BL8: Tensor, modality_BL: Tensor) -> Tensor:
        """Codes, (B, L, D)."""
        one_hot_BL4 = functional.one_hot(modality_BL, len(MODALITIES)).to(boxes_BL8.dtype)
        return cast(Tensor, self.fusion(torch.cat([self.position(boxes_BL8), self.modality(one_hot_BL4)], dim=-1)))


class Predictor(nn.Module):
    """Guesses tokens of a target from the context and the target's codes."""

    def __init__(
        self,
        dim: int,
        *,
        width: int,
        depth: int,
        heads: int,
        dropout: float,
        projector: Literal["linear", "mlp"],
        registers: int = 0,
    ) -> None:
        super().__init__()
        self.narrow: nn.Module = (
            nn.Linear(dim, width) if projector == "linear" else Mlp(dim, hidden=4 * width, outputs=width)
        )
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.encoder = Encoder(width, depth=depth, heads=heads, dropout=dropout, registers=registers)
        self.widen = nn.Linear(width, dim)

    def forward(
        self,
        context_BCD: Tensor,
        context_codes_BCD: Tensor,
        context_seen_BC: Tensor,
        codes_MBKD: Tensor,
        seen_MBK: Tensor,
    ) -> Tensor:
        """Guesses, (M, B, K, D): each target by itself, as if there were no other.

        One layer narrows both tokens and codes. Source: GeoJEPA, ``modules/predictor.py``.
        """
        targets, batch, length = seen_MBK.shape
        codes_MBKW = self.narrow(codes_MBKD)
        context_BCW = self.narrow(context_BCD) + self.narrow(context_codes_BCD)
        wanted_MBKW = self.mask_token.to(codes_MBKW.dtype) + codes_MBKW
        every_MBCW = context_BCW.expand(targets, -1, -1, -1)
        x = torch.cat([every_MBCW, wanted_MBKW], dim=2).flatten(0, 1)
        seen = torch.cat([context_seen_BC.expand(targets, -1, -1), seen_MBK], dim=2).flatten(0, 1)
        out = self.widen(self.encoder(x, seen)[:, -length:])
        return cast(Tensor, out.view(targets, batch, length, -1))


def take(x_BLD: Tensor, places_BK: Tensor) -> Tensor:
    """Tokens at places, (B, K, D)."""
    return x_BLD.gather(1, places_BK.unsqueeze(-1).expand(-1, -1, x_BLD.shape[-1]))
