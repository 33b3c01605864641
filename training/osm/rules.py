"""Which tags are taken away from entities before a model sees them: those that would tell it the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["TagRule"]


class TagRule(Protocol):
    """Tags to take away; of the tasks', see :class:`pwcat.osm.targets.TagRule`."""

    def dropped(self, pairs: Sequence[tuple[str, str]], /) -> NDArray[np.bool_]:
        """(V,) which of some tags go; an entity that has no other goes with them."""

    def taken(self, pairs: Sequence[tuple[str, str]], /) -> NDArray[np.bool_]:
        """(V,) of which tags an entity goes whole, with its other tags and its shape."""
