"""Which asset of an item holds a sensor's band, and what kind of numbers it says these are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pwcat.errors import SourceError
from pwcat.providers.source import OpenSource
from pwcat.sensors.document import ELEVATION, SLOPE

__all__ = ["assets_of", "stored_band"]


def stored_band(source: OpenSource, band: str, assets: Mapping[str, Any]) -> str:
    """The band that has to be read for a band: ``elevation`` for a ``slope`` that has no asset of its own, else the band."""
    if band != SLOPE:
        return band
    try:
        source.band_asset(SLOPE, assets)
    except SourceError:
        return ELEVATION
    return SLOPE


def assets_of(source: OpenSource, bands: Sequence[str], assets: Mapping[str, Any]) -> dict[str, str]:
    """Keys of the assets that the bands are read from, by band.

    Raises:
        SourceError: the item has none for a band; lists those it has.
    """
    return {band: source.band_asset(stored_band(source, band, assets), assets) for band in bands}
