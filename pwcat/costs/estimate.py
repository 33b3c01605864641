"""What a plan will bring and cost, before a pixel is read: counts, diversity, distances, requests, bytes and hours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pwcat.costs.expected import Distances, Diversity, class_codes, expected_diversity, site_distances
from pwcat.costs.reads import Reads, estimate_reads
from pwcat.recipe import Recipe
from pwcat.scenes import Scene
from pwcat.sharding import shard_size

__all__ = ["RATE_MB_S", "Cell", "Estimate", "count_cells", "estimate_plan", "estimate_seconds"]

# Continent, biome and land cover, and how many samples have them.
Cell = tuple[str | None, str | None, str | None, int]

# Assumed of a connection: this many megabytes a second, and 30 ms a request with 16 in flight.
RATE_MB_S = 20.0
LATENCY_S = 0.03
IN_FLIGHT = 16


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Counts and costs of a plan.

    Attributes:
        samples: in all.
        splits: samples by split.
        cells: samples by continent, biome and land cover, the most frequent first.
        strata: samples by stratum of the sampler, as they come in the plan; empty where the plan names none.
        diversity: by layer.
        distances_km: between sites.
        scenes: how many are read.
        shards: of the cube.
        requests: two for each file, one for each tile.
        download_bytes: of the files' headers and the tiles, compressed.
        cube_bytes: of the chips, uncompressed.
        hours: at the stated rate.
        rate_mb_s: megabytes a second that the hours are for.
    """

    samples: int
    splits: dict[str, int]
    cells: list[Cell]
    strata: dict[str, int]
    diversity: dict[str, Diversity]
    distances_km: Distances
    scenes: int
    shards: int
    requests: int
    download_bytes: int
    cube_bytes: int
    hours: float
    rate_mb_s: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return asdict(self)


def estimate_plan(
    recipe: Recipe, table: pa.Table, scenes: Sequence[Scene], *, rate_mb_s: float = RATE_MB_S
) -> Estimate:
    """The estimate of a plan, worked out by columns: a million samples take seconds.

    Args:
        recipe: of the plan.
        table: of the plan; columns of text may be dictionary-encoded.
        scenes: at least those that the table names.
        rate_mb_s: what the connection carries, megabytes a second.

    Raises:
        PwcatError: the plan names a scene that is not there.
    """
    chip = recipe.chip
    reads = estimate_reads(recipe, table, scenes)
    split, splits = class_codes(table["split"])
    lonlat = np.column_stack([table["lon"].to_numpy(), table["lat"].to_numpy()])
    val = splits.index("val") if "val" in splits else -2
    times = len(table["scene_ids"][0])
    return Estimate(
        samples=len(table),
        splits=_tally(split, splits),
        cells=count_cells(table),
        strata=_tally(*class_codes(table["stratum"])) if "stratum" in table.column_names else {},
        diversity=expected_diversity(table),
        distances_km=site_distances(lonlat, split == val),
        scenes=reads.scenes,
        shards=-(-len(table) // shard_size(recipe)),
        requests=reads.requests,
        download_bytes=round(reads.bytes),
        cube_bytes=len(table) * times * len(chip.bands) * chip.size_px**2 * 2,
        hours=estimate_seconds(reads, rate_mb_s=rate_mb_s) / 3600,
        rate_mb_s=rate_mb_s,
    )


def estimate_seconds(reads: Reads, *, rate_mb_s: float) -> float:
    """How long reading takes over a connection that carries so many megabytes a second."""
    return reads.bytes / (rate_mb_s * 1e6) + reads.requests * LATENCY_S / IN_FLIGHT


def _tally(codes: NDArray[np.int64], names: Sequence[str]) -> dict[str, int]:
    counts = np.bincount(codes[codes >= 0], minlength=len(names)).tolist()
    return {name: count for name, count in zip(names, counts, strict=True) if count}


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
