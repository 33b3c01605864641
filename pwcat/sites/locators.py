"""Where the chips of candidate sites lie: in the scenes of a source, or on the grid of their zone when no source is asked."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.providers import OpenSource
from pwcat.recipe import Recipe
from pwcat.samplers.sphere import AreaSampler
from pwcat.scenes import Scene, date_windows, search_scenes
from pwcat.sites.placing import Placements, Placer, place_nominally

__all__ = ["NominalLocator", "SceneLocator"]


class SceneLocator:
    """Places chips in scenes: in those given, or in what the source answers about each lot of candidates.

    Attributes:
        scenes: all that were seen; placements number them in this order.
    """

    def __init__(self, recipe: Recipe, source: OpenSource, *, scenes: Sequence[Scene] | None) -> None:
        self._recipe, self._source = recipe, source
        self._windows = date_windows(recipe.when)
        self.scenes: list[Scene] = list(scenes or [])
        self._number = {scene.id: number for number, scene in enumerate(self.scenes)}
        self._placer = Placer(self.scenes, self._windows, recipe.chip) if scenes is not None else None

    def locate(self, lonlat: NDArray[np.float64], *, avoid: Collection[int] = ()) -> Placements:
        """Placements of those of the sites that can be placed, in scenes other than those to avoid."""
        if self._placer is not None:
            return self._placer.place(lonlat, avoid=avoid)
        found = search_scenes(self._source, self._recipe.when, bands=self._recipe.chip.bands, sites=lonlat)
        numbers = self._remember(found)
        here = np.flatnonzero(np.isin(numbers, list(avoid))).tolist()
        placed = Placer(found, self._windows, self._recipe.chip).place(lonlat, avoid=here)
        return replace(placed, scene=numbers[placed.scene])

    def _remember(self, found: Sequence[Scene]) -> NDArray[np.int64]:
        for scene in found:
            if scene.id not in self._number:
                self._number[scene.id] = len(self.scenes)
                self.scenes.append(scene)
        return np.array([self._number[scene.id] for scene in found], dtype=np.int64)

    def group(self, lonlat: NDArray[np.float64], scenes: NDArray[np.int64]) -> Placements:
        """Placements of those of the sites that lie whole in these very scenes."""
        few = Placer([self.scenes[number] for number in scenes], self._windows, self._recipe.chip)
        placed = few.place_in(lonlat, np.arange(len(scenes)))
        return replace(placed, scene=scenes[placed.scene])

    def inside(self, scenes: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """``(n, 2)`` points in the footprint that the scenes share."""
        shared = reduce(shapely.intersection, [self.scenes[number].footprint for number in scenes])
        return AreaSampler([shared]).draw(n, rng=rng)


class NominalLocator:
    """Places every chip on the grid of its UTM zone, without a source."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._windows = date_windows(recipe.when)

    def locate(self, lonlat: NDArray[np.float64], *, avoid: Collection[int] = ()) -> Placements:
        """Placements of all sites; their scenes are -1."""
        return place_nominally(lonlat, self._windows, self._recipe.chip)

    def group(self, lonlat: NDArray[np.float64], scenes: NDArray[np.int64]) -> Placements:
        """Never asked: without scenes there are no groups."""
        raise NotImplementedError

    def inside(self, scenes: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Never asked: without scenes there are no groups."""
        raise NotImplementedError
