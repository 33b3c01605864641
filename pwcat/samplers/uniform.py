"""``uniform``: sites uniform by area on the sphere, on land, anywhere, or where the source has scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.recipe import Domain
from pwcat.regions import Regions
from pwcat.samplers.sphere import WORLD, AreaSampler

__all__ = ["Uniform", "domain_polygons"]


@dataclass(frozen=True)
class Uniform:
    """Uniform by area over a domain; every site is kept."""

    area: AreaSampler

    @classmethod
    def over(cls, domain: Domain, *, regions: Regions, footprints: Sequence[shapely.Geometry]) -> Uniform:
        """The sampler over a domain of the recipe."""
        return cls(AreaSampler(domain_polygons(domain, regions=regions, footprints=footprints)))

    def draw(self, n: int, *, rng: np.random.Generator) -> NDArray[np.float64]:
        """``(n, 2)`` sites."""
        return self.area.draw(n, rng=rng)

    def keeps(self, labels: Mapping[str, NDArray[np.object_]]) -> NDArray[np.bool_]:
        """All of them."""
        return np.ones(len(labels["continent"]), dtype=bool)


def domain_polygons(
    domain: Domain, *, regions: Regions, footprints: Sequence[shapely.Geometry]
) -> Sequence[shapely.Geometry]:
    """The polygons of a domain, EPSG:4326."""
    if domain == "globe":
        return [WORLD]
    if domain == "scenes":
        return footprints
    assert regions.continent is not None, "the recipe's validator saw to it"
    return regions.continent.polygons_of()
