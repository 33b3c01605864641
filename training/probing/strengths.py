"""Settings of a head, such as the strength of its penalty, chosen on the validation part of each draw."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from training.probing.heads import Fitted, Head, StackedHead, best_setting, decode
from training.probing.kinds import Kind, Predicted
from training.probing.stacks import parts

if TYPE_CHECKING:
    from training.resampling import Draw

__all__ = ["Choice", "Plan", "choose_and_fit", "choose_and_predict"]

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


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a probe fits heads.

    Attributes:
        fit: fits the heads of several draws side by side.
        choice: what to choose from.
        cost: numbers in memory for a draw of so many samples with so many settings.
        alike: draws are fitted side by side only where this is the same for their numbers of samples.
    """

    fit: Fit
    choice: Choice
    cost: Callable[[int, int], int]
    alike: Callable[[int], Hashable] = lambda samples: 0


def choose_and_predict(
    plan: Plan, features_ND: Tensor, targets_N: Tensor, draws: Sequence[Draw], *, kind: Kind
) -> list[Predicted]:
    """What the best head of each draw predicts for its test samples.

    Args:
        plan: how heads are fitted.
        features_ND: embeddings of all samples.
        targets_N: their targets.
        draws: training, validation and test samples.
        kind: what is predicted.
    """
    predicted: dict[int, Predicted] = {}
    for part, fitted, chosen in _best(plan, features_ND, targets_N, draws, kind=kind):
        outputs = fitted.outputs(features_ND, [draws[i].test for i in part])
        for i, outputs_M1K, said in zip(part, outputs, chosen, strict=True):
            predicted[i] = decode(outputs_M1K[:, 0], kind, said)
    return [predicted[i] for i in range(len(draws))]


def choose_and_fit(
    plan: Plan, features_ND: Tensor, targets_N: Tensor, draws: Sequence[Draw], *, kind: Kind
) -> list[Head]:
    """The best head of each draw, to predict samples that come later; see :func:`choose_and_predict`."""
    heads: dict[int, Head] = {}
    for part, fitted, chosen in _best(plan, features_ND, targets_N, draws, kind=kind):
        for place, (i, said) in enumerate(zip(part, chosen, strict=True)):
            heads[i] = StackedHead(fitted=fitted, place=place, of=len(part), like=features_ND, kind=kind, chosen=said)
    return [heads[i] for i in range(len(draws))]


def _best(
    plan: Plan, features_ND: Tensor, targets_N: Tensor, draws: Sequence[Draw], *, kind: Kind
) -> Iterator[tuple[list[int], Fitted, list[dict[str, Any]]]]:
    """Positions of draws that are fitted side by side, their heads with the settings chosen, and what to say of these."""
    choice = plan.choice
    chosen = _chosen(plan, features_ND, targets_N, draws, kind=kind)
    last = [draw.learnt if choice.refit else draw.rest for draw in draws]
    for part in _parts(last, plan, 1):
        using = torch.tensor([[chosen[i]] for i in part], dtype=torch.float64)
        fitted = plan.fit([last[i] for i in part], using, [draws[i].seed for i in part])
        yield (
            part,
            fitted,
            [{choice.name: chosen[i], "num_validation": int(draws[i].validation.sum())} for i in part],
        )


def _chosen(plan: Plan, features_ND: Tensor, targets_N: Tensor, draws: Sequence[Draw], *, kind: Kind) -> list[float]:
    """The setting of each draw that is best on its validation part."""
    choice = plan.choice
    settings = torch.tensor(choice.settings, dtype=torch.float64)
    chosen = [choice.default] * len(draws)
    several = [i for i, draw in enumerate(draws) if draw.validation.any() and len(settings) > 1]
    for part in _parts([draws[i].rest for i in several], plan, len(settings)):
        members = [draws[several[s]] for s in part]
        fitted = plan.fit([d.rest for d in members], settings.expand(len(members), -1), [d.seed for d in members])
        held_out = [d.train[d.validation] for d in members]
        for s, outputs_MQK in zip(part, fitted.outputs(features_ND, held_out), strict=True):
            truth = targets_N[draws[several[s]].train[draws[several[s]].validation]]
            chosen[several[s]] = choice.settings[best_setting(outputs_MQK, truth, kind, by_loss=choice.by_loss)]
    return chosen


def _parts(rows: Sequence[np.ndarray], plan: Plan, settings: int) -> list[list[int]]:
    sizes = [len(each) for each in rows]
    return list(parts(sizes, cost=lambda n: plan.cost(n, settings), budget=BUDGET, alike=plan.alike))
