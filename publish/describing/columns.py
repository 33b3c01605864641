"""What the columns of the chips mean, said once for the card and for Croissant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["meaning_of"]

_MEANINGS: Final[Mapping[str, str]] = {
    "id": "Name of the sample, the same in all tables.",
    "pixels": "Raw pixels, C order (time, band, y, x), of the type in `dtype` and the size in `shape`.",
    "dtype": "NumPy type of the pixels with its byte order.",
    "shape": "Dates, bands, rows and columns.",
    "bands": "Names of the bands, in the order of their axis.",
    "lon": "Longitude of the chip's centre, degrees, EPSG:4326.",
    "lat": "Latitude of the chip's centre, degrees, EPSG:4326.",
    "datetime": "Acquisition of the first date.",
    "datetimes": "Acquisition of each date, in the order of the time axis.",
    "epsg": "EPSG code of the chip's own grid.",
    "transform": "Affine transform from pixel to that grid, row by row.",
    "continent": "Continent of the chip's centre.",
    "biome": "Biome of the chip's centre.",
    "landcover": "Land cover with the largest share of the chip.",
    "spectral_entropy": "Spectral entropy of the chip, nats.",
    "valid_fraction": "Share of pixels that have data.",
    "scene_ids": "Source scenes, one a date.",
    "collection": "Collection that the sample comes from: that of one recipe.",
    "license": "Under which the row may be used, an SPDX identifier.",
    "attribution": "Whom to name.",
    "sensors": "Sensor of each band; empty for the main source's.",
    "scales": "Of each band: the value of a pixel is pixel * scale + offset, where the pixel is not 0.",
    "offsets": "Of each band; see scales.",
    "units": "Of each band's values.",
}


def meaning_of(name: str) -> str:
    """What a column means; empty where nothing is known of it."""
    return _MEANINGS.get(name, "")
