"""What a task asks to be predicted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Labels"]


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What is to be predicted.

    Attributes:
        rows: rows of the subset that take part, (N,).
        values: their labels, (N,).
        classes: number of samples of each class that takes part.
        dropped: number of samples of each class that is too rare to take part.
        unlabelled: samples without a label.
    """

    rows: np.ndarray
    values: np.ndarray
    classes: dict[str, int]
    dropped: dict[str, int]
    unlabelled: int
