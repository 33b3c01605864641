"""Collections of map tiles: made from a map recipe, described and listed as any other.

An item is a tile that has entities, an image or both; one whose image could not be read, or shows nothing, and that has no
entities, is none.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from catalog.items import ITEM_SCHEMA, MAP_SCHEMA, ZARR_MEDIA_TYPE, first_fraction, list_column
from catalog.measures.codebook import Codebook
from catalog.measures.tally import Tally
from catalog.querying.entities import entities_of
from catalog.querying.places import read_json
from catalog.spectral import measure
from catalog.stac.collection import CUBE_ASSET, PARQUET, CollectionFacts
from catalog.stac.describing import (
    CODEBOOK,
    PARTS,
    mark_of,
    part_path,
    reflectance_numbers,
    settled_codebook,
    shard_outcome,
    write_part,
)
from catalog.stac.outlines import outline_columns
from pwcat.atomic import remove_leftovers
from pwcat.building.execution import LOCAL_SHARDS, Work, run_shards
from pwcat.building.ledger import ledger_path, read_ledger, read_one
from pwcat.cube import SCALE, Cube, open_cube
from pwcat.errors import CatalogError
from pwcat.osm.columns import ENTITY_COUNT
from pwcat.osm.counting import count_things
from pwcat.osm.entities import ENTITIES, TAGS, read_entities
from pwcat.osm.imagery.numbers import meaning_of
from pwcat.osm.imagery.offers import MERCATOR
from pwcat.osm.plan import MapPlan, read_tiles

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["describe_tiles", "described_rows", "map_facts", "rows_with_something", "things_of_subset"]

# To be raised where the same shard would be described otherwise: all are described again then.
VERSION = "1"
# Tiles whose entities are counted together.
TILES_AT_ONCE = 2048

# Files beside the cube: key, file, media type, roles, title.
_FILES: Final = (
    ("entities", ENTITIES, PARQUET, ["data"], "Entities of the map, tile by tile, as GeoParquet"),
    ("tags", TAGS, PARQUET, ["metadata"], "The map's tags, with their counts"),
    ("tiles", "tiles.parquet", PARQUET, ["metadata"], "Tiles, their groups, splits, labels and images"),
    ("images", "images.parquet", PARQUET, ["source"], "Where each image lies"),
    ("recipe", "recipe.yaml", "application/yaml", ["metadata"], "The recipe it was made from"),
    ("codebook", CODEBOOK, PARQUET, ["metadata"], "Spectra that the images' pixels are counted to"),
)


@dataclass(frozen=True, kw_only=True)
class TileTask:
    """Everything a worker needs to describe one shard: as :class:`catalog.stac.describing.DescribeTask`."""

    folder: Path
    shard: int
    rows: pa.Table
    pixel_m: float
    size_px: int
    has_map: bool
    codebook: Codebook | None
    mark: str
    threads: int
    share: float = 1.0

    @property
    def part(self) -> Path:
        """The file that it writes."""
        return part_path(self.folder, self.shard)


def rows_with_something(plan: MapPlan, ledger: pa.Table) -> NDArray[np.int64]:
    """Rows of the plan that are items: with entities, or an image that shows something."""
    pictured = pc.equal(ledger["status"], "written").to_numpy()
    return np.flatnonzero(pictured | (plan.table[ENTITY_COUNT].to_numpy() > 0))


def described_rows(
    plan: MapPlan, *, codebook: Codebook | None, scheduler: str | None, progress: Callable[[int, int], None]
) -> list[Path]:
    """The descriptions of all shards, in their order; those that are there, of the same pixels and plan, are kept.

    Raises:
        CubeError: a shard is missing or damaged; the others are described by then.
    """
    cube = open_cube(plan.folder / "cube.zarr")
    shards = range(plan.spec.num_shards)
    (plan.folder / PARTS).mkdir(exist_ok=True)
    remove_leftovers(plan.folder / PARTS)
    parts = [part_path(plan.folder, shard) for shard in shards]
    for stray in set((plan.folder / PARTS).glob("*.parquet")) - set(parts):
        stray.unlink()
    missing = list(_missing(plan, codebook))
    progress(done := len(parts) - len(missing), len(parts))
    tasks = cast("Iterator[Any]", _tasks(plan, cube, codebook, missing))
    for _ in run_shards(cast("Work", describe_shard), tasks, scheduler=scheduler):
        progress(done := done + 1, len(parts))
    return parts


def describe_tiles(
    folder: Path,
    *,
    codebook: Codebook | None = None,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Path], CollectionFacts]:
    """The items of a collection of map tiles, part by part, and the facts of it.

    Raises:
        CatalogError: no tile has anything.
    """
    plan, ledger = read_tiles(folder), read_ledger(folder, columns={"id", "status"})
    cube, there = open_cube(folder / "cube.zarr"), rows_with_something(plan, ledger)
    if not len(there):
        raise CatalogError(f"{folder}: no tile has entities or an image; the ledger says why: {folder / 'ledger'}")
    pictured = np.flatnonzero(pc.equal(ledger["status"], "written").to_numpy())
    settled = settled_codebook(folder, pictured, given=codebook) if len(pictured) else None
    parts = described_rows(plan, codebook=settled, scheduler=scheduler, progress=progress)
    return parts, map_facts(plan, cube, num_samples=len(there), pictured=len(pictured))


def _missing(plan: MapPlan, codebook: Codebook | None) -> Iterator[tuple[int, str]]:
    common = json.dumps([VERSION, plan.hash, plan.recipe.hash, codebook.hash if codebook else None])
    for shard in range(plan.spec.num_shards):
        mark = sha256(common.encode() + shard_outcome(plan.folder, shard)).hexdigest()
        if mark_of(part_path(plan.folder, shard)) != mark:
            yield shard, mark


def _tasks(plan: MapPlan, cube: Cube, codebook: Codebook | None, missing: list[tuple[int, str]]) -> Iterator[TileTask]:
    for shard, mark in missing:
        index = np.arange(shard * cube.shard_size, min((shard + 1) * cube.shard_size, len(plan)))
        yield TileTask(
            folder=plan.folder,
            shard=shard,
            rows=plan.table.take(pa.array(index)).append_column("pwcat:index", pa.array(index)),
            pixel_m=plan.pixel_m,
            size_px=plan.recipe.size_px,
            has_map=plan.recipe.map is not None,
            codebook=codebook,
            mark=mark,
            threads=max(1, (os.cpu_count() or 1) // LOCAL_SHARDS),
        )


def describe_shard(task: TileTask) -> int:
    """Describe one shard, and write its part; returns how many items it has."""
    ledger = read_one(ledger_path(task.folder, task.shard))
    pictured = pc.equal(ledger["status"], "written").to_numpy()
    kept = np.flatnonzero(pictured | (task.rows[ENTITY_COUNT].to_numpy() > 0))
    rows, index = task.rows.take(pa.array(kept)), task.rows["pwcat:index"].to_numpy()
    cube, written = open_cube(task.folder / "cube.zarr"), index[pictured]
    found = None
    if len(written):
        chips = reflectance_numbers(cube, written)
        found = measure(chips, codebook=task.codebook, bands=cube.bands[cube.main], threads=task.threads)
    spectra = {name: np.full(len(task.rows), np.nan) for name in _SPECTRA}
    for name, attribute in _SPECTRA.items() if found is not None else ():
        spectra[name][pictured] = getattr(found, attribute)
    items = _items(task, rows, ledger.take(pa.array(kept)), {name: values[kept] for name, values in spectra.items()})
    things = count_things(read_entities(task.folder, index, ["part", "tags"])) if task.has_map else {}
    write_part(task.part, items, Tally.of(items, found, things=things), mark=task.mark)
    return len(items)


_SPECTRA: Final = {
    "div:spectral_entropy": "band_histogram",
    "div:spectral_entropy_codebook": "codebook",
    "div:spectral_entropy_covariance": "covariance",
}


def _items(task: TileTask, rows: pa.Table, ledger: pa.Table, spectra: Mapping[str, NDArray[np.float64]]) -> pa.Table:
    """Items of some tiles, without what is the same for all of a collection."""
    count, step, size = len(rows), task.pixel_m, task.size_px
    x0, y0, zeros = rows["x0"].to_numpy(), rows["y0"].to_numpy(), np.zeros(len(rows))
    geometry, boxes = outline_columns(np.full(count, MERCATOR), x0, y0, size * step)
    fractions = rows["landcover_fractions"].combine_chunks()
    pictured = pc.equal(ledger["status"], "written")
    columns: dict[str, Any] = {
        "id": rows["id"],
        "geometry": geometry,
        "bbox": boxes,
        "datetime": rows["datetime"],
        "proj:code": [f"EPSG:{MERCATOR}"] * count,
        "proj:shape": list_column(np.full((count, 2), size)),
        "proj:transform": list_column(np.column_stack([zeros + step, zeros, x0, zeros, zeros - step, y0])),
        "proj:centroid": pc.make_struct(rows["lat"], rows["lon"], field_names=["lat", "lon"]),
        **{f"div:{name}": rows[name] for name in ("continent", "biome", "ecoregion", "landcover")},
        "div:landcover_share": first_fraction(fractions),
        "div:landcover_fractions": fractions,
        **{name: pa.array(values, from_pandas=True) for name, values in spectra.items()},
        "div:valid_fraction": ledger["valid_fraction"],
        "pwcat:index": rows["pwcat:index"],
        "pwcat:split": rows["split"],
        "pwcat:scene_ids": pc.if_else(pictured, rows["images"], pa.scalar([], rows["images"].type)),
        "map:tile": rows["tile"],
        "map:group": rows["group"],
        "map:region": rows["region"],
        **{name: rows[name] for name in MAP_SCHEMA.names if name in rows.column_names},
    }
    fields = [field for field in (*ITEM_SCHEMA, *MAP_SCHEMA) if field.name in columns]
    arrays = [
        columns[field.name].cast(field.type)
        if isinstance(columns[field.name], pa.Array | pa.ChunkedArray)
        else pa.array(columns[field.name], field.type)
        for field in fields
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def things_of_subset(subset: Subset) -> dict[str, dict[str, int]]:
    """What maps hold on the samples of a subset, by class: of whole collections as it was counted, of parts counted anew.

    Raises:
        CatalogError: the tally of a collection cannot be read, or the entities of a part of one lie elsewhere.
    """
    whole = Tally()
    for collection, rows in subset.parts():
        if not collection.place.has(ENTITIES):
            continue
        if rows.stop - rows.start == collection.items.num_rows and collection.place.has("tally.json"):
            things = Tally.from_json(read_json(collection.place, "tally.json")["tally"]).things
            whole = whole + Tally(things=things)
            continue
        for start in range(rows.start, rows.stop, TILES_AT_ONCE):
            some = np.arange(start, min(start + TILES_AT_ONCE, rows.stop))
            part = entities_of(subset, collection, some, columns=["part", "tags"])
            whole = whole + Tally(things=count_things(part))
    return {name: dict(counts) for name, counts in whole.things.items()}


def map_facts(plan: MapPlan, cube: Cube, *, num_samples: int, pictured: int) -> CollectionFacts:
    """The facts of a collection of map tiles.

    Args:
        plan: of the collection.
        cube: its images.
        num_samples: tiles that have entities or an image.
        pictured: tiles that have an image.
    """
    recipe = plan.recipe
    made = f"made by pwcat from a map recipe ({recipe.hash[:12]})"
    mapped = int((plan.table[ENTITY_COUNT].to_numpy() > 0).sum())
    about = (
        f"{recipe.title}. {num_samples:,} tiles of zoom {recipe.tiles.zoom}, {mapped:,} with entities and {pictured:,} with "
        f"an image, {made}."
    )
    scale, offset = meaning_of(recipe.images.depth if recipe.images is not None else 8)
    _, _, height, width = cube.chip_shape
    bands = [{"name": band} for band in cube.bands]
    numbers = {"data_type": "uint16", "nodata": 0, "raster:scale": scale, "raster:offset": offset}
    layers = {name: plan.layers.get(name) for name in ("continent", "biome", "ecoregion", "landcover")}
    credit = f". {recipe.attribution}" if recipe.attribution else "."
    return CollectionFacts(
        name=recipe.name,
        title=recipe.title,
        description=about,
        license=recipe.license,
        recipe_hash=recipe.hash,
        layers={**layers, **_map_layers(plan)},
        providers=_providers(plan, made),
        citation=f"{recipe.title}. Dataset {recipe.name!r}, {made}{credit}",
        bands=bands,
        pixel_bands=[{**band, **numbers} for band in bands],
        stored=(SCALE / scale, -offset / scale),
        pixels_per_sample=height * width,
        assets={"cube": _cube_asset(), **_files(plan.folder)},
        item_assets={"chips": {"type": ZARR_MEDIA_TYPE, "roles": ["data"], "title": "Images, Zarr v3"}},
        summaries={"gsd": [_ground_m(plan)]},
        extra={
            "pwcat:kind": "map",
            "pwcat:attributions": recipe.attributions,
            "pwcat:version": version("pwcat"),
            "pwcat:chip": {"shape": list(cube.chip_shape), "resolution_m": plan.pixel_m},
            "pwcat:tiles": {"zoom": recipe.tiles.zoom, "group_zoom": recipe.tiles.group_zoom, **plan.facts},
        },
    )


def _map_layers(plan: MapPlan) -> dict[str, str | None]:
    """Where the classes of entities and tags come from."""
    recipe = plan.recipe
    named = None if recipe.map is None else Path(recipe.map.path).name
    return {"entity": named, "tag": named}


def _ground_m(plan: MapPlan) -> float:
    """Side of a pixel on the ground, metres, at the middle latitude of the tiles."""
    latitude = float(np.median(plan.table["lat"].to_numpy()))
    return round(plan.pixel_m * math.cos(math.radians(latitude)), 3)


def _providers(plan: MapPlan, made: str) -> list[dict[str, Any]]:
    """Whose data it is made from, and what was done to them."""
    recipe = plan.recipe
    producers = [
        {
            "name": named,
            "roles": ["producer", "licensor"],
            **({"description": f"licence: {license}"} if license else {}),
        }
        for named, license in recipe.attributions.items()
    ]
    lineage = (
        f"tiles of zoom {recipe.tiles.zoom} in groups of zoom {recipe.tiles.group_zoom} (web mercator, EPSG:3857), split by "
        f"group (seed {recipe.seed}), {made}"
    )
    processor = {
        "name": "pwcat",
        "roles": ["processor"],
        "processing:lineage": lineage,
        "processing:software": {"pwcat": version("pwcat")},
        "processing:expression": {"format": "pwcat-recipe-sha256", "expression": recipe.hash},
    }
    return [*producers, processor]


def _cube_asset() -> dict[str, Any]:
    return {**CUBE_ASSET, "title": "Images as a Zarr datacube; zeros where a tile has none"}


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        key: {"href": f"./{file}", "type": kind, "roles": roles, "title": title}
        for key, file, kind, roles, title in _FILES
        if (folder / file).is_file()
    }
