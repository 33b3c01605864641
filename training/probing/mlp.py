"""A hidden layer of rectified units and an output layer on standardised features, trained by AdamW side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.probing.descent import Recipe, descend
from training.probing.kinds import Kind
from training.probing.linear import first_layer
from training.probing.losses import summed_loss
from training.probing.stacks import stacked
from training.probing.targets import Targets

__all__ = ["MLP", "fit_mlp"]

CHUNK = 4096  # samples predicted at once


@dataclass(frozen=True, kw_only=True)
class MLP:
    """Layers of S draws and Q learning rates, on features from which ``mean_SD`` is taken and that ``scale_SD`` divides."""

    mean_SD: Tensor
    scale_SD: Tensor
    layers: tuple[Tensor, Tensor, Tensor, Tensor]

    def outputs(self, features_ND: Tensor, rows: Sequence[np.ndarray]) -> list[Tensor]:
        """See :meth:`training.probing.heads.Fitted.outputs`."""
        return [self._of_draw(features_ND, torch.from_numpy(each), s) for s, each in enumerate(rows)]

    def _of_draw(self, features_ND: Tensor, rows: Tensor, s: int) -> Tensor:
        layers = [each[s : s + 1] for each in self.layers]
        found = []
        for block in torch.split(rows.to(features_ND.device), CHUNK):
            x_1BD = ((features_ND[block] - self.mean_SD[s]) / self.scale_SD[s])[None]
            found.append(_apply(x_1BD, *layers)[0])
        return torch.cat(found) if found else self.layers[3].new_zeros(0, *self.layers[3].shape[2:])


def fit_mlp(
    features_ND: Tensor,
    targets_N: Tensor,
    rows: Sequence[np.ndarray],
    seeds: Sequence[int],
    *,
    kind: Kind,
    outputs: int,
    hidden: int,
    rates_SQ: Tensor,
    recipe: Recipe,
) -> MLP:
    """As :func:`training.probing.linear.fit_linear`, with a hidden layer of ``hidden`` units."""
    stack = stacked(rows, dtype=features_ND.dtype, device=features_ND.device)
    x_SND, real_SN1 = features_ND[stack.rows_SN], stack.real_SN[:, :, None]
    mean_SD = (x_SND * real_SN1).sum(dim=1) / stack.counts_S[:, None]
    scale_SD = (((x_SND - mean_SD[:, None]) * real_SN1).square().sum(dim=1) / stack.counts_S[:, None]).sqrt()
    scale_SD = torch.where(scale_SD > 0, scale_SD, 1)
    rates = rates_SQ.shape[1]
    layers = (
        *first_layer(features_ND.shape[1], hidden, [seed * 2 for seed in seeds], rates),
        *first_layer(hidden, outputs, [seed * 2 + 1 for seed in seeds], rates),
    )
    parameters = tuple(each.to(features_ND).requires_grad_() for each in layers)
    targets = Targets.of(targets_N, rows, kind)

    def loss(rows_SB: Tensor, real_SB: Tensor) -> Tensor:
        x_SBD = (features_ND[rows_SB] - mean_SD[:, None]) / scale_SD[:, None]
        return summed_loss(_apply(x_SBD, *parameters), targets.at(rows_SB), real_SB, kind)

    descend(parameters, loss, rows, seeds, rates_SQ=rates_SQ, recipe=recipe)
    first, first_bias, last, last_bias = (each.detach() for each in parameters)
    return MLP(mean_SD=mean_SD, scale_SD=scale_SD, layers=(first, first_bias, *targets.restored(last, last_bias)))


def _apply(x_SBD: Tensor, first: Tensor, first_bias: Tensor, last: Tensor, last_bias: Tensor) -> Tensor:
    hidden_SBQH = (x_SBD @ first.flatten(2)).reshape(*x_SBD.shape[:2], *first.shape[2:]) + first_bias
    outputs_SQBK = hidden_SBQH.relu().transpose(1, 2) @ last.transpose(1, 2)
    return outputs_SQBK.transpose(1, 2) + last_bias
