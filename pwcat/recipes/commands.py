"""Command line of the built-in recipes: ``pwcat recipes list | show | copy``."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pwcat.osm.document import MapRecipe
from pwcat.recipe import Recipe
from pwcat.recipes import copy_recipe, list_recipes, load_builtin, recipe_text

__all__ = ["recipes"]


@click.group()
def recipes() -> None:
    """List, show and copy the recipes that come with pwcat."""


@recipes.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def list_(as_json: bool) -> None:
    """List the recipes."""
    loaded = [load_builtin(name) for name in list_recipes()]
    if as_json:
        click.echo(json.dumps([_facts(recipe) for recipe in loaded], indent=2))
        return
    table = Table(box=SIMPLE_HEAD)
    table.add_column("Name", no_wrap=True)
    table.add_column("Strategy", no_wrap=True)
    table.add_column("Samples", justify="right", no_wrap=True)
    table.add_column("Chip", justify="right", no_wrap=True)
    for recipe in loaded:
        told = _facts(recipe)
        samples = f"{told['num_samples']:,}" if told["num_samples"] is not None else "as mapped"
        table.add_row(recipe.name, str(told["strategy"]), samples, f"{told['size_px']} px")
    console = Console()
    console.print(table)
    console.print("Next: pwcat recipes show NAME, pwcat recipes copy NAME", highlight=False)


@recipes.command()
@click.argument("name")
def show(name: str) -> None:
    """Print the recipe NAME as it is written: what it reproduces, what is assumed, and every key."""
    click.echo(recipe_text(name), nl=False)


@recipes.command()
@click.argument("name")
@click.argument("to", metavar="[FILE|DIR]", type=click.Path(path_type=Path), default=Path())
def copy(name: str, to: Path) -> None:
    """Copy the recipe NAME to a file or folder, here by default, to be planned, built or changed."""
    target = copy_recipe(name, to)
    click.echo(f"Copied to {target}. Next: pwcat plan {target}")


def _facts(recipe: Recipe | MapRecipe) -> dict[str, object]:
    if isinstance(recipe, MapRecipe):
        told = {"strategy": "map", "num_samples": None, "size_px": recipe.size_px}
        return {"name": recipe.name, "title": recipe.title, **told, "recipe_hash": recipe.hash}
    return {
        "name": recipe.name,
        "title": recipe.title,
        "strategy": recipe.sampler.strategy,
        "num_samples": recipe.num_samples,
        "size_px": recipe.chip.size_px,
        "recipe_hash": recipe.hash,
    }
