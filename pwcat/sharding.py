"""How many samples a shard holds: what a worker has in memory, retries and writes at once."""

from __future__ import annotations

import math

from pwcat.recipe import Recipe

__all__ = ["shard_size", "shard_size_of"]

# A shard is what a worker holds in memory, retries and writes at once. It holds 64 chips, of at most 64 MB of pixels; fewer
# in a small dataset, so that it still has eight shards to share out, and up to 256 in one that would have over 1,024.
SHARD_BYTES = 64 * 2**20
SHARD_CHIPS = (64, 256)
NUM_SHARDS = (8, 1024)


def shard_size(recipe: Recipe) -> int:
    """Samples a shard, a power of two."""
    # A median holds all scenes of one date beside the chips
    layers = recipe.when.num_dates + (recipe.when.most_scenes or 0)
    return shard_size_of(recipe.num_samples, 2 * layers * len(recipe.bands) * recipe.chip.size_px**2)


def shard_size_of(num_samples: int, chip_bytes: int) -> int:
    """The same of so many samples, each of so many bytes while it is made."""
    wanted = min(max(SHARD_CHIPS[0], num_samples // NUM_SHARDS[1]), SHARD_CHIPS[1])
    most = max(1, min(wanted, SHARD_BYTES // chip_bytes, num_samples // NUM_SHARDS[0]))
    return int(2 ** math.floor(math.log2(most)))
