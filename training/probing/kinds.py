"""What is predicted, and what a probe answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pwcat.errors import TrainingError

__all__ = ["EVERY", "Kind", "Predicted", "check_targets", "num_outputs"]

Kind = Literal["classification", "multilabel", "regression", "segmentation"]
EVERY: tuple[Kind, ...] = ("classification", "multilabel", "regression")  # of samples; pixels are classes


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """A probe's answer for the test samples of one draw.

    Attributes:
        values: (M,) int64 classes; (M, K) bool labels; (M,) float64 numbers.
        scores: (M, K) float64, larger where a class or label is more likely: to rank by; ``None`` of a regression.
        chosen: what was chosen on the way, such as the strength of a penalty.
    """

    values: np.ndarray
    scores: np.ndarray | None
    chosen: dict[str, Any]


def num_outputs(kind: Kind, num_classes: int) -> int:
    """Numbers that a head gives a sample: one for a regression, else one a class or label."""
    return 1 if kind == "regression" else num_classes


def check_targets(
    probe: str, kinds: Sequence[Kind], targets_N: np.ndarray, *, kind: Kind, num_classes: int, num_samples: int
) -> np.ndarray:
    """The targets as the probes compute with them: int64 classes, bool labels (N, K), or float64 numbers.

    Raises:
        TrainingError: the probe does not predict this kind, or the targets are not of it.
    """
    if kind not in kinds:
        raise TrainingError(f"probe {probe} predicts {', '.join(kinds)}, not {kind}: choose another for this task")
    targets = np.asarray(targets_N)
    wanted = (num_samples, num_classes) if kind == "multilabel" else (num_samples,)
    if targets.shape != wanted:
        raise TrainingError(f"{kind} targets of shape {targets.shape} were given for {wanted}: one row a sample")
    if kind == "multilabel":
        return targets.astype(bool)
    if kind == "regression":
        if not np.isfinite(targets).all():
            raise TrainingError(
                f"{int((~np.isfinite(targets)).sum())} targets are not numbers: leave those samples out"
            )
        return targets.astype(np.float64)
    if not np.issubdtype(targets.dtype, np.integer) or (
        len(targets) and not 0 <= targets.min() <= targets.max() < num_classes
    ):
        raise TrainingError(
            f"classes are whole numbers from 0 to {num_classes - 1}, and {targets.dtype} from {targets.min()} to "
            f"{targets.max()} were given: number them first"
        )
    return targets.astype(np.int64)
