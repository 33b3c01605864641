"""From the numbers that heads give samples to predictions, and to how good each of several settings is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from training.probing.kinds import Kind, Predicted
from training.probing.losses import summed_loss

__all__ = ["Affine", "Fitted", "Head", "StackedHead", "best_setting", "decode"]


class Fitted(Protocol):
    """Heads of S draws and Q settings."""

    def outputs(self, features_ND: Tensor, rows: Sequence[np.ndarray]) -> list[Tensor]:
        """Numbers (M, Q, K) for the given rows of each draw."""


class Head(Protocol):
    """A fitted probe of one draw."""

    @property
    def chosen(self) -> dict[str, Any]:
        """What was chosen on the way."""

    def predict(self, features_MD: np.ndarray) -> Predicted:
        """What it predicts for samples with these embeddings."""


@dataclass(frozen=True, kw_only=True)
class StackedHead:
    """One of several heads that were fitted side by side.

    Attributes:
        fitted: all of them.
        place: which of them.
        of: how many there are.
        like: a tensor of the dtype and device of the embeddings that they were fitted on.
        kind: what is predicted.
        chosen: what was chosen on the way.
    """

    fitted: Fitted
    place: int
    of: int
    like: Tensor
    kind: Kind
    chosen: dict[str, Any]

    def predict(self, features_MD: np.ndarray) -> Predicted:
        """See :meth:`Head.predict`."""
        features = torch.from_numpy(np.ascontiguousarray(features_MD)).to(self.like)
        rows = [np.arange(len(features_MD) if place == self.place else 0) for place in range(self.of)]
        outputs_M1K = self.fitted.outputs(features, rows)[self.place]
        return decode(outputs_M1K[:, 0], self.kind, self.chosen)


@dataclass(frozen=True, kw_only=True)
class Affine:
    """Heads that are one matrix each: ``x W + b``.

    Attributes:
        weights_SDQK: the matrices.
        bias_SQK: what is added.
    """

    weights_SDQK: Tensor
    bias_SQK: Tensor

    @classmethod
    def of(cls, fitted: tuple[Tensor, Tensor]) -> Affine:
        """Of weights (S, D, Q, K) and biases (S, Q, K)."""
        return cls(weights_SDQK=fitted[0], bias_SQK=fitted[1])

    def outputs(self, features_ND: Tensor, rows: Sequence[np.ndarray]) -> list[Tensor]:
        """See :meth:`Fitted.outputs`; draws that ask for the same rows get them by one product."""
        draws, length, settings, outputs = self.weights_SDQK.shape
        weights_SDQK = self.weights_SDQK.to(features_ND.dtype)
        if draws > 1 and all(each is rows[0] or np.array_equal(each, rows[0]) for each in rows[1:]):
            found = features_ND[rows[0]] @ weights_SDQK.permute(1, 0, 2, 3).reshape(length, -1)
            each_MSQK = found.reshape(-1, draws, settings, outputs) + self.bias_SQK.to(found.dtype)
            return list(each_MSQK.unbind(dim=1))
        return [
            (features_ND[each] @ weights_SDQK[s].flatten(1)).reshape(-1, settings, outputs)
            + self.bias_SQK[s].to(features_ND.dtype)
            for s, each in enumerate(rows)
        ]


def best_setting(outputs_MQK: Tensor, targets_M: Tensor, kind: Kind, *, by_loss: bool) -> int:
    """Which setting is best on samples that were not learnt from; of equals the first, or that of least loss."""
    good_Q = _judge(outputs_MQK, targets_M, kind)
    if by_loss and kind != "regression":
        real_1M = torch.ones(1, len(targets_M), device=outputs_MQK.device)
        losses = [
            summed_loss(each_MK[None, :, None], targets_M[None], real_1M, kind) for each_MK in outputs_MQK.unbind(1)
        ]
        loss_Q = torch.stack(losses).nan_to_num(torch.inf)
        return int(torch.where(good_Q == good_Q.max(), loss_Q, torch.inf).argmin())
    return int(good_Q.argmax())


def _judge(outputs_MQK: Tensor, targets_M: Tensor, kind: Kind) -> Tensor:
    """How good each setting is (Q,): accuracy; micro F1 of labels; minus the mean squared error. -inf where it diverged."""
    if kind == "classification":
        good_Q = (outputs_MQK.argmax(dim=2) == targets_M[:, None]).double().mean(dim=0)
    elif kind == "multilabel":
        found_MQK, true_MK = outputs_MQK > 0, targets_M[:, None]
        both_Q, all_Q = (found_MQK & true_MK).sum(dim=(0, 2)), found_MQK.sum(dim=(0, 2)) + targets_M.sum()
        good_Q = 2 * both_Q / all_Q.clamp(min=1).double()
    else:
        good_Q = -(outputs_MQK[:, :, 0].double() - targets_M[:, None]).square().mean(dim=0)
    bad_Q = outputs_MQK.isnan().any(dim=2).any(dim=0) | good_Q.isnan()
    return torch.where(bad_Q, -torch.inf, good_Q)


def decode(outputs_MK: Tensor, kind: Kind, chosen: dict[str, Any]) -> Predicted:
    """A prediction of the numbers that one head gave."""
    outputs = outputs_MK.double().cpu().numpy()
    if kind == "regression":
        return Predicted(values=outputs[:, 0], scores=None, chosen=chosen)
    values = outputs.argmax(axis=1) if kind == "classification" else outputs > 0
    return Predicted(values=values, scores=outputs, chosen=chosen)
