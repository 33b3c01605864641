"""``pwcat catalog merge``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from catalog.stac.merging import merge_catalogs

__all__ = ["merge"]


@click.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--to", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="Of the one catalog.")
@click.option("--copy", is_flag=True, help="Copy the datasets, pixels included, instead of linking to them.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def merge(sources: tuple[Path, ...], to: Path, copy: bool, as_json: bool) -> None:
    """Make one catalog of SOURCES, which are catalogs and collections. They stay where they are, and are linked to.

    Statistics of all samples together go into stats.json of the catalog: the sum of the tallies, and the dispersion of all.
    """
    merged = merge_catalogs(sources, to=to, copy=copy)
    total = sum(merged.samples.values())
    if as_json:
        known = {"folder": str(merged.folder), "collections": merged.samples, "num_samples": total}
        click.echo(json.dumps({**known, "statistics": merged.statistics}, indent=2))
        return
    click.echo(f"{merged.folder}: {len(merged.samples):,} collections, {total:,} samples")
    for name, count in merged.samples.items():
        click.echo(f"  {name}: {count:,}")
    click.echo(f"Next: pwcat stats {merged.folder}")
