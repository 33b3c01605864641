"""Which asset of an item holds a sensor's band, and what kind of numbers it says these are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from pwcat.errors import SourceError
from pwcat.providers.source import OpenSource
from pwcat.sensors.document import ELEVATION, SLOPE

__all__ = ["assets_of", "data_type", "holds_classes", "stored_band"]

# Of an asset or a band, by STAC's extension: what its values, or its bits, mean.
CLASSIFICATION = ("classification:classes", "classification:bitfields")


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


def data_type(source: OpenSource, band: str, asset: Mapping[str, Any]) -> str | None:
    """What numbers an asset says a band has, ``float32``; else what is known of the collection; ``None`` without either."""
    said = _entry(source, band, asset).get("data_type") or asset.get("data_type") or source.record.dtype
    return None if said is None else str(said)


def holds_classes(source: OpenSource, band: str, asset: Mapping[str, Any]) -> bool:
    """Whether an asset says that a band's numbers are classes or flags: there is nothing between two of them."""
    entry = _entry(source, band, asset)
    return any(field in place for field in CLASSIFICATION for place in (entry, asset))


def _entry(source: OpenSource, band: str, asset: Mapping[str, Any]) -> dict[str, Any]:
    """What an asset says of a band."""
    entries = _entries(asset)
    known = source.record.band(band)
    index = known.index - 1 if known is not None else 0
    named = [entry for entry in entries if band in (entry.get("name"), entry.get("common_name"))]
    return named[0] if named else entries[index] if index < len(entries) else {}


def _entries(asset: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What an asset says of its bands, in their order, whichever version it is written in."""
    lists = [asset.get(name) or [] for name in ("bands", "eo:bands", "raster:bands")]
    return [
        {key: value for entry in entries for key, value in entry.items()}
        for entries in zip_longest(*lists, fillvalue={})
    ]
