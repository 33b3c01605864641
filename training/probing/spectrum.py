"""Training features in the basis in which their products are diagonal: what makes penalised fits quick.

A penalty on the length of the weights does not see a rotation of the features, and where there are fewer samples than features
the best weights are combinations of the samples. So a fit on N samples of D features is, exactly, one on ``min(N, D)``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from training.probing.stacks import Stack

__all__ = ["Spectrum", "spectrum_of"]

# Directions whose square is below this share of the largest are rounding, not data; in units of the dtype's precision.
ROUNDING = 32.0
BLOCK = 16_384  # samples whose products are summed at once, in float64 whatever the rest is computed in


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Centred features ``X = Z V^T`` of S draws, with ``Z^T Z`` diagonal.

    Attributes:
        z_SNR: features in the new basis, R = min(N, D); 0 for padding.
        squares_SR: the diagonal of ``Z^T Z``.
        mean_SD: what was subtracted from the features.
        scale_SD: what they were divided by then; ones where they were not.
    """

    z_SNR: Tensor
    squares_SR: Tensor
    mean_SD: Tensor
    scale_SD: Tensor
    _basis: Tensor  # (S, D, R), or (S, N, R) from samples to new basis where there are fewer samples
    _samples_SND: Tensor | None

    def affine(self, weights_SRC: Tensor, bias_SC: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (S, D, C) and biases (S, C) on the features as they came, of weights in the new basis."""
        if self._samples_SND is None:
            weights_SDC = self._basis @ weights_SRC
        else:
            weights_SDC = self._samples_SND.mT @ (self._basis @ weights_SRC)
        weights_SDC = weights_SDC / self.scale_SD[:, :, None]
        return weights_SDC, bias_SC - (self.mean_SD[:, None, :] @ weights_SDC)[:, 0]


def spectrum_of(features_ND: Tensor, stack: Stack, *, standardize: bool) -> Spectrum:
    """The features of a stack's samples, centred in each draw, and divided by their standard deviation where asked."""
    real_SN1 = stack.real_SN[:, :, None]
    x_SND = features_ND[stack.rows_SN].to(stack.real_SN.dtype)
    counts_S1 = stack.counts_S[:, None]
    mean_SD = (x_SND * real_SN1).sum(dim=1) / counts_S1
    x_SND = (x_SND - mean_SD[:, None]) * real_SN1
    scale_SD = torch.ones_like(mean_SD)
    if standardize:
        deviation_SD = (x_SND.square().sum(dim=1) / counts_S1).sqrt()
        constant_SD = deviation_SD <= 10 * torch.finfo(x_SND.dtype).eps * mean_SD.abs()
        scale_SD = torch.where(constant_SD, scale_SD, deviation_SD)
        x_SND = x_SND / scale_SD[:, None]
    return _few(x_SND, mean_SD, scale_SD) if x_SND.shape[1] <= x_SND.shape[2] else _many(x_SND, mean_SD, scale_SD)


def _few(x_SND: Tensor, mean_SD: Tensor, scale_SD: Tensor) -> Spectrum:
    double_SND = x_SND.double()
    squares_SR, u_SNR = _diagonal(double_SND @ double_SND.mT)
    size_SR = squares_SR.sqrt()
    inverse_SR = torch.where(size_SR > 0, 1 / torch.where(size_SR > 0, size_SR, 1), 0)
    return Spectrum(
        z_SNR=(u_SNR * size_SR[:, None]).to(x_SND.dtype), squares_SR=squares_SR.to(x_SND.dtype),
        mean_SD=mean_SD, scale_SD=scale_SD, _basis=(u_SNR * inverse_SR[:, None]).to(x_SND.dtype), _samples_SND=x_SND,
    )  # fmt: skip


def _many(x_SND: Tensor, mean_SD: Tensor, scale_SD: Tensor) -> Spectrum:
    blocks = (block.double() for block in torch.split(x_SND, BLOCK, dim=1))
    products_SDD = functools.reduce(torch.add, (block.mT @ block for block in blocks))
    squares_SR, v_SDR = (each.to(x_SND.dtype) for each in _diagonal(products_SDD))
    return Spectrum(
        z_SNR=x_SND @ v_SDR, squares_SR=squares_SR, mean_SD=mean_SD, scale_SD=scale_SD,
        _basis=v_SDR, _samples_SND=None,
    )  # fmt: skip


def _diagonal(products: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, those that are rounding set to 0, and eigenvectors, of products of features."""
    squares, vectors = torch.linalg.eigh(products)
    rounding = ROUNDING * torch.finfo(squares.dtype).eps * products.shape[-1]
    return torch.where(squares > rounding * squares[:, -1:], squares, 0), vectors
