"""What is known of a provider and of each of its collections before they are asked: one small record each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from pwcat.providers.signing import Signing

__all__ = ["Band", "Bits", "Classes", "Collection", "Encoding", "Offset", "Provider", "asset_of_item"]


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How numbers of any kind become the cube's uint16, where 0 is no data.

    stored = round((value - offset) / scale), clipped to 1..65535; so value = stored * scale + offset, to half a ``scale``.

    Attributes:
        scale: of one step, in ``unit``; above 0.
        offset: the value that 0 would stand for: one ``scale`` below the least that can be kept.
        unit: of the value.
        transform: what is done with a number first: nothing, or ten times its decimal logarithm, where numbers that are not
            above 0 are no data.
    """

    scale: float
    offset: float
    unit: str
    transform: Literal["linear", "decibel"] = "linear"


@dataclass(frozen=True, kw_only=True)
class Band:
    """A band as a recipe may call it, and where its pixels are.

    Attributes:
        name: the instrument's own name, ``B02``.
        asset: key of the asset.
        gsd_m: native sampling, metres; ``None`` where it differs from file to file.
        alias: another name that a recipe may use, ``blue``.
        index: of the band in the asset's file, from 1.
        encoding: how its numbers become the cube's where it is a sensor's beside the main source; ``None`` where they stay as
            they are.
    """

    name: str
    asset: str
    gsd_m: float | None
    alias: str | None = None
    index: int = 1
    encoding: Encoding | None = None


@dataclass(frozen=True, kw_only=True)
class _Quality:
    """A quality band: which of its values or bits mean what."""

    asset: str
    nodata: tuple[int, ...]
    cloud: tuple[int, ...]
    shadow: tuple[int, ...]
    snow: tuple[int, ...] = ()


class Classes(_Quality):
    """A quality band whose values are classes. Those that are not listed are clear."""


class Bits(_Quality):
    """A quality band whose values are flags: bits from 0."""


@dataclass(frozen=True, kw_only=True)
class Offset:
    """Where an item says whether 1000 was added to its numbers (Sentinel-2, processing baseline 04.00 and later).

    Attributes:
        baseline: the property with the processing baseline.
        applied: a property that is true where the provider has removed the offset again.
    """

    baseline: str = "s2:processing_baseline"
    applied: str | None = None


@dataclass(frozen=True, kw_only=True)
class Collection:
    """One collection of a provider.

    Attributes:
        id: there; empty for the record of collections that are not listed.
        bands: those that are known; others are found by the key of their asset, or by what the item says of its bands.
        dtype: of the stored numbers; ``None`` where it is not known.
        scale: physical value = (number - offset) * scale + shift, where offset is what :attr:`offset` says of an item.
        shift: see ``scale``.
        unit: of the physical value.
        nodata: number that stands for no data.
        quality: the band that says what a pixel is.
        offset: how an item says that an offset was added; ``None`` where there is no such thing.
        files: what its hrefs lead to.
        footprint: what the geometry of an item covers: ``data`` where it follows the pixels that have data, ``tile`` where it
            is the whole of the file whatever is in it.
        quirks: of footprints and grids, in words.
        geoparquet: key of the collection's asset that lists its items as GeoParquet.
    """

    id: str = ""
    bands: tuple[Band, ...] = ()
    dtype: str | None = None
    scale: float = 1.0
    shift: float = 0.0
    unit: str = "1"
    nodata: float | None = None
    quality: Classes | Bits | None = None
    offset: Offset | None = None
    files: Literal["cog", "jp2"] = "cog"
    footprint: Literal["data", "tile"] = "data"
    quirks: str = ""
    geoparquet: str | None = None

    def band(self, name: str) -> Band | None:
        """The band that a recipe calls by its name, its alias or the key of its asset."""
        for band in self.bands:
            if name in (band.name, band.alias):
                return band
        return next((band for band in self.bands if band.asset == name), None)

    def asset_of(self, band: str) -> str:
        """Key of the asset that should hold a band: what is not known is taken for a key."""
        known = self.band(band)
        return band if known is None else known.asset


@dataclass(frozen=True, kw_only=True)
class Provider:
    """Who serves scenes.

    Attributes:
        url: the STAC API's root, where it has a fixed one.
        collections: those that are known, by id.
        other: what holds for collections that are not listed.
        hosts: servers that lead nowhere else, its object store's: by name, or the ends of names, with a point before them.
            Files there are read without a detour.
        signing: how hrefs are signed.
        requests_per_s: how many requests a second are sent to the API at most; our choice, below what it is known to bear.
        files_per_s: the same of its files, of all workers of a cluster together.
        page_size: items a page that are asked for first; a page that fails is asked for in smaller ones.
        snapshot_first: whether a large question reads the collection's GeoParquet rather than the API.
    """

    url: str | None = None
    collections: Mapping[str, Collection] = field(default_factory=dict)
    other: Collection = Collection()
    hosts: tuple[str, ...] = ()
    signing: Signing | None = None
    requests_per_s: float | None = None
    files_per_s: float | None = None
    page_size: int = 250
    snapshot_first: bool = False

    def collection(self, name: str) -> Collection:
        """The record of a collection; that of unlisted ones where it has none."""
        return self.collections.get(name, self.other)

    def owns(self, href: str) -> bool:
        """Whether an href is on one of its hosts, encrypted."""
        parts = urlsplit(href)
        name, ends = parts.hostname or "", tuple(host for host in self.hosts if host.startswith("."))
        return parts.scheme == "https" and (name in self.hosts or (bool(ends) and name.endswith(ends)))


def asset_of_item(band: str, assets: Mapping[str, Any]) -> str | None:
    """The one asset that says of itself that it holds a band: STAC 1.1 ``bands``, or ``eo:bands`` of earlier versions.

    Assets of several bands do not count, nor does a name that several assets have.
    """
    found = [
        key
        for key, asset in assets.items()
        if band in _names(asset.get("bands") or asset.get("eo:bands") or [])
        and "data" in (asset.get("roles") or ["data"])
    ]
    return found[0] if len(found) == 1 else None


def _names(bands: Sequence[Mapping[str, Any]]) -> set[Any]:
    """Names of an asset's only band."""
    if len(bands) != 1:
        return set()
    return {bands[0].get(field) for field in ("name", "eo:common_name", "common_name")}
