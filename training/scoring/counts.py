"""What a score of classes needs to know of the samples: counts, in many resamples at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["Cells", "Totals", "chunks", "ratio"]

NUMBERS = 1 << 23  # numbers of resamples in memory at once


def chunks(resamples: int, numbers: int) -> Iterator[int]:
    """Resamples to take at once, where each needs so many numbers."""
    at_once = max(1, NUMBERS // max(1, numbers))
    for start in range(0, resamples, at_once):
        yield min(at_once, resamples - start)


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """The quotient, 0 where there is nothing to divide by."""
    return np.asarray(np.divide(above, below, out=np.zeros_like(above, dtype=np.float64), where=below > 0))


@dataclass(frozen=True)
class Totals:
    """Hits, true and predicted samples of each class or label in each resample, (R, K) each, of so many samples."""

    hits: np.ndarray
    true: np.ndarray
    predicted: np.ndarray
    samples: int

    @classmethod
    def of(cls, hits: np.ndarray, true: np.ndarray, predicted: np.ndarray, *, samples: int) -> Totals:
        """Of the counts in this order."""
        return cls(hits, true, predicted, samples)

    @property
    def f1(self) -> np.ndarray:
        """``2 TP / (2 TP + FP + FN)``, (R, K); 0 of classes that do not occur."""
        return ratio(2 * self.hits, self.true + self.predicted)


@dataclass(frozen=True, kw_only=True)
class Cells:
    """The cells of a confusion matrix that are not empty."""

    true_C: np.ndarray
    predicted_C: np.ndarray
    counts_C: np.ndarray
    classes: int

    @classmethod
    def of(cls, true_N: np.ndarray, predicted_N: np.ndarray) -> Cells:
        """Of true and predicted classes, whole numbers from 0."""
        classes = int(max(true_N.max(), predicted_N.max())) + 1
        cells, counts = np.unique(true_N.astype(np.int64) * classes + predicted_N, return_counts=True)
        return cls(true_C=cells // classes, predicted_C=cells % classes, counts_C=counts, classes=classes)

    def resample(self, rng: np.random.Generator, resamples: int) -> Iterator[np.ndarray]:
        """Samples of each cell in each resample, (R, C), some resamples at a time."""
        total = int(self.counts_C.sum())
        for part in chunks(resamples, len(self.counts_C)):
            yield rng.multinomial(total, self.counts_C / total, size=part)

    def totals(self, counts_RC: np.ndarray) -> Totals:
        """Hits, true and predicted samples of each class, by one weighted bincount each."""
        hit_C = self.true_C == self.predicted_C
        return Totals(
            self._by_class(counts_RC[:, hit_C], self.true_C[hit_C]),
            self._by_class(counts_RC, self.true_C),
            self._by_class(counts_RC, self.predicted_C),
            int(self.counts_C.sum()),
        )

    def _by_class(self, counts_RC: np.ndarray, class_C: np.ndarray) -> np.ndarray:
        resamples = len(counts_RC)
        cells_RC = class_C + self.classes * np.arange(resamples)[:, None]
        sums = np.bincount(cells_RC.ravel(), weights=counts_RC.ravel(), minlength=resamples * self.classes)
        return sums.reshape(resamples, self.classes)
