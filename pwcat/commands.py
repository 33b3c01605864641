"""Command line of the core: ``pwcat plan``."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pwcat.estimate import Estimate, estimate_plan
from pwcat.plan import freeze_plan, read_plan
from pwcat.providers import open_source
from pwcat.recipe import load_recipe

__all__ = ["DEFAULT_CATALOG", "plan"]

DEFAULT_CATALOG = "pwcat-data"


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--catalog", type=click.Path(path_type=Path), default=DEFAULT_CATALOG, show_default=True, help="Folder.")
@click.option(
    "--rate",
    default=20.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Megabytes a second, for the estimate of hours.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(recipe: Path, catalog: Path, rate: float, as_json: bool) -> None:
    """Choose the sites, scenes and pixel windows of RECIPE, write them down, show counts and costs, and stop.

    `pwcat build` goes on from what is written: the same scenes, the same windows.
    """
    loaded = load_recipe(recipe)
    with open_source(loaded.source, base_dir=recipe.parent) as source:
        folder = freeze_plan(loaded, catalog=catalog, base_dir=recipe.parent, source=source)
        frozen = read_plan(folder)
        estimate = estimate_plan(loaded, frozen.table, frozen.scenes(source), rate_mb_s=rate)
    if as_json:
        click.echo(json.dumps({"folder": str(folder), "recipe_hash": loaded.hash, **estimate.to_dict()}, indent=2))
        return
    console = Console()
    console.print(_cells_table(loaded.title, estimate))
    for line in _cost_lines(estimate):
        console.print(line, highlight=False)
    console.print(f"Written to {folder}. Next: pwcat build {recipe} --catalog {catalog}", highlight=False)


def _cells_table(title: str, estimate: Estimate) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in ("Continent", "Biome", "Land cover"):
        table.add_column(name)
    table.add_column("Samples", justify="right")
    for continent, biome, landcover, count in estimate.cells:
        table.add_row(continent or "none", biome or "none", landcover or "none", f"{count:,}")
    return table


def _cost_lines(estimate: Estimate) -> list[str]:
    splits = ", ".join(f"{count:,} {name}" for name, count in sorted(estimate.splits.items()))
    return [
        f"{estimate.samples:,} samples ({splits}) from {estimate.scenes:,} scenes, in {estimate.shards:,} shards",
        f"about {estimate.requests:,} requests, {estimate.download_bytes / 1e6:,.0f} MB to read, "
        f"{estimate.cube_bytes / 1e6:,.0f} MB of pixels, {_duration(estimate.hours)} at {estimate.rate_mb_s:g} MB/s",
    ]


def _duration(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.1f} hours"
    return f"{hours * 60:.1f} minutes" if hours * 60 >= 1 else f"{hours * 3600:.0f} seconds"
