"""Train, validation and test samples that are apart in space, drawn several times.

Shapes: N labelled samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pwcat.errors import TrainingError
from pwcat.splits import spatial_split

__all__ = ["Draw", "Resampling", "Split"]

TRAIN_SHARE = 0.8  # of the training samples, drawn anew for each of several repeats
VALIDATION_SHARE = 0.2  # of the drawn training samples, to choose settings of a probe on

Split = Literal["column", "blocks"]


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Positions of training and test samples, and a mask of the training samples that settings are chosen on."""

    train: np.ndarray
    test: np.ndarray
    validation: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """How samples are divided, and how often.

    Attributes:
        split: "column" keeps the sides that the catalog gave ("train" and "val", in whole blocks); "blocks" draws test
            blocks anew for each repeat.
        block_km: side of a block, kilometres; also of the validation part's blocks.
        test_fraction: share of samples in the test blocks, for "blocks".
        seed: fixes every draw.
        repeats: draws. Each of several takes four fifths of the training samples; a single one takes them all.
    """

    split: Split = "column"
    block_km: float = 100.0
    test_fraction: float = 0.3
    seed: int = 0
    repeats: int = 5

    def draws(self, labels_N: np.ndarray, *, lonlat: np.ndarray, sides_N: np.ndarray) -> list[Draw]:
        """The draws.

        Args:
            labels_N: the samples' labels.
            lonlat: (N, 2), EPSG:4326.
            sides_N: the catalog's side of each sample, "train" or "val".

        Raises:
            TrainingError: a draw leaves fewer than two classes to learn, or nothing to test on.
        """
        return [self._draw(labels_N, lonlat=lonlat, sides_N=sides_N, repeat=repeat) for repeat in range(self.repeats)]

    def _draw(self, labels_N: np.ndarray, *, lonlat: np.ndarray, sides_N: np.ndarray, repeat: int) -> Draw:
        rng = np.random.default_rng([self.seed, repeat])
        if self.split == "blocks":
            fraction, seed = self.test_fraction, self.seed + repeat
            sides_N = spatial_split(lonlat, val_fraction=fraction, block_km=self.block_km, seed=seed)
        train, test = np.flatnonzero(sides_N == "train"), np.flatnonzero(sides_N == "val")
        if self.repeats > 1:
            train = np.sort(rng.permutation(train)[: round(TRAIN_SHARE * len(train))])
        self._check(labels_N, train, test)
        return Draw(train=train, test=test, validation=self._validation(lonlat[train], repeat=repeat, rng=rng))

    def _validation(self, lonlat: np.ndarray, *, repeat: int, rng: np.random.Generator) -> np.ndarray:
        """A mask of about a fifth of the samples, in whole blocks; of single samples where all lie in one block."""
        sides = spatial_split(lonlat, val_fraction=VALIDATION_SHARE, block_km=self.block_km, seed=self.seed + repeat)
        mask = np.asarray(sides == "val", dtype=bool)
        if not mask.any():
            mask[rng.permutation(len(mask))[: max(1, round(VALIDATION_SHARE * len(mask)))]] = True
        return mask

    def _check(self, labels_N: np.ndarray, train: np.ndarray, test: np.ndarray) -> None:
        classes = len(np.unique(labels_N[train]))
        if classes < 2 or not len(test):
            raise TrainingError(
                f"{len(train)} training samples of {classes} classes and {len(test)} test samples are left by "
                f"split={self.split!r}, and two classes to learn and one sample to test on are needed: evaluate on more "
                "samples, or use split='blocks' with a smaller block_km"
            )
