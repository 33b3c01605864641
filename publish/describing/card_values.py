"""What the templates of a dataset's documents name, all of it recorded: by the subset, by its recipes, by the files written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import requires
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from catalog.published.layout import ITEMS_PATH, PICTURE_PATH, PREVIEW_PATH
from catalog.subset import Subset
from publish.describing.cards import as_yaml, dataset_front_matter, feature_list
from publish.describing.columns import meaning_of
from publish.describing.facts import DatasetFacts, software_versions
from publish.describing.sampling import describe_recipe
from publish.describing.terms import Source, sources_of
from publish.manifest import MANIFEST_VERSION, FileRecord
from publish.maps import is_map
from publish.shards import Shard

if TYPE_CHECKING:
    from publish.describing.documents import Config

__all__ = ["card_values"]

CLASSES_SHOWN = 10
KEYS_SHOWN = 8
LETTERS_SHOWN = 10_000
THINGS = {"entity": "entities", "tag": "tags"}
LAYERS = {"continent": "continents", "biome": "biomes", "landcover": "land covers"}
# Columns that a card may filter by, most telling first, and what a search calls them.
FILTERS = {"biome": "biome", "landcover": "landcover", "continent": "continent", "collection": "collections"}


def card_values(
    subset: Subset,
    facts: DatasetFacts,
    shards: list[Shard],
    *,
    records: Mapping[str, FileRecord],
    configs: Mapping[str, Config],
) -> dict[str, Any]:
    """The values by the names that templates have for them.

    Args:
        subset: The samples.
        facts: Of the subset.
        shards: Its files of chips.
        records: Of the tables that were written.
        configs: What ``load_dataset`` finds.
    """
    preview, items = records.get(PREVIEW_PATH), records[ITEMS_PATH]
    statistics = facts.statistics
    years = " to ".join(sorted({moment[:4] for moment in facts.interval}))
    made_of = {name: sources_of(recipe, years=years) for name, recipe in facts.recipes.items()}
    papers = list({one.paper.key: one.paper for one in facts.papers}.values())
    return {
        "facts": facts,
        "front_matter": _front_matter(facts, configs),
        "picture": PICTURE_PATH,
        **_loading(subset, facts),
        "sample_words": _sample_words(facts),
        "made_from": _listed(_made_from(facts), ", "),
        "num_preview": preview.rows if preview else 0,
        "num_shards": len(shards),
        "data_bytes": sum(records[shard.path].bytes for shard in shards),
        "items_bytes": items.bytes,
        "items_hash": items.sha256,
        "layers": [_layer(name, statistics[name]) for name in LAYERS if statistics[name]["counts"]],
        "things": [_thing(name, statistics[name]) for name in THINGS if name in statistics],
        "spectral": statistics["spectral"] if statistics["spectral"]["ci_low"] is not None else None,
        "dispersion": _dispersion(statistics),
        "recipes": {name: _short_yaml(recipe) for name, recipe in facts.recipes.items()},
        "query": _short_yaml(facts.query) if facts.query else "",
        "sampling": [describe_recipe(recipe) for recipe in facts.recipes.values()],
        "split_words": " ".join(_split_words(facts)),
        "columns": [_column(field) for field in configs["chips"].schema],
        "harmonised": facts.is_copernicus and all(r.get("chip", {}).get("harmonise") for r in facts.recipes.values()),
        "resampling": _listed(
            (recipe.get("chip") or recipe.get("images") or {}).get("resampling", "nearest")
            for recipe in facts.recipes.values()
        ),
        "limits": list(_limits(facts)),
        "licenses_line": _licenses_line(facts),
        "made_of": made_of,
        "sources": _shared(made_of),
        "copernicus": facts.is_copernicus,
        "years": years,
        "papers": papers,
        "changed": {one.recipe: _some(one.changed) for one in facts.papers},
        "num_following": Counter(one.paper.key for one in facts.papers),
        "bibtex_key": facts.name.replace("-", "_").replace(".", "_"),
        "url": f"https://huggingface.co/datasets/{facts.repo}" if facts.repo else None,
        "manifest_version": MANIFEST_VERSION,
        "versions": software_versions(),
    }


def _front_matter(facts: DatasetFacts, configs: Mapping[str, Config]) -> str:
    schemas = {name: config.schema for name, config in configs.items()}
    return dataset_front_matter(
        facts, schemas=schemas, files={name: dict(config.files) for name, config in configs.items()}
    )


def _loading(subset: Subset, facts: DatasetFacts) -> dict[str, Any]:
    """What the lines that load it say: from where, of which release, and which class for an example."""
    split = next(iter(facts.splits))
    column, value = _example(subset, split)
    at = f"@{facts.version}" if facts.version else ""
    return {
        "source": facts.repo or "path/to/this/folder",
        "address": f"hf://datasets/{facts.repo}{at}" if facts.repo else "path/to/this/folder",
        "pull_source": f"{facts.repo}{at}" if facts.repo else "path/to/this/folder",
        "pinned": f', revision="{facts.version}"' if facts.version and facts.repo else "",
        "requirement": next(line for line in requires("pwcat") or [] if line.startswith("datasets")).partition(";")[0],
        "first_split": split,
        "filter_column": column,
        "search_argument": FILTERS[column],
        "filter_value": value,
        "values_lines": _values_lines(facts),
    }


def _values_lines(facts: DatasetFacts) -> list[str]:
    """NumPy that makes values of pixels."""
    if facts.sensors:
        return [
            'scale, offset = (np.reshape(row[name], (-1, 1, 1)) for name in ("scales", "offsets"))  # of each band',
            "values = np.where(pixels > 0, pixels * scale + offset, np.nan)  # 0 is no data",
        ]
    values = f"pixels * {facts.scale!r}"
    if facts.offset:
        values += f" {'-' if facts.offset < 0 else '+'} {abs(facts.offset)!r}"
    if facts.offset == -facts.scale and round(1 / facts.scale) == 1 / facts.scale:
        values = f"(pixels - 1.0) / {1 / facts.scale:.0f}"
    return [f"values = np.where(pixels > 0, {values}, np.nan)  # 0 is no data"]


def _example(subset: Subset, split: str) -> tuple[str, str]:
    """A column and its most frequent class within a split: what filters by it finds something."""
    rows = pc.equal(subset.columns(["pwcat:split"])["pwcat:split"], split)
    for column in FILTERS:
        name = column if column == "collection" else f"div:{column}"
        counted = subset.columns([name])[name].filter(rows).drop_null().value_counts().to_pylist()
        if counted:
            best = min(counted, key=lambda entry: (-entry["counts"], entry["values"]))
            return column, str(best["values"])
    raise AssertionError("each sample is of a collection")


def _sample_words(facts: DatasetFacts) -> str:
    times, bands, height, width = facts.chip_shape
    if not facts.has_images:
        zooms = {str(recipe["tiles"]["zoom"]) for recipe in facts.recipes.values() if is_map(recipe)}
        return f"a tile of zoom {_listed(sorted(zooms))}, without an image"
    return (
        f"{times:,} date{'s' if times > 1 else ''} × {bands:,} band{'s' if bands > 1 else ''} × {height:,} × {width:,} "
        f"pixels of {facts.resolution_m:g} m, uint16"
    )


def _made_from(facts: DatasetFacts) -> Iterator[str]:
    """Where pixels and entities come from, in a few words."""
    for recipe in facts.recipes.values():
        for source in sources_of(recipe, years=""):
            if not source.role.startswith("labels"):
                yield source.title if source.role == "pixels" else f"{source.role}: {source.title}"


def _split_words(facts: DatasetFacts) -> Iterator[str]:
    """How the splits were made."""
    if len(facts.splits) == 1:
        yield f"All samples are of one split, `{next(iter(facts.splits))}`."
    elif facts.own_split:
        yield "The splits were made for this dataset, not by its recipes: the query above says how."
    elif facts.of_tiles:
        yield "Tiles lie in groups, larger tiles of the same grid, and all tiles of a group are of one split."
        yield "Tiles of two splits can touch where their groups do."
    else:
        blocks = {f"{r['split']['block_km']:g}" for r in facts.recipes.values() if not is_map(r)}
        within = "Within each collection, the" if len(facts.recipes) > 1 else "The"
        sides = _listed(sorted(blocks, key=float))
        yield f"{within} `val` samples lie in whole blocks of {sides} km that hold no `train` sample."
        yield "Samples of two blocks can be near where the blocks meet."


def _limits(facts: DatasetFacts) -> Iterator[str]:
    if facts.has_map:
        yield (
            "The map is what its contributors mapped by its day: what is missing there is missing here, and it is not mapped "
            "alike everywhere."
        )
    for recipe in facts.recipes.values():
        if is_map(recipe):
            continue
        when = recipe["when"]
        if when.get("max_chip_cloud") is not None:
            yield (
                f"Scenes of {recipe['name']} have at most {when['max_cloud_cover']:g} % cloud, and chips at most "
                f"{when['max_chip_cloud']:g} % cloud, shadow or no data by the quality band of their source, which errs."
            )
        else:
            yield (
                f"Scenes of {recipe['name']} were chosen with at most {when['max_cloud_cover']:g} % cloud over the whole "
                "scene. No cloud mask was applied: single chips can be cloudy."
            )
    yield (
        "Continent, biome and land cover are those of the region layers that the recipe names, with their errors and their "
        "date. They are null where the layer has no class."
    )
    yield "The diversity above is that of these samples. It says nothing of places and seasons that are not here."


def _column(field: pa.Field) -> dict[str, str]:
    """A column of the chips as the card lists it."""
    (feature,) = feature_list(pa.schema([field]))
    kind = f"list of {feature['list']}" if "list" in feature else str(feature["dtype"])
    return {"name": field.name, "type": kind, "meaning": meaning_of(field.name)}


def _shared(made_of: Mapping[str, list[Source]]) -> dict[Source, list[str]]:
    """Each source once, with the collections that are made from it."""
    found: dict[Source, list[str]] = {}
    for name, sources in made_of.items():
        for source in sources:
            found.setdefault(source, []).append(name)
    return found


def _dispersion(statistics: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Distances to the nearest neighbour, where there are neighbours."""
    told: Mapping[str, Any] = statistics.get("dispersion") or {}
    needed = ("mean_km", "ci_low", "ci_high", "uniform_km", "globe_km")
    return told if all(told.get(name) is not None for name in needed) else None


def _layer(name: str, statistics: Mapping[str, Any]) -> dict[str, Any]:
    ordered = sorted(statistics["counts"].items(), key=lambda pair: (-pair[1], pair[0]))
    shown = {"label": LAYERS[name], "num_labelled": sum(n for _, n in ordered), "quoted": False}
    return {**statistics, **shown, "classes": ordered[:CLASSES_SHOWN], "more": len(ordered[CLASSES_SHOWN:])}


def _thing(name: str, statistics: Mapping[str, Any]) -> dict[str, Any]:
    """What a map holds: of very many classes the statistics name some."""
    ordered = sorted(statistics["counts"].items(), key=lambda pair: (-pair[1], pair[0]))[:CLASSES_SHOWN]
    more = statistics["num_classes"] - len(ordered)
    return {**statistics, "label": THINGS[name], "classes": ordered, "more": more, "quoted": True}


def _short_yaml(document: Mapping[str, Any]) -> str | None:
    """A document as it is shown; ``None`` where it is too long for a card, as one that lists its tiles or samples."""
    text = as_yaml(dict(document))
    return text if len(text) <= LETTERS_SHOWN else None


def _some(keys: Sequence[str]) -> str:
    """Some keys of a recipe, and how many more."""
    named = ", ".join(f"`{key}`" for key in keys[:KEYS_SHOWN])
    return named + (f" and {len(keys) - KEYS_SHOWN:,} more" if len(keys) > KEYS_SHOWN else "")


def _listed(values: Iterable[str], between: str = " or ") -> str:
    """Distinct values, in their order."""
    return between.join(dict.fromkeys(values))


def _licenses_line(facts: DatasetFacts) -> str:
    if len(facts.licenses) == 1:
        return f"The dataset is released under {facts.licenses[0]}."
    return f"Its parts are released under {' and '.join(facts.licenses)}; the column `license` says which applies."
