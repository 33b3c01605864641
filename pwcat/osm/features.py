"""What stands on a map: things with tags and a shape, as a reader hands them on, batch by batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Features", "Losses"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Some things of a map.

    Attributes:
        osm_type: ``(n,)`` int8, place in :data:`pwcat.osm.schema.OSM_TYPES`.
        osm_id: ``(n,)`` int64.
        tags: key and value of each tag that is not excluded, by key; never none.
        geometry: ``(n,)`` shapely geometries of any kind, EPSG:4326.
    """

    osm_type: NDArray[np.int8]
    osm_id: NDArray[np.int64]
    tags: Sequence[Sequence[tuple[str, str]]]
    geometry: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.tags)


@dataclass(frozen=True)
class Losses:
    """What was broken, counted by the reason.

    Attributes:
        left_out: entities, or parts of them, that are not there.
        mended: entities that are there nevertheless.
    """

    left_out: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)

    def leave(self, reason: str, count: int | np.integer[Any] = 1) -> None:
        """Count what is not there."""
        if count:
            self.left_out[reason] += int(count)

    def mend(self, reason: str, count: int | np.integer[Any] = 1) -> None:
        """Count what was mended."""
        if count:
            self.mended[reason] += int(count)
