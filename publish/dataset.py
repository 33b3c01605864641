"""A subset as a dataset that anyone can load: a folder first, then, if asked, a repository on the Hub."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
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
    STATISTICS_PATH,
    TAGS_PATH,
)
from catalog.subset import Subset, load_subset
from publish.cards import dataset_front_matter, render
from publish.croissant import croissant
from publish.facts import DatasetFacts, dataset_facts, describe_dataset, describe_sampling, software_versions
from publish.items import write_items, write_preview
from publish.manifest import FileRecord, write_manifest
from publish.maps import is_map, write_map
from publish.publication import Publication, building, check_destination, deliver, is_built
from publish.shards import CHIP_SCHEMA, DEFAULT_LAYOUT, SENSOR_SCHEMA, Layout, Shard, plan_shards, write_shards
from publish.stac import stac_collection
from pwcat.building.ledger import damaged_shards
from pwcat.errors import PublishError

__all__ = ["build_dataset_folder", "publish_dataset"]

Progress = Callable[[int, int], None]
MANIFEST_VERSION = 1
CLASSES_SHOWN = 10
THINGS = {"entity": "entities", "tag": "tags"}
LAYERS = {"continent": "continents", "biome": "biomes", "landcover": "land covers"}


def _silent(done: int, total: int) -> None:
    """No progress."""


def publish_dataset(
    subset: Subset | str | Path,
    *,
    repo: str | None = None,
    to: str | Path | None = None,
    private: bool = False,
    tag: str | None = None,
    dry_run: bool = False,
    progress: Progress = _silent,
) -> Publication:
    """What was published: a folder, a repository on the Hub, or both.

    A folder that already holds exactly this is not built again, and files that the Hub already has are not sent again.

    Args:
        subset: A subset, or the path of a subset file, a collection or a catalog.
        repo: ``organisation/name`` on the Hub. The token comes from ``HF_TOKEN`` or the Hub's login.
        to: Folder to build and keep. Without it the folder is temporary, and a push that fails builds it anew.
        private: Make a new repository private.
        tag: Name of the release, set once the pushed files are verified.
        dry_run: Make and send nothing; say how many files of how many bytes it would be.
        progress: Called with the samples written so far and in all.

    Raises:
        PublishError: Neither ``repo`` nor ``to`` is given, the folder is taken, or the push failed.
    """
    chosen = subset if isinstance(subset, Subset) else load_subset(subset)
    folder = Path(to) if to is not None else None
    check_destination(repo=repo, to=folder, private=private, tag=tag)
    load = _load_line(chosen)
    if dry_run:
        shards = plan_shards(chosen, layout=DEFAULT_LAYOUT)
        size = 2 * math.prod(chosen.chip_shape) * len(chosen)
        target = load(repo or str(folder))
        return Publication(
            kind="dataset", folder=None, push=None, files=len(shards), bytes=size, dry_run=True, load=target
        )
    return deliver(
        lambda path: build_dataset_folder(chosen, path, repo_id=repo, release=tag, progress=progress),
        kind="dataset",
        message=f"{len(chosen)} samples of {', '.join(c.name for c in chosen.collections)} ({chosen.hash[:12]})",
        load=load,
        repo=repo,
        to=folder,
        private=private,
        tag=tag,
    )


def _load_line(subset: Subset) -> Callable[[str], str]:
    split = plan_shards(subset, layout=DEFAULT_LAYOUT)[0].split
    return lambda source: f'load_dataset("{source}", split="{split}")'


def build_dataset_folder(
    subset: Subset,
    out: str | Path,
    *,
    repo_id: str | None = None,
    release: str | None = None,
    layout: Layout = DEFAULT_LAYOUT,
    progress: Progress = _silent,
) -> Path:
    """The folder of a dataset: the same subset gives the same bytes, whenever and wherever it is built.

    Args:
        subset: The samples.
        out: Folder; it appears whole or not at all, and replaces an earlier publication there.
        repo_id: ``organisation/name``, if it will go to the Hub: the card then shows that name.
        release: Name of the release, if it has one.
        layout: Sizes of files and row groups.
        progress: Called with the samples written so far and in all.

    Raises:
        PublishError: The subset is empty, the folder holds something else, or a cube it reads from is damaged.
    """
    if len(subset) == 0:
        raise PublishError("the subset has no samples: there is nothing to publish; widen the search")
    out = Path(out)
    facts = dataset_facts(subset, repo=repo_id, release=release)
    header = _header(facts, layout)
    if is_built(out, header):
        return out
    _require_sound(subset)
    shards = plan_shards(subset, layout=layout)
    with building(out) as folder:
        written = 0

        def advance(samples: int) -> None:
            nonlocal written
            written += samples
            progress(written, len(subset))

        records = write_shards(subset, folder, shards, layout=layout, advance=advance)
        records[ITEMS_PATH] = write_items(subset, folder, shards, facts=facts)
        if (preview := write_preview(subset, folder)) is not None:
            records[PREVIEW_PATH] = preview
        if facts.has_map:
            records |= write_map(subset, folder)
        _describe(subset, folder, facts, shards, records=records)
        write_manifest(folder, header=header, known=records)
    return out


def _require_sound(subset: Subset) -> None:
    damaged = [str(path) for collection in subset.collections for path in damaged_shards(collection.path)]
    if damaged:
        raise PublishError(
            f"{len(damaged)} shard(s) are missing or not what their ledger says: {', '.join(damaged[:5])}. Remove them and "
            "build the collection again"
        )


def _header(facts: DatasetFacts, layout: Layout) -> dict[str, Any]:
    return {
        "manifest_version": MANIFEST_VERSION,
        "kind": "dataset",
        "name": facts.name,
        "repository": facts.repo,
        "release": facts.version,
        "subset_hash": facts.subset_hash,
        "recipe_hashes": dict(facts.recipe_hashes),
        "num_samples": facts.num_samples,
        "layout": asdict(layout),
        "versions": software_versions(),
    }


def _describe(
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
    statistics = {"subset_hash": facts.subset_hash, "num_samples": facts.num_samples, "splits": dict(facts.splits)}
    _write_json(folder / STATISTICS_PATH, {**statistics, "statistics": dict(facts.statistics)})
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
