"""The objective of GeoJEPA: how far guesses are from the teacher's tokens, and terms that keep tokens apart.

All means are over the valid tokens of the global batch: sums are made over ranks, with gradient, so that several devices
have the loss of one. Nothing counts where there is no token.

Shapes: S sets of tokens (each target's, and the context's), B tiles, K tokens of a set (padded), D width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.looping.distributed import global_sum, sum_with_grad

__all__ = ["distances", "variance_and_covariance"]

# The weight of the variance term, and what is added to a variance under the root. Source: GeoJEPA, ``modules/losses.py``,
# after Bardes et al. (2022), "VICReg", section 4.
VARIANCE_WEIGHT, VARIANCE_EPS = 25.0, 1e-4


def distances(guesses_SBKD: Tensor, wanted_SBKD: Tensor, seen_SBK: Tensor, *, beta: float) -> Tensor:
    """What each tile adds to the sum over sets of the mean smooth L1 of a set's tokens, (B,) float32.

    The sum over the tiles of the global batch is ``sum_s mean(smooth_l1)``; a set without tokens adds nothing.

    Args:
        guesses_SBKD: of the predictor.
        wanted_SBKD: the teacher's tokens.
        seen_SBK: which of them are tokens, and no padding.
        beta: where the square goes over into a line.
    """
    each_SBK = functional.smooth_l1_loss(guesses_SBKD.float(), wanted_SBKD.float(), beta=beta, reduction="none").mean(
        -1
    )
    counts_S = global_sum(seen_SBK.sum(dim=(1, 2)).float()).clamp(min=1)
    return ((each_SBK * seen_SBK).sum(dim=2) / counts_S.unsqueeze(1)).sum(dim=0)


def variance_and_covariance(sets: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The variance and the covariance term of each set of tokens, (S,) float32 both; 0 of a set without tokens.

    ``variance = 25 * mean_d(relu(1 - sqrt(var_d + 1e-4)))`` with the variance of the population, ``covariance = sum of
    cov_de ** 2 over d != e / D`` with that of a sample (n - 1), 0 of a single token.

    Args:
        sets: tokens (B, K, D), and which of them are no padding (B, K), of each set.
    """
    with torch.autocast(sets[0][0].device.type, enabled=False):  # eight bits are too few for products of differences
        return _terms(sets)


def _terms(sets: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    counts_S = global_sum(torch.stack([seen.sum() for _, seen in sets]).float())
    weights = [seen.unsqueeze(-1).float() for _, seen in sets]
    tokens = [x.float() for x, _ in sets]
    sums_SD = sum_with_grad(torch.stack([(x * w).sum(dim=(0, 1)) for x, w in zip(tokens, weights, strict=True)]))
    means_SD = sums_SD / counts_S.clamp(min=1).unsqueeze(1)
    centred = [((x - mean) * w).flatten(0, 1) for x, w, mean in zip(tokens, weights, means_SD.unbind(), strict=True)]
    products_SDD = sum_with_grad(torch.stack([x.T @ x for x in centred]))
    return _variance(products_SDD, counts_S), _covariance(products_SDD, counts_S)


def _variance(products_SDD: Tensor, counts_S: Tensor) -> Tensor:
    variance_SD = products_SDD.diagonal(dim1=1, dim2=2) / counts_S.clamp(min=1).unsqueeze(1)
    lacking_S = functional.relu(1 - (variance_SD + VARIANCE_EPS).sqrt()).mean(dim=1)
    return VARIANCE_WEIGHT * lacking_S * (counts_S > 0)


def _covariance(products_SDD: Tensor, counts_S: Tensor) -> Tensor:
    width = products_SDD.shape[-1]
    covariance_SDD = products_SDD / (counts_S - 1).clamp(min=1).view(-1, 1, 1)
    apart_DD = 1 - torch.eye(width, device=products_SDD.device)
    return (covariance_SDD * apart_DD).square().sum(dim=(1, 2)) / width
