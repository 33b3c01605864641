"""Losses of outputs of several draws and settings, each a mean over its draw's samples."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.probing.kinds import Kind

__all__ = ["summed_loss"]


def summed_loss(outputs_SBQK: Tensor, targets_SB: Tensor, real_SB: Tensor, kind: Kind) -> Tensor:
    """Sum over draws and settings of the mean cross entropy, binary cross entropy, or squared error; a scalar.

    Args:
        outputs_SBQK: what the heads gave.
        targets_SB: classes (S, B), labels (S, B, K) or values (S, B).
        real_SB: 1 for samples, 0 for padding.
        kind: what is predicted.
    """
    if kind == "classification":
        index = targets_SB[:, :, None, None].expand(-1, -1, outputs_SBQK.shape[2], 1)
        losses_SBQ = -functional.log_softmax(outputs_SBQK, dim=3).gather(3, index)[..., 0]
    elif kind == "multilabel":
        truth = targets_SB[:, :, None].expand_as(outputs_SBQK).to(outputs_SBQK.dtype)
        losses_SBQ = functional.binary_cross_entropy_with_logits(outputs_SBQK, truth, reduction="none").mean(dim=3)
    else:
        losses_SBQ = (outputs_SBQK[..., 0] - targets_SB[:, :, None]).square()
    weight_SB = real_SB / real_SB.sum(dim=1, keepdim=True)
    return (torch.where(real_SB[:, :, None] > 0, losses_SBQ, 0) * weight_SB[:, :, None]).sum()
