"""How well predicted classes agree with true ones, with intervals.

Shapes: N samples, K classes, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Estimate", "Score", "accuracy", "macro_f1", "score", "score_by"]

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value with the bounds of its 95 % bootstrap interval."""

    value: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True, kw_only=True)
class Score:
    """Accuracy and macro F1 over ``num_samples`` test samples."""

    accuracy: Estimate
    macro_f1: Estimate
    num_samples: int


def accuracy(true_N: np.ndarray, predicted_N: np.ndarray) -> float:
    """Share of samples whose class is predicted, within 0..1; NaN of no samples."""
    return float((true_N == predicted_N).mean()) if len(true_N) else float("nan")


def macro_f1(true_N: np.ndarray, predicted_N: np.ndarray) -> float:
    """Mean over classes of ``2 TP / (2 TP + FP + FN)``, within 0..1; NaN of no samples.

    Classes are those that occur among the true or the predicted ones, as in scikit-learn's ``f1_score(average="macro")``.
    """
    if not len(true_N):
        return float("nan")
    _, codes = np.unique(np.concatenate([true_N, predicted_N]), return_inverse=True)
    return _macro_f1(codes[: len(true_N)], codes[len(true_N) :], int(codes.max()) + 1)


def score(
    true_N: np.ndarray, predicted_N: np.ndarray, *, rng: np.random.Generator, resamples: int = RESAMPLES
) -> Score:
    """Accuracy and macro F1 with percentile bootstrap intervals over the test samples.

    Args:
        true_N: true classes.
        predicted_N: predicted classes.
        rng: where the resamples are drawn from.
        resamples: bootstrap resamples.
    """
    _, codes = np.unique(np.concatenate([true_N, predicted_N]), return_inverse=True)
    true_codes, predicted_codes = codes[: len(true_N)], codes[len(true_N) :]
    classes = int(codes.max()) + 1
    draws_RN = rng.integers(len(true_N), size=(resamples, len(true_N)))
    hits_R = (true_codes == predicted_codes)[draws_RN].mean(axis=1)
    f1_R = np.array([_macro_f1(true_codes[draw], predicted_codes[draw], classes) for draw in draws_RN])
    return Score(
        accuracy=_estimate(accuracy(true_N, predicted_N), hits_R),
        macro_f1=_estimate(macro_f1(true_N, predicted_N), f1_R),
        num_samples=len(true_N),
    )


def score_by(
    groups_N: np.ndarray, true_N: np.ndarray, predicted_N: np.ndarray, *, rng: np.random.Generator
) -> dict[str, Score]:
    """The scores within each group (a continent, say); samples of no group (``None``) are left out."""
    names = sorted({str(group) for group in groups_N if group is not None})
    members = {name: groups_N == name for name in names}
    return {name: score(true_N[here], predicted_N[here], rng=rng) for name, here in members.items()}


def _macro_f1(true_N: np.ndarray, predicted_N: np.ndarray, classes: int) -> float:
    hits = np.bincount(true_N[true_N == predicted_N], minlength=classes)
    both = np.bincount(true_N, minlength=classes) + np.bincount(predicted_N, minlength=classes)
    seen = both > 0
    return float((2 * hits[seen] / both[seen]).mean())


def _estimate(value: float, resampled_R: np.ndarray) -> Estimate:
    low, high = np.quantile(resampled_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high))
