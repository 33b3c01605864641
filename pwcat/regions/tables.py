"""Descriptions and labels as tables of 80 columns."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pwcat.regions.continents import Deviation
from pwcat.regions.inspection import Description, Labelled

__all__ = ["show_labels", "show_layer", "sources_line"]

# Points shown of a longer table.
ROWS = 40


def show_layer(description: Description, *, console: Console) -> None:
    """Print what a layer holds."""
    table = Table(title=f"{description.name}: {description.source}", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("Class", overflow="fold")
    known = any(area is not None for _, area, _ in description.classes)
    if known:
        table.add_column("Area, km²", justify="right", no_wrap=True)
        table.add_column("Share", justify="right", no_wrap=True)
    for name, area, share in description.classes:
        table.add_row(name, *([f"{area or 0:,.0f}", f"{share or 0:.2%}"] if known else []))
    console.print(table)
    if description.pixel_m is not None:
        console.print(f"Pixels of {description.pixel_m:,.0f} m", highlight=False)
    for key, value in description.facts.items():
        console.print(f"{key.capitalize()}: {value}", highlight=False, soft_wrap=True, markup=False)
    if description.deviations:
        console.print(_deviations(description.deviations))


def _deviations(deviations: list[Deviation]) -> Table:
    table = Table(title="Not the continent of the country's attribute", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("Place", overflow="fold", ratio=5)
    table.add_column("Is, not", overflow="fold", ratio=4)
    table.add_column("km²", justify="right", no_wrap=True)
    table.add_column("Because", overflow="fold", ratio=6)
    for row in deviations:
        where = f"{row.country}: {row.place}"
        table.add_row(where, f"{row.continent}, not {row.attribute}", f"{row.area_km2:,.0f}", row.reason)
    return table


def show_labels(labelled: Labelled, *, console: Console) -> None:
    """Print points with their labels, the first of many."""
    table = Table(box=SIMPLE_HEAD)
    for name in ("Lon", "Lat"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in labelled.sources:
        table.add_column(name.replace("_", " ").capitalize(), overflow="fold")
    for row in labelled.rows.head(ROWS)[["lon", "lat", *labelled.sources]].itertuples(index=False):
        lon, lat, *labels = row
        table.add_row(f"{lon:.4f}", f"{lat:.4f}", *("none" if value is None else str(value) for value in labels))
    console.print(table)
    if len(labelled.rows) > ROWS:
        console.print(f"{len(labelled.rows) - ROWS:,} more; -o FILE writes all {len(labelled.rows):,}", highlight=False)
    console.print(sources_line(labelled), highlight=False, markup=False)


def sources_line(labelled: Labelled) -> str:
    """Where labels came from, in one sentence."""
    return f"Labels: {', '.join(f'{column} from {source}' for column, source in labelled.sources.items())}"
