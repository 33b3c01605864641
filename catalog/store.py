"""The catalog's folder: datasets made, described and listed there."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pystac
from numpy.typing import NDArray

from catalog.extension import CLASS_LAYERS, SCHEMA_URI, statistics_of
from catalog.items import PROJECTION_URI, STAC_VERSION, ZARR_MEDIA_TYPE, item_rows
from catalog.mirror import sorted_items, write_items
from catalog.spectral import spectral_entropy
from pwcat.atomic import replacing
from pwcat.building.ledger import read_ledger
from pwcat.building.standing import OnStanding, Standing, untold
from pwcat.cube import Cube, open_cube
from pwcat.doctor.described import description_faults
from pwcat.errors import CatalogError
from pwcat.materialize import BuildReport, build_cube
from pwcat.plan import FrozenPlan, freeze_plan, read_plan
from pwcat.providers import open_fallback, open_source
from pwcat.readers import ReaderName
from pwcat.recipe import load_recipe
from pwcat.sensors.opening import open_sensors

__all__ = ["Built", "NothingWritten", "build", "describe", "write_catalog"]

log = logging.getLogger(__name__)

CATALOG_ID = "pwcat"
RASTER_URI = "https://stac-extensions.github.io/raster/v2.0.0/schema.json"


@dataclass(frozen=True, kw_only=True)
class Built:
    """What :func:`build` leaves behind: the collection's folder and what happened."""

    folder: Path
    report: BuildReport


class NothingWritten(CatalogError):
    """A build in which no sample has pixels in the end, so that there is nothing to describe.

    Attributes:
        built: what happened.
    """

    def __init__(self, built: Built) -> None:
        super().__init__(
            f"{built.folder}: no sample has pixels, so that there is no dataset; `pwcat doctor {built.folder}` says what to do"
        )
        self.built = built


def build(
    recipe: str | Path,
    *,
    catalog: str | Path,
    scheduler: str | None = None,
    replace_failed: bool = False,
    reader: ReaderName = "auto",
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
    standing: OnStanding = untold,
) -> Built:
    """Play a recipe: plan it, materialise its chips, describe them, and list them in a catalog.

    What is there already is kept: a frozen plan of the same recipe is not made again, and shards that are done stay.

    Args:
        recipe: path of the recipe.
        catalog: folder of the catalog; the dataset gets a folder of its name in it.
        scheduler: address of a Dask scheduler; threads of this process where ``None``.
        replace_failed: replace samples that could not be read by sites of the reserve, not only those without data.
        reader: of the pixels.
        progress: called with the stage (plan, build, describe), samples done and samples in all.
        standing: told how far reading and writing have come, in more numbers.

    Raises:
        NothingWritten: no sample has pixels in the end.
        PwcatError: of the part that failed.
    """
    path = Path(recipe)
    loaded = load_recipe(path)
    with open_source(loaded.source, base_dir=path.parent) as source:
        progress("plan", 0, loaded.num_samples)
        folder = freeze_plan(
            loaded,
            catalog=Path(catalog),
            base_dir=path.parent,
            source=source,
            recipe_file=path,
            progress=lambda drawn: progress("plan", min(drawn.placed, loaded.num_samples), loaded.num_samples),
        )
        progress("plan", loaded.num_samples, loaded.num_samples)

        def tell(now: Standing) -> None:
            progress("build", now.samples, now.total)
            standing(now)

        with (
            open_fallback(loaded.source, base_dir=path.parent) as fallback,
            open_sensors(loaded.sensors, base_dir=path.parent) as sensors,
        ):
            report = build_cube(
                folder,
                source=source,
                fallback=fallback,
                sensors=sensors,
                scheduler=scheduler,
                replace_failed=replace_failed,
                reader=reader,
                progress=tell,
            )
    built = Built(folder=folder, report=report)
    if not report.counts.get("written"):
        raise NothingWritten(built)
    progress("describe", 0, loaded.num_samples)
    if report.shards_built or not _is_described(folder):
        describe(folder)
    write_catalog(Path(catalog))
    progress("describe", loaded.num_samples, loaded.num_samples)
    return built


def _is_described(folder: Path) -> bool:
    plan, ledger = read_plan(folder, columns={"id", "shard"}), read_ledger(folder, columns={"id", "status"})
    ids = ledger["id"].filter(pa.compute.equal(ledger["status"], "written")).to_pylist()
    return not any(description_faults(folder, name=plan.recipe.name, recipe_hash=plan.recipe.hash, ids=ids))


def describe(folder: Path) -> None:
    """Write ``items.parquet``, ``stats.json`` and ``collection.json`` of a materialised collection.

    Raises:
        CatalogError: no sample of it has pixels.
    """
    plan, ledger, cube = read_plan(folder), read_ledger(folder), open_cube(folder / "cube.zarr")
    items = _make_items(plan, ledger, cube)
    if not len(items):
        raise CatalogError(f"{folder}: no sample has pixels; the ledger says why: {folder / 'ledger'}")
    write_items(folder / "items.parquet", items, collection=plan.recipe.name)
    statistics = statistics_of(items, layers={name: plan.layers.get(name) for name in CLASS_LAYERS})
    recipe = plan.recipe
    summary = {"name": recipe.name, "num_samples": len(items), "recipe_hash": recipe.hash, "statistics": statistics}
    _write_json(folder / "stats.json", summary)
    _write_json(
        folder / "collection.json", _collection(plan, ledger, items, cube, statistics).to_dict(include_self_link=False)
    )


def _make_items(plan: FrozenPlan, ledger: pa.Table, cube: Cube) -> pa.Table:
    """The items of the samples that have pixels; every written chip is read once, for its spectral entropy."""
    written = np.flatnonzero(pa.compute.equal(ledger["status"], "written").to_numpy())
    taken = pa.array(written)
    rows = plan.table.take(taken).append_column("pwcat:index", taken)
    spectra = {"div:spectral_entropy": _entropies(cube, written)}
    return sorted_items(item_rows(plan.recipe, rows, ledger.take(taken), spectra=spectra))


def _entropies(cube: Cube, written: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of the reflectance alone: what sensors measure has other units."""
    entropies = np.empty(len(written))
    shard_of = written // cube.shard_size
    for shard in np.unique(shard_of):
        rows = np.flatnonzero(shard_of == shard)
        chips = cube.read_shard(int(shard))[:, :, cube.main]
        entropies[rows] = spectral_entropy(chips[written[rows] - shard * cube.shard_size])
    return entropies


def _collection(
    plan: FrozenPlan, ledger: pa.Table, items: pa.Table, cube: Cube, statistics: dict[str, Any]
) -> pystac.Collection:
    recipe = plan.recipe
    collection = pystac.Collection(
        id=recipe.name,
        title=recipe.title,
        description=f"{recipe.title}. {len(items)} samples, made by pwcat from a recipe ({recipe.hash[:12]}).",
        license=recipe.license,
        extent=_extent(items),
        stac_extensions=[PROJECTION_URI, SCHEMA_URI, *([RASTER_URI] if cube.meanings else [])],
        providers=[pystac.Provider(name=recipe.attribution, roles=[pystac.ProviderRole.PRODUCER])]
        if recipe.attribution
        else None,
        summaries=pystac.Summaries(
            {
                "bands": _bands(cube),
                **{f"div:{name}": sorted(statistics[name]["counts"]) for name in CLASS_LAYERS},
            },
            maxcount=2000,
        ),
        extra_fields={
            "div:statistics": statistics,
            "pwcat:recipe_hash": recipe.hash,
            "pwcat:sources": _sources(plan, ledger),
            "pwcat:version": version("pwcat"),
            "pwcat:chip": {"shape": list(cube.chip_shape), "resolution_m": recipe.chip.resolution_m},
        },
    )
    for key, href, kind, roles, title in _ASSETS:
        if key in _SOMETIMES and not (plan.folder / href).is_file():
            continue
        collection.add_asset(key, pystac.Asset(href=href, media_type=kind, roles=roles, title=title))
    collection.add_link(pystac.Link("parent", "../catalog.json", media_type=pystac.MediaType.JSON))
    collection.add_link(pystac.Link("root", "../catalog.json", media_type=pystac.MediaType.JSON))
    return collection


def _bands(cube: Cube) -> list[dict[str, Any]]:
    """Bands by name; where sensors stand beside the source, with what the numbers of theirs mean."""
    bands: list[dict[str, Any]] = [{"name": band} for band in cube.bands]
    for band, meaning in zip(bands, cube.meanings, strict=False):
        if meaning.sensor:
            told = {"raster:scale": meaning.scale, "raster:offset": meaning.offset, "unit": meaning.unit, "nodata": 0}
            band |= {"description": f"of the sensor {meaning.sensor}", **told}
    return bands


def _sources(plan: FrozenPlan, ledger: pa.Table) -> list[str]:
    """Who served pixels, by name, sorted: the recipe's source and sensors, and those that stood in for it."""
    recorded = {source for served in ledger["source"].to_pylist() for source in served or [] if source}
    beside = {one.source.name for one in plan.recipe.sensors.values()}
    return sorted((recorded or {plan.recipe.source.name}) | beside)


_PARQUET = "application/vnd.apache.parquet"
_ASSETS = (
    ("cube", "./cube.zarr", ZARR_MEDIA_TYPE, ["data"], "Chips as a Zarr datacube"),
    ("items", "./items.parquet", _PARQUET, ["collection-mirror"], "Items as STAC GeoParquet"),
    ("plan", "./plan.parquet", _PARQUET, ["metadata"], "Samples, scenes and pixel windows"),
    ("reserve", "./reserve.parquet", _PARQUET, ["metadata"], "Extra sites, in the order in which they replace samples"),
    ("replacements", "./replacements.parquet", _PARQUET, ["metadata"], "Samples replaced from the reserve"),
    ("scenes", "./scenes.parquet", _PARQUET, ["source"], "The frozen STAC answer"),
    ("sensors", "./sensors.parquet", _PARQUET, ["metadata"], "Items of each sensor for each sample and date"),
    ("recipe", "./recipe.yaml", "application/yaml", ["metadata"], "The recipe it was made from"),
    ("stats", "./stats.json", "application/json", ["metadata"], "Diversity statistics"),
)
_SOMETIMES = frozenset({"reserve", "replacements", "sensors"})


def _extent(items: pa.Table) -> pystac.Extent:
    """Where and when the items lie; all longitudes where one of several crosses the antimeridian."""
    boxes = items["bbox"].combine_chunks()
    west, south = (pa.compute.min(boxes.field(k)).as_py() for k in (0, 1))
    east, north = (pa.compute.max(boxes.field(k)).as_py() for k in (2, 3))
    if len(items) > 1 and pa.compute.any(pa.compute.greater(boxes.field(0), boxes.field(2))).as_py():
        west, east = -180.0, 180.0
    first, last = pa.compute.min_max(items["datetime"]).as_py().values()
    return pystac.Extent(pystac.SpatialExtent([[west, south, east, north]]), pystac.TemporalExtent([[first, last]]))


def write_catalog(root: Path) -> None:
    """Write ``catalog.json`` anew from the collections that lie in the folder; one that cannot be read is left out."""
    catalog = pystac.Catalog(id=CATALOG_ID, description="Datasets made by pwcat, with their diversity.")
    for path in sorted(root.glob("*/collection.json")):
        if (collection := _read_collection(path)) is not None:
            href, title = f"./{path.parent.name}/collection.json", collection.get("title")
            catalog.add_link(pystac.Link("child", href, media_type=pystac.MediaType.JSON, title=title))
    document = catalog.to_dict(include_self_link=False)
    document["stac_version"] = STAC_VERSION
    _write_json(root / "catalog.json", document)


def _read_collection(path: Path) -> dict[str, Any] | None:
    """A collection's document; ``None``, and a warning, where it cannot be read."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as exc:
        log.warning("%s cannot be read (%s), and is not listed; `pwcat doctor %s` says more", path, exc, path.parent)
        return None


def _write_json(path: Path, document: dict[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
