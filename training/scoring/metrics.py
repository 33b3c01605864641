"""Scores by name, as in scikit-learn's metrics: functions of what was counted in each resample."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from training.probing.kinds import Kind
from training.scoring.counts import Totals, ratio

__all__ = [
    "CLASSIFICATION",
    "LESS_IS_BETTER",
    "METRICS",
    "METRIC_WORDS",
    "MULTILABEL",
    "ON_REQUEST",
    "REGRESSION",
    "SEGMENTATION",
    "WITH_UNITS",
]


def _mean_over(values_RK: np.ndarray, where_RK: np.ndarray) -> np.ndarray:
    return ratio((values_RK * where_RK).sum(axis=1), where_RK.sum(axis=1).astype(np.float64))


def _macro_f1(totals: Totals) -> np.ndarray:
    return _mean_over(totals.f1, totals.true + totals.predicted > 0)


def _weighted_f1(totals: Totals) -> np.ndarray:
    return ratio((totals.f1 * totals.true).sum(axis=1), totals.true.sum(axis=1))


def _micro_f1(totals: Totals) -> np.ndarray:
    return ratio(2 * totals.hits.sum(axis=1), (totals.true + totals.predicted).sum(axis=1))


def _f1_of_class_1(totals: Totals) -> np.ndarray:
    return totals.f1[:, 1] if totals.f1.shape[1] > 1 else np.zeros(len(totals.f1))


def _balanced_accuracy(totals: Totals) -> np.ndarray:
    return _mean_over(ratio(totals.hits, totals.true), totals.true > 0)


def _accuracy(totals: Totals) -> np.ndarray:
    return np.asarray(totals.hits.sum(axis=1) / totals.samples)


def _error_rate(totals: Totals) -> np.ndarray:
    return 1 - _accuracy(totals)


def _pixel_accuracy(totals: Totals) -> np.ndarray:
    return ratio(totals.hits.sum(axis=1), totals.true.sum(axis=1))


def _mean_iou(totals: Totals) -> np.ndarray:
    """Mean over classes of ``TP / (TP + FP + FN)``: the Jaccard index."""
    union = totals.true + totals.predicted - totals.hits
    return _mean_over(ratio(totals.hits, union), union > 0)


def _r2(sums_RX: np.ndarray) -> np.ndarray:
    count, squared, _, centred, centred_squares = sums_RX.T
    spread = centred_squares - centred**2 / count
    enough = spread > 1e-12 * np.maximum(centred_squares, 1e-300)
    # Of values that do not differ: 1 where all are predicted, else 0, as in scikit-learn.
    found = np.asarray(np.where(enough, 1 - squared / np.where(enough, spread, 1), squared == 0), dtype=np.float64)
    found[np.isnan(squared + spread)] = np.nan  # of targets or predictions that are no numbers
    return found


CLASSIFICATION: dict[str, Callable[[Totals], np.ndarray]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "macro_f1": _macro_f1,
    "weighted_f1": _weighted_f1,
    "f1": _f1_of_class_1,
    "error_rate": _error_rate,
}
MULTILABEL: dict[str, Callable[[Totals], np.ndarray]] = {
    "micro_f1": _micro_f1,
    "macro_f1": lambda totals: totals.f1.mean(axis=1),
    "weighted_f1": _weighted_f1,
}
REGRESSION: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "r2": _r2,
    "rmse": lambda sums_RX: np.sqrt(sums_RX[:, 1] / sums_RX[:, 0]),
    "mae": lambda sums_RX: sums_RX[:, 2] / sums_RX[:, 0],
}
# Of the pixels of chips: each chip adds its hits, true and predicted pixels of each class.
SEGMENTATION: dict[str, Callable[[Totals], np.ndarray]] = {
    "macro_f1": _macro_f1,
    "accuracy": _pixel_accuracy,
    "miou": _mean_iou,
    "weighted_f1": _weighted_f1,
}
# Names as in scikit-learn's metrics; "f1" is of class 1 of two, "map" the mean over labels of the average precision, "miou" the
# mean over classes of the Jaccard index.
METRICS: dict[Kind, tuple[str, ...]] = {
    "classification": tuple(CLASSIFICATION),
    "multilabel": (*MULTILABEL, "map"),
    "regression": tuple(REGRESSION),
    "segmentation": tuple(SEGMENTATION),
}
# Given only where a task's tables show it: it says nothing that another does not.
ON_REQUEST = frozenset({"error_rate"})
LESS_IS_BETTER = frozenset({"rmse", "mae", "error_rate"})
# Those of several tasks have no mean: one counts buildings, another km/h.
WITH_UNITS = frozenset({"rmse", "mae"})
# As people write them.
METRIC_WORDS = {
    "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1", "micro_f1": "micro F1",
    "weighted_f1": "weighted F1", "f1": "F1", "r2": "R²", "rmse": "RMSE", "mae": "MAE", "map": "mAP", "miou": "mIoU",
    "error_rate": "error rate",
}  # fmt: skip
