"""Transformer blocks and fixed position codes that masked autoencoders share.

Shapes: B batch, L tokens, D width, H heads, K = D / H, N = code length.
Names of the parameters are those of timm's vision transformer, so that released weights load by name.
"""

from __future__ import annotations

from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["LAYER_NORM_EPS", "Bend", "Block", "Mlp", "fixed", "grid_code", "initialise_linear", "line_code"]

LAYER_NORM_EPS = 1e-6  # SatMAE and MAE

Bend = Literal["gelu", "relu"]


class Attention(nn.Module):
    """Multi-head self-attention over all tokens."""

    def __init__(self, dim: int, *, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_BLD: Tensor, seen_B11L: Tensor | None = None) -> Tensor:
        """Tokens mixed by attention, (B, L, D); where ``seen_B11L`` is false, a token is looked at by none."""
        batch, length, dim = x_BLD.shape
        qkv_3BHLK = self.qkv(x_BLD).view(batch, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = qkv_3BHLK.unbind(0)
        mixed_BHLK = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=seen_B11L, dropout_p=self.dropout if self.training else 0.0
        )
        return cast(Tensor, self.proj(mixed_BHLK.transpose(1, 2).reshape(batch, length, dim)))


class Mlp(nn.Module):
    """Two linear layers with a bend between them."""

    def __init__(
        self, dim: int, *, hidden: int, outputs: int | None = None, dropout: float = 0.0, bend: Bend = "gelu"
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim if outputs is None else outputs)
        self.dropout, self.bend = dropout, functional.gelu if bend == "gelu" else functional.relu

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Tokens changed one by one, (B, L, outputs)."""
        hidden = functional.dropout(self.bend(self.fc1(x_BLD)), self.dropout, training=self.training)
        return cast(Tensor, self.fc2(hidden))


class Block(nn.Module):
    """Pre-norm transformer block: attention, then MLP, each added to its input.

    Attributes:
        drop_path: share of the samples whose attention, and of those whose MLP, is left out at a step of training; the
            others' are scaled up for it (stochastic depth; Huang et al., 2016). For fine-tuning: pretraining leaves it at 0.

    Args:
        dim: D.
        heads: H.
        mlp_ratio: width of the MLP's hidden layer, of D.
        eps: of the norms.
        dropout: share of the attention's weights, of the MLP's hidden units and of each branch's outputs that are nought at a
            step of training.
        bend: between the MLP's layers.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        mlp_ratio: float = 4.0,
        eps: float = LAYER_NORM_EPS,
        dropout: float = 0.0,
        bend: Bend = "gelu",
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, heads=heads, dropout=dropout)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, hidden=int(dim * mlp_ratio), dropout=dropout, bend=bend)
        self.dropout = dropout
        self.drop_path = 0.0

    def forward(self, x_BLD: Tensor, seen_B11L: Tensor | None = None) -> Tensor:
        """Tokens after the block, (B, L, D); where ``seen_B11L`` is false, a token is looked at by none."""
        x_BLD = x_BLD + self._kept(self.attn(self.norm1(x_BLD), seen_B11L))
        return x_BLD + self._kept(self.mlp(self.norm2(x_BLD)))

    def _kept(self, branch_BLD: Tensor) -> Tensor:
        """A branch, some of it dropped out or left out of some samples in training; drawn by torch's own generator."""
        if self.dropout:
            branch_BLD = functional.dropout(branch_BLD, self.dropout, training=self.training)
        if not self.training or self.drop_path == 0.0:
            return branch_BLD
        keep = 1.0 - self.drop_path
        kept_B = torch.rand(len(branch_BLD), device=branch_BLD.device) < keep
        return branch_BLD * (kept_B / keep).to(branch_BLD.dtype).view(-1, 1, 1)


def line_code(positions_L: np.ndarray, *, dim: int) -> np.ndarray:
    """Sine-cosine code of positions on a line, (L, dim) float64: all sines, then all cosines, base 10000.

    Args:
        positions_L: positions, in steps (patches, or the index of a band group).
        dim: length of the code; even.

    Source: Vaswani et al. (2017), section 3.5, in the layout of MAE (sines and cosines not interleaved).
    """
    frequencies = 10000.0 ** (-np.arange(dim // 2, dtype=np.float64) / (dim / 2))
    angles = np.outer(positions_L.astype(np.float64), frequencies)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def grid_code(side: int, *, dim: int) -> np.ndarray:
    """Code of a square grid of patches and, before it, of the class token, (1 + side * side, dim) float64.

    The first half of a code tells the column, the second half the row; the class token's code is zero.

    Args:
        side: patches along one side; patches are counted row by row.
        dim: length of the code; divisible by four.
    """
    row, column = np.divmod(np.arange(side * side), side)
    patches = np.concatenate([line_code(column, dim=dim // 2), line_code(row, dim=dim // 2)], axis=1)
    return np.concatenate([np.zeros((1, dim)), patches])


def initialise_linear(module: nn.Module) -> None:
    """Set linear layers to Xavier-uniform weights and zero biases; use with ``nn.Module.apply``.

    Layer norms are left at ones and zeros, as torch makes them. Source: MAE, after the JAX vision transformer.
    """
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def fixed(code: np.ndarray) -> Tensor:
    """A code as a float32 tensor with a leading batch axis of one."""
    return torch.from_numpy(code).float().unsqueeze(0)
