"""On which side of a catalog's split the samples of a task are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["sides_of"]


def sides_of(subset: Subset) -> NDArray[np.object_]:
    """Side of each sample, (N,), "train", "val" or "test": as the catalog divides them.

    Where it has two sides alone, "val" is what is tested on. Samples of no side are learnt from.
    """
    split_N = subset.column("pwcat:split")
    held_out = {"val": "val" if (split_N == "test").any() else "test", "test": "test"}
    return np.array([*(held_out.get(each, "train") for each in split_N), None], dtype=object)[:-1]
