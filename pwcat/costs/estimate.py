"""What a plan will cost, before a pixel is read: requests, bytes and hours, beside its design."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from pwcat.costs.design import Design, design_of
from pwcat.costs.reads import Reads, estimate_reads
from pwcat.recipe import Recipe
from pwcat.scenes import Scene
from pwcat.sharding import shard_size

__all__ = ["RATE_MB_S", "Estimate", "estimate_plan", "estimate_seconds"]

# Assumed of a connection: this many megabytes a second, and 30 ms a request with 16 in flight.
RATE_MB_S = 20.0
LATENCY_S = 0.03
IN_FLIGHT = 16


@dataclass(frozen=True, kw_only=True)
class Estimate(Design):
    """Design and costs of a plan.

    Attributes:
        scenes: how many are read.
        shards: of the cube.
        requests: one for the header of each file, one for each run of tiles.
        download_bytes: of the files' headers and the tiles, compressed.
        cube_bytes: of the chips, uncompressed.
        hours: at the stated rate.
        rate_mb_s: megabytes a second that the hours are for.
    """

    scenes: int
    shards: int
    requests: int
    download_bytes: int
    cube_bytes: int
    hours: float
    rate_mb_s: float


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
    times = len(table["scene_ids"][0])
    return Estimate(
        **vars(design_of(table)),
        scenes=reads.scenes,
        shards=-(-len(table) // shard_size(recipe)),
        requests=reads.requests,
        download_bytes=round(reads.bytes),
        cube_bytes=len(table) * times * len(recipe.bands) * chip.size_px**2 * 2,
        hours=estimate_seconds(reads, rate_mb_s=rate_mb_s) / 3600,
        rate_mb_s=rate_mb_s,
    )


def estimate_seconds(reads: Reads, *, rate_mb_s: float) -> float:
    """How long reading takes over a connection that carries so many megabytes a second."""
    return reads.bytes / (rate_mb_s * 1e6) + reads.requests * LATENCY_S / IN_FLIGHT
