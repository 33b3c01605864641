"""The plan: which samples, from which scenes, at which pixels, before one pixel of them is read."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from pwcat.atomic import replacing
from pwcat.errors import PwcatError, RecipeError, SourceError
from pwcat.providers import OpenSource, open_source
from pwcat.recipe import Recipe, load_recipe
from pwcat.regions import Regions, majority, open_regions
from pwcat.samplers import Labels, Sampler, make_sampler
from pwcat.scenes import Placement, Scene, date_windows, place_chips, read_scenes, search_scenes, write_scenes
from pwcat.splits import spatial_split

__all__ = ["PLAN_SCHEMA", "FrozenPlan", "Plan", "freeze_plan", "make_plan", "read_plan", "write_plan"]

FRACTIONS = pa.list_(pa.struct([pa.field("name", pa.string()), pa.field("fraction", pa.float64())]))

# One row a sample. Positions are EPSG:4326; x0 and y0 are the chip's upper-left corner in metres, in `epsg`.
PLAN_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("lon", pa.float64()),
        pa.field("lat", pa.float64()),
        pa.field("continent", pa.string()),
        pa.field("biome", pa.string()),
        pa.field("landcover", pa.string()),
        pa.field("landcover_fractions", FRACTIONS),
        pa.field("scene_ids", pa.list_(pa.string())),
        pa.field("datetime", pa.list_(pa.timestamp("us", tz="UTC"))),
        pa.field("epsg", pa.int32()),
        pa.field("x0", pa.float64()),
        pa.field("y0", pa.float64()),
        pa.field("resolution_m", pa.float64()),
        pa.field("split", pa.string()),
        pa.field("shard", pa.int32()),
    ]
)

# A shard is what a worker holds in memory, retries and writes at once. It holds 64 chips, of at most 64 MB of pixels; fewer
# in a small dataset, so that it still has eight shards to share out, and up to 256 in one that would have over 1,024.
SHARD_BYTES = 64 * 2**20
SHARD_CHIPS = (64, 256)
NUM_SHARDS = (8, 1024)

# The land cover of a chip is looked up at a regular grid of at most this many points a side.
LANDCOVER_POINTS = 32

# Rounds of drawing without a single site placed, after which a recipe is said to be unreachable.
MAX_FRUITLESS_ROUNDS = 20


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be read, as a table, and the scenes it comes from.

    Attributes:
        recipe: what was asked.
        table: :data:`PLAN_SCHEMA`, in Hilbert order.
        scenes: those that the table names, by id.
        layers: source of each region layer.
    """

    recipe: Recipe
    table: pa.Table
    scenes: list[Scene]
    layers: dict[str, str]

    def __len__(self) -> int:
        return len(self.table)


def shard_size(recipe: Recipe) -> int:
    """Samples a shard, a power of two."""
    times = len(recipe.when.months or []) or recipe.when.dates_per_site or 1
    chip_bytes = 2 * times * len(recipe.chip.bands) * recipe.chip.size_px**2
    wanted = min(max(SHARD_CHIPS[0], recipe.num_samples // NUM_SHARDS[1]), SHARD_CHIPS[1])
    most = max(1, min(wanted, SHARD_BYTES // chip_bytes, recipe.num_samples // NUM_SHARDS[0]))
    return int(2 ** math.floor(math.log2(most)))


def make_plan(recipe: Recipe | str | Path, *, base_dir: Path | None = None, source: OpenSource | None = None) -> Plan:
    """The plan of a recipe: deterministic for one recipe and one answer of the source.

    Args:
        recipe: a recipe, or the path of its file.
        base_dir: the folder that relative paths of the recipe start from; its file's folder, else the current one.
        source: the recipe's source if it is open already.

    Raises:
        RecipeError, RegionError, SourceError: as the parts raise them.
        SourceError: fewer sites than asked can be placed; says how many could and what to relax.
    """
    if not isinstance(recipe, Recipe):
        base_dir = base_dir or Path(recipe).parent
        recipe = load_recipe(recipe)
    base_dir = base_dir or Path()
    if source is not None:
        return _plan(recipe, base_dir, source)
    with open_source(recipe.source, base_dir=base_dir) as opened:
        return _plan(recipe, base_dir, opened)


def _plan(recipe: Recipe, base_dir: Path, source: OpenSource) -> Plan:
    regions = open_regions(recipe.regions, base_dir=base_dir, source=source)
    everywhere = recipe.sampler.domain == "scenes"
    scenes = search_scenes(source, recipe.when, bands=recipe.chip.bands) if everywhere else None
    if scenes is not None and not scenes:
        raise SourceError(
            f"{source.provider} ({source.collection}) has no scene from {recipe.when.start} to {recipe.when.end} under "
            f"{recipe.when.max_cloud_cover:g} % cloud with the bands {', '.join(recipe.chip.bands)}"
        )
    sampler = make_sampler(recipe, regions=regions, footprints=[s.footprint for s in scenes or []])
    sites = _place_sites(recipe, sampler, regions, source, scenes)
    table = _to_table(recipe, sites)
    used = {scene.id: scene for site in sites for scene in site.placement.scenes}
    return Plan(recipe=recipe, table=table, scenes=[used[key] for key in sorted(used)], layers=regions.sources())


@dataclass(frozen=True, kw_only=True)
class _Site:
    lonlat: tuple[float, float]
    placement: Placement
    continent: str | None
    biome: str | None
    landcover: str | None
    fractions: dict[str, float]


def _place_sites(
    recipe: Recipe, sampler: Sampler, regions: Regions, source: OpenSource, scenes: list[Scene] | None
) -> list[_Site]:
    """The first ``num_samples`` drawn sites that a scene holds and the sampler keeps."""
    rng = np.random.default_rng(recipe.seed)
    windows = date_windows(recipe.when)
    placed: list[_Site] = []
    fruitless = 0
    while len(placed) < recipe.num_samples:
        lonlat = sampler.draw(max(64, recipe.num_samples - len(placed)), rng=rng)
        here = search_scenes(source, recipe.when, bands=recipe.chip.bands, sites=lonlat) if scenes is None else scenes
        new = _judge(lonlat, place_chips(lonlat, here, windows, recipe.chip), sampler, regions, recipe)
        placed += new
        fruitless = 0 if new else fruitless + 1
        if fruitless == MAX_FRUITLESS_ROUNDS:
            raise SourceError(_unreachable(recipe, len(placed)))
    return placed[: recipe.num_samples]


def _unreachable(recipe: Recipe, placed: int) -> str:
    wanted = f"{recipe.sampler.layer} {recipe.sampler.value!r}" if recipe.sampler.strategy == "one_hot" else "any place"
    windows = len(recipe.when.months or []) or recipe.when.dates_per_site or 1
    return (
        f"{recipe.name}: only {placed} of {recipe.num_samples} sites could be placed ({wanted}, domain "
        f"{recipe.sampler.domain!r}): {MAX_FRUITLESS_ROUNDS} further draws found none with a scene that holds the whole "
        f"chip on {windows} date(s) under {recipe.when.max_cloud_cover:g} % cloud. Relax max_cloud_cover, widen the "
        "dates, ask for fewer dates a site or a smaller chip; over a source that covers little land, take the domain 'scenes'"
    )


def _judge(
    lonlat: NDArray[np.float64],
    placements: Sequence[Placement | None],
    sampler: Sampler,
    regions: Regions,
    recipe: Recipe,
) -> list[_Site]:
    rows = [row for row, placement in enumerate(placements) if placement is not None]
    found = [placement for placement in placements if placement is not None]
    if not found:
        return []
    points = lonlat[rows]
    nothing = np.full(len(rows), None, dtype=object)
    fractions: list[dict[str, float]] = [{}] * len(rows)
    if regions.landcover is not None:
        fractions = regions.landcover.fractions(_chip_grids(found, recipe))
    labels: Labels = {
        "continent": regions.continent.label(points) if regions.continent else nothing,
        "biome": regions.biome.label(points) if regions.biome else nothing,
        "landcover": np.array([*majority(fractions), None], dtype=object)[:-1],
    }
    return [
        _Site(
            lonlat=(float(points[k, 0]), float(points[k, 1])),
            placement=found[k],
            continent=labels["continent"][k],
            biome=labels["biome"][k],
            landcover=labels["landcover"][k],
            fractions=fractions[k],
        )
        for k in np.flatnonzero(sampler.keeps(labels))
    ]


def _chip_grids(placements: Sequence[Placement], recipe: Recipe) -> NDArray[np.float64]:
    """``(n, k, 2)`` longitudes and latitudes of a regular grid of points in each chip."""
    side = recipe.chip.size_px * recipe.chip.resolution_m
    points = min(LANDCOVER_POINTS, recipe.chip.size_px)
    steps = (np.arange(points) + 0.5) * side / points
    east, south = (axis.ravel() for axis in np.meshgrid(steps, steps))
    grids = np.empty((len(placements), points * points, 2))
    epsgs, x0, y0 = (np.array([getattr(p, name) for p in placements]) for name in ("epsg", "x0", "y0"))
    for epsg in np.unique(epsgs):
        rows = np.flatnonzero(epsgs == epsg)
        x, y = x0[rows, None] + east, y0[rows, None] - south
        lon, lat = Transformer.from_crs(f"EPSG:{epsg}", "EPSG:4326", always_xy=True).transform(x, y)
        grids[rows, :, 0], grids[rows, :, 1] = lon, lat
    return grids


def _to_table(recipe: Recipe, sites: Sequence[_Site]) -> pa.Table:
    lonlat = np.array([site.lonlat for site in sites])
    distance = gpd.GeoSeries(shapely.points(lonlat), crs="EPSG:4326").hilbert_distance(
        total_bounds=(-180, -90, 180, 90)
    )
    order = np.lexsort((np.arange(len(sites)), distance.to_numpy()))
    split = spatial_split(
        lonlat, val_fraction=recipe.split.val_fraction, block_km=recipe.split.block_km, seed=recipe.seed
    )
    digits = max(6, len(str(recipe.num_samples - 1)))
    size = shard_size(recipe)
    rows = [
        {
            "id": f"{recipe.name}-{drawn:0{digits}d}",
            "lon": sites[drawn].lonlat[0],
            "lat": sites[drawn].lonlat[1],
            "continent": sites[drawn].continent,
            "biome": sites[drawn].biome,
            "landcover": sites[drawn].landcover,
            "landcover_fractions": [{"name": k, "fraction": v} for k, v in sites[drawn].fractions.items()],
            "scene_ids": [scene.id for scene in sites[drawn].placement.scenes],
            "datetime": [scene.time for scene in sites[drawn].placement.scenes],
            "epsg": sites[drawn].placement.epsg,
            "x0": sites[drawn].placement.x0,
            "y0": sites[drawn].placement.y0,
            "resolution_m": recipe.chip.resolution_m,
            "split": split[drawn],
            "shard": position // size,
        }
        for position, drawn in enumerate(order)
    ]
    return pa.Table.from_pylist(rows, schema=PLAN_SCHEMA)


def write_plan(plan: Plan, folder: Path) -> None:
    """Write ``plan.parquet``, ``scenes.parquet`` and ``recipe.yaml``, the plan last: where it is, all are."""
    folder.mkdir(parents=True, exist_ok=True)
    notes = {"pwcat:recipe_hash": plan.recipe.hash, "pwcat:layers": json.dumps(plan.layers, sort_keys=True)}
    with replacing(folder / "recipe.yaml") as temporary:
        temporary.write_text(plan.recipe.to_yaml(), encoding="utf-8")
    with replacing(folder / "scenes.parquet") as temporary:
        write_scenes(temporary, plan.scenes)
    with replacing(folder / "plan.parquet") as temporary:
        pq.write_table(plan.table.replace_schema_metadata(notes), temporary, compression="zstd")


@dataclass(frozen=True, kw_only=True)
class FrozenPlan:
    """A plan as it lies on disk; its scenes are read when they are needed."""

    folder: Path
    recipe: Recipe
    table: pa.Table
    layers: dict[str, str]

    def __len__(self) -> int:
        return len(self.table)

    def scenes(self, source: OpenSource) -> list[Scene]:
        """The scenes that the table names, by id."""
        return read_scenes(self.folder / "scenes.parquet", source=source, bands=self.recipe.chip.bands)


def read_plan(folder: Path) -> FrozenPlan:
    """The plan in a collection's folder.

    Raises:
        PwcatError: there is none, or it is of another recipe than the one beside it.
    """
    path = folder / "plan.parquet"
    if not path.is_file():
        raise PwcatError(f"{path}: no plan there; make one with `pwcat plan RECIPE`")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as exc:
        raise PwcatError(f"{path}: cannot be read ({exc}); remove it and plan again") from exc
    recipe = load_recipe(folder / "recipe.yaml")
    notes = table.schema.metadata or {}
    if notes.get(b"pwcat:recipe_hash", b"").decode() != recipe.hash:
        raise RecipeError(f"{folder}: recipe.yaml is not the recipe that plan.parquet was made from; plan again")
    layers = json.loads(notes.get(b"pwcat:layers", b"{}"))
    return FrozenPlan(folder=folder, recipe=recipe, table=table.replace_schema_metadata(None), layers=layers)


def freeze_plan(recipe: Recipe, *, catalog: Path, base_dir: Path, source: OpenSource) -> Path:
    """Make and write the plan of a recipe, unless its very plan is there; return the collection's folder.

    Args:
        recipe: what is asked.
        catalog: the folder that gets a folder of the recipe's name.
        base_dir: the folder that relative paths of the recipe start from.
        source: the recipe's, open.

    Raises:
        RecipeError: the folder holds the plan of another recipe of this name.
    """
    folder = catalog / recipe.name
    if not (folder / "plan.parquet").is_file():
        write_plan(make_plan(recipe, base_dir=base_dir, source=source), folder)
    elif (there := read_plan(folder).recipe.hash) != recipe.hash:
        raise RecipeError(
            f"{folder}: holds the plan of another recipe of this name ({there[:12]}, not {recipe.hash[:12]}). "
            "Remove the folder, or give the recipe another name"
        )
    return folder
