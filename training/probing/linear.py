"""Batch normalisation and one linear layer, trained by AdamW: many draws and learning rates side by side.

All learning rates of a draw see the same batches, so they share the normalised features, and their layers are one product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from training.probing.descent import Recipe, descend
from training.probing.heads import Affine
from training.probing.kinds import Kind
from training.probing.losses import summed_loss
from training.probing.targets import Targets

__all__ = ["fit_linear"]

MOMENTUM, EPS = 0.1, 1e-5  # of torch's BatchNorm1d


def fit_linear(
    features_ND: Tensor,
    targets_N: Tensor,
    rows: Sequence[np.ndarray],
    seeds: Sequence[int],
    *,
    kind: Kind,
    outputs: int,
    rates_SQ: Tensor,
    recipe: Recipe,
) -> Affine:
    """Heads of each draw and learning rate, as one matrix each: at evaluation batch normalisation is one too.

    Args:
        features_ND: embeddings of all samples, float32.
        targets_N: classes, labels (N, K) or numbers.
        rows: training samples of each draw.
        seeds: fix the first weights and the order of the samples of each draw.
        kind: what is predicted.
        outputs: numbers that a head gives, K.
        rates_SQ: highest learning rates.
        recipe: how they are trained.
    """
    length, (draws, rates) = features_ND.shape[1], rates_SQ.shape
    weights, bias = first_layer(length, outputs, seeds, rates)
    scale, shift = torch.ones(draws, length, rates, 1), torch.zeros(draws, length, rates, 1)
    parameters = [each.to(features_ND).requires_grad_() for each in (weights, bias, scale, shift)]
    weights, bias, scale, shift = parameters
    mean_SD = torch.zeros(draws, length).to(features_ND)
    variance_SD = torch.ones_like(mean_SD)
    targets = Targets.of(targets_N, rows, kind)

    def loss(rows_SB: Tensor, real_SB: Tensor) -> Tensor:
        x_SBD, real_SB1 = features_ND[rows_SB], real_SB[:, :, None]
        counts_S1 = real_SB.sum(dim=1, keepdim=True)
        batch_mean_SD = (x_SBD * real_SB1).sum(dim=1) / counts_S1
        centred_SBD = (x_SBD - batch_mean_SD[:, None]) * real_SB1
        squares_SD = centred_SBD.square().sum(dim=1)
        mean_SD.lerp_(batch_mean_SD, MOMENTUM)
        variance_SD.lerp_(squares_SD / (counts_S1 - 1).clamp(min=1), MOMENTUM)
        normal_SBD = centred_SBD * (squares_SD / counts_S1 + EPS).rsqrt()[:, None]
        return summed_loss(_apply(normal_SBD, weights, bias, scale, shift), targets.at(rows_SB), real_SB, kind)

    descend(parameters, loss, rows, seeds, rates_SQ=rates_SQ, recipe=recipe)
    with torch.no_grad():
        spread_SD11 = (variance_SD + EPS).rsqrt()[:, :, None, None]
        weights_SDQK = weights * scale * spread_SD11
        moved_SDQK = weights * (shift - scale * spread_SD11 * mean_SD[:, :, None, None])
        weights_SDQK, bias_S1QK = targets.restored(weights_SDQK, bias + moved_SDQK.sum(dim=1, keepdim=True))
        return Affine(weights_SDQK=weights_SDQK, bias_SQK=bias_S1QK[:, 0])


def first_layer(length: int, outputs: int, seeds: Sequence[int], rates: int) -> tuple[Tensor, Tensor]:
    """Weights (S, D, Q, K) and biases (S, 1, Q, K) as torch's ``Linear`` draws them; the same for all of a draw's rates."""
    bound = 1 / math.sqrt(length)
    values = [np.random.default_rng([seed, 0]).uniform(-bound, bound, (length + 1, 1, outputs)) for seed in seeds]
    drawn = torch.from_numpy(np.stack(values)).float().expand(-1, -1, rates, -1)
    return drawn[:, :-1].clone(), drawn[:, -1:].clone()


def _apply(normal_SBD: Tensor, weights: Tensor, bias: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    outputs_SBC = normal_SBD @ (weights * scale).flatten(2)
    outputs_SBQK = outputs_SBC.reshape(*normal_SBD.shape[:2], *weights.shape[2:])
    return outputs_SBQK + (bias + (weights * shift).sum(dim=1, keepdim=True))
