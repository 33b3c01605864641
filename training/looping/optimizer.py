"""AdamW over what trains: which parameters decay, in an order that a resumed run finds again."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pwcat.errors import TrainingError

__all__ = ["adamw", "parameter_groups"]

NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)


def parameter_groups(model: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: what decays, and biases, norms and scales, which do not; each sorted by name, frozen ones left out.

    What has at most one axis is a bias, a norm's weight or a scale (so says MAE); a norm over several axes is known by its
    class.
    """
    norms = {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if isinstance(module, NORMS)
        for name, _ in module.named_parameters(recurse=False)
    }
    trained = sorted((name, p) for name, p in model.named_parameters() if p.requires_grad)
    plain = {name for name, p in trained if p.ndim <= 1} | norms
    return [
        {"params": [p for name, p in trained if name not in plain], "weight_decay": weight_decay},
        {"params": [p for name, p in trained if name in plain], "weight_decay": 0.0},
    ]


def adamw(model: nn.Module, *, lr: float, betas: tuple[float, float], weight_decay: float) -> torch.optim.AdamW:
    """AdamW in one fused pass over the parameters of a model, which is on its device already.

    Raises:
        TrainingError: nothing of the model trains.
    """
    groups = parameter_groups(model, weight_decay=weight_decay)
    if not any(group["params"] for group in groups):
        raise TrainingError("every parameter of the model is frozen, so there is nothing to train")
    return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)
