"""What a collection says of itself: its STAC document, made of facts, items and what adds up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from catalog.extension import SCHEMA_URI
from catalog.items import MAP_MEANINGS, MEANINGS, PROJECTION_URI, STAC_VERSION, ZARR_MEDIA_TYPE

if TYPE_CHECKING:
    from catalog.measures.sums import BandTally
    from catalog.measures.tally import Tally

__all__ = ["CUBE_ASSET", "PARQUET", "CollectionFacts", "collection_document", "extent_of", "slim_document"]

# The store of a dataset's chips, as the extension for Zarr has it.
CUBE_ASSET: Final[Mapping[str, Any]] = {
    "href": "./cube.zarr",
    "type": ZARR_MEDIA_TYPE,
    "roles": ["data"],
    "title": "Chips as a Zarr datacube",
    "zarr:consolidated": True,
    "zarr:node_type": "group",
    "zarr:zarr_format": 3,
}
PARQUET: Final = "application/vnd.apache.parquet"
_EXTENSIONS: Final = "https://stac-extensions.github.io"
# Extensions by the prefix of their fields, in the versions that are written.
EXTENSIONS: Final[Mapping[str, str]] = {
    "proj": PROJECTION_URI,
    "div": SCHEMA_URI,
    "cube": f"{_EXTENSIONS}/datacube/v2.3.0/schema.json",
    "zarr": f"{_EXTENSIONS}/zarr/v1.1.0/schema.json",
    "table": f"{_EXTENSIONS}/table/v1.2.0/schema.json",
    "raster": f"{_EXTENSIONS}/raster/v2.0.0/schema.json",
    "eo": f"{_EXTENSIONS}/eo/v2.0.0/schema.json",
    "sci": f"{_EXTENSIONS}/scientific/v1.0.0/schema.json",
    "processing": f"{_EXTENSIONS}/processing/v1.2.0/schema.json",
}
# Numbers of samples whose range the summaries tell.
_RANGES: Final = (
    "div:landcover_share",
    "div:spectral_entropy",
    "div:spectral_entropy_codebook",
    "div:spectral_entropy_covariance",
    "div:valid_fraction",
)
# Assets that hold all pixels, or say where they lie.
_PIXELS: Final = ("cube", "pixels")
_LISTS: Final = ("proj:code", "pwcat:split")


@dataclass(frozen=True, kw_only=True)
class CollectionFacts:
    """What is known of a dataset beside its items: what :func:`catalog.store.write_collection` is told.

    Attributes:
        name: of the collection, and of its folder.
        title: a few words.
        description: some sentences.
        license: SPDX identifier, or ``other``.
        recipe_hash: of what it was made from; a dataset made elsewhere has the hash of what it was indexed from.
        layers: source of each region layer, by its name; ``None`` where it is not known.
        providers: as STAC has them.
        citation: how it is to be cited.
        publications: about it: ``doi`` and ``citation`` each.
        bands: as in STAC's ``bands``, in the order of the pixels, for the summaries.
        pixel_bands: the same, with all that is known of the pixels, for the asset that holds them all.
        stored: a number that was counted, in ten thousandths of 1, is ``stored[0]`` times it plus ``stored[1]`` in the pixels.
        pixels_per_sample: in one band, all dates together; ``None`` where samples differ.
        assets: beside those of this module, STAC assets by key; hrefs are relative to the folder.
        item_assets: what the assets of items are.
        summaries: beside those of this module.
        extra: other members of the document.
    """

    name: str
    title: str
    description: str
    license: str
    recipe_hash: str
    layers: Mapping[str, str | None] = field(default_factory=dict)
    providers: Sequence[Mapping[str, Any]] = ()
    citation: str | None = None
    publications: Sequence[Mapping[str, str]] = ()
    bands: Sequence[Mapping[str, Any]] = ()
    pixel_bands: Sequence[Mapping[str, Any]] = ()
    stored: tuple[float, float] = (1.0, 0.0)
    pixels_per_sample: int | None = None
    assets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    item_assets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    summaries: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


def collection_document(
    facts: CollectionFacts, *, items: pa.Table, statistics: Mapping[str, Any], tally: Tally | None
) -> dict[str, Any]:
    """The STAC Collection of a dataset.

    Args:
        facts: what is known of it.
        items: columns of its items.
        statistics: its diversities, ``div:statistics``.
        tally: what adds up, for the statistics of bands; ``None`` where pixels were not measured.
    """
    assets = {key: dict(asset) for key, asset in facts.assets.items()}
    held = next((key for key in _PIXELS if key in assets), None)
    if held is not None and facts.pixel_bands:
        assets[held]["bands"] = _with_statistics(facts, tally)
    assets["items"] = _mirror_asset(items)
    assets["stats"] = _asset("./stats.json", "application/json", ["metadata"], "Diversity statistics")
    document: dict[str, Any] = {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "stac_extensions": [],
        "id": facts.name,
        "title": facts.title,
        "description": facts.description,
        "license": facts.license,
        "extent": extent_of(items),
        "providers": [dict(provider) for provider in facts.providers],
        "summaries": {**_summaries(facts, items, statistics), **facts.summaries},
        "item_assets": {key: dict(asset) for key, asset in facts.item_assets.items()},
        "links": [
            {"rel": "parent", "href": "../catalog.json", "type": "application/json"},
            {"rel": "root", "href": "../catalog.json", "type": "application/json"},
        ],
        "assets": assets,
        "div:statistics": dict(statistics),
        "pwcat:recipe_hash": facts.recipe_hash,
        **facts.extra,
    }
    if facts.citation:
        document["sci:citation"] = facts.citation
    if facts.publications:
        document["sci:publications"] = [dict(publication) for publication in facts.publications]
    document["stac_extensions"] = _extensions_of(document)
    return {key: value for key, value in document.items() if value not in ({}, []) or key in _NEEDED}


_NEEDED: Final = frozenset({"links", "assets", "stac_extensions"})


def slim_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a collection's document that its items' file keeps in its notes: a valid Collection, and short."""
    kept = ("type", "stac_version", "id", "title", "description", "license", "extent", "providers", "sci:citation")
    slim = {key: document[key] for key in kept if key in document}
    prefixes = _prefixes(slim)
    named = [uri for prefix, uri in EXTENSIONS.items() if prefix in prefixes]
    return {**slim, "stac_extensions": named, "links": [link for link in document["links"] if link["rel"] != "store"]}


def _extensions_of(document: Mapping[str, Any]) -> list[str]:
    """Extensions whose fields a document has."""
    used = _prefixes({key: value for key, value in document.items() if key not in ("div:statistics", "extent")})
    return [uri for prefix, uri in EXTENSIONS.items() if prefix in {*used, "div"}]


def _prefixes(value: Any) -> set[str]:
    if isinstance(value, Mapping):
        here = {str(key).partition(":")[0] for key in value if ":" in str(key)}
        return here.union(*(_prefixes(inner) for key, inner in value.items() if key != "table:columns"))
    return set[str]().union(*(_prefixes(inner) for inner in value)) if isinstance(value, list) else set()


def extent_of(items: pa.Table) -> dict[str, Any]:
    """Where and when items lie; all longitudes where one of several crosses the antimeridian."""
    boxes = items["bbox"].combine_chunks()
    sides = [pc.struct_field(boxes, name) for name in ("xmin", "ymin", "xmax", "ymax")]
    west, south = (pc.min(side).as_py() for side in sides[:2])
    east, north = (pc.max(side).as_py() for side in sides[2:])
    if len(items) > 1 and pc.any(pc.greater(sides[0], sides[2])).as_py():
        west, east = -180.0, 180.0
    span = pc.min_max(items["datetime"]).as_py()
    return {
        "spatial": {"bbox": [[west, south, east, north]]},
        "temporal": {"interval": [[_moment(span["min"]), _moment(span["max"])]]},
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _summaries(facts: CollectionFacts, items: pa.Table, statistics: Mapping[str, Any]) -> dict[str, Any]:
    """Classes, ranges and bands: what a client can choose from, without reading the items."""
    classes = {
        f"div:{name}": sorted(measured["counts"])
        for name, measured in statistics.items()
        if isinstance(measured.get("counts"), Mapping) and f"div:{name}" in MEANINGS
    }
    lists = {
        name: sorted(value for value in pc.unique(items[name]).to_pylist() if value is not None)
        for name in _LISTS
        if name in items.column_names
    }
    found = {"bands": [dict(band) for band in facts.bands], **classes, **lists, **_ranges(items)}
    return {name: value for name, value in found.items() if value}


def _ranges(items: pa.Table) -> dict[str, dict[str, float]]:
    ranges = {}
    for name in _RANGES:
        if name in items.column_names:
            low, high = pc.min_max(items[name]).as_py().values()
            if low is not None and not math.isnan(low):
                ranges[name] = {"minimum": low, "maximum": high}
    return ranges


def _mirror_asset(items: pa.Table) -> dict[str, Any]:
    """The items' file: its columns are the data dictionary of the dataset."""
    meanings = {**MEANINGS, **{name: MAP_MEANINGS[name] for name in items.column_names if name in MAP_MEANINGS}}
    columns = [{"name": name, "description": meaning} for name, meaning in meanings.items()]
    told = {"table:columns": columns, "table:primary_geometry": "geometry", "table:row_count": len(items)}
    title = "Items as STAC GeoParquet, in Hilbert order"
    return {**_asset("./items.parquet", PARQUET, ["collection-mirror"], title), **told}


def _asset(href: str, kind: str, roles: Sequence[str], title: str) -> dict[str, Any]:
    return {"href": href, "type": kind, "roles": list(roles), "title": title}


def _with_statistics(facts: CollectionFacts, tally: Tally | None) -> list[dict[str, Any]]:
    """The bands, with what was counted of their pixels where it was."""
    counted: Mapping[str, BandTally] = MappingProxyType({}) if tally is None else tally.bands
    total = facts.pixels_per_sample * tally.num_samples if tally and facts.pixels_per_sample else None
    bands = []
    for band in facts.pixel_bands:
        told = dict(band)
        if (band_tally := counted.get(str(band["name"]))) is not None and band_tally.count:
            told["statistics"] = _band_statistics(band_tally, total, facts.stored)
        bands.append(told)
    return bands


def _band_statistics(band: BandTally, total: int | None, stored: tuple[float, float]) -> dict[str, float]:
    """Mean and standard deviation of the numbers of a band's pixels that have data, and the share of those that do."""
    mean = band.sum / band.count
    # whole numbers, so that the difference of two large sums loses nothing
    variance = (band.count * band.sum_of_squares - band.sum**2) / band.count**2
    factor, shift = stored
    statistics = {"mean": factor * mean + shift, "stddev": factor * math.sqrt(variance), "count": band.count}
    return {**statistics, "valid_percent": 100 * band.count / total} if total else statistics
