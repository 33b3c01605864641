"""The documents of a published dataset: card, licences, changelog, statistics, recipes, STAC, Croissant and atlas."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.atlas import Part, render_atlas
from catalog.land import sketched_land
from catalog.published.layout import (
    ATLAS_PATH,
    COLLECTION_PATH,
    CROISSANT_PATH,
    ENTITIES_PATH,
    ITEMS_PATH,
    PREVIEW_PATH,
    RECIPES_FOLDER,
    STATISTICS_PATH,
    TAGS_PATH,
)
from catalog.subset import Subset
from publish.cards import as_yaml, dataset_front_matter, render
from publish.croissant import croissant
from publish.facts import DatasetFacts, describe_dataset, describe_sampling, software_versions
from publish.manifest import FileRecord
from publish.maps import is_map
from publish.record import record_of
from publish.shards import CHIP_SCHEMA, SENSOR_SCHEMA, Shard
from publish.stac import stac_collection

__all__ = ["write_documents"]

CLASSES_SHOWN = 10
THINGS = {"entity": "entities", "tag": "tags"}
LAYERS = {"continent": "continents", "biome": "biomes", "landcover": "land covers"}


def write_documents(
    subset: Subset,
    folder: Path,
    facts: DatasetFacts,
    shards: list[Shard],
    *,
    records: Mapping[str, FileRecord],
) -> None:
    """Write every document of the folder but its manifest."""
    description = describe_dataset(facts)
    parents = [collection.metadata.to_dict() for collection in subset.collections]
    _write_json(folder / COLLECTION_PATH, stac_collection(facts, shards, parents=parents, description=description))
    _write_json(folder / CROISSANT_PATH, croissant(facts, folder, shards, description=description))
    _write_atlas(subset, folder, facts)
    _write_json(folder / STATISTICS_PATH, record_of(subset, facts))
    _write_recipes(folder, facts)
    values = _card_values(facts, folder, shards, records)
    providers = {c.name: [provider.to_dict() for provider in c.metadata.providers or []] for c in subset.collections}
    (folder / "README.md").write_text(render("dataset.md.j2", description=description, **values), encoding="utf-8")
    (folder / "LICENSES.md").write_text(render("licenses.md.j2", providers=providers, **values), encoding="utf-8")
    (folder / "CHANGELOG.md").write_text(render("changelog.md.j2", **values), encoding="utf-8")


def _write_atlas(subset: Subset, folder: Path, facts: DatasetFacts) -> None:
    """The atlas of the subset; on the sketch of land, so that it has the same bytes on every computer."""
    part = Part(name=facts.name, subset=subset, statistics=facts.statistics)
    page = render_atlas([part], title=facts.title, land=sketched_land())
    (folder / ATLAS_PATH).write_text(page, encoding="utf-8")


def _write_recipes(folder: Path, facts: DatasetFacts) -> None:
    """The recipe of each collection, as it may be shown."""
    (folder / RECIPES_FOLDER).mkdir()
    for name, recipe in facts.recipes.items():
        path = folder / RECIPES_FOLDER / f"{name}.yaml"
        path.write_text(as_yaml(recipe), encoding="utf-8")


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _card_values(
    facts: DatasetFacts, folder: Path, shards: list[Shard], records: Mapping[str, FileRecord]
) -> dict[str, Any]:
    """What the templates name, all of it recorded."""
    preview = records.get(PREVIEW_PATH)
    schemas, files = _configs(facts, folder, shards, previewed=preview is not None)
    layers = [_layer(name, facts.statistics[name]) for name in LAYERS if facts.statistics[name]["counts"]]
    spectral = facts.statistics["spectral"]
    column = next((layer["column"] for layer in ([*layers[1:2], *layers])), "collection")
    value = next((layer["classes"][0][0] for layer in layers if layer["column"] == column), next(iter(facts.recipes)))
    years = sorted({moment[:4] for moment in facts.interval})
    return {
        "facts": facts,
        "front_matter": dataset_front_matter(facts, schemas=schemas, files=files),
        "source": facts.repo or "path/to/this/folder",
        "first_split": next(iter(facts.splits)),
        "filter_column": column,
        "filter_value": value,
        "num_preview": preview.rows if preview else 0,
        "num_shards": len(shards),
        "data_megabytes": f"{sum(records[shard.path].bytes for shard in shards) / 1e6:,.1f}",
        "layers": layers,
        "spectral": spectral if spectral["ci_low"] is not None else None,
        "sampling": describe_sampling(facts),
        "harmonised": facts.is_copernicus and all(r.get("chip", {}).get("harmonise") for r in facts.recipes.values()),
        "resampling": _listed(
            (recipe.get("chip") or recipe.get("images") or {}).get("resampling", "nearest")
            for recipe in facts.recipes.values()
        ),
        "block_km": _listed(f"{r['split']['block_km']:g}" for r in facts.recipes.values() if not is_map(r)),
        "things": [_thing(name, facts.statistics[name]) for name in THINGS if name in facts.statistics],
        "licenses_line": _licenses_line(facts),
        "copernicus": facts.is_copernicus,
        "years": " to ".join(years),
        "bibtex_key": facts.name.replace("-", "_").replace(".", "_"),
        "url": f"https://huggingface.co/datasets/{facts.repo}" if facts.repo else None,
        "versions": software_versions(),
    }


def _configs(
    facts: DatasetFacts, folder: Path, shards: list[Shard], *, previewed: bool
) -> tuple[dict[str, pa.Schema], dict[str, dict[str, str]]]:
    """The schema of each config, and its files by split; patterns name the number of shards, so that no others match."""
    counts = {shard.split: shard.count for shard in shards}
    schemas = {"chips": SENSOR_SCHEMA if facts.sensors else CHIP_SCHEMA, "items": pq.read_schema(folder / ITEMS_PATH)}
    files = {
        "chips": {split: f"data/{split}-*-of-{counts[split]:05d}.parquet" for split in facts.splits},
        "items": {"items": ITEMS_PATH},
    }
    if facts.has_map:
        for name, path in (("entities", ENTITIES_PATH), ("tags", TAGS_PATH)):
            schemas[name], files[name] = pq.read_schema(folder / path), {name: path}
    if previewed:
        schemas["preview"] = pq.read_schema(folder / PREVIEW_PATH)
        files["preview"] = {"preview": PREVIEW_PATH}
    return schemas, files


def _layer(name: str, statistics: Mapping[str, Any]) -> dict[str, Any]:
    ordered = sorted(statistics["counts"].items(), key=lambda pair: (-pair[1], pair[0]))
    shown = {"column": name, "label": LAYERS[name], "num_labelled": sum(n for _, n in ordered)}
    return {**statistics, **shown, "classes": ordered[:CLASSES_SHOWN], "more": len(ordered[CLASSES_SHOWN:])}


def _thing(name: str, statistics: Mapping[str, Any]) -> dict[str, Any]:
    """What a map holds: of very many classes the statistics name some."""
    ordered = sorted(statistics["counts"].items(), key=lambda pair: (-pair[1], pair[0]))[:CLASSES_SHOWN]
    more = statistics["num_classes"] - len(ordered)
    return {**statistics, "label": THINGS[name], "classes": ordered, "more": more}


def _listed(values: Iterable[str]) -> str:
    """Distinct values, in their order."""
    return " or ".join(dict.fromkeys(values))


def _licenses_line(facts: DatasetFacts) -> str:
    if len(facts.licenses) == 1:
        return f"The dataset is released under {facts.licenses[0]}."
    return f"Its parts are released under {' and '.join(facts.licenses)}; the column `license` says which applies."
