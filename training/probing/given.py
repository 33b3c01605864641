"""What a probe is given, checked: embeddings that are numbers, and targets of a kind that it predicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pwcat.errors import TrainingError
from training.probing.kinds import Kind, check_targets

__all__ = ["check_features", "tensors_of"]


def check_features(features_ND: np.ndarray) -> None:
    """Refuse embeddings that are no numbers: a head would answer all the same.

    Raises:
        TrainingError: some are not finite.
    """
    if not np.isfinite(np.sum(features_ND, dtype=np.float64)):
        wrong = int((~np.isfinite(features_ND).all(axis=1)).sum())
        raise TrainingError(
            f"{wrong} of {len(features_ND)} embeddings hold numbers that are NaN or infinite, and nothing can be learnt of "
            "them; look at the model that gave them"
        )


def tensors_of(
    probe: Any, features_ND: np.ndarray, targets_N: np.ndarray, kind: Kind, num_classes: int
) -> tuple[Tensor, Tensor]:
    """Embeddings (N, D) float32 and their targets on a probe's device.

    Raises:
        TrainingError: embeddings are not finite, or the targets are none of this kind that the probe predicts.
    """
    targets = check_targets(
        probe.name, probe.kinds, targets_N, kind=kind, num_classes=num_classes, num_samples=len(features_ND)
    )
    check_features(features_ND)
    features = torch.from_numpy(np.ascontiguousarray(features_ND, dtype=np.float32))
    return features.to(probe.device), torch.from_numpy(targets).to(probe.device)
