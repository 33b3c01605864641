"""Counts' summaries of earlier runs, found again by another run on the very same chips.

A subset's hash says which samples it has, and of which recipes; it does not say that a cube was built again with other
pixels. So the name under which statistics are kept holds the size and the time of change of every file that was counted,
too: what has changed, was copied or moved is counted anew. Files of imported datasets are not ours to look after: of
those, nothing is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pwcat.cube import Cube, shard_path
from pwcat.regions.cache import cache_folder
from training.loading.order import shards_of

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["kept_path", "statistics_folder"]

WORTH_KEEPING = 10**9  # decoded bytes: less is measured again in a second
VERSION = 1  # to be raised when what is kept, or how it is computed, changes


def statistics_folder(decoded_bytes: int) -> Path | None:
    """Where statistics of chips of so many bytes are kept: in the user's cache of pwcat; ``None`` where they are few."""
    return cache_folder() / "statistics" if decoded_bytes >= WORTH_KEEPING else None


def kept_path(folder: Path, subset: Subset, *, bands: Sequence[str], times: str) -> Path | None:
    """The file for the statistics of these bands and times of a subset, there or not; ``None`` if they cannot be kept."""
    files = _files_of(subset)
    if files is None:
        return None
    digest = hashlib.sha256(f"{VERSION}\0{subset.hash}\0{times}\0{' '.join(bands)}\0".encode())
    digest.update(files)
    return folder / f"{digest.hexdigest()[:32]}.json"


def _files_of(subset: Subset) -> bytes | None:
    """Size and time of change of every shard that holds a sample."""
    if any(type(collection.cube) is not Cube for collection in subset.collections):
        return None
    shards = shards_of(subset)
    told = np.empty((len(shards), 2), dtype=np.int64)
    for row, (cube, number) in enumerate(zip(shards.cube.tolist(), shards.number.tolist(), strict=True)):
        try:
            found = shard_path(subset.collections[cube].cube.path, number).stat()
        except OSError:
            return None  # reading it will say what is wrong
        told[row] = found.st_size, found.st_mtime_ns
    return told.tobytes()
