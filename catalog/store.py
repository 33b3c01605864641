"""The catalog's folder: datasets made, described and listed there."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.columns import refit_columns
from catalog.items import STAC_VERSION
from catalog.measures.codebook import Codebook
from catalog.measures.statistics import lonlat_of, statistics_from
from catalog.measures.tally import Tally, sum_tallies
from catalog.osm import describe_tiles, rows_with_something
from catalog.stac.collection import CollectionFacts, collection_document, slim_document
from catalog.stac.describing import describe_shards, part_tally, read_part, settled_codebook
from catalog.stac.made import facts_of, sources_of
from catalog.stac.mirror import sorted_items, write_items
from pwcat.atomic import replacing
from pwcat.building.ledger import read_ledger
from pwcat.building.standing import OnStanding, Standing, untold
from pwcat.copies import require_no_copy
from pwcat.cube import open_cube
from pwcat.doctor.described import description_faults
from pwcat.errors import CatalogError
from pwcat.materialize import BuildReport, build_cube, require_same_cube, spec_of
from pwcat.osm.building import MapReport, build_tiles
from pwcat.osm.document import load_map_recipe
from pwcat.osm.imagery import open_imagery
from pwcat.osm.plan import is_map_folder, read_tiles
from pwcat.osm.planning import freeze_tiles
from pwcat.plan import freeze_plan, read_plan
from pwcat.providers import open_fallback, open_source
from pwcat.readers import ReaderName
from pwcat.recipe import load_recipe
from pwcat.sensors.opening import open_sensors

__all__ = [
    "Built",
    "BuiltMap",
    "NothingWritten",
    "build",
    "build_map",
    "describe",
    "write_catalog",
    "write_collection",
    "write_json",
]

log = logging.getLogger(__name__)

CATALOG_ID = "pwcat"


@dataclass(frozen=True, kw_only=True)
class Built:
    """What :func:`build` leaves behind: the collection's folder and what happened."""

    folder: Path
    report: BuildReport


@dataclass(frozen=True, kw_only=True)
class BuiltMap:
    """What :func:`build_map` leaves behind: the collection's folder and what happened."""

    folder: Path
    report: MapReport


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
        describe(folder, scheduler=scheduler)
    write_catalog(Path(catalog))
    progress("describe", loaded.num_samples, loaded.num_samples)
    return built


def build_map(
    recipe: str | Path,
    *,
    catalog: str | Path,
    scheduler: str | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
    standing: OnStanding = untold,
) -> BuiltMap:
    """Play a map recipe: plan its tiles, read their images, describe them, and list them in a catalog.

    What is there already is kept, as :func:`build` keeps it; images that failed are tried again.

    Args:
        recipe: path of the recipe.
        catalog: folder of the catalog; the collection gets a folder of its name in it.
        scheduler: address of a Dask scheduler; threads of this process where ``None``.
        progress: called with the stage (plan, build, describe), tiles done and tiles in all.
        standing: told how far reading and writing have come, in more numbers.

    Raises:
        PwcatError: of the part that failed.
    """
    path = Path(recipe)
    loaded = load_map_recipe(path)
    plan = freeze_tiles(loaded, catalog=Path(catalog), base_dir=path.parent, recipe_file=path)
    folder = plan.folder
    progress("plan", len(plan), len(plan))

    def tell(now: Standing) -> None:
        progress("build", now.samples, now.total)
        standing(now)

    with open_imagery(loaded.images, base_dir=path.parent) as imagery:
        report = build_tiles(folder, imagery=imagery, scheduler=scheduler, progress=tell)
    progress("describe", 0, len(plan))
    if report.shards_built or not _is_map_described(folder):
        describe(folder, scheduler=scheduler)
    write_catalog(Path(catalog))
    progress("describe", len(plan), len(plan))
    return BuiltMap(folder=folder, report=report)


def _is_map_described(folder: Path) -> bool:
    plan, ledger = read_tiles(folder), read_ledger(folder, columns={"id", "status"})
    ids = plan.table["id"].take(pa.array(rows_with_something(plan, ledger))).to_pylist()
    return not any(description_faults(folder, name=plan.recipe.name, recipe_hash=plan.recipe.hash, ids=ids))


def _is_described(folder: Path) -> bool:
    plan, ledger = read_plan(folder, columns={"id", "shard"}), read_ledger(folder, columns={"id", "status"})
    ids = ledger["id"].filter(pc.equal(ledger["status"], "written")).to_pylist()
    return not any(description_faults(folder, name=plan.recipe.name, recipe_hash=plan.recipe.hash, ids=ids))


def describe(
    folder: Path,
    *,
    codebook: Codebook | None = None,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write what describes a materialised collection: ``items.parquet``, ``stats.json``, ``tally.json``, ``collection.json``.

    Shards are described one by one, into files in ``described/``; those whose pixels, ledger and labels are as they were are
    not read again.

    Args:
        folder: of the collection.
        codebook: of its spectra; the one that lies there, else one fitted to its chips, where ``None``.
        scheduler: address of a Dask scheduler; threads of this process where ``None``.
        progress: called with shards described and shards in all.

    Raises:
        CatalogError: no sample of it has pixels, or of map tiles, neither entities nor an image.
        CubeError: the cube is missing, damaged, or of another dataset.
    """
    require_no_copy(folder, doing="describe")
    if is_map_folder(folder):
        parts, facts = describe_tiles(folder, codebook=codebook, scheduler=scheduler, progress=progress)
        write_collection(folder, items=parts, tally=sum_tallies(part_tally(part) for part in parts), metadata=facts)
        return
    plan, ledger = read_plan(folder), read_ledger(folder, columns={"id", "status", "source"})
    require_same_cube(folder, spec_of(plan), recipe_hash=plan.recipe.hash)
    cube = open_cube(folder / "cube.zarr")
    written = np.flatnonzero(pc.equal(ledger["status"], "written").to_numpy())
    if not len(written):
        raise CatalogError(f"{folder}: no sample has pixels; the ledger says why: {folder / 'ledger'}")
    settled = settled_codebook(folder, written, given=codebook)
    parts = describe_shards(plan, codebook=settled, scheduler=scheduler, progress=progress)
    tally = sum_tallies(part_tally(part) for part in parts)
    sources = sources_of(plan, ledger)
    write_collection(
        folder, items=parts, tally=tally, metadata=facts_of(plan, cube, sources=sources, num_samples=len(written))
    )


def write_collection(
    folder: Path, *, items: pa.Table | Sequence[Path], tally: Tally, metadata: CollectionFacts
) -> None:
    """Write ``items.parquet``, ``stats.json``, ``tally.json`` and ``collection.json``, each whole, the last one last.

    Args:
        folder: of the collection; its name is that of the collection.
        items: columns of :data:`catalog.items.ITEM_SCHEMA`, or parts of them, of :func:`catalog.stac.describing.write_part`.
            What is the same for all samples may be left out; assets may be others than chips of a cube.
        tally: of all of them.
        metadata: what else is known.

    Raises:
        CatalogError: there are no items, or not as many as were counted; a part cannot be read. Nothing is written then.
    """
    rows = sorted_items(items if isinstance(items, pa.Table) else _joined(items))
    if not len(rows):
        raise CatalogError(f"{folder}: no samples, so that there is no dataset to describe")
    if len(rows) != tally.num_samples:
        raise CatalogError(f"{folder}: {len(rows):,} items, and a tally of {tally.num_samples:,}; describe it again")
    statistics = statistics_from(tally, layers=metadata.layers, lonlat=lonlat_of(rows))
    document = collection_document(metadata, items=rows, statistics=statistics, tally=tally)
    named = {"name": metadata.name, "num_samples": len(rows), "recipe_hash": metadata.recipe_hash}
    folder.mkdir(parents=True, exist_ok=True)
    write_items(folder / "items.parquet", rows, collection=metadata.name, document=slim_document(document))
    write_json(folder / "tally.json", {**named, "tally": tally.to_json()})
    write_json(folder / "stats.json", {**named, "statistics": statistics})
    write_json(folder / "collection.json", document)
    refit_columns(folder)


def _joined(parts: Sequence[Path]) -> pa.Table:
    """The rows of all parts, each column in one piece."""
    return pa.concat_tables([read_part(part) for part in parts], promote_options="default").combine_chunks()


def write_catalog(root: Path) -> None:
    """Write ``catalog.json`` anew from the collections that lie in the folder; one that cannot be read is left out."""
    links = [{"rel": "root", "href": "./catalog.json", "type": "application/json"}]
    for path in sorted(root.glob("*/collection.json")):
        if (collection := _read_collection(path)) is not None:
            child = {"rel": "child", "href": f"./{path.parent.name}/collection.json", "type": "application/json"}
            links.append({**child, "title": str(collection.get("title") or path.parent.name)})
    document = {
        "type": "Catalog",
        "id": CATALOG_ID,
        "stac_version": STAC_VERSION,
        "description": "Datasets made by pwcat, with their diversity.",
        "links": links,
    }
    write_json(root / "catalog.json", document)


def _read_collection(path: Path) -> dict[str, Any] | None:
    """A collection's document; ``None``, and a warning, where it cannot be read."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as exc:
        log.warning("%s cannot be read (%s), and is not listed; `pwcat doctor %s` says more", path, exc, path.parent)
        return None


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON document, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
