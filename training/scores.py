"""How well predictions agree with the truth, with intervals: of classes, of labels that a sample has or not, and of numbers.

Intervals are percentile bootstrap over the test samples. Resampling samples is resampling what they add to a score: of classes,
the cells of the confusion matrix, whose counts in a resample are multinomial; of labels and numbers, a few sums. So a thousand
resamples are one draw and one product.

Shapes: N samples, K classes or labels, R resamples, C cells of a confusion matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pwcat.errors import TrainingError
from training.probing.kinds import Kind
from training.scoring.counts import Cells, Totals, chunks
from training.scoring.metrics import (
    CLASSIFICATION,
    METRIC_WORDS,
    METRICS,
    MULTILABEL,
    ON_REQUEST,
    REGRESSION,
    SEGMENTATION,
)
from training.scoring.rankings import average_precisions

__all__ = [
    "METRICS",
    "METRIC_WORDS",
    "Estimate",
    "Measure",
    "Score",
    "accuracy",
    "estimates",
    "estimates_by",
    "macro_f1",
    "measure_of",
    "pixel_estimates",
    "pixel_estimates_by",
    "score",
    "score_by",
]

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


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One figure over the repeats.

    Attributes:
        mean: over the repeats.
        sd: standard deviation over the repeats (n - 1); ``None`` of one repeat.
        ci_low: lower bound of the 95 % bootstrap interval over test samples, mean over the repeats.
        ci_high: upper bound, likewise.
        values: the figure of each repeat.
    """

    mean: float
    sd: float | None
    ci_low: float
    ci_high: float
    values: list[float]


def measure_of(estimates: Sequence[Estimate]) -> Measure:
    """The estimates of several draws as mean, deviation and interval."""
    values = [estimate.value for estimate in estimates]
    return Measure(
        mean=float(np.mean(values)),
        sd=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        ci_low=float(np.mean([estimate.ci_low for estimate in estimates])),
        ci_high=float(np.mean([estimate.ci_high for estimate in estimates])),
        values=values,
    )


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
    cells = Cells.of(codes[: len(true_N)], codes[len(true_N) :])
    return float(CLASSIFICATION["macro_f1"](cells.totals(cells.counts_C[None]))[0])


def score(
    true_N: np.ndarray, predicted_N: np.ndarray, *, rng: np.random.Generator, resamples: int = RESAMPLES
) -> Score:
    """Accuracy and macro F1 with percentile bootstrap intervals over the test samples.

    Args:
        true_N: true classes, of any type.
        predicted_N: predicted classes.
        rng: where the resamples are drawn from.
        resamples: bootstrap resamples.
    """
    _, codes = np.unique(np.concatenate([true_N, predicted_N]), return_inverse=True)
    found = estimates(
        codes[: len(true_N)],
        codes[len(true_N) :],
        kind="classification",
        metrics=("accuracy", "macro_f1"),
        rng=rng,
        resamples=resamples,
    )
    return Score(accuracy=found["accuracy"], macro_f1=found["macro_f1"], num_samples=len(true_N))


def score_by(
    groups_N: np.ndarray, true_N: np.ndarray, predicted_N: np.ndarray, *, rng: np.random.Generator
) -> dict[str, Score]:
    """The scores within each group (a continent, say); samples of no group (``None``) are left out."""
    names = sorted({str(group) for group in groups_N if group is not None})
    members = {name: np.asarray(groups_N == name) for name in names}
    return {name: score(true_N[here], predicted_N[here], rng=rng) for name, here in members.items()}


def estimates(
    true_N: np.ndarray,
    predicted_N: np.ndarray,
    *,
    kind: Kind,
    rng: np.random.Generator,
    metrics: Sequence[str] | None = None,
    scores_NK: np.ndarray | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Estimate]:
    """Every metric of a kind with its 95 % interval, by name.

    Args:
        true_N: (N,) whole numbers from 0; (N, K) bool labels; (N,) numbers.
        predicted_N: likewise.
        kind: what was predicted.
        rng: where the resamples are drawn from.
        metrics: some of ``METRICS[kind]``; all by default ("f1", of class 1, only where no other class than 0 and 1 occurs;
            "map" only with ``scores_NK``; "error_rate" only where asked for).
        scores_NK: larger where a label is more likely; what "map" is computed from.
        resamples: bootstrap resamples.

    Raises:
        TrainingError: a metric is not one of this kind, or lacks what it needs.

    No samples at all give NaN.
    """
    chosen = _chosen(metrics, kind, scores_NK, true_N, predicted_N)
    if not len(true_N):
        return dict.fromkeys(chosen, Estimate(float("nan"), float("nan"), float("nan")))
    compute, draw = _program(kind, chosen, np.asarray(true_N), np.asarray(predicted_N), scores_NK)
    values = {name: float(each[0]) for name, each in compute(None).items()}
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in chosen}
    for counts in draw(rng, resamples):
        for name, each in compute(counts).items():
            drawn[name].append(each)
    return {name: _estimate(values[name], np.concatenate(drawn[name])) for name in chosen}


def estimates_by(
    groups: Mapping[str, np.ndarray],
    true_N: np.ndarray,
    predicted_N: np.ndarray,
    *,
    kind: Kind,
    rng: np.random.Generator,
    metrics: Sequence[str] | None = None,
    scores_NK: np.ndarray | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, dict[str, Estimate]]:
    """What :func:`estimates` gives for "all" samples and within each group: "continent=Africa", "biome=tundra", ...

    Args:
        groups: names of groupings, and the group of each sample in them; ``None`` where unknown, which is left out.
        true_N: see :func:`estimates`, as all that follow.
        predicted_N: likewise.
        kind: likewise.
        rng: likewise.
        metrics: likewise.
        scores_NK: likewise.
        resamples: likewise.
    """
    everyone = np.ones(len(true_N), dtype=bool)
    chosen = _chosen(metrics, kind, scores_NK, true_N, predicted_N)
    return {
        name: estimates(
            true_N[here],
            predicted_N[here],
            kind=kind,
            rng=rng,
            metrics=chosen,
            scores_NK=None if scores_NK is None else scores_NK[here],
            resamples=resamples,
        )
        for name, here in [("all", everyone), *_members(groups)]
    }


def pixel_estimates(
    counts_N3K: np.ndarray,
    *,
    rng: np.random.Generator,
    metrics: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Estimate]:
    """Every metric of a segmentation with its 95 % interval, by name: chips are resampled, as pixels are not independent.

    Args:
        counts_N3K: of each chip its hits, true and predicted labelled pixels of each class.
        rng: where the resamples are drawn from.
        metrics: some of ``METRICS["segmentation"]``; all by default.
        resamples: bootstrap resamples.

    No labelled pixels at all give NaN.
    """
    chosen = METRICS["segmentation"] if metrics is None else tuple(metrics)
    chips, classes = len(counts_N3K), counts_N3K.shape[2]
    if not counts_N3K[:, 1].any():
        return dict.fromkeys(chosen, Estimate(float("nan"), float("nan"), float("nan")))
    sums_NX = counts_N3K.reshape(chips, 3 * classes).astype(np.float64)

    def compute(times_RN: np.ndarray) -> dict[str, np.ndarray]:
        totals = Totals.of(*np.split(times_RN @ sums_NX, 3, axis=1), samples=chips)
        return {name: SEGMENTATION[name](totals) for name in chosen}

    drawn = [compute(times_RN) for times_RN in _times_drawn(rng, resamples, chips)]
    values = compute(np.ones((1, chips)))
    return {name: _estimate(float(values[name][0]), np.concatenate([each[name] for each in drawn])) for name in chosen}


def pixel_estimates_by(
    groups: Mapping[str, np.ndarray],
    counts_N3K: np.ndarray,
    *,
    rng: np.random.Generator,
    metrics: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, dict[str, Estimate]]:
    """What :func:`pixel_estimates` gives for "all" chips and within each group of them; see :func:`estimates_by`."""
    everyone = np.ones(len(counts_N3K), dtype=bool)
    return {
        name: pixel_estimates(counts_N3K[here], rng=rng, metrics=metrics, resamples=resamples)
        for name, here in [("all", everyone), *_members(groups)]
    }


def _members(groups: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    for grouping, of_N in groups.items():
        for name in sorted({str(each) for each in of_N if each is not None}):
            yield f"{grouping}={name}", np.asarray(of_N == name, dtype=bool)


# Of resampled counts (R, ...), or None for the samples themselves, the metrics (R,) by name.
Compute = Callable[[np.ndarray | None], dict[str, np.ndarray]]
Resample = Callable[[np.random.Generator, int], Iterator[np.ndarray]]


def _program(
    kind: Kind, metrics: Sequence[str], true_N: np.ndarray, predicted_N: np.ndarray, scores_NK: np.ndarray | None
) -> tuple[Compute, Resample]:
    if kind == "classification":
        cells = Cells.of(true_N, predicted_N)

        def of_cells(counts_RC: np.ndarray | None) -> dict[str, np.ndarray]:
            totals = cells.totals(cells.counts_C[None] if counts_RC is None else counts_RC)
            return {name: CLASSIFICATION[name](totals) for name in metrics}

        return of_cells, cells.resample
    samples = len(true_N)
    if kind == "multilabel":
        sums_NX = np.hstack([true_N & predicted_N, true_N, predicted_N]).astype(np.float64)
    else:
        error_N, centred_N = predicted_N - true_N, true_N - true_N.mean()
        sums_NX = np.column_stack([np.ones(samples), error_N**2, np.abs(error_N), centred_N, centred_N**2])

    def of_samples(counts_RN: np.ndarray | None) -> dict[str, np.ndarray]:
        counts_RN = np.ones((1, samples)) if counts_RN is None else counts_RN
        sums_RX = counts_RN @ sums_NX
        if kind == "regression":
            return {name: REGRESSION[name](sums_RX) for name in metrics}
        labels = Totals.of(*np.split(sums_RX, 3, axis=1), samples=samples)
        found = {name: MULTILABEL[name](labels) for name in metrics if name != "map"}
        if scores_NK is not None and "map" in metrics:
            found["map"] = average_precisions(true_N, scores_NK, counts_RN).mean(axis=1)
        return found

    return of_samples, lambda rng, resamples: _times_drawn(rng, resamples, samples)


def _times_drawn(rng: np.random.Generator, resamples: int, samples: int) -> Iterator[np.ndarray]:
    """How often each sample is in each resample, (R, N), some resamples at a time."""
    for part in chunks(resamples, samples):
        rows_RN = rng.integers(samples, size=(part, samples)) + samples * np.arange(part)[:, None]
        yield np.bincount(rows_RN.ravel(), minlength=part * samples).reshape(part, samples).astype(np.float64)


def _chosen(
    metrics: Sequence[str] | None,
    kind: Kind,
    scores_NK: np.ndarray | None,
    true_N: np.ndarray,
    predicted_N: np.ndarray,
) -> tuple[str, ...]:
    if kind == "segmentation" or kind not in METRICS:
        raise TrainingError(
            f"no scores of {kind} are given here: choose from {', '.join(each for each in METRICS if each != 'segmentation')}; "
            "those of a segmentation are of counts of pixels (pixel_estimates)"
        )
    several = kind == "classification" and len(true_N) > 0 and max(true_N.max(), predicted_N.max()) > 1
    lacking = {"f1"} if several else {"map"} if scores_NK is None else set()
    if metrics is None:
        return tuple(name for name in METRICS[kind] if name not in lacking | ON_REQUEST)
    if unknown := [name for name in metrics if name not in METRICS[kind]]:
        raise TrainingError(f"{', '.join(unknown)} is no score of a {kind}: choose from {', '.join(METRICS[kind])}")
    if without := lacking & set(metrics):
        need = "classes 0 and 1 alone; take macro_f1 of more" if several else "scores_NK to rank by"
        raise TrainingError(f"{', '.join(without)} needs {need}")
    return tuple(metrics)


def _estimate(value: float, resampled_R: np.ndarray) -> Estimate:
    low, high = np.quantile(resampled_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high))
