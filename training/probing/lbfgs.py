"""Many smooth convex problems minimised side by side, each with steps and memory of its own.

L-BFGS (Nocedal and Wright, 2006, algorithm 7.4) whose line search is spread over the iterations: each iteration tries one
point of every problem; where it is not lower by Armijo's rule, the step is halved at the next. So no problem waits for the
line search of another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["minimise"]

ARMIJO = 1e-4
SMALLEST_STEP = 1e-9
STEPS_WITHOUT_GAIN = 4

# Of the points (P, V) of these problems, their values (P,) and gradients (P, V).
Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass
class _State:
    """The problems that go on: points, values, gradients, and the last steps with the changes of gradient they brought."""

    problems_P: Tensor
    at_PV: Tensor
    value_P: Tensor
    gradient_PV: Tensor
    step_P: Tensor
    still_P: Tensor  # steps in a row that brought no more than rounding
    moves_HPV: list[Tensor]
    turns_HPV: list[Tensor]
    rho_HP: list[Tensor]
    metric_P: Tensor

    def keep(self, going_P: Tensor) -> None:
        for name in ("problems_P", "at_PV", "value_P", "gradient_PV", "step_P", "still_P", "metric_P"):
            setattr(self, name, getattr(self, name)[going_P])
        for history in (self.moves_HPV, self.turns_HPV, self.rho_HP):
            history[:] = [each[going_P] for each in history]


def minimise(
    objective: Objective, start_PV: Tensor, *, tolerance: float, max_iterations: int = 200, memory: int = 8
) -> Tensor:
    """Points (P, V) at which the objectives are least.

    Args:
        objective: given points (A, V) and which problems they are of (A,), the values (A,) and gradients (A, V). The variables
            are best scaled so that second derivatives are near 1.
        start_PV: where to start.
        tolerance: a problem ends where the square of its gradient's length is at most this share of its value, or where
            steps bring nothing but rounding.
        max_iterations: points tried of each problem.
        memory: steps remembered.
    """
    found_PV = start_PV.clone()
    problems_P = torch.arange(len(start_PV), device=start_PV.device)
    value_P, gradient_PV = objective(start_PV, problems_P)
    ones_P = torch.ones_like(value_P)
    state = _State(problems_P, start_PV, value_P, gradient_PV, ones_P, ones_P * 0, [], [], [], ones_P)
    for _ in range(max_iterations):
        going_P = state.gradient_PV.square().sum(1) > tolerance * state.value_P
        going_P &= (state.step_P > SMALLEST_STEP) & (state.still_P < STEPS_WITHOUT_GAIN)
        left = int(going_P.sum())
        if left < len(going_P) and (left == 0 or left <= 0.8 * len(going_P)):
            found_PV[state.problems_P] = state.at_PV
            state.keep(going_P)
        if left == 0:
            break
        _advance(state, objective, memory)
    found_PV[state.problems_P] = state.at_PV
    return found_PV


def _advance(state: _State, objective: Objective, memory: int) -> None:
    direction_PV = _direction(state)
    slope_P = (direction_PV * state.gradient_PV).sum(1)
    tried_PV = torch.addcmul(state.at_PV, direction_PV, state.step_P[:, None])
    value_P, gradient_PV = objective(tried_PV, state.problems_P)
    rounding_P = 8 * torch.finfo(value_P.dtype).eps * state.value_P.abs()
    lower_P = value_P <= state.value_P + ARMIJO * state.step_P * slope_P + rounding_P
    gained_P = state.value_P - value_P > rounding_P
    state.still_P = torch.where(lower_P & gained_P, 0.0, state.still_P + lower_P)
    move_PV, turn_PV = tried_PV - state.at_PV, gradient_PV - state.gradient_PV
    product_P, square_P = (move_PV * turn_PV).sum(1), turn_PV.square().sum(1)
    kept_P = lower_P & (product_P > torch.finfo(value_P.dtype).eps * square_P)
    state.rho_HP.append(torch.where(kept_P, 1 / torch.where(kept_P, product_P, 1), 0))
    state.metric_P = torch.where(kept_P, product_P / torch.where(kept_P, square_P, 1), state.metric_P)
    state.moves_HPV.append(move_PV)
    state.turns_HPV.append(turn_PV)
    for history in (state.moves_HPV, state.turns_HPV, state.rho_HP):
        del history[:-memory]
    state.at_PV = torch.where(lower_P[:, None], tried_PV, state.at_PV)
    state.value_P = torch.where(lower_P, value_P, state.value_P)
    state.gradient_PV = torch.where(lower_P[:, None], gradient_PV, state.gradient_PV)
    state.step_P = torch.where(lower_P, 1.0, state.step_P / 2)


def _direction(state: _State) -> Tensor:
    """Downhill, by what the last steps said of the curvature; a step without weight (rho 0) says nothing."""
    q_PV, alphas = -state.gradient_PV, []
    for move_PV, turn_PV, rho_P in zip(
        reversed(state.moves_HPV), reversed(state.turns_HPV), reversed(state.rho_HP), strict=True
    ):
        alpha_P1 = (rho_P * torch.linalg.vecdot(move_PV, q_PV))[:, None]
        q_PV = torch.addcmul(q_PV, turn_PV, alpha_P1, value=-1)
        alphas.append(alpha_P1)
    q_PV = q_PV * state.metric_P[:, None]
    for move_PV, turn_PV, rho_P, alpha_P1 in zip(
        state.moves_HPV, state.turns_HPV, state.rho_HP, reversed(alphas), strict=True
    ):
        q_PV = torch.addcmul(q_PV, move_PV, alpha_P1 - (rho_P * torch.linalg.vecdot(turn_PV, q_PV))[:, None])
    return q_PV
