"""Samplers choose places. One file a strategy; this Protocol is the guide to adding one.

To add a strategy: describe its options as a document in :mod:`pwcat.recipe` (a member of the union ``Recipe.sampler``),
write a module here with a class of this Protocol, and name it in :func:`make_sampler`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.recipe import OneHotSampler, Recipe
from pwcat.regions import Regions
from pwcat.samplers.one_hot import OneHot
from pwcat.samplers.uniform import Uniform

__all__ = ["Labels", "Sampler", "make_sampler"]

Labels = Mapping[str, NDArray[np.object_]]


class Sampler(Protocol):
    """Draws candidate sites, and judges them once they have labels."""

    def draw(self, n: int, *, rng: np.random.Generator) -> NDArray[np.float64]:
        """``(n, 2)`` candidate sites, longitude and latitude in EPSG:4326. All randomness comes from ``rng``."""
        ...

    def keeps(self, labels: Labels) -> NDArray[np.bool_]:
        """Which sites to keep, ``(n,)``, given the labels of each (continent, biome, landcover; ``None`` where none)."""
        ...


def make_sampler(recipe: Recipe, *, regions: Regions, footprints: Sequence[shapely.Geometry]) -> Sampler:
    """The recipe's sampler over its domain.

    Args:
        recipe: says the strategy and the domain.
        regions: the layers, for the domain ``land`` and for classes.
        footprints: of the source's scenes, EPSG:4326; used by the domain ``scenes``.

    Raises:
        RegionError: the wanted class is unknown to its layer.
    """
    sampler = recipe.sampler
    if isinstance(sampler, OneHotSampler):
        return OneHot.over(sampler, regions=regions, footprints=footprints)
    return Uniform.over(sampler.domain, regions=regions, footprints=footprints)
