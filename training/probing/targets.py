"""Targets as heads that are trained by descent learn them: numbers are brought to mean 0 and deviation 1 in each draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.probing.kinds import Kind

__all__ = ["Targets"]


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Targets of S draws.

    Attributes:
        kind: what is predicted.
        values_N: of all samples.
        mean_S: of each draw's training samples; 0 unless they are numbers.
        spread_S: their standard deviation; 1 unless they are numbers that differ.
    """

    kind: Kind
    values_N: Tensor
    mean_S: Tensor
    spread_S: Tensor

    @classmethod
    def of(cls, values_N: Tensor, rows: Sequence[np.ndarray], kind: Kind) -> Targets:
        """The targets of draws with these training samples."""
        mean_S, spread_S = torch.zeros(len(rows), device=values_N.device), torch.ones(len(rows), device=values_N.device)
        if kind == "regression":
            here = [values_N[each] for each in rows]
            mean_S = torch.stack([each.mean() for each in here]).float()
            spread_S = torch.stack([each.std(correction=0) for each in here]).float()
        return cls(kind=kind, values_N=values_N, mean_S=mean_S, spread_S=torch.where(spread_S > 0, spread_S, 1))

    def at(self, rows_SB: Tensor) -> Tensor:
        """What is to be learnt of these samples: classes (S, B), labels (S, B, K) or scaled numbers (S, B)."""
        if self.kind != "regression":
            return self.values_N[rows_SB]
        return (self.values_N[rows_SB].float() - self.mean_S[:, None]) / self.spread_S[:, None]

    def restored(self, weights_SaQK: Tensor, bias_S1QK: Tensor) -> tuple[Tensor, Tensor]:
        """A last layer whose outputs are in the targets' own units."""
        spread, mean = (each[:, None, None, None] for each in (self.spread_S, self.mean_S))
        return weights_SaQK * spread, bias_S1QK * spread + mean
