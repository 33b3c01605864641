"""How many directions embeddings make use of: their effective rank, by which a collapse is seen.

Shapes: N samples, D numbers of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_ROWS", "Spread", "effective_rank", "spread_of"]

MOST_ROWS = 16_384  # by which embeddings are judged: more change little, and take long


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How embeddings fill their space.

    Attributes:
        effective_rank: see :func:`effective_rank`.
        centred: likewise, once their mean is taken from them.
        most: neither can be higher: the smaller one of ``samples`` and ``numbers``.
        samples: that were looked at.
        numbers: of an embedding.
    """

    effective_rank: float
    centred: float
    most: int
    samples: int
    numbers: int

    def to_json(self) -> dict[str, Any]:
        """As JSON values; ``null`` where there is no rank."""
        known = {
            name: None if np.isnan(value) else round(value, 3)
            for name, value in (("effective_rank", self.effective_rank), ("effective_rank_centred", self.centred))
        }
        return {**known, "most": self.most, "samples": self.samples}

    def __str__(self) -> str:
        if np.isnan(self.effective_rank):
            return "no effective rank: no embedding differs from zero"
        few = f"; {self.samples:,} samples cannot show more" if self.samples < self.numbers else ""
        about = "none" if np.isnan(self.centred) else f"{self.centred:.1f}"
        return f"effective rank {self.effective_rank:.1f}, {about} about their mean, of at most {self.most:,}{few}"


def effective_rank(x_ND: NDArray[Any], *, centred: bool = False) -> float:
    """Effective rank of a matrix, within ``[1, min(N, D)]``: the exponential of the entropy of its singular values.

    ``exp(-sum(p_i ln p_i))`` with ``p_i = s_i / sum(s)``; singular values of 0 add nothing. Of K orthogonal directions of the
    same size it is K, of equal embeddings 1. Fewer samples than numbers can show no more than N, and of some hundred samples of
    a long embedding it tells the number of samples as much as the model: compare it at the same N only. Rows with a value that
    is not finite are left out; of zeros alone, or of no row, it is NaN.

    Args:
        x_ND: embeddings; any numbers, read some at a time.
        centred: take their mean from them first. As they are, embeddings with a large part in common have a low rank, though
            they may differ in many directions about it; about their mean, embeddings that are all the same but for rounding
            seem to fill their space.

    Source: Roy and Vetterli (2007), The effective rank: a measure of effective dimensionality, definition 1.
    """
    x_ND = np.asarray(x_ND)
    if x_ND.ndim != 2:
        raise ValueError(f"embeddings are (N, D), not {x_ND.shape}")
    known = [rows[np.isfinite(rows).all(axis=1)].astype(np.float64) for rows in _blocks(x_ND)]
    count = sum(map(len, known))
    if not count or not x_ND.shape[1]:
        return float("nan")
    if centred:
        mean_D = np.sum([rows.sum(axis=0) for rows in known], axis=0) / count
        known = [rows - mean_D for rows in known]
    return _rank_of(np.concatenate(known) if count <= x_ND.shape[1] else _factor(known))


def spread_of(x_ND: NDArray[Any]) -> Spread:
    """The effective rank of embeddings, as they are and about their mean; of many, by ``MOST_ROWS`` of them, evenly taken."""
    rows = np.unique(np.linspace(0, len(x_ND) - 1, min(len(x_ND), MOST_ROWS)).astype(np.int64))
    some = np.asarray(x_ND[rows]) if len(rows) < len(x_ND) else np.asarray(x_ND)
    samples = int(sum(np.isfinite(block).all(axis=1).sum() for block in _blocks(some)))
    return Spread(
        effective_rank=effective_rank(some),
        centred=effective_rank(some, centred=True),
        most=min(samples, some.shape[1]),
        samples=samples,
        numbers=some.shape[1],
    )


def _blocks(x_ND: NDArray[Any], size: int = 4096) -> list[NDArray[Any]]:
    return [x_ND[start : start + size] for start in range(0, len(x_ND), size)]


def _factor(blocks: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """A triangle (D, D) of the same singular values as all rows together: no squares, which would lose the small ones."""
    triangle = blocks[0][:0]
    for rows in blocks:
        triangle = np.asarray(np.linalg.qr(np.concatenate([triangle, rows]), mode="r"))
    return triangle


def _rank_of(matrix: NDArray[np.float64]) -> float:
    values = np.linalg.svd(matrix, compute_uv=False)
    if not values.sum() > 0:
        return float("nan")
    shares = values / values.sum()
    shares = shares[shares > 0]
    return float(np.exp(-np.sum(shares * np.log(shares))))
