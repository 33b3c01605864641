"""Which samples are learnt from and which are predicted: apart in space and drawn several times, few of them, or as released.

Shapes: N labelled samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pwcat.errors import TrainingError
from pwcat.splits import spatial_split

__all__ = ["Draw", "FewShot", "Official", "Per", "Resampling", "Sampling", "Split"]

TRAIN_SHARE = 0.8  # of the training samples, drawn anew for each of several repeats
VALIDATION_SHARE = 0.2  # of the drawn training samples, to choose settings of a probe on
# With fewer, a fifth of them says nothing about a setting, and lacks where there is least to learn from.
FEWEST_TO_VALIDATE = 20
FEWEST_OF_A_CLASS_TO_VALIDATE = 5

Split = Literal["column", "blocks"]
Per = Literal["class", "group", "total"]


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Which samples are learnt from and which are predicted.

    Attributes:
        train: positions of training samples.
        test: positions of test samples.
        validation: mask of the training samples that settings are chosen on; nowhere true where there are too few for that.
        seed: fixes what is random in a probe: first weights, the order of samples, the trees of a forest.
        size: training samples asked for, of a class, group or in total; ``None`` for all there are.
        group: the group within which it was drawn; ``None`` where it is of all samples.
        refit: whether the validation part is learnt from too, once settings are chosen on it.
    """

    train: np.ndarray
    test: np.ndarray
    validation: np.ndarray
    seed: int = 0
    size: int | None = None
    group: str | None = None
    refit: bool = True

    @property
    def rest(self) -> np.ndarray:
        """Positions of the training samples that are not for validation."""
        return np.asarray(self.train[~self.validation])

    @property
    def learnt(self) -> np.ndarray:
        """Positions of the samples that the last fit learns from, with what was chosen."""
        return self.train if self.refit else self.rest


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
            labels_N: the samples' classes; labels (N, K), or numbers.
            lonlat: (N, 2), EPSG:4326; NaN where unknown.
            sides_N: the side that each sample was given, "train", or "val" where it is tested on.

        Raises:
            TrainingError: a draw leaves fewer than two classes to learn, or nothing to test on.
        """
        return [self._draw(labels_N, lonlat=lonlat, sides_N=sides_N, repeat=repeat) for repeat in range(self.repeats)]

    def _draw(self, labels_N: np.ndarray, *, lonlat: np.ndarray, sides_N: np.ndarray, repeat: int) -> Draw:
        rng = np.random.default_rng([self.seed, repeat])
        if self.split == "blocks":
            if unknown := int((~np.isfinite(lonlat).all(axis=1)).sum()):
                raise TrainingError(
                    f"split='blocks' divides places, and {unknown} of {len(lonlat)} samples have none: take split='column'"
                )
            fraction, seed = self.test_fraction, self.seed + repeat
            sides_N = spatial_split(lonlat, val_fraction=fraction, block_km=self.block_km, seed=seed)
        train, test = np.flatnonzero(sides_N == "train"), np.flatnonzero(sides_N == "val")
        if self.repeats > 1:
            train = np.sort(rng.permutation(train)[: round(TRAIN_SHARE * len(train))])
        self._check(labels_N, train, test)
        validation = np.zeros(len(train), dtype=bool)
        if len(train) >= FEWEST_TO_VALIDATE:
            validation = _validation(lonlat[train], block_km=self.block_km, seed=self.seed + repeat, rng=rng)
        return Draw(train=train, test=test, validation=validation, seed=self.seed + repeat)

    def _check(self, labels_N: np.ndarray, train: np.ndarray, test: np.ndarray) -> None:
        needed = "two classes to learn" if _are_classes(labels_N) else "two samples to learn from"
        learnt = len(np.unique(labels_N[train])) if _are_classes(labels_N) else len(train)
        if learnt < 2 or not len(test):
            of = f" of {learnt} classes" if _are_classes(labels_N) else ""
            raise TrainingError(
                f"{len(train)} training samples{of} and {len(test)} test samples are left by split={self.split!r}, and "
                f"{needed} and one sample to test on are needed: evaluate on more samples, or use split='blocks' with a "
                "smaller block_km"
            )


@dataclass(frozen=True, kw_only=True)
class Official:
    """The sides as they were released: settings are chosen on "val", which is not learnt from, and "test" is scored.

    Attributes:
        repeats: how often a probe is fitted, each with a seed of its own: those that draw nothing give the same each time.
        seed: of the first.
        block_km: side of the blocks that the validation part is drawn of, where none was released, kilometres.
    """

    repeats: int = 1
    seed: int = 0
    block_km: float = 100.0

    def draws(self, *, lonlat: np.ndarray, sides_N: np.ndarray) -> list[Draw]:
        """The draws.

        Args:
            lonlat: (N, 2), EPSG:4326; NaN where unknown.
            sides_N: "train", "val" or "test".

        Raises:
            TrainingError: there is nothing to learn from, or nothing to test on.
        """
        train, val, test = (np.flatnonzero(sides_N == side) for side in ("train", "val", "test"))
        if not len(test):  # released with two sides alone
            val, test = test, val
        if not len(train) or not len(test):
            raise TrainingError(
                f"the released split has {len(train)} training and {len(test)} test samples, and both are needed: let them be "
                "drawn (split='blocks')"
            )
        return [self._draw(repeat, train, val, test, lonlat) for repeat in range(self.repeats)]

    def _draw(self, repeat: int, train: np.ndarray, val: np.ndarray, test: np.ndarray, lonlat: np.ndarray) -> Draw:
        seed = self.seed + repeat
        if len(val):
            both, mask = np.concatenate([train, val]), np.repeat([False, True], [len(train), len(val)])
            return Draw(train=both, test=test, validation=mask, seed=seed, refit=False)
        mask = np.zeros(len(train), dtype=bool)
        if len(train) >= FEWEST_TO_VALIDATE:
            rng = np.random.default_rng([self.seed, repeat])
            mask = _validation(lonlat[train], block_km=self.block_km, seed=seed, rng=rng)
        return Draw(train=train, test=test, validation=mask, seed=seed)


@dataclass(frozen=True, kw_only=True)
class FewShot:
    """Few training samples, drawn many times; what is tested on stays the same.

    Draws of one seed are nested: those of 5 a class are among those of 20 a class, so that a label-efficiency curve shows
    what more samples bring, not what other samples do.

    Attributes:
        sizes: training samples of each draw; ``None`` for all there are. A class or group that has fewer gives all it has.
        per: whether that many are taken of each class, of each group (a continent, say), or in total.
        within_groups: draw within each group apart, and test on that group's samples alone.
        grouping: which of a task's groups are meant, such as "continent".
        seeds: draws of each size.
        seed: fixes every draw.
        block_km: side of the validation part's blocks, kilometres.

    100 in each continent, 50 times, as in "How Does the Spatial Distribution of Pre-training Data Affect GFMs?":
    ``FewShot(sizes=(100,), per="total", within_groups=True, seeds=50)``.
    """

    sizes: tuple[int | None, ...] = (100,)
    per: Per = "class"
    within_groups: bool = False
    grouping: str = "continent"
    seeds: int = 50
    seed: int = 0
    block_km: float = 100.0

    def draws(
        self,
        targets_N: np.ndarray,
        *,
        lonlat: np.ndarray,
        sides_N: np.ndarray,
        groups_N: np.ndarray | None = None,
    ) -> list[Draw]:
        """The draws, by group, size and seed.

        Args:
            targets_N: classes; labels and numbers where ``per`` is not "class".
            lonlat: (N, 2), EPSG:4326; NaN where unknown.
            sides_N: "train" for samples to draw from, "test" (or "val", if there is no "test") for those to predict.
            groups_N: the group of each sample, ``None`` where unknown.

        Raises:
            TrainingError: groups or classes are needed and not given, a size is not positive, or nothing is left to learn
                from or to test on.
        """
        self._check(targets_N, groups_N)
        found = [
            draw
            for group, members_N in self._pools(len(sides_N), groups_N)
            for draw in self._within(group, members_N, targets_N, lonlat, np.asarray(sides_N), groups_N)
        ]
        if not found:
            raise TrainingError(
                "no draws are left: no group has training and test samples; draw over all of them (within_groups=False)"
            )
        return found

    def _check(self, targets_N: np.ndarray, groups_N: np.ndarray | None) -> None:
        faults = [f"{size} samples" for size in self.sizes if size is not None and size < 1]
        if not self.sizes:
            faults.append("no sizes")
        if self.seeds < 1:
            faults.append(f"{self.seeds} seeds")
        if groups_N is None and (self.within_groups or self.per == "group"):
            faults.append("draws by group without groups")
        if self.per == "class" and not _are_classes(targets_N):
            faults.append("draws per class of targets that are no classes (take per='total' or 'group')")
        if faults:
            raise TrainingError(f"few-shot draws cannot be of {'; '.join(faults)}")

    def _pools(self, samples: int, groups_N: np.ndarray | None) -> Iterator[tuple[str | None, np.ndarray]]:
        if groups_N is None or not self.within_groups:
            known = (
                np.ones(samples) if groups_N is None or self.per != "group" else [each is not None for each in groups_N]
            )
            yield None, np.asarray(known, dtype=bool)
            return
        for group in sorted({str(each) for each in groups_N if each is not None}):
            yield group, np.asarray(groups_N == group, dtype=bool)

    def _within(
        self,
        group: str | None,
        members_N: np.ndarray,
        targets_N: np.ndarray,
        lonlat: np.ndarray,
        sides_N: np.ndarray,
        groups_N: np.ndarray | None,
    ) -> Iterator[Draw]:
        pool = np.flatnonzero(members_N & (sides_N == "train"))
        test = np.flatnonzero(members_N & (sides_N == ("test" if (sides_N == "test").any() else "val")))
        if not len(pool) or not len(test):
            if group is None:
                raise TrainingError(
                    f"{len(pool)} training and {len(test)} test samples: few-shot draws need both; split them first"
                )
            return  # a continent without test samples has no score
        strata_N = self._strata(targets_N, groups_N)[pool]
        for size in dict.fromkeys(self.sizes):  # twice the same is not twice as many draws
            for repeat in range(self.seeds):
                rng = np.random.default_rng([self.seed, repeat])  # of the seed alone: sizes are nested
                train = np.sort(pool[_first_of_each(strata_N, rng.permutation(len(pool)), size)])
                yield Draw(
                    train=train,
                    test=test,
                    validation=self._validation(lonlat[train], size, repeat, rng),
                    seed=self.seed + repeat,
                    size=size,
                    group=group,
                )

    def _strata(self, targets_N: np.ndarray, groups_N: np.ndarray | None) -> np.ndarray:
        if self.per == "total":
            return np.zeros(len(targets_N), dtype=np.int64)
        of = targets_N if self.per == "class" or groups_N is None else groups_N.astype(str)
        return np.unique(of, return_inverse=True)[1]

    def _validation(self, lonlat: np.ndarray, size: int | None, repeat: int, rng: np.random.Generator) -> np.ndarray:
        few_of_a_class = self.per == "class" and size is not None and size < FEWEST_OF_A_CLASS_TO_VALIDATE
        if few_of_a_class or len(lonlat) < FEWEST_TO_VALIDATE:
            return np.zeros(len(lonlat), dtype=bool)
        return _validation(lonlat, block_km=self.block_km, seed=self.seed + repeat, rng=rng)


Sampling = Resampling | FewShot | Official


def _are_classes(targets_N: np.ndarray) -> bool:
    """Whether each sample has one class; otherwise labels, numbers or masks."""
    return np.ndim(targets_N) == 1 and not np.issubdtype(np.asarray(targets_N).dtype, np.floating)


def _first_of_each(strata_N: np.ndarray, order_N: np.ndarray, size: int | None) -> np.ndarray:
    """Positions of the first ``size`` of each stratum in this order."""
    if size is None:
        return order_N
    by_stratum_N = order_N[np.argsort(strata_N[order_N], kind="stable")]
    counts = np.bincount(strata_N)
    place_N = np.arange(len(strata_N)) - np.repeat(np.cumsum(counts) - counts, counts)
    return by_stratum_N[place_N < size]


def _validation(lonlat: np.ndarray, *, block_km: float, seed: int, rng: np.random.Generator) -> np.ndarray:
    """A mask of about a fifth of the samples, in whole blocks; of single samples where all lie in one block, or nowhere."""
    known = np.isfinite(lonlat).all(axis=1)
    mask = np.zeros(len(lonlat), dtype=bool)
    if known.any():
        sides = spatial_split(lonlat[known], val_fraction=VALIDATION_SHARE, block_km=block_km, seed=seed)
        mask[known] = sides == "val"
    if not mask.any():
        mask[rng.permutation(len(mask))[: max(1, round(VALIDATION_SHARE * len(mask)))]] = True
    return mask
