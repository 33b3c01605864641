"""The STAC collection of a publication: what it holds, where and when, with the shards and tables as its assets."""

from __future__ import annotations

from typing import Any

from catalog.published.layout import ENTITIES_PATH, ITEMS_PATH, TAGS_PATH
from catalog.stac.collection import EXTENSIONS
from publish.facts import Band, DatasetFacts
from publish.shards import Shard

__all__ = ["stac_collection"]

PARQUET = "application/vnd.apache.parquet"
# Fields of the catalog's collection that describe its own files, or what this module states anew.
REPLACED = {
    *("type", "stac_version", "id", "title", "description", "license", "extent", "links"),
    *("assets", "item_assets", "summaries", "sci:citation"),
}


def stac_collection(
    facts: DatasetFacts, shards: list[Shard], *, parents: list[dict[str, Any]], description: str
) -> dict[str, Any]:
    """The collection as JSON values.

    Args:
        facts: Recorded facts.
        shards: Its files of chips.
        parents: The catalog's collections that the samples come from, as dictionaries; what they say of extensions and
            their own fields is kept where all of them say the same; providers are those of all.
        description: Some sentences.
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
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        **kept,
        "stac_extensions": sorted({*_extensions(parents, kept), *([EXTENSIONS["raster"]] if facts.sensors else [])}),
        "id": facts.name,
        "title": facts.title,
        "description": description,
        "license": facts.licenses[0] if len(facts.licenses) == 1 else "other",
        "extent": {"spatial": {"bbox": [list(facts.bbox)]}, "temporal": {"interval": [list(facts.interval)]}},
        "links": [{"rel": "license", "href": "../LICENSES.md", "type": "text/markdown"}],
        "summaries": _summaries(facts),
        "assets": _assets(shards) | (_map_assets() if facts.has_map else {}),
    }


def _providers(parents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Everybody whom any of the collections names, once."""
    named = [provider for parent in parents for provider in parent.get("providers") or []]
    return [provider for number, provider in enumerate(named) if provider not in named[:number]]


def _extensions(parents: list[dict[str, Any]], kept: dict[str, Any]) -> list[str]:
    keys = [*kept, *(key for provider in kept.get("providers", []) for key in provider)]
    used = {key.partition(":")[0] for key in keys if ":" in key}
    names = {url for parent in parents for url in parent.get("stac_extensions", [])}
    return sorted(url for url in names if any(f"/{prefix}" in url for prefix in used) or "diversity" in url)


def _summaries(facts: DatasetFacts) -> dict[str, Any]:
    return {"gsd": [facts.resolution_m], "bands": [_band(band) for band in facts.bands]}


def _band(band: Band) -> dict[str, Any]:
    """A band in the summaries; one of a sensor with what its pixels mean."""
    if not band.sensor:
        return {"name": band.name}
    meaning = {"raster:scale": band.scale, "raster:offset": band.offset, "unit": band.unit, "nodata": 0}
    return {"name": band.name, "description": f"of the sensor {band.sensor}", **meaning}


def _map_assets() -> dict[str, Any]:
    """The files of the map."""
    return {
        "entities": {"href": f"../{ENTITIES_PATH}", "type": PARQUET, "roles": ["data"]},
        "tags": {"href": f"../{TAGS_PATH}", "type": PARQUET, "roles": ["metadata"]},
    }


def _assets(shards: list[Shard]) -> dict[str, Any]:
    tables = {
        "items": {"href": f"../{ITEMS_PATH}", "type": PARQUET, "roles": ["metadata", "collection-mirror"]},
        "statistics": {"href": "../stats/diversity.json", "type": "application/json", "roles": ["metadata"]},
    }
    chips = {
        f"{shard.split}-{shard.number:05d}": {"href": f"../{shard.path}", "type": PARQUET, "roles": ["data"]}
        for shard in shards
    }
    return {**tables, **chips}
