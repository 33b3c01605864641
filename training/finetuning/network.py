"""A copy of a model with a head on its embeddings.

Shapes: B samples, D length of an embedding, K outputs, h w places within a chip.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from training.batch import Batch
from training.finetuning.recipe import Head
from training.models.base import Model
from training.models.blocks import LAYER_NORM_EPS

__all__ = ["Network"]

EPS = 1e-5  # torch's own
LEAST_SHARE = 0.1  # of a batch in the running mean and variance, as torch has it; the first ones weigh more


class BatchNorm(nn.Module):
    """Brings each number of an embedding to mean 0 and deviation 1; nothing of it is learnt by descent.

    Embeddings of a young model lie close together and far from zero, where a linear layer tells little of them apart. The
    first batch sets the running mean and variance, so that few steps suffice. A batch of one has no variance: there it does
    as in evaluation.
    """

    mean_D: Tensor
    variance_D: Tensor
    batches: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean_D", torch.zeros(width))
        self.register_buffer("variance_D", torch.ones(width))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings, (..., D) float32."""
        rows = x.float().flatten(0, -2)
        mean_D, variance_D = self.mean_D, self.variance_D
        if self.training and len(rows) > 1:
            variance_D, mean_D = torch.var_mean(rows, dim=0, correction=0)
            self._remember(mean_D.detach(), variance_D.detach())
        return ((rows - mean_D) * (variance_D + EPS).rsqrt()).view(x.shape)

    @torch.no_grad()
    def _remember(self, mean_D: Tensor, variance_D: Tensor) -> None:
        self.batches += 1
        share = (1 / self.batches).clamp(min=LEAST_SHARE)
        self.mean_D.lerp_(mean_D, share)
        self.variance_D.lerp_(variance_D, share)


class Network(nn.Module):
    """A copy of a model and a new head; the given model stays as it is.

    The head begins at zero: at the start all outputs are the same, and the encoder gets no gradient before the head has
    made its first step.

    Args:
        model: what is copied.
        outputs: K.
        head: a linear layer, and what stands before it.
        dense: whether outputs are of places within the chips.
    """

    def __init__(self, model: Model, *, outputs: int, head: Head, dense: bool) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        self.model.unfreeze_encoder()
        self.dense = dense
        linear = nn.Linear(model.embedding_dim, outputs)
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
        self.head = nn.Sequential(_norm(head, model.embedding_dim), linear)

    def forward(self, batch: Batch) -> Tensor:
        """Outputs, (B, K) float32; where they are dense, (B, K, h, w)."""
        if not self.dense:
            return cast(Tensor, self.head(self.model.encode(batch))).float()
        return cast(Tensor, self.head(self.model.encode_dense(batch))).permute(0, 3, 1, 2).float()


def _norm(head: Head, width: int) -> nn.Module:
    if head == "batch_norm":
        return BatchNorm(width)
    return nn.LayerNorm(width, eps=LAYER_NORM_EPS) if head == "layer_norm" else nn.Identity()
