"""Labels of imported samples, by the same layers and in the same way as a recipe's: centres, and shares of land cover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from catalog.importers.importer import Grid, Sample
from pwcat.errors import CatalogError
from pwcat.regions import RegionLayer, Regions, majority, shares
from pwcat.sites.judging import LANDCOVER_POINTS, POINTS_AT_ONCE

__all__ = ["LAYERS", "Labels", "label", "lonlat_of", "metres_of", "require_known_layers", "to_lonlat"]

LAYERS = ("continent", "biome", "ecoregion", "landcover")
CENTRE = np.array([0.5])


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels of some samples.

    Attributes:
        names: class of each sample by layer, ``(n,)``, ``None`` where there is none.
        fractions: land covers of each sample with their shares, largest first; empty where there is none.
    """

    names: Mapping[str, list[str | None]]
    fractions: list[list[dict[str, Any]]]

    def take(self, rows: Sequence[int]) -> Labels:
        """Those of some samples."""
        names = {name: [values[row] for row in rows] for name, values in self.names.items()}
        return Labels(names=names, fractions=[self.fractions[row] for row in rows])


def require_known_layers(regions: Regions) -> None:
    """See that items have a column for each layer.

    Raises:
        CatalogError: they have not.
    """
    if others := [name for name in regions.layers if name not in LAYERS]:
        raise CatalogError(f"regions: items have no column for {', '.join(others)}; layers are {', '.join(LAYERS)}")


def label(samples: Sequence[Sample], grids: Sequence[Grid], lonlat: NDArray[np.float64], regions: Regions) -> Labels:
    """Labels of samples; those that a dataset brings along stand where no layer of that name is given.

    Args:
        samples: to be labelled.
        grids: of their chips.
        lonlat: ``(n, 2)``, their places.
        regions: the layers.
    """
    names: dict[str, list[str | None]] = {
        name: [sample.labels.get(name) for sample in samples] for name in LAYERS if name not in regions.layers
    }
    fractions: list[list[dict[str, Any]]] = [list(sample.labels.get("landcover_fractions", [])) for sample in samples]
    for name, layer in regions.layers.items():
        if name == "landcover":
            names[name], fractions = _landcover(layer, grids)
        else:
            names[name] = layer.label(lonlat).tolist()
    return Labels(names=names, fractions=fractions)


def _landcover(layer: RegionLayer, grids: Sequence[Grid]) -> tuple[list[str | None], list[list[dict[str, Any]]]]:
    """The land cover with the largest share of each chip, and all shares, over a grid of points as recipes' chips have it."""
    classes = [*layer.classes, None]
    names: list[str | None] = [None] * len(grids)
    fractions: list[list[dict[str, Any]]] = [[] for _ in grids]
    points = np.array([_points(layer, grid) for grid in grids], dtype=np.int64)
    for count in np.unique(points):
        rows = np.flatnonzero(points == count)
        for part in np.array_split(rows, max(1, len(rows) * int(count) ** 2 // POINTS_AT_ONCE)):
            shares_NK = shares(layer, _spread([grids[row] for row in part], int(count)))
            for row, code, shares_K in zip(part, majority(shares_NK), shares_NK, strict=True):
                names[row], fractions[row] = classes[code], _ranked(shares_K, layer.classes)
    return names, fractions


def _points(layer: RegionLayer, grid: Grid) -> int:
    """Points a side: two for each pixel of the layer across a chip, as for recipes."""
    least, most = LANDCOVER_POINTS
    metres = metres_of(grid) * max(grid.height, grid.width)
    pixels = 2 * metres / layer.pixel_m if layer.pixel_m else most
    return min(max(int(np.ceil(pixels)), least), most, max(1, grid.height, grid.width))


def metres_of(grid: Grid) -> float:
    """Height of a pixel, metres."""
    _, _, _, d, e, _ = grid.transform
    return float(np.hypot(d, e)) * _metres(grid.crs)


def _ranked(shares_K: NDArray[np.float32], classes: Sequence[str]) -> list[dict[str, Any]]:
    order = np.argsort(-shares_K, kind="stable")
    return [{"name": classes[k], "fraction": round(float(shares_K[k]), 7)} for k in order if shares_K[k] > 0]


def _spread(grids: Sequence[Grid], points: int) -> NDArray[np.float64]:
    steps = (np.arange(points) + 0.5) / points
    return to_lonlat(grids, *np.meshgrid(steps, steps)).reshape(len(grids), -1, 2)


def lonlat_of(samples: Sequence[Sample], grids: Sequence[Grid]) -> NDArray[np.float64]:
    """``(n, 2)`` longitude and latitude: where samples are said to be, else the centres of their chips."""
    found = to_lonlat(grids, CENTRE, CENTRE)[:, 0]
    for row, sample in enumerate(samples):
        if sample.lonlat is not None:
            found[row] = sample.lonlat
    return found


def to_lonlat(grids: Sequence[Grid], across: NDArray[np.float64], down: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(n, *k, 2)`` longitudes and latitudes, EPSG:4326, at shares of each chip's width and height.

    Raises:
        CatalogError: a CRS is unknown.
    """
    found = np.empty((len(grids), *across.shape, 2))
    for crs in {grid.crs for grid in grids}:
        rows = [row for row, grid in enumerate(grids) if grid.crs == crs]
        x, y = (np.stack(axis) for axis in zip(*(grids[row].xy(across, down) for row in rows), strict=True))
        found[rows] = np.stack(_transformer(crs).transform(x, y), axis=-1)
    return found


@lru_cache(maxsize=256)
def _transformer(crs: str) -> Transformer:
    try:
        return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    except CRSError as exc:
        raise CatalogError(f"unknown CRS {crs[:60]!r}") from exc


@lru_cache(maxsize=256)
def _metres(crs: str) -> float:
    """Metres a unit of a CRS; of degrees, those of latitude."""
    known = CRS.from_user_input(crs)
    return 111_320.0 if known.is_geographic else float(known.axis_info[0].unit_conversion_factor)
