"""What probes share once their heads can be fitted: predictions of many draws, and of one whose samples lie apart."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from training.probing.heads import Head
from training.probing.kinds import Kind, Predicted
from training.resampling import Draw

__all__ = ["OneDraw"]


class OneDraw(ABC):
    """A probe by its heads, also of one draw of samples that lie apart, with labels of any type."""

    @abstractmethod
    def fit_many(
        self, features_ND: np.ndarray, targets_N: np.ndarray, draws: Sequence[Draw], *, kind: Kind, num_classes: int
    ) -> list[Head]:
        """See :meth:`training.probes.Probe.fit_many`."""

    def fit_predict_many(
        self, features_ND: np.ndarray, targets_N: np.ndarray, draws: Sequence[Draw], *, kind: Kind, num_classes: int
    ) -> list[Predicted]:
        """See :meth:`training.probes.Probe.fit_predict_many`."""
        heads = self.fit_many(features_ND, targets_N, draws, kind=kind, num_classes=num_classes)
        return [head.predict(features_ND[draw.test]) for head, draw in zip(heads, draws, strict=True)]

    def fit_predict(
        self, train_ND: np.ndarray, labels_N: np.ndarray, test_MD: np.ndarray, *, validation_N: np.ndarray
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Predicted labels (M,), and what was chosen on the way.

        Args:
            train_ND: embeddings of the training samples.
            labels_N: their labels.
            test_MD: embeddings of the samples to predict.
            validation_N: mask of the training samples that choices are made on; far in space from the others.
        """
        classes, codes_N = np.unique(labels_N, return_inverse=True)
        train, test = np.arange(len(train_ND)), np.arange(len(test_MD)) + len(train_ND)
        targets_N = np.concatenate([codes_N, np.zeros(len(test_MD), dtype=np.int64)])
        (predicted,) = self.fit_predict_many(
            np.concatenate([train_ND, test_MD]),
            targets_N,
            [Draw(train=train, test=test, validation=validation_N)],
            kind="classification",
            num_classes=len(classes),
        )
        return classes[predicted.values], predicted.chosen
