"""What a subset's chips take: decoded, and in the files of their cubes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pwcat.cube import Cube, shard_path
from training.loading.order import Shards
from training.loading.placement import Needs

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["needs_of"]

LOOKED_AT = 64  # shards whose files are looked at: sizes of the others are like theirs


def needs_of(subset: Subset, shards: Shards, *, chip_shape: tuple[int, ...], window_chips: int) -> Needs:
    """What the chips take.

    Args:
        subset: the samples.
        shards: where they lie.
        chip_shape: (T, C, H, W) of a chip as it is handed out.
        window_chips: samples of a window.
    """
    n = len(subset)
    stored = _stored_chip(subset, shards)
    return Needs(
        decoded=2 * n * int(np.prod(chip_shape)),
        stored=None if stored is None else int(n * stored),
        window=None if stored is None else int(min(n, window_chips) * stored),
    )


def _stored_chip(subset: Subset, shards: Shards) -> float | None:
    """Bytes that a chip takes in the files, with all its bands and times; ``None`` for files of others."""
    cubes = [collection.cube for collection in subset.collections]
    if any(type(cube) is not Cube for cube in cubes):
        return None
    taken, chips = 0, 0
    for place in np.linspace(0, len(shards) - 1, min(LOOKED_AT, len(shards))).astype(np.int64).tolist():
        cube, number = cubes[int(shards.cube[place])], int(shards.number[place])
        file = shard_path(cube.path, number)
        if file.is_file():  # of one that is missing, its first chip will say so
            taken += file.stat().st_size
            chips += min(cube.shard_size, cube.num_samples - number * cube.shard_size)
    return taken / chips if chips else None
