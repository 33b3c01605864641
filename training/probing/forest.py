"""Random forests of scikit-learn, the draws beside each other on the cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from training.probing.heads import Head
from training.probing.kinds import Kind, Predicted

if TYPE_CHECKING:
    from training.resampling import Draw

__all__ = ["Forest", "fit_forests", "fit_predict_forest"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Forest:
    """A forest of one draw, as :class:`training.probing.heads.Head`."""

    model: Any
    kind: Kind
    num_classes: int
    chosen: dict[str, Any]

    def predict(self, features_MD: np.ndarray) -> Predicted:
        """See :meth:`training.probing.heads.Head.predict`."""
        if self.kind == "regression":
            numbers = self.model.predict(features_MD).astype(np.float64)
            return Predicted(values=numbers, scores=None, chosen=self.chosen)
        found = self.model.predict_proba(features_MD)
        if self.kind == "multilabel":
            several = self.num_classes > 1
            each = zip(found, self.model.classes_, strict=True) if several else [(found, self.model.classes_)]
            shares = np.column_stack([share @ (classes == 1) for share, classes in each])
            return Predicted(values=shares > 0.5, scores=shares, chosen=self.chosen)
        scores = np.zeros((len(features_MD), self.num_classes))
        scores[:, self.model.classes_] = found
        return Predicted(values=scores.argmax(axis=1), scores=scores, chosen=self.chosen)


def fit_predict_forest(
    features_ND: np.ndarray, targets_N: np.ndarray, draws: Sequence[Draw], *, kind: Kind, num_classes: int, trees: int
) -> list[Predicted]:
    """What a forest of ``trees`` trees, grown on each draw's training samples with its seed, predicts for its test samples."""

    def answer(draw: Draw, forest: Forest) -> Predicted:
        return forest.predict(features_ND[draw.test])

    return _beside(answer, features_ND, targets_N, draws, kind=kind, num_classes=num_classes, trees=trees)


def fit_forests(
    features_ND: np.ndarray, targets_N: np.ndarray, draws: Sequence[Draw], *, kind: Kind, num_classes: int, trees: int
) -> list[Head]:
    """The forests themselves; see :func:`fit_predict_forest`."""

    def answer(draw: Draw, forest: Forest) -> Head:
        return forest

    return _beside(answer, features_ND, targets_N, draws, kind=kind, num_classes=num_classes, trees=trees)


def _beside(
    answer: Callable[[Draw, Forest], T],
    features_ND: np.ndarray,
    targets_N: np.ndarray,
    draws: Sequence[Draw],
    *,
    kind: Kind,
    num_classes: int,
    trees: int,
) -> list[T]:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    cores = os.cpu_count() or 1
    beside = min(len(draws), cores)

    def grow(draw: Draw) -> T:
        kept = {"n_estimators": trees, "random_state": draw.seed, "n_jobs": max(1, cores // max(1, beside))}
        model = (RandomForestRegressor if kind == "regression" else RandomForestClassifier)(**kept)
        model.fit(features_ND[draw.learnt], targets_N[draw.learnt])
        return answer(draw, Forest(model=model, kind=kind, num_classes=num_classes, chosen={"trees": trees}))

    with ThreadPoolExecutor(max(1, beside)) as pool:
        return list(pool.map(grow, draws))
