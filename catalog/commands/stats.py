"""``pwcat stats``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from catalog.extension import CLASS_LAYERS
from catalog.query import open_catalog
from catalog.subset import Subset, load_subset

__all__ = ["stats"]


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stats(data: Path, as_json: bool) -> None:
    """Show the diversity of DATA: a catalog's or collection's folder, or a saved subset. A catalog has a row a dataset."""
    subsets = _parts(data)
    if as_json:
        click.echo(json.dumps({name: part.stats() for name, part in subsets.items()}, indent=2))
        return
    table = Table(title="Diversity, with 95 % intervals (nats)", title_justify="left", box=SIMPLE_HEAD)
    for name in ("Dataset", "Samples", "Continent", "Biome", "Land cover", "Spectral"):
        table.add_column(name, justify="left" if name == "Dataset" else "right")
    for name, part in subsets.items():
        numbers = part.stats()
        table.add_row(
            name, f"{len(part):,}", *(_entropy(numbers[layer]) for layer in CLASS_LAYERS), _mean(numbers["spectral"])
        )
    Console().print(table)


def _parts(data: Path) -> dict[str, Subset]:
    if data.is_file():
        return {data.stem: load_subset(data)}
    opened = open_catalog(data)
    return {name: opened.search(collections=name) for name in opened.collections}


def _entropy(numbers: dict[str, Any]) -> str:
    if numbers["shannon"] is None:
        return "none"
    return f"{numbers['shannon']:.3f}\n[{numbers['ci_low']:.3f}, {numbers['ci_high']:.3f}]"


def _mean(numbers: dict[str, Any]) -> str:
    if numbers["mean"] is None:
        return "none"
    if numbers["ci_low"] is None:
        return f"{numbers['mean']:.3f}"
    return f"{numbers['mean']:.3f}\n[{numbers['ci_low']:.3f}, {numbers['ci_high']:.3f}]"
