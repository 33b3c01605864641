"""The design of a plan: how many samples of what, how diverse, how far apart. It needs no scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pwcat.costs.expected import (
    Distances,
    Diversity,
    class_codes,
    expected_diversity,
    layers_of,
    site_distances,
)

__all__ = ["Cell", "Design", "count_cells", "design_of"]

# Continent, biome and land cover, and how many samples have them.
Cell = tuple[str | None, str | None, str | None, int]


@dataclass(frozen=True, kw_only=True)
class Design:
    """Counts, diversity and distances of a plan's samples.

    Attributes:
        samples: in all.
        splits: samples by split.
        strata: samples by stratum of the sampler, the most frequent first, then by name; empty where the plan names none.
            Quotas are met, or there is no plan.
        classes: by layer, samples by class, ordered likewise; a sample without a class is in none.
        cells: samples by continent, biome and land cover, ordered likewise.
        diversity: by layer.
        distances_km: between sites.
    """

    samples: int
    splits: dict[str, int]
    strata: dict[str, int]
    classes: dict[str, dict[str, int]]
    cells: list[Cell]
    diversity: dict[str, Diversity]
    distances_km: Distances

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return asdict(self)


def design_of(table: pa.Table) -> Design:
    """The design of a plan's table, in the plan's order; columns of text may be dictionary-encoded."""
    split, splits = class_codes(table["split"])
    lonlat = np.column_stack([table["lon"].to_numpy(), table["lat"].to_numpy()])
    val = splits.index("val") if "val" in splits else -2
    return Design(
        samples=len(table),
        splits=_tally(split, splits),
        strata=_tally(*class_codes(table["stratum"])) if "stratum" in table.column_names else {},
        classes={name: _tally(*class_codes(table[name])) for name in layers_of(table)},
        cells=count_cells(table),
        diversity=expected_diversity(table),
        distances_km=site_distances(lonlat, split == val),
    )


def _tally(codes: NDArray[np.int64], names: Sequence[str]) -> dict[str, int]:
    """Counts by name, the largest first, then by name; names that nothing has are left out."""
    counts = np.bincount(codes[codes >= 0], minlength=len(names)).tolist()
    pairs = ((name, count) for name, count in zip(names, counts, strict=True) if count)
    return dict(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))


def count_cells(table: pa.Table) -> list[Cell]:
    """Samples by continent, biome and land cover, the most frequent first, then by name."""
    columns = [class_codes(table[name]) for name in ("continent", "biome", "landcover")]
    names = [[None, *names] for _, names in columns]
    shape = tuple(len(each) for each in names)
    flat = np.ravel_multi_index([codes + 1 for codes, _ in columns], shape)
    found, counts = np.unique(flat, return_counts=True)
    picks = zip(*np.unravel_index(found, shape), counts.tolist(), strict=True)
    cells = [(names[0][a], names[1][b], names[2][c], count) for a, b, c, count in picks]
    return sorted(cells, key=lambda cell: (-cell[3], str(cell[:3])))
