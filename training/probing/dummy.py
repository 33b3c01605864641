"""What is known without looking: the best constant of the training samples, the row that every model has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.probing.heads import Head
from training.probing.kinds import EVERY, Kind, Predicted, check_targets
from training.probing.one_draw import OneDraw
from training.resampling import Draw

__all__ = ["DummyProbe"]

CLASS_1 = "f1"  # a metric that class 1 alone counts for


@dataclass(frozen=True, kw_only=True)
class DummyProbe(OneDraw):
    """The same answer for every sample; embeddings are not looked at.

    Of numbers the median, which has the least mean absolute error, or the mean where the squared error counts; of classes the
    commonest, or class 1 for its F1; the labels that most samples have.

    Attributes:
        metric: what the answer is to be best in, of ``METRICS`` (:mod:`training.scores`).
        name: in tables.
    """

    metric: str = ""
    name: str = "dummy"
    kinds: tuple[Kind, ...] = EVERY

    def fit_many(
        self, features_ND: np.ndarray, targets_N: np.ndarray, draws: Sequence[Draw], *, kind: Kind, num_classes: int
    ) -> list[Head]:
        """See :meth:`training.probes.Probe.fit_many`."""
        targets = check_targets(
            self.name, self.kinds, targets_N, kind=kind, num_classes=num_classes, num_samples=len(features_ND)
        )
        return [self._constant(targets[draw.learnt], kind, num_classes) for draw in draws]

    def _constant(self, targets_n: np.ndarray, kind: Kind, num_classes: int) -> Head:
        if kind == "regression":
            number = np.median(targets_n) if self.metric == "mae" else np.mean(targets_n)
            return _Constant(value=np.float64(number), scores_K=None, chosen={"constant": float(number)})
        if kind == "multilabel":
            shares_K = targets_n.mean(axis=0)
            return _Constant(value=shares_K > 0.5, scores_K=shares_K, chosen={"labels": int((shares_K > 0.5).sum())})
        shares_K = np.bincount(targets_n, minlength=num_classes) / len(targets_n)
        code = 1 if self.metric == CLASS_1 and num_classes == 2 else int(shares_K.argmax())
        return _Constant(value=np.int64(code), scores_K=shares_K, chosen={"class": code})


@dataclass(frozen=True, kw_only=True)
class _Constant:
    """An answer, with the shares of classes or labels in the training samples."""

    value: Any
    scores_K: np.ndarray | None
    chosen: dict[str, Any]

    def predict(self, features_MD: np.ndarray) -> Predicted:
        """See :meth:`training.probing.heads.Head.predict`."""
        samples = len(features_MD)
        scores = None if self.scores_K is None else np.tile(self.scores_K, (samples, 1))
        values = np.repeat(self.value[None], samples, axis=0)
        return Predicted(values=values, scores=scores, chosen=self.chosen)
