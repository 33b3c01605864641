"""Region layers: which continent, biome, ecoregion and land cover a place has. Points are longitude and latitude, EPSG:4326.

The public names are handed on lazily: a recipe looks into :mod:`pwcat.regions.datasets` without loading geometry.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pwcat.regions.cache import dataset_path
    from pwcat.regions.layer import RegionLayer, Regions, majority, require_class, shares
    from pwcat.regions.opening import open_layer, open_regions
    from pwcat.regions.raster import FixedFiles, RasterFile, RasterLayer
    from pwcat.regions.vector import VectorLayer

_MODULES = {
    "FixedFiles": "raster",
    "RasterFile": "raster",
    "RasterLayer": "raster",
    "RegionLayer": "layer",
    "Regions": "layer",
    "VectorLayer": "vector",
    "dataset_path": "cache",
    "majority": "layer",
    "open_layer": "opening",
    "open_regions": "opening",
    "require_class": "layer",
    "shares": "layer",
}

__all__ = [
    "FixedFiles",
    "RasterFile",
    "RasterLayer",
    "RegionLayer",
    "Regions",
    "VectorLayer",
    "dataset_path",
    "majority",
    "open_layer",
    "open_regions",
    "require_class",
    "shares",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'pwcat.regions' has no attribute {name!r}")
    return getattr(importlib.import_module(f"pwcat.regions.{_MODULES[name]}"), name)
