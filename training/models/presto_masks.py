"""Which tokens of a series Presto is not shown: four ways to hide three quarters of what there is, for a whole batch at once.

Of N tokens with data, ``int(0.75 N)`` are hidden: 81 of the 109 of a whole year. The ground's token is hidden with
probability 0.75, and counts. Then

- ``group_bands`` hides groups of bands, each in all months, drawn one after the other while they fit;
- ``random_timesteps`` hides months, each with all its groups, likewise;
- ``chunk_timesteps`` hides months that follow each other;
- ``random_combinations`` hides nothing whole;

and what is left of the number is drawn from all that is not hidden yet. A token without data is never hidden, for there is
nothing to compare a prediction with; it is not shown either.

Source: Tseng et al. (2023), section 3.2 and the released code; hiding of what is there, in place of a fixed number, is ours.

Shapes: B batch, T steps (months), G = 9 groups of a month, L = T * G + 1 tokens, U units (groups or months).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self, get_args

import torch
from torch import Tensor

__all__ = ["STRATEGIES", "MaskNoise", "Strategy", "draw_hidden", "num_hidden"]

Strategy = Literal["group_bands", "random_timesteps", "chunk_timesteps", "random_combinations"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)


@dataclass(frozen=True, kw_only=True)
class MaskNoise:
    """Numbers of [0, 1) that fix the masks of a batch.

    Attributes:
        strategy_B: which strategy.
        ground_B: whether the ground is hidden.
        start_B: where a chunk begins.
        group_BG: the order of groups.
        step_BT: the order of months.
        token_BTG: the order of single tokens, flattened.
    """

    strategy_B: Tensor
    ground_B: Tensor
    start_B: Tensor
    group_BG: Tensor
    step_BT: Tensor
    token_BTG: Tensor

    @staticmethod
    def size(steps: int, groups: int) -> int:
        """Numbers that a sample needs."""
        return 3 + groups + steps + steps * groups

    @classmethod
    def of(cls, noise_BN: Tensor, *, steps: int, groups: int) -> Self:
        """From as many numbers a sample as :meth:`size` says."""
        single, group, step, token = torch.split(noise_BN, [3, groups, steps, steps * groups], dim=1)
        strategy, ground, start = single.unbind(1)
        return cls(strategy_B=strategy, ground_B=ground, start_B=start, group_BG=group, step_BT=step, token_BTG=token)


def num_hidden(tokens: int, ratio: float) -> int:
    """How many of so many tokens with data are hidden."""
    return int(tokens * ratio)


def draw_hidden(
    there_BL: Tensor, noise: MaskNoise, *, ratio: float, strategies: tuple[Strategy, ...] = STRATEGIES
) -> Tensor:
    """Which tokens are hidden, (B, L) bool; a part of those with data.

    Args:
        there_BL: which tokens have data: month by month, the ground last.
        noise: the draws.
        ratio: share to hide, below 1.
        strategies: those to draw from, each as likely.
    """
    steps, groups = noise.step_BT.shape[1], noise.group_BG.shape[1]
    there_BTG = there_BL[:, :-1].view(-1, steps, groups)
    total_B = (there_BL.sum(dim=1).double() * ratio).long()
    ground_B = there_BL[:, -1] & (noise.ground_B < ratio) & (total_B > 0)
    left_B = total_B - ground_B.long()
    whole_BTG = _whole(there_BTG, noise, left_B, strategies)
    # whole units come first, then single tokens; what has no data comes last and is never reached
    score_BL = (noise.token_BTG + whole_BTG.flatten(1)).masked_fill(~there_BTG.flatten(1), -1.0)
    rank_BL = torch.empty_like(score_BL, dtype=torch.int64)
    order_BL = score_BL.argsort(dim=1, descending=True, stable=True)
    rank_BL.scatter_(1, order_BL, torch.arange(steps * groups, device=score_BL.device).expand_as(order_BL))
    return torch.cat([rank_BL < left_B[:, None], ground_B[:, None]], dim=1)


def _whole(there_BTG: Tensor, noise: MaskNoise, left_B: Tensor, strategies: tuple[Strategy, ...]) -> Tensor:
    """Tokens of units that are hidden whole, (B, T, G) bool, by each sample's own strategy."""
    number_B = (noise.strategy_B * len(strategies)).long().clamp(max=len(strategies) - 1)
    is_a = {name: (number_B == number).view(-1, 1, 1) for number, name in enumerate(strategies)}
    by_group_BG, by_step_BT = there_BTG.sum(dim=1), there_BTG.sum(dim=2)
    whole_BTG = torch.zeros_like(there_BTG)
    if "group_bands" in is_a:
        whole_BTG = whole_BTG | (is_a["group_bands"] & _fitting(by_group_BG, noise.group_BG, left_B)[:, None, :])
    if "random_timesteps" in is_a:
        whole_BTG = whole_BTG | (is_a["random_timesteps"] & _fitting(by_step_BT, noise.step_BT, left_B)[:, :, None])
    if "chunk_timesteps" in is_a:
        order_BT = _chunk_order(by_step_BT, noise.start_B, left_B)
        whole_BTG = whole_BTG | (is_a["chunk_timesteps"] & _fitting(by_step_BT, order_BT, left_B)[:, :, None])
    return whole_BTG


def _fitting(count_BU: Tensor, key_BU: Tensor, left_B: Tensor) -> Tensor:
    """Units, (B, U) bool, that fit into the number left when they are taken in the order of their keys."""
    order_BU = key_BU.argsort(dim=1, stable=True)
    taken_BU = count_BU.gather(1, order_BU).cumsum(dim=1) <= left_B[:, None]
    return torch.zeros_like(taken_BU).scatter(1, order_BU, taken_BU)


def _chunk_order(count_BT: Tensor, start_B: Tensor, left_B: Tensor) -> Tensor:
    """Keys of months, (B, T): onward from a start with room for the chunk, then, where months lack data, back from it."""
    steps = count_BT.shape[1]
    length_B = (left_B // count_BT.amax(dim=1).clamp(min=1)).clamp(max=steps)
    first_B = (start_B * (steps - length_B + 1)).long()[:, None]
    step_T = torch.arange(steps, device=count_BT.device)
    return torch.where(step_T >= first_B, step_T - first_B, steps - step_T)
