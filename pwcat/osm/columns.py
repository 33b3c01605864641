"""Names of what is known of a tile's map, as plans and items have it; the labels of tasks are in :mod:`pwcat.osm.targets`."""

from __future__ import annotations

from typing import Final

__all__ = ["ENTITY_COUNT", "TAG_ENTROPY"]

ENTITY_COUNT: Final = "map:entities"
TAG_ENTROPY: Final = "map:tag_entropy"
