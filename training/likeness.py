"""Samples whose embeddings are nearly the same, and from which similarity on that says anything.

Shapes: N samples, M others, D numbers of an embedding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from catalog.cosine import DIGITS, is_known, near_largest, pairs_above, to_units
from pwcat.errors import TrainingError
from training.footprints import Footprints

__all__ = ["FAR_KM", "NULL_QUANTILE", "NULL_SAMPLES", "Bound", "Likeness", "Vectors", "choose_bound", "compare_vectors"]

FAR_KM = 100.0  # no ground of two chips is the same
NULL_SAMPLES = 2000  # that the null is made of, at most
NULL_QUANTILE = 0.999
BLOCK = 1 << 16  # others whose units are in memory at once
NULL_BLOCK = 1 << 12


@dataclass(frozen=True, kw_only=True, eq=False)
class Vectors:
    """Embeddings of samples.

    Attributes:
        values: (N, D), of any length; NaN or zeros where there is none.
    """

    values: NDArray[np.floating]

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Which samples have an embedding with a direction, (N,)."""
        parts = [is_known(self.values[start : start + BLOCK]) for start in range(0, len(self), BLOCK)]
        return np.concatenate([np.empty(0, dtype=bool), *parts])

    def only(self, rows: NDArray[np.int64]) -> Vectors:
        """Some of them."""
        return Vectors(values=self.values[rows])

    def units(self, size: int = BLOCK) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Rows with an embedding, ascending, and these at length 1, some at a time."""
        for start in range(0, len(self), size):
            rows = start + np.flatnonzero(self.known[start : start + size])
            if len(rows):
                yield rows, to_units(self.values[rows])


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A cosine from which two samples are taken for the same.

    Attributes:
        above: the least such cosine.
        chosen: "given", or "null".
        samples: that the null is made of; 0 of a given one.
    """

    above: float
    chosen: str
    samples: int = 0


def choose_bound(
    vectors: Vectors,
    places: Footprints,
    others: Vectors,
    other_places: Footprints,
    *,
    seed: int = 0,
    far_km: float = FAR_KM,
    quantile: float = NULL_QUANTILE,
    most: int = NULL_SAMPLES,
) -> Bound:
    """The cosine that all but one in a thousand samples do not exceed with any of the others that are far away.

    Of each sample it is the largest similarity with the others farther than ``far_km`` that counts, for each has as many
    chances to look like something as there are others.

    Args:
        vectors: of N samples.
        places: of these.
        others: of M others.
        other_places: of these.
        seed: fixes which samples are taken, where there are more than ``most``.
        far_km: no two chips so far apart show the same ground.
        quantile: of the samples' largest similarities.
        most: of samples to look at.

    Raises:
        TrainingError: no sample has both a place and others that are far away.
    """
    rows = places.known[vectors.known[places.known]]
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    largest = np.full(len(rows), -np.inf)
    if len(rows):
        asked = to_units(vectors.values[rows])
        near_of, near = _nearer(places.lonlat[rows], other_places, far_km)
        placed = np.isin(np.arange(len(others)), other_places.known)
        for every, all_units in others.units(NULL_BLOCK):
            numbers, units = every[placed[every]], all_units[placed[every]]
            if not len(numbers):
                continue
            low, high = np.searchsorted(near, [numbers[0], numbers[-1] + 1])
            column = np.searchsorted(numbers, near[low:high])
            there = numbers[np.minimum(column, len(numbers) - 1)] == near[low:high]
            apart = near_of[low:high][there], column[there]
            row, _, similarity = near_largest(asked, units, k=1, best=largest, apart=apart)
            np.maximum.at(largest, row, similarity)
    largest = largest[np.isfinite(largest)]
    if not len(largest):
        raise TrainingError(
            f"no bound of similarity can be chosen, for no sample with coordinates has others farther than {far_km:g} km: give "
            "one (--above .99)"
        )
    reached = float(np.quantile(largest, quantile, method="higher"))
    return Bound(above=round(reached + 10.0**-DIGITS, DIGITS), chosen="null", samples=len(largest))


def _nearer(lonlat: NDArray[np.float64], others: Footprints, km: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of places and others that are not far apart: number of the place and of the other, by the other."""
    starts, sites = others.index.near(lonlat, km)
    place, other = np.repeat(np.arange(len(lonlat)), np.diff(starts)), others.known[sites]
    order = np.argsort(other, kind="stable")
    return place[order], other[order]


@dataclass(frozen=True, kw_only=True, eq=False)
class Likeness:
    """Which samples are like which others.

    Attributes:
        near: whether a sample is as similar as the bound to one of the others, (N,).
        similarity: with the most similar of these, (N,); NaN where there is none.
        nearest: which one that is, (N,); -1 where there is none.
        others: whether one of the others is as similar to any sample, (M,).
    """

    near: NDArray[np.bool_]
    similarity: NDArray[np.float64]
    nearest: NDArray[np.int64]
    others: NDArray[np.bool_]


def compare_vectors(vectors: Vectors, others: Vectors, *, above: float) -> Likeness:
    """Which samples have a cosine of at least ``above`` with one of the others; of more than 1 there are none.

    Raises:
        CatalogError: so many pairs are as similar that nothing is told by it.
        TrainingError: the embeddings differ in length.
    """
    similarity, nearest = np.full(len(vectors), -np.inf), np.full(len(vectors), -1, dtype=np.int64)
    touched = np.zeros(len(others), dtype=bool)
    if len(vectors) and len(others) and vectors.values.shape[1] != others.values.shape[1]:
        raise TrainingError(
            f"embeddings of {vectors.values.shape[1]} numbers and of {others.values.shape[1]} are of other models"
        )
    if above <= 1:
        for mine, units in vectors.units():
            for theirs, other_units in others.units():
                found = pairs_above(units, other_units, above=above)
                order = np.lexsort((found.second, -found.similarity, found.first))
                first, at = np.unique(found.first[order], return_index=True)
                best, rows = found.similarity[order][at], mine[first]
                better = best > similarity[rows]
                similarity[rows[better]] = best[better]
                nearest[rows[better]] = theirs[found.second[order][at][better]]
                touched[theirs[found.second]] = True
    near = nearest >= 0
    return Likeness(near=near, similarity=np.where(near, similarity, np.nan), nearest=nearest, others=touched)
