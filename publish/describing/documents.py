"""The documents of a published dataset: card, licences, changelog, map, statistics, recipes, STAC, Croissant and atlas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.atlas import Part, render_atlas
from catalog.land import sketched_land
from catalog.published.layout import (
    ATLAS_PATH,
    CARD_PATH,
    CHANGELOG_PATH,
    COLLECTION_PATH,
    CROISSANT_PATH,
    ENTITIES_PATH,
    ITEMS_PATH,
    LICENSES_PATH,
    PREVIEW_PATH,
    RECIPES_FOLDER,
    STATISTICS_PATH,
    TAGS_PATH,
)
from catalog.subset import Subset
from publish.describing.card_values import card_values
from publish.describing.cards import as_yaml, render
from publish.describing.croissant import croissant
from publish.describing.facts import DatasetFacts, describe_dataset
from publish.describing.picture import write_picture
from publish.describing.record import record_of
from publish.describing.releases import Release, changes_since, earlier_entries, heading_of
from publish.describing.stac import stac_collection
from publish.manifest import FileRecord
from publish.shards import CHIP_SCHEMA, SENSOR_SCHEMA, Shard

__all__ = ["Config", "write_documents"]

TITLE_LETTERS = 75  # that fit above the map


@dataclass(frozen=True, kw_only=True)
class Config:
    """What ``load_dataset`` calls a config: tables of one schema, and their files by split."""

    schema: pa.Schema
    files: Mapping[str, str]


def write_documents(
    subset: Subset,
    folder: Path,
    facts: DatasetFacts,
    shards: list[Shard],
    *,
    records: Mapping[str, FileRecord],
    earlier: Release | None = None,
) -> None:
    """Write every document of the folder but its manifest.

    Args:
        subset: The samples.
        folder: Holds the tables already.
        facts: Of the subset.
        shards: Its files of chips.
        records: Of the tables.
        earlier: What the folder or repository held before.
    """
    description = describe_dataset(facts)
    previewed = PREVIEW_PATH in records
    configs = _configs(facts, folder, shards, previewed=previewed)
    parents = [collection.metadata.to_dict() for collection in subset.collections]
    write_picture(subset, folder, title=shorten(facts.title, TITLE_LETTERS, placeholder=" …"))
    stac = stac_collection(facts, shards, parents=parents, description=description, previewed=previewed)
    _write_json(folder / COLLECTION_PATH, stac)
    _write_json(folder / CROISSANT_PATH, croissant(facts, configs, records, description=description))
    _write_atlas(subset, folder, facts)
    _write_json(folder / STATISTICS_PATH, record_of(subset, facts))
    _write_recipes(folder, facts)
    values = card_values(subset, facts, shards, records=records, configs=configs)
    providers = {c.name: [provider.to_dict() for provider in c.metadata.providers or []] for c in subset.collections}
    _write(folder / CARD_PATH, render("dataset.md.j2", description=description, **values))
    _write(folder / LICENSES_PATH, render("licenses.md.j2", providers=providers, **values))
    change = changes_since(earlier, subset, name=facts.version)
    told = {"written": change, "change": None} if isinstance(change, str) else {"written": None, "change": change}
    entries = earlier_entries(earlier, name=facts.version, subset_hash=facts.subset_hash)
    heading = heading_of(facts.version, facts.subset_hash)
    changelog = render("changelog.md.j2", heading=heading, earlier=entries, facts=facts, **told)
    _write(folder / CHANGELOG_PATH, changelog)


def _write_atlas(subset: Subset, folder: Path, facts: DatasetFacts) -> None:
    """The atlas of the subset; on the sketch of land, so that it has the same bytes on every computer."""
    part = Part(name=facts.name, subset=subset, statistics=facts.statistics)
    _write(folder / ATLAS_PATH, render_atlas([part], title=facts.title, land=sketched_land()))


def _write_recipes(folder: Path, facts: DatasetFacts) -> None:
    """The recipe of each collection, as it may be shown."""
    for name, recipe in facts.recipes.items():
        _write(folder / RECIPES_FOLDER / f"{name}.yaml", as_yaml(recipe))


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    _write(path, json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def _configs(facts: DatasetFacts, folder: Path, shards: list[Shard], *, previewed: bool) -> dict[str, Config]:
    """The configs by name, the default one first; patterns name the number of shards, so that no others match."""
    counts = {shard.split: shard.count for shard in shards}
    patterns = {split: f"data/{split}-*-of-{counts[split]:05d}.parquet" for split in facts.splits}
    tables = {"items": ITEMS_PATH}
    if facts.has_map:
        tables |= {"entities": ENTITIES_PATH, "tags": TAGS_PATH}
    if previewed:
        tables["preview"] = PREVIEW_PATH
    return {
        "chips": Config(schema=SENSOR_SCHEMA if facts.sensors else CHIP_SCHEMA, files=patterns),
        **{name: Config(schema=pq.read_schema(folder / path), files={name: path}) for name, path in tables.items()},
    }
