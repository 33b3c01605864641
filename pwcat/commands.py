"""Command line of the core: ``pwcat plan``."""

from __future__ import annotations

import json
from pathlib import Path

import click
import shapely
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pwcat.atomic import replacing
from pwcat.errors import PwcatError
from pwcat.estimate import RATE_MB_S, Estimate, estimate_plan
from pwcat.expected import Distances, Diversity
from pwcat.plan import FrozenPlan, freeze_plan, read_plan
from pwcat.providers import open_source
from pwcat.recipe import Recipe, load_recipe
from pwcat.regions.opening import open_layer
from pwcat.regions.vector import VectorLayer

__all__ = ["DEFAULT_CATALOG", "plan"]

DEFAULT_CATALOG = "pwcat-data"

MAP_FORMATS = (".png", ".pdf", ".svg")
MOST_CELLS = 40  # rows of the table of counts


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
@click.option(
    "--map", "map_file", type=click.Path(path_type=Path), metavar="FILE", help="Draw the sites: png, pdf, svg."
)
@click.option("--map-by", metavar="LAYER", help="The layer that colours the map; biome, where there is one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(recipe: Path, catalog: Path, rate: float, map_file: Path | None, map_by: str | None, as_json: bool) -> None:
    """Choose the sites, scenes and pixel windows of RECIPE, write them down, show counts and costs, and stop.

    `pwcat build` goes on from what is written: the same scenes, the same windows.
    """
    if map_file is not None and map_file.suffix.lower() not in MAP_FORMATS:
        raise PwcatError(f"--map {map_file}: a map is a file that ends in {', '.join(MAP_FORMATS)}")
    loaded = load_recipe(recipe)
    with open_source(loaded.source, base_dir=recipe.parent) as source:
        folder = freeze_plan(loaded, catalog=catalog, base_dir=recipe.parent, source=source)
        frozen = read_plan(folder)
        estimate = estimate_plan(loaded, frozen.table, frozen.scenes(source), rate_mb_s=rate)
    if map_file is not None:
        _write_map(map_file, frozen, map_by or _best_layer(estimate), base_dir=recipe.parent)
    if as_json:
        known = {"folder": str(folder), "recipe_hash": loaded.hash, "reserve": len(frozen.reserve)}
        click.echo(json.dumps({**known, **estimate.to_dict()}, indent=2))
        return
    console = Console()
    console.print(_cells_table(loaded.title, estimate))
    reserve = [f"{len(frozen.reserve):,} sites are in reserve"] if len(frozen.reserve) else []
    for line in (*_cost_lines(estimate), *reserve, *([f"Map: {map_file}"] if map_file else [])):
        console.print(line, highlight=False)
    console.print(f"Written to {folder}. Next: pwcat build {recipe} --catalog {catalog}", highlight=False)


def _write_map(path: Path, plan: FrozenPlan, layer: str, *, base_dir: Path) -> None:
    from pwcat.maps import draw_sites

    named = f"{layer}: {plan.layers[layer]}" if layer in plan.layers else None
    figure = draw_sites(
        plan.table,
        title=plan.recipe.title,
        colour_by=layer,
        land=_land(plan.recipe, base_dir),
        attribution=" · ".join(filter(None, (plan.recipe.attribution, named))) or None,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lower().removeprefix("."))


def _best_layer(estimate: Estimate) -> str:
    """Biome, or whichever layer labels any sample."""
    labelled = [name for name in ("biome", "continent", "landcover") if estimate.diversity[name].classes]
    return [*labelled, "split"][0]


def _land(recipe: Recipe, base_dir: Path) -> list[shapely.Geometry] | None:
    """The polygons of the first layer that has any, EPSG:4326."""
    for name in ("continent", "biome", "ecoregion"):
        layer = recipe.regions.given().get(name)
        if layer is not None and layer.collection is None and layer.classes is None:
            opened = open_layer(name, layer, base_dir=base_dir)
            return opened.polygons_of() if isinstance(opened, VectorLayer) else None
    return None


def _cells_table(title: str, estimate: Estimate) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in ("Continent", "Biome", "Land cover"):
        table.add_column(name)
    table.add_column("Samples", justify="right")
    for continent, biome, landcover, count in estimate.cells[:MOST_CELLS]:
        table.add_row(continent or "none", biome or "none", landcover or "none", f"{count:,}")
    if rest := estimate.cells[MOST_CELLS:]:
        table.add_row(f"and {len(rest):,} more", "", "", f"{sum(count for *_, count in rest):,}")
    return table


def _cost_lines(estimate: Estimate) -> list[str]:
    splits = ", ".join(f"{count:,} {name}" for name, count in sorted(estimate.splits.items()))
    return [
        f"{estimate.samples:,} samples ({splits}) from {estimate.scenes:,} scenes, in {estimate.shards:,} shards",
        f"about {estimate.requests:,} requests, {estimate.download_bytes / 1e6:,.0f} MB to read, "
        f"{estimate.cube_bytes / 1e6:,.0f} MB of pixels, {_duration(estimate.hours)} at {estimate.rate_mb_s:g} MB/s",
        *(_diversity_line(name, diversity) for name, diversity in estimate.diversity.items() if diversity.classes),
        *_distance_lines(estimate.distances_km),
    ]


def _diversity_line(layer: str, diversity: Diversity) -> str:
    name = {"landcover": "land cover", "landcover_area": "land cover by area"}.get(layer, layer)
    some = "" if diversity.labelled == 1 else f"; {diversity.labelled:.0%} of the samples have one"
    return (
        f"expected diversity of {name}: {diversity.shannon:.3f} nats, as {diversity.effective:.1f} equal classes; "
        f"{diversity.classes} present{some}"
    )


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
    return f"{hours * 60:.1f} minutes" if hours * 60 >= 1 else f"{hours * 3600:.0f} seconds"
