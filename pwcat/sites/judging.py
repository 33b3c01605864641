"""Whether a candidate holds on its own: its labels, exclusion zones, a scene, land, land cover; the cheap questions first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pwcat.recipe import Recipe
from pwcat.regions import Regions, majority, shares
from pwcat.samplers.strata import Stratum
from pwcat.sites.columns import Sites
from pwcat.sites.exclusion import Zones
from pwcat.sites.placing import Located, Placements, chip_points
from pwcat.sites.shortfall import Reason

__all__ = ["Drop", "Judge"]

# The land cover of a chip is looked up at a regular grid of points: as many a side as a chip has pixels, or as the layer has
# twice over, within these limits.
LANDCOVER_POINTS = (4, 32)

# The share of land in a chip is measured on so many points a side.
LAND_POINTS = 16

# Points of chips that are looked up at once: some tens of megabytes.
POINTS_AT_ONCE = 2**20

Codes = dict[str, NDArray[np.int16]]


class Drop(Protocol):
    """Is told of candidates that fall."""

    def __call__(self, reason: Reason, stratum: NDArray[np.int64], layer: str | None = None) -> None:
        """Why, of which stratum each was, and which layer's label it had not."""
        ...


class Judge:
    """Asks of candidates what can be asked of each alone.

    Args:
        recipe: says the constraints and the chip.
        strata: say the labels.
        regions: label.
        zones: to stay away from.
        dated: which places have dates, ``(n,)``.
        drop: told of the candidates that fall, with the reason, the stratum of each, and the layer of a label.
    """

    def __init__(
        self,
        recipe: Recipe,
        strata: Sequence[Stratum],
        *,
        regions: Regions,
        zones: Zones,
        dated: Callable[[NDArray[np.float64]], NDArray[np.bool_]],
        drop: Drop,
    ) -> None:
        self._recipe, self._regions, self._zones, self._drop = recipe, regions, zones, drop
        self._dated = dated
        self._allowed = {name: self._allowed_codes(name, strata) for name in regions.layers}

    def _allowed_codes(self, layer: str, strata: Sequence[Stratum]) -> NDArray[np.bool_]:
        """Which classes each stratum may have, ``(strata, classes + 1)``; the last column is for no class."""
        classes = self._regions.layers[layer].classes
        allowed = np.ones((len(strata), len(classes) + 1), dtype=bool)
        for number, stratum in enumerate(strata):
            if layer in stratum.labels:
                allowed[number] = [*(name in stratum.labels[layer] for name in classes), False]
        return allowed

    def judge(
        self,
        lonlat: NDArray[np.float64],
        stratum: NDArray[np.int64],
        locate: Callable[[NDArray[np.float64]], Located],
        *,
        free: Callable[[NDArray[np.float64]], NDArray[np.bool_]],
    ) -> Sites:
        """Those candidates that hold, in order.

        Args:
            lonlat: ``(n, 2)``, EPSG:4326.
            stratum: ``(n,)`` number of each candidate's.
            locate: finds the chips of places.
            free: whether a place is still free, ``(n,)``: asked early, for in a crowded stratum few are.
        """
        lonlat, stratum, codes = self._label(lonlat, stratum)
        keep = free(lonlat)
        self._drop("spacing", stratum[~keep])
        lonlat, stratum, codes = _some(keep, lonlat, stratum, codes)
        snapped_km = self._recipe.chip_km + self._recipe.chip.resolution_m / 1000  # a chip moves to its pixel grid
        keep = ~self._zones.hit(lonlat, chip_km=snapped_km)
        self._drop("zone", stratum[~keep])
        lonlat, stratum, codes = _some(keep, lonlat, stratum, codes)
        keep = self._dated(lonlat)
        self._drop("dates", stratum[~keep])
        lonlat, stratum, codes = _some(keep, lonlat, stratum, codes)
        located = locate(lonlat)
        placements = located.placements
        self._drop("full", stratum[located.full])
        self._drop("scene", np.delete(stratum, np.concatenate([placements.site, located.full])))
        lonlat, stratum, codes = _some(placements.site, lonlat, stratum, codes)
        none = np.empty((len(lonlat), 0), dtype=np.float32)
        sites = Sites(lonlat=lonlat, stratum=stratum, codes=codes, landcover_shares=none, placements=placements)
        return self._with_landcover(self._on_land(sites))

    def _label(
        self, lonlat: NDArray[np.float64], stratum: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], Codes]:
        """Labels of places, and the candidates that have those of their stratum; land cover is a chip's, and comes later."""
        codes: Codes = {}
        for name, layer in self._regions.layers.items():
            if name != "landcover":
                codes[name] = layer.codes(lonlat)
                keep = self._fits(name, codes[name], stratum)
                lonlat, stratum, codes = _some(keep, lonlat, stratum, codes)
        return lonlat, stratum, codes

    def _fits(self, layer: str, codes: NDArray[np.int16], stratum: NDArray[np.int64]) -> NDArray[np.bool_]:
        keep = self._allowed[layer][stratum, codes]
        self._drop("label", stratum[~keep], layer)
        return np.asarray(keep)

    def _on_land(self, sites: Sites) -> Sites:
        least = self._recipe.constraints.min_land_fraction
        if least <= 0:
            return sites
        layer = self._regions.require("continent")
        grids = self._grids(sites.placements, points=LAND_POINTS)
        keep = np.concatenate([np.empty(0), *((layer.codes(grid) >= 0).mean(axis=1) for grid in grids)]) >= least
        self._drop("land", sites.stratum[~keep])
        return sites.take(keep)

    def _with_landcover(self, sites: Sites) -> Sites:
        layer = self._regions.layers.get("landcover")
        if layer is None:
            return sites
        least, most = LANDCOVER_POINTS
        pixels = 2 * 1000 * self._recipe.chip_km / layer.pixel_m if layer.pixel_m else most
        points = min(max(int(np.ceil(pixels)), least), most, self._recipe.chip.size_px)
        parts = [shares(layer, grid) for grid in self._grids(sites.placements, points=points)]
        sites.landcover_shares = np.concatenate([np.empty((0, len(layer.classes)), dtype=np.float32), *parts])
        sites.codes["landcover"] = majority(sites.landcover_shares)
        return sites.take(self._fits("landcover", sites.codes["landcover"], sites.stratum))

    def _grids(self, placements: Placements, *, points: int) -> Iterator[NDArray[np.float64]]:
        """Points of the chips, some chips at a time."""
        chips = max(1, POINTS_AT_ONCE // points**2)
        for start in range(0, len(placements), chips):
            rows = np.arange(start, min(start + chips, len(placements)))
            yield chip_points(placements.take(rows), self._recipe.chip, points=points)


def _some(
    rows: NDArray[np.int64] | NDArray[np.bool_], lonlat: NDArray[np.float64], stratum: NDArray[np.int64], codes: Codes
) -> tuple[NDArray[np.float64], NDArray[np.int64], Codes]:
    return lonlat[rows], stratum[rows], {name: column[rows] for name, column in codes.items()}
