"""Which parameters train at which rate, and which branches are left out at random."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from training.models.base import Model

__all__ = ["drop_paths", "freeze_below", "layer_groups"]


def layer_groups(model: Model, head: nn.Module, *, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """Groups of parameters for an optimiser, each with its ``scale``: what the learning rate is multiplied with.

    Of n layers of the model, counted from 0, layer i has ``layer_decay ** (n - i)``, and the head 1. So the blocks of a
    transformer have the rates of MAE's and BEiT's fine-tuning; the encoder's last norm, which these make anew, goes with the
    last block. What has no rate is left out, and so is what the model had frozen.

    Source: Clark et al. (2020), ELECTRA; Bao et al. (2022), BEiT; He et al. (2022), MAE.
    """
    layers = [*model.encoder_layers(), list(head.parameters())]
    groups: list[dict[str, Any]] = []
    for number, layer in enumerate(layers):
        scale = layer_decay ** (len(layers) - 1 - number)
        trained = [p for p in layer if p.requires_grad] if scale > 0 else []
        for plain in (False, True):
            if chosen := [p for p in trained if _is_plain(p) == plain]:
                groups.append({"params": chosen, "scale": scale, "weight_decay": 0.0 if plain else weight_decay})
    return groups


def freeze_below(model: Model, groups: list[dict[str, Any]]) -> bool:
    """Freeze what of a model is in no group, such as its decoder; whether anything of it trains."""
    trained = {id(p) for group in groups for p in group["params"]}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in trained)
    return any(p.requires_grad for p in model.parameters())


def drop_paths(model: Model, rate: float) -> None:
    """Set the chance that each block's branches are left out: from 0 of the first, in even steps, to ``rate`` of the last."""
    blocks = model.encoder_blocks()
    for block, chance in zip(blocks, torch.linspace(0, rate, len(blocks)).tolist(), strict=True):
        block.drop_path = chance


def _is_plain(parameter: nn.Parameter) -> bool:
    """Whether it is a bias, a norm's weight or a single token, none of which decays."""
    return parameter.ndim <= 1 or (parameter.ndim > 2 and parameter.numel() == parameter.shape[-1])
