"""Subsets for experiments: that differ in one factor and agree in others, that lie in one another, that are apart in space."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from catalog.subsets.drawing import draw_keys, ranks
from catalog.subsets.factors import Factor, factor
from pwcat.errors import CatalogError

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["Matched", "block_split", "match", "nest"]

MOST_NAMED = 4


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Subsets of equal size that differ in some factors and have the same share of each class of others.

    Attributes:
        subsets: by level of the factor that differs; by levels, joined by a comma, where several differ.
        agree: number of samples of each of these subsets by class of the factors that agree.
        most: how many samples a subset could have at most.
    """

    subsets: Mapping[str, Subset]
    agree: Mapping[str, int]
    most: int


def match(
    subset: Subset,
    *,
    vary: Sequence[str],
    agree: Sequence[str] = (),
    levels: Sequence[str] | None = None,
    n: int | None = None,
    seed: int = 0,
) -> Matched:
    """Subsets that differ in some factors and agree in others, in number and class by class.

    Exact matching on classes (Iacus, King and Porro 2012, "coarsened exact matching"): of each combination of classes of the
    factors that agree, every subset takes as many samples as the scarcest has, drawn at random. With several factors in
    ``vary`` there is a subset for each combination of their levels, a factorial design.

    Args:
        subset: where they are drawn from.
        vary: factors that differ; see :func:`catalog.subsets.factors.factor`.
        agree: factors that agree.
        levels: of a single factor that differs, only these; all that occur where ``None``.
        n: samples of each subset; as many as can be where ``None``.
        seed: of the draw.

    Raises:
        CatalogError: a factor or level is unknown, there is one level alone, or nothing can agree; says what stands in the way.
    """
    varied, agreeing = _cross(subset, vary), _cross(subset, agree)
    varied = _of_levels(varied, levels, vary)
    if len(varied.names) < 2:
        raise CatalogError(
            f"{' x '.join(vary)} has {_listed(varied.names)} here: at least two levels are needed to differ"
        )
    both = np.flatnonzero((varied.codes >= 0) & (agreeing.codes >= 0))
    cell, stratum = varied.codes[both], agreeing.codes[both]
    shape = len(varied.names), len(agreeing.names)
    group = cell * shape[1] + stratum
    counts = np.bincount(group, minlength=math.prod(shape)).reshape(shape)
    shared = counts.min(axis=0)
    quotas = _scaled(shared, _wanted(n, shared, counts, varied, agree))
    keys = draw_keys(subset, seed=seed)[both]
    taken = ranks(group, keys) < quotas[stratum]
    told = {"vary": list(vary), "agree": list(agree), **({"seed": seed} if seed else {})}
    subsets = {
        name: _noted(subset.only(both[taken & (cell == k)]), {**told, "level": name})
        for k, name in enumerate(varied.names)
    }
    agreed = {name: int(quotas[k]) for k, name in enumerate(agreeing.names) if quotas[k]}
    return Matched(subsets=subsets, agree=agreed, most=int(shared.sum()))


def _cross(subset: Subset, names: Sequence[str]) -> Factor:
    """Several factors as one, whose classes are the combinations that occur."""
    if not names:
        return Factor(codes=np.zeros(len(subset), dtype=np.int64), names=["all"])
    crossed = factor(subset, names[0])
    for name in names[1:]:
        other = factor(subset, name)
        known = (crossed.codes >= 0) & (other.codes >= 0)
        pairs = np.where(known, crossed.codes * len(other.names) + other.codes, -1)
        there, codes = np.unique(pairs, return_inverse=True)
        missing = int(len(there) > 0 and there[0] < 0)
        labels = [
            f"{crossed.names[k // len(other.names)]}, {other.names[k % len(other.names)]}" for k in there[missing:]
        ]
        crossed = Factor(codes=codes.reshape(-1) - missing, names=labels)
    return crossed


def _of_levels(varied: Factor, levels: Sequence[str] | None, vary: Sequence[str]) -> Factor:
    if levels is None:  # a month that no sample has is no level
        there, codes = np.unique(np.append(varied.codes, -1), return_inverse=True)
        return Factor(codes=codes.reshape(-1)[:-1] - 1, names=[varied.names[k] for k in there[1:]])
    folded = {_fold(name): k for k, name in enumerate(varied.names)}
    if unknown := [level for level in levels if _fold(level) not in folded]:
        raise CatalogError(
            f"{' x '.join(vary)} has no level {unknown[0]!r} here; there are {_listed(varied.names, most=20)}"
        )
    kept = [folded[_fold(level)] for level in dict.fromkeys(levels)]
    place = np.full(len(varied.names) + 1, -1)
    place[kept] = np.arange(len(kept))
    return Factor(codes=place[varied.codes], names=[varied.names[k] for k in kept])


def _fold(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())


def _wanted(
    n: int | None, shared: NDArray[np.int64], counts: NDArray[np.int64], varied: Factor, agree: Sequence[str]
) -> int:
    most = int(shared.sum())
    if n is not None and n < 1:
        raise CatalogError(f"n is at least 1, got {n}")
    if most >= (n or 1):
        return n or most
    sizes = counts.sum(axis=1)
    order = np.argsort(sizes, kind="stable")[:MOST_NAMED]
    scarce = ", ".join(f"{varied.names[k]} has {sizes[k]:,}" for k in order)
    factors = f" with equal {', '.join(agree)}" if agree else ""
    what = f"no samples of every level{factors} are there"
    if n is not None:
        what = f"{n:,} samples of each level{factors} were asked for, {most:,} can be had"
    raise CatalogError(f"{what}; of all samples, {scarce}: leave out a level or a factor, or take wider classes")


def _scaled(shared_K: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """Of ``shared_K`` the same share of each class, ``(K,)``, and ``total`` together: the largest remainders are rounded up."""
    exact = shared_K * (total / max(1, shared_K.sum()))
    quotas = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(-(exact - quotas), kind="stable")
    quotas[order[: total - int(quotas.sum())]] += 1
    return quotas


def nest(subset: Subset, sizes: Sequence[int], *, by: str | None = None, seed: int = 0) -> list[Subset]:
    """Subsets of these sizes, each of which holds all smaller ones.

    Args:
        subset: where they are drawn from.
        sizes: in samples.
        by: a factor whose classes have the same share in each, as far as whole samples allow; at random where ``None``.
        seed: of the draw.

    Raises:
        CatalogError: a size is below 1 or above what there is.
    """
    sizes = sorted(sizes)
    if not sizes or sizes[0] < 1 or any(small == large for small, large in pairwise(sizes)):
        raise CatalogError(f"sizes are different numbers of at least 1, got {sizes}")
    keys = draw_keys(subset, seed=seed)
    codes = np.zeros(len(subset), dtype=np.int64) if by is None else factor(subset, by).codes
    there = np.flatnonzero(codes >= 0)
    if sizes[-1] > len(there):
        raise CatalogError(f"{sizes[-1]:,} samples were asked for, there are {len(there):,}")
    codes, keys = codes[there], keys[there]
    # A class of m samples has its k-th at (k + 1/2) / m: the first ones of all classes together keep their shares.
    turn = (ranks(codes, keys) + 0.5) / np.bincount(codes)[codes]
    order = there[np.lexsort((keys, turn))]
    told = {"nested_by": by} if by else {}
    return [
        _noted(subset.only(order[:size]), {**told, "size": size, **({"seed": seed} if seed else {})}) for size in sizes
    ]


def block_split(subset: Subset, *, val_fraction: float, block_km: float, seed: int = 0) -> Subset:
    """The same samples with a split of their own: whole blocks of an equal-area grid go to one side or the other.

    Args:
        subset: to be split.
        val_fraction: wanted share of validation samples.
        block_km: side of a block, kilometres.
        seed: of the order in which blocks are taken.

    Raises:
        CatalogError: a number makes no sense, or one block holds all samples.
    """
    from pwcat.splits import spatial_split

    if not 0 < val_fraction < 1:
        raise CatalogError(f"val_fraction lies between 0 and 1, got {val_fraction!r}")
    if not (math.isfinite(block_km) and block_km > 0):
        raise CatalogError(f"block_km is a length above 0 km, got {block_km!r}")
    split = spatial_split(subset.lonlat, val_fraction=val_fraction, block_km=block_km, seed=seed)
    if len(set(split)) < 2:
        raise CatalogError(
            f"{len(subset):,} samples cannot be split: blocks of {block_km:g} km leave one side empty; take smaller blocks"
        )
    return subset.with_split(split, block_split={"val_fraction": val_fraction, "block_km": block_km, "seed": seed})


def _noted(subset: Subset, told: Mapping[str, Any]) -> Subset:
    return replace(subset, query={**subset.query, **told})


def _listed(names: Sequence[str], *, most: int = MOST_NAMED) -> str:
    if not names:
        return "no level"
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
