"""Random forests of scikit-learn, the draws beside each other on the cores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from training.probing.kinds import Kind, Predicted

if TYPE_CHECKING:
    from training.resampling import Draw

__all__ = ["fit_predict_forest"]


def fit_predict_forest(
    features_ND: np.ndarray, targets_N: np.ndarray, draws: Sequence[Draw], *, kind: Kind, num_classes: int, trees: int
) -> list[Predicted]:
    """What a forest of ``trees`` trees, grown on each draw's training samples with its seed, predicts for its test samples."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    cores = os.cpu_count() or 1
    beside = min(len(draws), cores)

    def grow(draw: Draw) -> Predicted:
        kept = {"n_estimators": trees, "random_state": draw.seed, "n_jobs": max(1, cores // max(1, beside))}
        model = (RandomForestRegressor if kind == "regression" else RandomForestClassifier)(**kept)
        model.fit(features_ND[draw.train], targets_N[draw.train])
        chosen = {"trees": trees}
        test_MD = features_ND[draw.test]
        if kind == "regression":
            return Predicted(values=model.predict(test_MD).astype(np.float64), scores=None, chosen=chosen)
        found = model.predict_proba(test_MD)
        if kind == "multilabel":
            each = zip(found, model.classes_, strict=True) if num_classes > 1 else [(found, model.classes_)]
            shares = np.column_stack([share @ (classes == 1) for share, classes in each])
            return Predicted(values=shares > 0.5, scores=shares, chosen=chosen)
        scores = np.zeros((len(test_MD), num_classes))
        scores[:, model.classes_] = found
        return Predicted(values=scores.argmax(axis=1), scores=scores, chosen=chosen)

    with ThreadPoolExecutor(max(1, beside)) as pool:
        return list(pool.map(grow, draws))
