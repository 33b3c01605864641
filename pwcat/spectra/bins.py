"""A wanted distribution of spectral entropy beside the one that was had, bin by bin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pwcat.samplers.spectral import Target
from pwcat.samplers.strata import apportion

__all__ = ["BinCount", "bins_of", "count_bins", "shortage"]


@dataclass(frozen=True, kw_only=True)
class BinCount:
    """What became of one bin; the reserve is left out.

    Attributes:
        low: lower edge, nats, as the recipe says it; the first bin holds what lies below, too.
        high: upper edge; the last bin holds what lies above, too.
        wanted: sites, over all strata.
        candidates: with an entropy, as predicted, in this bin.
        taken: sites.
        short: sites that a stratum wanted here and took from other bins; what another stratum has over does not count.
    """

    low: float
    high: float
    wanted: int
    candidates: int
    taken: int
    short: int


def bins_of(entropies: NDArray[np.float64], target: Target) -> NDArray[np.int64]:
    """Number of the bin of each entropy, ``(n,)``; what lies beyond the outer edges counts in the outer bins."""
    return np.searchsorted(np.asarray(target.edges[1:-1]), entropies, side="right").astype(np.int64)


def count_bins(
    target: Target,
    *,
    wanted: Sequence[int],
    candidates: NDArray[np.float64],
    taken: NDArray[np.float64],
    stratum: NDArray[np.int64],
) -> list[BinCount]:
    """The bins, in order.

    Args:
        target: the wanted distribution.
        wanted: sites of each stratum.
        candidates: ``(n,)`` entropies of all candidates, nats; NaN where unknown.
        taken: ``(m,)`` those of the sites.
        stratum: ``(m,)`` of the sites.
    """
    strata, bins = len(wanted), len(target.weights)
    quotas = np.array([apportion(count, target.weights) for count in wanted]).reshape(strata, bins)
    seen = np.bincount(bins_of(candidates[~np.isnan(candidates)], target), minlength=bins)
    cells = np.bincount(stratum * bins + bins_of(taken, target), minlength=strata * bins).reshape(strata, bins)
    short = np.maximum(quotas - cells, 0).sum(axis=0)
    return [
        BinCount(
            low=target.edges[number],
            high=target.edges[number + 1],
            wanted=int(quotas[:, number].sum()),
            candidates=int(seen[number]),
            taken=int(cells[:, number].sum()),
            short=int(short[number]),
        )
        for number in range(bins)
    ]


def shortage(bins: Sequence[BinCount], *, entropies: NDArray[np.float64]) -> str | None:
    """One line on the bins that are short of what was wanted, and what to do; ``None`` where none is.

    Args:
        bins: as counted.
        entropies: of the candidates, nats; NaN where unknown.
    """
    lacking = [one for one in bins if one.short]
    if not lacking:
        return None
    told = ", ".join(
        f"{one.low:g} to {one.high:g} nats ({one.short:,} of {one.wanted:,}; "
        f"{f'{one.candidates:,} candidates' if one.candidates else 'no candidate'} there)"
        for one in lacking
    )
    total, wanted = sum(one.short for one in lacking), sum(one.wanted for one in bins)
    return (
        f"`aim` is not met: {total:,} of {wanted:,} sites were taken from other bins. Short are {told}. "
        f"Candidates have {np.nanmin(entropies):.2f} to {np.nanmax(entropies):.2f} nats: raise `candidates`, or move "
        "the edges or weights"
    )
