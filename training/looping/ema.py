"""A running mean of the weights, which generalises better than the last ones where batches are small."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor

from training.models.base import Model

__all__ = ["Ema"]


class Ema:
    """An exponential moving average of a model's weights.

    Training goes on with the model's own weights; the average is what checkpoints hand to evaluation
    (``model.safetensors``), with the trained ones beside it (``trained.safetensors``).

    Args:
        model: whose weights are followed; on its device.
        decay: share of the average that stays at each step, below 1. Of the first steps less stays,
            ``min(decay, (1 + step) / (10 + step))``, so that random weights are forgotten (TensorFlow's ``num_updates``).

    Attributes:
        model: the same model with the averaged weights.
    """

    def __init__(self, model: Model, *, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def update(self, model: Model, *, step: int) -> None:
        """Take in the weights after ``step``."""
        stays = min(self.decay, (1 + step) / (10 + step))
        mean, now = cast(list[Tensor], list(self.model.parameters())), cast(list[Tensor], list(model.parameters()))
        torch._foreach_lerp_(mean, now, 1 - stays)
        for kept, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            kept.copy_(buffer)
