"""``pwcat catalog export``."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from catalog.stac.export import MOST_ITEMS, export_static
from pwcat.progress import show_counts

__all__ = ["export"]


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--to", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="That is to be made.")
@click.option("--collection", "collections", multiple=True, help="Only this dataset.")
@click.option("--sample", type=click.IntRange(1), help="At most so many items of each, spread evenly over it.")
@click.option("--json", "as_json", is_flag=True, help="Static JSON: the one format there is, and the default.")
def export(folder: Path, to: Path, collections: tuple[str, ...], sample: int | None, as_json: bool) -> None:
    """Write the catalog or collection in FOLDER as static JSON, a file an item, which STAC Browser shows."""
    with show_counts(Console(stderr=True), "export") as progress:
        exported = export_static(folder, to=to, collections=collections, sample=sample, progress=progress)
    del as_json
    for name, (taken, count) in exported.items.items():
        click.echo(f"{to / name}: {taken:,} of {count:,} items")
    click.echo(f"Open {to / 'catalog.json'} in STAC Browser; at most {MOST_ITEMS:,} items are written so")
