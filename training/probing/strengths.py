"""Settings of a head, such as the strength of its penalty, chosen on the validation part of each draw."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from training.probing.heads import Fitted, best_setting, decode
from training.probing.kinds import Kind, Predicted
from training.probing.stacks import parts

if TYPE_CHECKING:
    from training.resampling import Draw

__all__ = ["Choice", "choose_and_predict"]

BUDGET = 40_000_000  # numbers of one stack in memory at once

# Fit heads on these rows of each draw, with these settings (S, Q) and seeds.
Fit = Callable[[Sequence[np.ndarray], Tensor, Sequence[int]], Fitted]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Settings to choose from.

    Attributes:
        name: of the setting, in what a prediction says was chosen.
        settings: values, the most cautious first: the first of equals is chosen, unless ``by_loss``.
        default: the value of draws that have no validation part.
        refit: fit again on all training samples with what was chosen; otherwise the validation part is never learnt from.
        by_loss: of equals choose that of least loss.
    """

    name: str
    settings: tuple[float, ...]
    default: float
    refit: bool = True
    by_loss: bool = False


def choose_and_predict(
    fit: Fit,
    choice: Choice,
    features_ND: Tensor,
    targets_N: Tensor,
    draws: Sequence[Draw],
    *,
    kind: Kind,
    cost: Callable[[int, int], int],
    alike: Callable[[int], Hashable] = lambda samples: 0,
) -> list[Predicted]:
    """What the best head of each draw predicts for its test samples.

    Args:
        fit: fits the heads of several draws side by side.
        choice: what to choose from.
        features_ND: embeddings of all samples.
        targets_N: their targets.
        draws: training, validation and test samples.
        kind: what is predicted.
        cost: numbers in memory for a draw of so many samples with so many settings.
        alike: draws are fitted side by side only where this is the same for their numbers of samples.
    """
    settings = torch.tensor(choice.settings, dtype=torch.float64)
    chosen = [choice.default] * len(draws)
    several = [i for i, draw in enumerate(draws) if draw.validation.any() and len(settings) > 1]
    for part in _parts([draws[i].rest for i in several], cost, len(settings), alike):
        members = [draws[several[s]] for s in part]
        fitted = fit([d.rest for d in members], settings.expand(len(members), -1), [d.seed for d in members])
        held_out = [d.train[d.validation] for d in members]
        for s, outputs_MQK in zip(part, fitted.outputs(features_ND, held_out), strict=True):
            truth = targets_N[draws[several[s]].train[draws[several[s]].validation]]
            chosen[several[s]] = choice.settings[best_setting(outputs_MQK, truth, kind, by_loss=choice.by_loss)]
    predicted: dict[int, Predicted] = {}
    last = [draw.train if choice.refit else draw.rest for draw in draws]
    for part in _parts(last, cost, 1, alike):
        using = torch.tensor([[chosen[i]] for i in part], dtype=torch.float64)
        fitted = fit([last[i] for i in part], using, [draws[i].seed for i in part])
        for i, outputs_M1K in zip(part, fitted.outputs(features_ND, [draws[i].test for i in part]), strict=True):
            said = {choice.name: chosen[i], "num_validation": int(draws[i].validation.sum())}
            predicted[i] = decode(outputs_M1K[:, 0], kind, said)
    return [predicted[i] for i in range(len(draws))]


def _parts(
    rows: Sequence[np.ndarray], cost: Callable[[int, int], int], settings: int, alike: Callable[[int], Hashable]
) -> list[list[int]]:
    sizes = [len(each) for each in rows]
    return list(parts(sizes, cost=lambda n: cost(n, settings), budget=BUDGET, alike=alike))
