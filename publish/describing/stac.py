"""The STAC collection of a publication: what it holds, where and when, with the shards and tables as its assets."""

from __future__ import annotations

from typing import Any

from catalog.published.layout import (
    ATLAS_PATH,
    CROISSANT_PATH,
    ENTITIES_PATH,
    ITEMS_PATH,
    PICTURE_PATH,
    PREVIEW_PATH,
    RECIPES_FOLDER,
    STATISTICS_PATH,
    TAGS_PATH,
)
from catalog.stac.collection import EXTENSIONS
from publish.describing.facts import Band, DatasetFacts
from publish.shards import Shard

__all__ = ["stac_collection"]

PARQUET = "application/vnd.apache.parquet"
# Fields of the catalog's collection that describe its own files, or what this module states anew.
REPLACED = {
    *("type", "stac_version", "id", "title", "description", "license", "extent", "links"),
    *("assets", "item_assets", "summaries", "sci:citation"),
}


def stac_collection(
    facts: DatasetFacts, shards: list[Shard], *, parents: list[dict[str, Any]], description: str, previewed: bool
) -> dict[str, Any]:
    """The collection as JSON values.

    Args:
        facts: Recorded facts.
        shards: Its files of chips.
        parents: The catalog's collections that the samples come from, as dictionaries; what they say of extensions and
            their own fields is kept where all of them say the same; providers are those of all.
        description: Some sentences.
        previewed: Whether there are thumbnails.
    """
    kept = {
        key: value
        for key, value in parents[0].items()
        if key not in REPLACED and not key.startswith("cube:") and all(parent.get(key) == value for parent in parents)
    }
    if providers := _providers(parents):
        kept["providers"] = providers
    if "div:statistics" in parents[0]:
        kept["div:statistics"] = dict(facts.statistics)
    if facts.papers:
        papers = {one.paper.key: one.paper for one in facts.papers}
        kept["sci:publications"] = [{"citation": f"{p.short}. {p.title}. {p.url}"} for p in papers.values()]
    used = _extensions(kept) | ({EXTENSIONS["raster"]} if facts.sensors else set())
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        **kept,
        "stac_extensions": sorted(used),
        "id": facts.name,
        "title": facts.title,
        "description": description,
        "license": facts.licenses[0] if len(facts.licenses) == 1 else "other",
        "extent": {"spatial": {"bbox": [list(facts.bbox)]}, "temporal": {"interval": [list(facts.interval)]}},
        "links": [{"rel": "license", "href": "../LICENSES.md", "type": "text/markdown"}],
        "summaries": _summaries(facts),
        "assets": {
            **_documents(facts),
            **({"preview": _asset(PREVIEW_PATH, PARQUET, "overview")} if previewed else {}),
            **(_map_assets() if facts.has_map else {}),
            **{f"{shard.split}-{shard.number:05d}": _asset(shard.path, PARQUET, "data") for shard in shards},
        },
    }


def _providers(parents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Everybody whom any of the collections names, once."""
    named = [provider for parent in parents for provider in parent.get("providers") or []]
    return [provider for number, provider in enumerate(named) if provider not in named[:number]]


def _extensions(kept: dict[str, Any]) -> set[str]:
    """The schemas of the fields that are kept, in the versions that are written today."""
    keys = [*kept, *(key for provider in kept.get("providers", []) for key in provider)]
    prefixes = {key.partition(":")[0] for key in keys if ":" in key}
    return {uri for prefix, uri in EXTENSIONS.items() if prefix in prefixes}


def _summaries(facts: DatasetFacts) -> dict[str, Any]:
    return {"gsd": [facts.resolution_m], "bands": [_band(band) for band in facts.bands]}


def _band(band: Band) -> dict[str, Any]:
    """A band in the summaries; one of a sensor with what its pixels mean."""
    if not band.sensor:
        return {"name": band.name}
    meaning = {"raster:scale": band.scale, "raster:offset": band.offset, "unit": band.unit, "nodata": 0}
    return {"name": band.name, "description": f"of the sensor {band.sensor}", **meaning}


def _asset(path: str, media_type: str, *roles: str) -> dict[str, Any]:
    return {"href": f"../{path}", "type": media_type, "roles": list(roles)}


def _documents(facts: DatasetFacts) -> dict[str, Any]:
    """The tables and texts that describe the samples."""
    recipes = {
        f"recipe-{name}": _asset(f"{RECIPES_FOLDER}/{name}.yaml", "application/yaml", "metadata")
        for name in facts.recipes
    }
    return {
        "items": _asset(ITEMS_PATH, PARQUET, "metadata", "collection-mirror"),
        "statistics": _asset(STATISTICS_PATH, "application/json", "metadata"),
        "map-picture": _asset(PICTURE_PATH, "image/png", "thumbnail"),
        "atlas": _asset(ATLAS_PATH, "text/html", "overview"),
        "croissant": _asset(CROISSANT_PATH, "application/ld+json", "metadata"),
        **recipes,
    }


def _map_assets() -> dict[str, Any]:
    """The files of the map."""
    return {"entities": _asset(ENTITIES_PATH, PARQUET, "data"), "tags": _asset(TAGS_PATH, PARQUET, "metadata")}
