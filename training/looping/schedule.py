"""The learning rate and the weight decay of each step."""

from __future__ import annotations

import math
from typing import Literal

__all__ = ["Schedule", "learning_rate", "weight_decay"]

Schedule = Literal["cosine", "constant"]


def learning_rate(
    step: int,
    *,
    peak: float,
    warmup_steps: float,
    total_steps: int,
    schedule: Schedule = "cosine",
    first: float = 0.0,
    last: float = 0.0,
) -> float:
    """The rate of the step after ``step`` others: a line from ``first`` to ``peak``, then half a cosine to ``last``.

    With schedule "constant", it stays at ``peak`` after the line.

    Source: MAE, after Loshchilov and Hutter (2017), by step instead of by epoch.
    """
    if step < warmup_steps:
        return first + (peak - first) * step / warmup_steps
    if schedule == "constant":
        return peak
    part = (step - warmup_steps) / max(1.0, total_steps - warmup_steps)
    return last + (peak - last) * 0.5 * (1 + math.cos(math.pi * part))


def weight_decay(step: int, *, first: float, last: float | None, total_steps: int) -> float:
    """The weight decay of the step after ``step`` others: a line from ``first`` to ``last``; ``first`` where that is ``None``.

    Source: Assran et al. (2023), "Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture", in
    a line as GeoJEPA has it.
    """
    return first if last is None else first + (last - first) * step / max(1, total_steps)
