"""Which split each tile is of: groups of tiles go to one side whole, so that no tile has a neighbour of its group elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["SPLITS", "split_groups"]

SPLITS = ("train", "val", "test")
# With as many groups or more, no split that is asked for stays empty.
FEWEST_GROUPS = 3


def split_groups(groups: Sequence[str], *, val: float, test: float, seed: int) -> NDArray[np.object_]:
    """``"train"``, ``"val"`` or ``"test"`` of each tile, ``(n,)``.

    Groups are taken in the order of a hash of their name and the seed: first those of the test, then those of the validation,
    as many as the share of all groups says, to the nearest whole number. So the split hangs on groups and seed alone, not
    on the tiles in them or their order. Of three groups or more, each share above 0 gets one at least.

    Args:
        groups: name of each tile's group, ``zoom/x/y``.
        val: share of the groups.
        test: share of the groups; both together are less than 1.
        seed: the recipe's.

    Source: GeoJEPA splits its groups 80/10/10 at random (pyscripts/split_tiles.py at 675ce0b).
    """
    names = sorted(set(groups), key=lambda name: hashlib.sha256(f"{name},{seed}".encode()).digest())
    tested, validated = _share(len(names), test), _share(len(names), val)
    side = dict.fromkeys(names, "train")
    side |= dict.fromkeys(names[tested : tested + validated], "val") | dict.fromkeys(names[:tested], "test")
    return np.array([side[name] for name in groups], dtype=object)


def _share(count: int, share: float) -> int:
    """Groups of a share; halves are rounded up."""
    least = 1 if share > 0 and count >= FEWEST_GROUPS else 0
    return max(least, int(np.floor(count * share + 0.5)))
