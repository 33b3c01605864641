"""Heads of several draws and learning rates trained side by side by AdamW, each as if alone.

Parameters have the shape (S, a, Q, b): draw, input, setting, output. No gradient passes from one draw or setting to another, so
the sum of all losses trains each on its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["Recipe", "descend", "steps_per_epoch"]

BETAS = (0.9, 0.999)
EPS = 1e-8


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How heads are trained.

    Attributes:
        epochs: passes over the training samples.
        batch: samples of a step, at most; an epoch's batches are of nearly equal size.
        warm_up: share of the steps in which the learning rate rises from 0.
        last_rate: what it falls to, along a cosine.
        decay: AdamW's weight decay.
    """

    epochs: int = 50
    batch: int = 256
    warm_up: float = 0.1
    last_rate: float = 1e-5
    decay: float = 0.01


def steps_per_epoch(samples: int, recipe: Recipe) -> int:
    """Batches of so many samples."""
    return max(1, math.ceil(samples / recipe.batch))


def descend(
    parameters: Sequence[Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    rows: Sequence[np.ndarray],
    seeds: Sequence[int],
    *,
    rates_SQ: Tensor,
    recipe: Recipe,
) -> None:
    """Train the parameters in place.

    Args:
        parameters: (S, a, Q, b) leaves that take gradients.
        loss: of positions (S, B) of samples and of which are real (S, B), the sum over draws and settings of mean losses.
        rows: training samples of each draw; all of the same number of batches.
        seeds: fix the order of each draw's samples.
        rates_SQ: highest learning rates.
        recipe: how.
    """
    total = recipe.epochs * steps_per_epoch(max(map(len, rows)), recipe)
    peaks = rates_SQ.to(parameters[0])[:, None, :, None]
    firsts, seconds = ([torch.zeros_like(each) for each in parameters] for _ in range(2))
    for step, (rows_SB, real_SB) in enumerate(_batches(rows, seeds, recipe)):
        gradients = torch.autograd.grad(loss(rows_SB.to(peaks.device), real_SB.to(peaks)), list(parameters))
        rates = _rate(peaks, step, total, recipe)
        with torch.no_grad():
            for value, gradient, first, second in zip(parameters, gradients, firsts, seconds, strict=True):
                _adamw(value, gradient, first, second, step + 1, rates, recipe.decay)


def _rate(peaks: Tensor, step: int, total: int, recipe: Recipe) -> Tensor:
    rising = max(1, round(recipe.warm_up * total))
    if step < rising:
        return peaks * ((step + 1) / rising)
    cosine = (1 + math.cos(math.pi * (step - rising) / max(1, total - rising))) / 2
    return recipe.last_rate + (peaks - recipe.last_rate) * cosine


def _adamw(
    value: Tensor, gradient: Tensor, first: Tensor, second: Tensor, step: int, rates: Tensor, decay: float
) -> None:
    first.lerp_(gradient, 1 - BETAS[0])
    second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
    value.mul_(1 - rates * decay)
    spread = second.sqrt().div_(math.sqrt(1 - BETAS[1] ** step)).add_(EPS)
    value.sub_(first / spread * (rates / (1 - BETAS[0] ** step)))


def _batches(rows: Sequence[np.ndarray], seeds: Sequence[int], recipe: Recipe) -> Iterator[tuple[Tensor, Tensor]]:
    """Positions (S, B) of the samples of each step, in an order of each draw's own, and which are real."""
    counts_S = np.array([len(each) for each in rows])
    steps = steps_per_epoch(int(counts_S.max()), recipe)
    rngs = [np.random.default_rng([seed, 1]) for seed in seeds]
    for _ in range(recipe.epochs):
        order_SN = np.zeros((len(rows), counts_S.max()), dtype=np.int64)
        for s, (each, rng) in enumerate(zip(rows, rngs, strict=True)):
            order_SN[s, : len(each)] = rng.permutation(each)
        for step in range(steps):
            start_S, stop_S = step * counts_S // steps, (step + 1) * counts_S // steps
            at_SB = start_S[:, None] + np.arange((stop_S - start_S).max())
            real_SB = at_SB < stop_S[:, None]
            rows_SB = np.take_along_axis(order_SN, np.where(real_SB, at_SB, 0), axis=1)
            yield torch.from_numpy(rows_SB), torch.from_numpy(real_SB)
