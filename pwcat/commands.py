"""Command line of the core: ``pwcat sites`` and ``pwcat plan``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import shapely
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pwcat.atomic import replacing
from pwcat.costs.estimate import RATE_MB_S, Cell, Estimate, count_cells, estimate_plan
from pwcat.costs.expected import Distances, Diversity, expected_diversity
from pwcat.errors import PwcatError
from pwcat.geo.tables import POINT_FORMATS, write_points
from pwcat.plan import draw_sites, freeze_plan, read_plan
from pwcat.providers import open_source
from pwcat.recipe import Recipe, load_recipe
from pwcat.regions.opening import open_layer
from pwcat.regions.vector import VectorLayer

__all__ = ["DEFAULT_CATALOG", "plan", "sites"]

DEFAULT_CATALOG = "pwcat-data"

MAP_FORMATS = (".png", ".pdf", ".svg")
MOST_CELLS = 40  # rows of the table of counts


_map_options = (
    click.option(
        "--map", "map_file", type=click.Path(path_type=Path), metavar="FILE", help="Draw the sites: png, pdf, svg."
    ),
    click.option("--map-by", metavar="LAYER", help="The layer that colours the map; biome, where there is one."),
)


def _with_map(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_map_options):
        command = option(command)
    return command


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), metavar="FILE", help=f"Write them: {', '.join(POINT_FORMATS)}."
)
@_with_map
@click.option("--json", "as_json", is_flag=True, help="Print counts and diversity as JSON.")
def sites(recipe: Path, out: Path | None, map_file: Path | None, map_by: str | None, as_json: bool) -> None:
    """Choose the places of RECIPE alone: labelled, counted and mapped, without asking for a scene.

    Where a scene is wanted as well, `pwcat plan` goes on drawing until one holds each site; so its places are others.
    """
    _require_format(map_file, MAP_FORMATS, "--map")
    _require_format(out, POINT_FORMATS, "--out")
    loaded = load_recipe(recipe)
    table = _draw(loaded, recipe.parent)
    diversity = expected_diversity(table)
    if out is not None:
        _write_sites(out, table)
    if map_file is not None:
        layers = dict.fromkeys(loaded.regions.given(), "")
        _write_map(map_file, loaded, table, layers, map_by or _best_layer(diversity), base_dir=recipe.parent)
    if as_json:
        cells = count_cells(table)
        known = {"recipe_hash": loaded.hash, "sites": len(table), "cells": cells}
        click.echo(json.dumps({**known, "diversity": {k: asdict(v) for k, v in diversity.items()}}, indent=2))
        return
    console = Console()
    console.print(_cells_table(loaded.title, count_cells(table)))
    console.print(_diversity_table(diversity))
    written = "".join(f", {word} {path}" for word, path in (("in", out), ("drawn in", map_file)) if path)
    sites = "site" if len(table) == 1 else "sites"
    console.print(f"{len(table):,} {sites}{written}", highlight=False)
    console.print(f"Next: pwcat plan {recipe}", highlight=False)


def _draw(recipe: Recipe, base_dir: Path) -> pa.Table:
    """The sites; a source is opened only where a layer is a collection there."""
    own = any(layer.collection is not None and layer.url is None for layer in recipe.regions.given().values())
    if not own:
        return draw_sites(recipe, base_dir=base_dir)
    with open_source(recipe.source, base_dir=base_dir) as source:
        return draw_sites(recipe, base_dir=base_dir, source=source)


def _require_format(path: Path | None, formats: Sequence[str], option: str) -> None:
    if path is not None and path.suffix.lower() not in formats:
        raise PwcatError(f"{option} {path}: the file must end in {', '.join(formats)}")


def _write_sites(path: Path, table: pa.Table) -> None:
    """The sites as points, EPSG:4326, with their labels."""
    unknown = {"id", "scene_ids", "datetime", "landcover_fractions", "shard"}
    frame = table.select([name for name in table.column_names if name not in unknown]).to_pandas()
    write_points(path, frame, layer="sites")


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--catalog", type=click.Path(path_type=Path), default=DEFAULT_CATALOG, show_default=True, help="Folder.")
@click.option(
    "--rate",
    default=RATE_MB_S,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Megabytes a second, for the estimate of hours.",
)
@_with_map
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(recipe: Path, catalog: Path, rate: float, map_file: Path | None, map_by: str | None, as_json: bool) -> None:
    """Choose the sites, scenes and pixel windows of RECIPE, write them down, show counts and costs, and stop.

    `pwcat build` goes on from what is written: the same scenes, the same windows.
    """
    _require_format(map_file, MAP_FORMATS, "--map")
    loaded = load_recipe(recipe)
    with open_source(loaded.source, base_dir=recipe.parent) as source:
        folder = freeze_plan(loaded, catalog=catalog, base_dir=recipe.parent, source=source)
        frozen = read_plan(folder)
        estimate = estimate_plan(loaded, frozen.table, frozen.scenes(source), rate_mb_s=rate)
    if map_file is not None:
        by = map_by or _best_layer(estimate.diversity)
        _write_map(map_file, loaded, frozen.table, frozen.layers, by, base_dir=recipe.parent)
    if as_json:
        known = {"folder": str(folder), "recipe_hash": loaded.hash, "reserve": len(frozen.reserve)}
        known |= {"spectral": frozen.spectral} if frozen.spectral else {}
        click.echo(json.dumps({**known, **estimate.to_dict()}, indent=2))
        return
    console = Console()
    console.print(_cells_table(loaded.title, estimate.cells))
    console.print(_diversity_table(estimate.diversity))
    reserve = [f"{len(frozen.reserve):,} sites are in reserve"] if len(frozen.reserve) else []
    for line in (
        *_cost_lines(estimate),
        *reserve,
        *_spectral_lines(frozen.spectral),
        *([f"Map: {map_file}"] if map_file else []),
    ):
        console.print(line, highlight=False)
    console.print(f"Written to {folder}. Next: pwcat build {recipe} --catalog {catalog}", highlight=False)


def _write_map(
    path: Path, recipe: Recipe, table: pa.Table, layers: Mapping[str, str], layer: str, *, base_dir: Path
) -> None:
    from pwcat.maps import draw_map

    named = f"{layer}: {layers[layer]}" if layers.get(layer) else None
    figure = draw_map(
        table,
        title=recipe.title,
        colour_by=layer,
        land=_land(recipe, base_dir),
        attribution=" · ".join(filter(None, (recipe.attribution, named))) or None,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lower().removeprefix("."))


def _best_layer(diversity: Mapping[str, Diversity]) -> str:
    """Biome, or whichever layer labels any sample."""
    labelled = [name for name in ("biome", "continent", "landcover") if diversity[name].classes]
    return [*labelled, "split"][0]


def _land(recipe: Recipe, base_dir: Path) -> list[shapely.Geometry] | None:
    """The polygons of the first layer that has any, EPSG:4326."""
    for name in ("continent", "biome", "ecoregion"):
        layer = recipe.regions.given().get(name)
        if layer is not None and layer.collection is None and layer.classes is None:
            opened = open_layer(name, layer, base_dir=base_dir)
            return opened.polygons_of() if isinstance(opened, VectorLayer) else None
    return None


def _cells_table(title: str, cells: Sequence[Cell]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in ("Continent", "Biome", "Land cover"):
        table.add_column(name, overflow="fold")
    table.add_column("Samples", justify="right")
    for continent, biome, landcover, count in cells[:MOST_CELLS]:
        table.add_row(continent or "none", biome or "none", landcover or "none", f"{count:,}")
    if rest := cells[MOST_CELLS:]:
        table.add_row(f"and {len(rest):,} more", "", "", f"{sum(count for *_, count in rest):,}")
    return table


def _cost_lines(estimate: Estimate) -> list[str]:
    splits = ", ".join(f"{count:,} {name}" for name, count in sorted(estimate.splits.items()))
    return [
        f"{estimate.samples:,} samples ({splits}) from {estimate.scenes:,} scenes, in {estimate.shards:,} shards",
        f"about {estimate.requests:,} requests, {estimate.download_bytes / 1e6:,.0f} MB to read, "
        f"{estimate.cube_bytes / 1e6:,.0f} MB of pixels, {_duration(estimate.hours)} at {estimate.rate_mb_s:g} MB/s",
        *_distance_lines(estimate.distances_km),
    ]


def _diversity_table(diversity: Mapping[str, Diversity]) -> Table:
    table = Table(title="Expected diversity", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("Layer")
    for name in ("Entropy, nats", "As equal classes", "Classes", "Labelled"):
        table.add_column(name, justify="right")
    for name, one in diversity.items():
        if one.classes:
            shown = name.replace("landcover_area", "land cover, area").replace("landcover", "land cover")
            table.add_row(shown, f"{one.shannon:.3f}", f"{one.effective:.1f}", f"{one.classes}", f"{one.labelled:.0%}")
    return table


def _spectral_lines(choice: Mapping[str, Any] | None) -> list[str]:
    """What a choice by spectra looked at, and what that cost."""
    if choice is None:
        return []
    rank = choice["calibration"]
    told = "no calibration" if rank["rank_correlation"] is None else (
        f"coarse scores rank as full ones do with rho {rank['rank_correlation']:.2f} "
        f"[{rank['ci_low']:.2f}, {rank['ci_high']:.2f}], n {rank['n']}"
    )  # fmt: skip
    return [
        f"chosen among {choice['candidates']:,} candidates ({choice['unread']:,} without pixels): {told}",
        f"expected spectral entropy {choice['mean_of_chosen']:.2f} nats, of all candidates "
        f"{choice['mean_of_candidates']:.2f}",
        _scoring_cost(choice),
    ]


def _scoring_cost(choice: Mapping[str, Any]) -> str:
    full = f"all candidates in full: about {choice['full_bytes'] / 1e6:,.0f} MB"
    if choice["spent_bytes"] is None:
        return f"what scoring read was not counted; {full}"
    calibrating = choice["calibration_bytes"]
    scoring = choice["spent_bytes"] - calibrating
    return f"scoring read {scoring / 1e6:,.1f} MB, calibrating {calibrating / 1e6:,.1f} MB; {full}"


def _distance_lines(distances: Distances) -> list[str]:
    lines = [f"sites are at least {distances.spacing:,.2f} km apart"] if distances.spacing is not None else []
    if distances.split_smallest is not None:
        lines.append(
            f"validation is at least {distances.split_smallest:,.1f} km from training, {distances.split_median:,.1f} km in the "
            "median"
        )
    return lines


def _duration(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.1f} hours"
    return f"{hours * 60:.1f} minutes" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"
