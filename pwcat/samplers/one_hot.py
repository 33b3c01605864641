"""``one_hot``: sites uniform by area within one class of one layer, such as one continent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

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

        A class of a vector layer is drawn from its own polygons, unless the domain is the source's scenes.

        Raises:
            RegionError: the layer has no such class.
        """
        layer = getattr(regions, sampler.layer)
        value = require_class(sampler.value, layer.classes, layer=sampler.layer)
        if sampler.domain != "scenes" and isinstance(layer, VectorLayer):
            polygons: Sequence[shapely.Geometry] = layer.polygons_of(value)
        else:
            polygons = domain_polygons(sampler.domain, regions=regions, footprints=footprints)
        return cls(AreaSampler(polygons), sampler.layer, value)

    def draw(self, n: int, *, rng: np.random.Generator) -> NDArray[np.float64]:
        """``(n, 2)`` sites of the domain; those of other classes are dropped by :meth:`keeps`."""
        return self.area.draw(n, rng=rng)

    def keeps(self, labels: Mapping[str, NDArray[np.object_]]) -> NDArray[np.bool_]:
        """Where the layer has the wanted class."""
        return np.asarray(labels[self.layer] == self.value, dtype=bool)
