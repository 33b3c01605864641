"""The learning rate of each step."""

from __future__ import annotations

import math
from typing import Literal

__all__ = ["Schedule", "learning_rate"]

Schedule = Literal["cosine", "constant"]


def learning_rate(
    step: int, *, peak: float, warmup_steps: float, total_steps: int, schedule: Schedule = "cosine"
) -> float:
    """The rate of the step after ``step`` others: a line from 0 to ``peak``, then half a cosine to 0, or ``peak``.

    Source: MAE, after Loshchilov and Hutter (2017), by step instead of by epoch.
    """
    if step < warmup_steps:
        return peak * step / warmup_steps
    if schedule == "constant":
        return peak
    part = (step - warmup_steps) / max(1.0, total_steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * part))
