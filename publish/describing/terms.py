"""Whose data a collection is made from, and under which terms: for ``LICENSES.md``, one source after the other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from publish.maps import is_map
from pwcat.errors import PwcatError
from pwcat.regions.datasets import find_dataset

__all__ = ["Source", "is_copernicus", "sources_of"]

Document = Mapping[str, Any]
UNKNOWN = "not recorded: ask who made it"


@dataclass(frozen=True, kw_only=True)
class Source:
    """One thing that a collection is made from.

    Attributes:
        role: what it gives: pixels, a sensor, the labels of a layer, a map, images.
        title: what it is, and where it was taken from.
        licence: of it.
        words: how its makers ask to be named; ``None`` where nothing is recorded.
        page: where its terms stand; ``None`` where no page is known.
    """

    role: str
    title: str
    licence: str
    words: str | None
    page: str | None


@dataclass(frozen=True, kw_only=True)
class _Terms:
    licence: str
    words: str
    page: str


_SENTINEL_NOTICE = "https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice"
# By the identifier of a provider's collection. Sources: the pages; for the DEM, the words that its licence for GLO-30 asks of
# what was made with it.
_KNOWN: tuple[tuple[re.Pattern[str], _Terms], ...] = (
    (
        re.compile(r"sentinel-\d", re.IGNORECASE),
        _Terms(
            licence="free, full and open, under the legal notice on the use of Copernicus Sentinel data",
            words="Contains modified Copernicus Sentinel data {years}",
            page=_SENTINEL_NOTICE,
        ),
    ),
    (
        re.compile(r"cop-dem", re.IGNORECASE),
        _Terms(
            licence="the licence for Copernicus WorldDEM-30",
            words="Produced using Copernicus WorldDEM-30 © DLR e.V. 2010-2014 and © Airbus Defence and Space GmbH 2014-2018 "
            "provided under COPERNICUS by the European Union and ESA; all rights reserved",
            page="https://docs.sentinel-hub.com/api/latest/static/files/data/dem/resources/license/License-COPDEM-30.pdf",
        ),
    ),
    (
        re.compile(r"landsat", re.IGNORECASE),
        _Terms(
            licence="public domain",
            words="Landsat images courtesy of the U.S. Geological Survey",
            page="https://www.usgs.gov/centers/eros/data-citation",
        ),
    ),
    (
        re.compile(r"esa-worldcover", re.IGNORECASE),
        _Terms(
            licence=find_dataset("worldcover").licence,
            words=find_dataset("worldcover").attribution,
            page=find_dataset("worldcover").page,
        ),
    ),
)


def sources_of(recipe: Document, *, years: str) -> list[Source]:
    """What the collection of a recipe is made from: its pixels first, then sensors, then labels.

    Args:
        recipe: as JSON.
        years: in which the pixels were taken.
    """
    pixels = _of_tiles(recipe, years) if is_map(recipe) else [_of_provider("pixels", recipe["source"], years)]
    if not is_map(recipe) and (attribution := recipe.get("attribution")) and pixels[0].words is None:
        pixels = [Source(role="pixels", title=pixels[0].title, licence=UNKNOWN, words=str(attribution), page=None)]
    return [*pixels, *_sensors(recipe, years), *_layers(recipe)]


def is_copernicus(recipe: Document) -> bool:
    """Whether its pixels are Copernicus Sentinel data; those of a local archive are so only if attributed so."""
    source = recipe.get("source") or (recipe.get("images") or {}).get("source")
    if not source:
        return False
    named = source["provider"] != "archive" and "sentinel" in str(source["collection"]).lower()
    return named or "copernicus" in str(recipe.get("attribution") or "").lower()


def _of_tiles(recipe: Document, years: str) -> list[Source]:
    sources = []
    if given := recipe.get("map"):
        osm = given["license"] == "ODbL-1.0"
        page = "https://www.openstreetmap.org/copyright" if osm else None
        title = f"`{PurePath(given['path']).name}`"
        sources.append(Source(role="map", title=title, licence=given["license"], words=given["attribution"], page=page))
    if images := recipe.get("images"):
        known = _of_provider("images", images["source"], years) if images.get("source") else None
        sources.append(
            Source(
                role="images",
                title=known.title if known else "files of whoever made the collection",
                licence=images.get("license") or (known.licence if known else UNKNOWN),
                words=images.get("attribution") or (known.words if known else None),
                page=known.page if known else None,
            )
        )
    return sources


def _sensors(recipe: Document, years: str) -> Iterator[Source]:
    for name, sensor in (recipe.get("sensors") or {}).items():
        yield _of_provider(f"sensor {name}", sensor["source"], years)


def _of_provider(role: str, source: Document, years: str) -> Source:
    archive = source["provider"] == "archive"
    title = f"`{source['collection']}` from {'a local archive' if archive else source['provider']}"
    if source.get("url"):
        title += f" (<{source['url']}>)"
    known = None if archive else next((terms for name, terms in _KNOWN if name.search(str(source["collection"]))), None)
    if known is None:
        return Source(role=role, title=title, licence=UNKNOWN, words=None, page=None)
    return Source(role=role, title=title, licence=known.licence, words=known.words.format(years=years), page=known.page)


def _layers(recipe: Document) -> Iterator[Source]:
    for name, layer in (recipe.get("regions") or {}).items():
        if not layer:
            continue
        role = f"labels, {'land cover' if name == 'landcover' else name}"
        try:
            known = find_dataset(layer["dataset"]) if layer.get("dataset") else None
        except PwcatError:
            known = None
        if known is not None:
            yield Source(role=role, title=known.title, licence=known.licence, words=known.attribution, page=known.page)
        else:
            named = layer.get("dataset") or layer.get("collection") or PurePath(layer.get("path") or "").name
            yield Source(role=role, title=f"`{named}`", licence=UNKNOWN, words=None, page=None)
