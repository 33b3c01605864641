"""Linear regressions with an L2 penalty, in closed form, of many draws and penalties at once."""

from __future__ import annotations

from torch import Tensor

from training.probing.spectrum import spectrum_of
from training.probing.stacks import Stack

__all__ = ["fit_ridge"]


def fit_ridge(
    features_ND: Tensor, targets_N: Tensor, stack: Stack, *, penalties_SQ: Tensor, standardize: bool = True
) -> tuple[Tensor, Tensor]:
    """Weights (S, D, Q, 1) and biases (S, Q, 1) that minimise ``|y - xw - b|^2 + alpha |w|^2``, as scikit-learn's ``Ridge``.

    Args:
        features_ND: embeddings of all samples.
        targets_N: their values.
        stack: which samples each draw trains on.
        penalties_SQ: alpha.
        standardize: centre and scale each feature by the draw's training samples first.
    """
    spectrum = spectrum_of(features_ND, stack, standardize=standardize)
    y_SN = targets_N[stack.rows_SN].to(stack.real_SN.dtype) * stack.real_SN
    mean_S = y_SN.sum(dim=1) / stack.counts_S
    products_SR1 = spectrum.z_SNR.mT @ y_SN[:, :, None]  # the features are centred, so y need not be
    weights_SRQ = products_SR1 / (spectrum.squares_SR[:, :, None] + penalties_SQ[:, None])
    weights_SDQ, bias_SQ = spectrum.affine(weights_SRQ, mean_S[:, None].expand(-1, weights_SRQ.shape[2]))
    return weights_SDQ[..., None], bias_SQ[..., None]
