"""Where the chips of candidate sites lie: in the scenes of a source, or on the grid of their zone when no source is asked."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.dates import Dates, open_dates
from pwcat.errors import SourceError
from pwcat.phenology import Seasons
from pwcat.providers import OpenSource
from pwcat.recipe import Recipe
from pwcat.samplers.sphere import AreaSampler
from pwcat.scenes import Scene, search_scenes
from pwcat.search import Shelf
from pwcat.sites.placing import Located, Placer, place_nominally, room_km
from pwcat.sites.shortfall import Circumstances

__all__ = ["NominalLocator", "SceneLocator"]


class SceneLocator:
    """Places chips in scenes: in those given, or in what the source answers about each lot of candidates.

    Attributes:
        scenes: all that were seen; placements number them in this order.

    Raises:
        SourceError: none of the scenes given is as large as a chip.
    """

    def __init__(
        self,
        recipe: Recipe,
        source: OpenSource,
        *,
        scenes: Sequence[Scene] | None,
        base_dir: Path,
        pages: Path | None = None,
    ) -> None:
        self._recipe, self._source, self._pages, self._shelf = recipe, source, pages, Shelf(pages)
        self._dates = open_dates(recipe.when, base_dir=base_dir)
        self.scenes: list[Scene] = list(scenes or [])
        self._number = {scene.id: number for number, scene in enumerate(self.scenes)}
        self._placer = self._placer_in(self.scenes) if scenes is not None else None
        if scenes is not None and (room := self.circumstances().room_km) is not None:
            raise SourceError(
                f"{recipe.name}: the chip is {recipe.chip_km:g} km a side, and of the {len(self.scenes):,} scenes of "
                f"{source.collection} the largest has room for {room:.3g} km: take a smaller `chip.size_px`"
            )

    def _placer_in(self, scenes: Sequence[Scene]) -> Placer:
        return Placer(scenes, self._dates, self._recipe.chip, most=self._recipe.when.most_scenes or 1)

    @property
    def asks(self) -> bool:
        """Whether scenes are asked for as sites are drawn."""
        return self._placer is None

    def circumstances(self) -> Circumstances:
        """What advice hangs on, where sites could not be had."""
        most = 0.0
        for scene in self.scenes:
            most = max(most, room_km(scene, self._recipe.chip))
            if most >= self._recipe.chip_km:
                break
        too_small = 0 < most < self._recipe.chip_km
        return replace(_circumstances(self._recipe), scenes=len(self.scenes), room_km=most if too_small else None)

    def dated(self, lonlat: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which sites have dates, ``(n,)``."""
        return _dated(self._dates, lonlat)

    def locate(self, lonlat: NDArray[np.float64], *, avoid: Collection[int] = ()) -> Located:
        """Placements of those of the sites that can be placed, in scenes other than those to avoid."""
        if self._placer is not None:
            return self._placer.locate(lonlat, avoid=avoid)
        found = search_scenes(
            self._source,
            self._recipe.when,
            bands=self._recipe.chip.bands,
            sites=lonlat,
            folder=self._pages,
            shelf=self._shelf,
            known=self._seen,
        )
        numbers = self._remember(found)
        here = np.flatnonzero(np.isin(numbers, list(avoid))).tolist()
        located = self._placer_in(found).locate(lonlat, avoid=here)
        return replace(located, placements=located.placements.renumbered(numbers))

    def _seen(self, name: str) -> Scene | None:
        number = self._number.get(name)
        return None if number is None else self.scenes[number]

    def _remember(self, found: Sequence[Scene]) -> NDArray[np.int64]:
        for scene in found:
            if scene.id not in self._number:
                self._number[scene.id] = len(self.scenes)
                self.scenes.append(scene)
        return np.array([self._number[scene.id] for scene in found], dtype=np.int64)

    def group(self, lonlat: NDArray[np.float64], scenes: NDArray[np.int64]) -> Located:
        """Placements of those of the sites that lie whole in these very scenes."""
        few = self._placer_in([self.scenes[number] for number in scenes])
        return Located(placements=few.place_in(lonlat, np.arange(len(scenes))).renumbered(scenes))

    def inside(self, scenes: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """``(n, 2)`` points in the footprint that the scenes share."""
        shared = reduce(shapely.intersection, [self.scenes[number].footprint for number in scenes])
        return AreaSampler([shared]).draw(n, rng=rng)


class NominalLocator:
    """Places every chip on the grid of its UTM zone, without a source."""

    asks = False

    def __init__(self, recipe: Recipe, *, base_dir: Path) -> None:
        self._recipe = recipe
        self._dates = open_dates(recipe.when, base_dir=base_dir)

    def circumstances(self) -> Circumstances:
        """What advice hangs on, where sites could not be had."""
        return _circumstances(self._recipe)

    def dated(self, lonlat: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which sites have dates, ``(n,)``."""
        return _dated(self._dates, lonlat)

    def locate(self, lonlat: NDArray[np.float64], *, avoid: Collection[int] = ()) -> Located:
        """Placements of all sites; their scenes are -1."""
        return Located(placements=place_nominally(lonlat, self._recipe.chip, dates=self._recipe.when.num_dates))

    def group(self, lonlat: NDArray[np.float64], scenes: NDArray[np.int64]) -> Located:
        """Never asked: without scenes there are no groups."""
        raise NotImplementedError

    def inside(self, scenes: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Never asked: without scenes there are no groups."""
        raise NotImplementedError


def _dated(dates: Dates, lonlat: NDArray[np.float64]) -> NDArray[np.bool_]:
    return dates.covers(lonlat) if isinstance(dates, Seasons) else np.ones(len(lonlat), dtype=bool)


def _circumstances(recipe: Recipe) -> Circumstances:
    return Circumstances(chip_km=recipe.chip_km, dates=recipe.when.num_dates, clouds=recipe.when.max_cloud_cover)
