"""Logistic regressions with an L2 penalty, of many draws and strengths at once, as scikit-learn's one by one.

Each minimises ``sum(w_i * cross entropy_i) + |W|^2 / (2 C)``, biases unpenalised. Of two classes scikit-learn fits one vector
of weights where the softmax has two, which halves the penalty: here it is doubled in return, so the same answer comes out.
Classes that a draw has no sample of are no part of its softmax.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional

from training.probing.lbfgs import minimise
from training.probing.spectrum import Spectrum, spectrum_of
from training.probing.stacks import Stack, threads_for

__all__ = ["fit_labels", "fit_logistic", "precision_for"]

# Square of the gradient's length, in a metric in which second derivatives are at most about 1, as a share of the loss.
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-7}
# Training samples up to which float64 costs little, and float32 is felt where a penalty is weak.
FEW = 128


def precision_for(samples: int) -> torch.dtype:
    """What to compute in, for so many training samples of a draw."""
    return torch.float64 if samples <= FEW else torch.float32


def fit_logistic(
    features_ND: Tensor,
    codes_N: Tensor,
    stack: Stack,
    *,
    strengths_SQ: Tensor,
    classes: int,
    standardize: bool = True,
    balanced: bool = False,
    max_iterations: int = 300,
) -> tuple[Tensor, Tensor]:
    """Weights (S, D, Q, K) and biases (S, Q, K) of multinomial logistic regressions.

    Args:
        features_ND: embeddings of all samples.
        codes_N: their classes, int64.
        stack: which samples each draw trains on; its dtype is the computation's.
        strengths_SQ: inverse strengths C of the penalty.
        classes: number of classes K.
        standardize: centre and scale each feature by the draw's training samples first.
        balanced: weigh samples so that classes weigh the same, as scikit-learn's ``class_weight="balanced"`` does.
        max_iterations: points tried.

    A class without training samples has a bias of minus infinity.
    """
    onehot_SNK = functional.one_hot(codes_N[stack.rows_SN], classes) * stack.real_SN[:, :, None]
    seen_SK = onehot_SNK.sum(dim=1) > 0
    if balanced:
        counts_SK = onehot_SNK.sum(dim=1).clamp(min=1)
        onehot_SNK = onehot_SNK * (stack.counts_S[:, None] / (seen_SK.sum(dim=1, keepdim=True) * counts_SK))[:, None]
    pairs_S1 = torch.where(seen_SK.sum(dim=1, keepdim=True) == 2, 2.0, 1.0)
    with threads_for(onehot_SNK.numel() * strengths_SQ.shape[1]):
        problem = _Softmax(
            spectrum_of(features_ND, stack, standardize=standardize),
            onehot_SNK,
            penalty_SQ=pairs_S1 / strengths_SQ,
            curvature_S=1 / seen_SK.sum(dim=1),
            seen_SK=seen_SK,
        )
        return problem.solve(max_iterations)


def fit_labels(
    features_ND: Tensor,
    labels_NK: Tensor,
    stack: Stack,
    *,
    strengths_SQ: Tensor,
    standardize: bool = True,
    max_iterations: int = 300,
) -> tuple[Tensor, Tensor]:
    """Weights (S, D, Q, K) and biases (S, Q, K) of one binary logistic regression for each label; else as :func:`fit_logistic`.

    A label that all training samples of a draw have, or none, has a bias of plus or minus infinity, and no weights.
    """
    labels_SNK = labels_NK[stack.rows_SN] * stack.real_SN[:, :, None]
    with threads_for(labels_SNK.numel() * strengths_SQ.shape[1]):
        problem = _Sigmoid(
            spectrum_of(features_ND, stack, standardize=standardize),
            labels_SNK,
            penalty_SQ=1 / strengths_SQ,
            curvature_S=torch.full_like(stack.counts_S, 0.25),
            real_SN=stack.real_SN,
        )
        return problem.solve(max_iterations)


class _Problem(ABC):
    """Problems (S, Q) over variables ``u`` of (R + 1, K): weights in the new basis, then a bias, each scaled by ``scale``.

    The scale makes the second derivative at ``u = 0`` the identity, so that the first step is Newton's.
    """

    def __init__(
        self, spectrum: Spectrum, targets_SNK: Tensor, *, penalty_SQ: Tensor, curvature_S: Tensor, real_SN: Tensor
    ) -> None:
        counts_S = real_SN.sum(dim=1)
        ones = real_SN[:, :, None]
        self.spectrum, self.targets_SNK = spectrum, targets_SNK.to(ones.dtype)
        self.z_SNR = torch.cat([spectrum.z_SNR, ones], dim=2)
        self.penalty_SQR = torch.cat(
            [
                penalty_SQ[:, :, None].expand(-1, -1, spectrum.z_SNR.shape[2]),
                torch.zeros_like(penalty_SQ)[:, :, None],
            ],
            dim=2,
        )
        squares_SR = torch.cat([spectrum.squares_SR, counts_S[:, None]], dim=1)
        self.scale_SQR = (squares_SR[:, None] * curvature_S[:, None, None] + self.penalty_SQR).rsqrt()
        self.counts_S = counts_S
        self._part: tuple[Tensor, _Part] | None = None

    def solve(self, max_iterations: int) -> tuple[Tensor, Tensor]:
        strengths, outputs = self.scale_SQR.shape[1], self.targets_SNK.shape[2]
        draws, _, variables = self.z_SNR.shape
        start = torch.zeros(draws * strengths, variables * outputs, dtype=self.z_SNR.dtype, device=self.z_SNR.device)
        u_PV = minimise(self, start, tolerance=TOLERANCE[start.dtype], max_iterations=max_iterations)
        w_SQRK = u_PV.view(draws, strengths, variables, outputs) * self.scale_SQR[..., None]
        w_SRQK = w_SQRK.permute(0, 2, 1, 3)
        weights_SDC, bias_SC = self.spectrum.affine(w_SRQK[:, :-1].flatten(2), w_SRQK[:, -1].flatten(1))
        shape = (strengths, outputs)
        return weights_SDC.reshape(*weights_SDC.shape[:2], *shape), self.limits(bias_SC.reshape(-1, *shape))

    def __call__(self, u_AV: Tensor, problems_A: Tensor) -> tuple[Tensor, Tensor]:
        """Values (A,) and gradients (A, V) of some of the problems, by one product of matrices for all."""
        if self._part is None or self._part[0] is not problems_A:
            self._part = problems_A, _Part.of(self, problems_A)
        return self._part[1].evaluate(self, u_AV)

    @abstractmethod
    def loss(self, logits_SNQK: Tensor, targets_SNK: Tensor, draws_S: Tensor) -> tuple[Tensor, Tensor]:
        """Losses (S, Q), and their derivatives (S, N, Q, K) by the logits."""

    @abstractmethod
    def limits(self, bias_SQK: Tensor) -> Tensor:
        """Biases, infinite where nothing else fits."""


class _Part:
    """A rectangle of draws and strengths that holds the problems that still go on."""

    def __init__(self, problem: _Problem, draws_S: Tensor, strengths_Q: Tensor, at: tuple[Tensor, Tensor]) -> None:
        whole = len(draws_S) == len(problem.z_SNR)
        self.draws_S, self.at = draws_S, at
        self.z_SNR = problem.z_SNR if whole else problem.z_SNR[draws_S]
        self.targets_SNK = problem.targets_SNK if whole else problem.targets_SNK[draws_S]
        self.scale_AR1 = problem.scale_SQR[draws_S][:, strengths_Q][at][:, :, None]
        self.penalty_AR1 = problem.penalty_SQR[draws_S][:, strengths_Q][at][:, :, None]
        self.shape = (len(draws_S), len(strengths_Q))

    @classmethod
    def of(cls, problem: _Problem, problems_A: Tensor) -> _Part:
        strengths = problem.scale_SQR.shape[1]
        draws_S, draw_A = torch.unique(problems_A // strengths, return_inverse=True)
        strengths_Q, strength_A = torch.unique(problems_A % strengths, return_inverse=True)
        return cls(problem, draws_S, strengths_Q, (draw_A, strength_A))

    def evaluate(self, problem: _Problem, u_AV: Tensor) -> tuple[Tensor, Tensor]:
        w_ARK = u_AV.view(len(u_AV), self.z_SNR.shape[2], -1) * self.scale_AR1
        tail = (self.shape[1], w_ARK.shape[2])
        block_SQRK = w_ARK.new_zeros(*self.shape, *w_ARK.shape[1:])
        block_SQRK[self.at] = w_ARK
        logits_SNC = self.z_SNR @ block_SQRK.permute(0, 2, 1, 3).flatten(2)
        values_SQ, slopes_SNQK = problem.loss(
            logits_SNC.reshape(*logits_SNC.shape[:2], *tail), self.targets_SNK, self.draws_S
        )
        gradient_SRC = self.z_SNR.mT @ slopes_SNQK.flatten(2)
        gradient_ARK = gradient_SRC.reshape(*gradient_SRC.shape[:2], *tail).permute(0, 2, 1, 3)[self.at]
        penalised_ARK = self.penalty_AR1 * w_ARK
        value_A = values_SQ[self.at] + (penalised_ARK * w_ARK).sum(dim=(1, 2)) / 2
        return value_A, ((gradient_ARK + penalised_ARK) * self.scale_AR1).flatten(1)


class _Softmax(_Problem):
    """One of K classes; ``targets`` are one-hot times a sample's weight."""

    def __init__(
        self, spectrum: Spectrum, targets_SNK: Tensor, *, penalty_SQ: Tensor, curvature_S: Tensor, seen_SK: Tensor
    ) -> None:
        real_SN = (targets_SNK.sum(dim=2) > 0).to(spectrum.z_SNR.dtype)
        super().__init__(spectrum, targets_SNK, penalty_SQ=penalty_SQ, curvature_S=curvature_S, real_SN=real_SN)
        self.weight_SN = self.targets_SNK.sum(dim=2)
        self.unseen_SK = torch.zeros(seen_SK.shape, dtype=real_SN.dtype, device=real_SN.device)
        self.unseen_SK[~seen_SK] = -torch.inf

    def loss(self, logits_SNQK: Tensor, targets_SNK: Tensor, draws_S: Tensor) -> tuple[Tensor, Tensor]:
        weight_SN1 = self.weight_SN[draws_S][:, :, None]
        logits_SNQK = logits_SNQK + self.unseen_SK[draws_S][:, None, None]
        sums_SNQ = logits_SNQK.logsumexp(dim=3)
        right_SNQ = torch.where(targets_SNK[:, :, None] > 0, logits_SNQK, 0).sum(
            dim=3
        )  # of the true class; of padding 0
        losses_SQ = (weight_SN1 * (sums_SNQ - right_SNQ)).sum(dim=1)
        slopes_SNQK = (logits_SNQK - sums_SNQ[..., None]).exp_()
        return losses_SQ, slopes_SNQK.mul_(weight_SN1[..., None]).sub_(targets_SNK[:, :, None])

    def limits(self, bias_SQK: Tensor) -> Tensor:
        return bias_SQK + self.unseen_SK[:, None]


class _Sigmoid(_Problem):
    """K labels, each there or not; those that are always or never there take no part."""

    def __init__(
        self, spectrum: Spectrum, targets_SNK: Tensor, *, penalty_SQ: Tensor, curvature_S: Tensor, real_SN: Tensor
    ) -> None:
        super().__init__(spectrum, targets_SNK, penalty_SQ=penalty_SQ, curvature_S=curvature_S, real_SN=real_SN)
        self.real_SN = real_SN
        found_SK = self.targets_SNK.sum(dim=1)
        self.never_SK, self.always_SK = found_SK == 0, found_SK == self.counts_S[:, None]
        self.varies_SK = (~(self.never_SK | self.always_SK)).to(real_SN.dtype)

    def loss(self, logits_SNQK: Tensor, targets_SNK: Tensor, draws_S: Tensor) -> tuple[Tensor, Tensor]:
        takes_part = self.real_SN[draws_S][:, :, None, None] * self.varies_SK[draws_S][:, None, None]
        losses_SNQK = functional.softplus(logits_SNQK) - targets_SNK[:, :, None] * logits_SNQK
        slopes_SNQK = torch.sigmoid(logits_SNQK) - targets_SNK[:, :, None]
        return (losses_SNQK * takes_part).sum(dim=(1, 3)), slopes_SNQK * takes_part

    def limits(self, bias_SQK: Tensor) -> Tensor:
        bias_SQK = torch.where(self.always_SK[:, None], torch.inf, bias_SQK)
        return torch.where(self.never_SK[:, None], -torch.inf, bias_SQK)
