"""``one_hot``: sites uniform by area within one class of one layer, such as one continent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.errors import RegionError
from pwcat.recipe import OneHotSampler
from pwcat.regions import Regions, VectorLayer, require_class
from pwcat.samplers.sphere import AreaSampler
from pwcat.samplers.uniform import domain_polygons

__all__ = ["OneHot"]


@dataclass(frozen=True)
class OneHot:
    """Uniform by area, kept where one layer has the wanted class."""

    area: AreaSampler
    layer: str
    value: str

    @classmethod
    def over(cls, sampler: OneHotSampler, *, regions: Regions, footprints: Sequence[shapely.Geometry]) -> OneHot:
        """The sampler of a recipe.

        A class of a vector layer is drawn from its own polygons; or, where the domain is the source's scenes, from the
        footprints that meet them.

        Raises:
            RegionError: the layer has no such class, or no scene lies in it.
        """
        layer = getattr(regions, sampler.layer)
        value = require_class(sampler.value, layer.classes, layer=sampler.layer)
        domain = domain_polygons(sampler.domain, regions=regions, footprints=footprints)
        polygons: Sequence[shapely.Geometry] = domain
        if isinstance(layer, VectorLayer):
            of_class = layer.polygons_of(value)
            polygons = _touching(domain, of_class) if sampler.domain == "scenes" else of_class
        if not len(polygons):
            raise RegionError(f"no scene of the source lies in {sampler.layer} {value!r}: nothing to sample")
        return cls(AreaSampler(polygons), sampler.layer, value)

    def draw(self, n: int, *, rng: np.random.Generator) -> NDArray[np.float64]:
        """``(n, 2)`` sites of the domain; those of other classes are dropped by :meth:`keeps`."""
        return self.area.draw(n, rng=rng)

    def keeps(self, labels: Mapping[str, NDArray[np.object_]]) -> NDArray[np.bool_]:
        """Where the layer has the wanted class."""
        return np.asarray(labels[self.layer] == self.value, dtype=bool)


def _touching(footprints: Sequence[shapely.Geometry], polygons: Sequence[shapely.Geometry]) -> list[shapely.Geometry]:
    """The footprints that meet one of the polygons, in their order."""
    met = shapely.STRtree(footprints).query(np.asarray(polygons, dtype=object), predicate="intersects")[1]
    return [footprints[number] for number in np.unique(met)]
