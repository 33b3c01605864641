"""``pwcat catalog validate``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from catalog.stac.validation import ITEMS, validate_catalog

__all__ = ["validate"]


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--schemas",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="With the schema.json of STAC extensions, under any names.",
)
@click.option("--items", type=click.IntRange(0), default=ITEMS, show_default=True, help="To validate of each dataset.")
@click.option("--all-items", is_flag=True, help="Validate every item: about 100 a second.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def validate(folder: Path, schemas: Path | None, items: int, all_items: bool, as_json: bool) -> None:
    """Check the catalog or collection in FOLDER, without a network.

    Documents and a spread of items against STAC's schemas and that of the diversity extension; items, whose every byte is
    read, against statistics, tallies and cubes. Exit code 1 where something is wrong.
    """
    found = validate_catalog(folder, schemas=schemas, items=None if all_items else items)
    if as_json:
        click.echo(json.dumps({**asdict(found), "unchecked": sorted(found.unchecked)}, indent=2))
    else:
        for fault in found.faults:
            click.echo(fault)
        if found.unchecked:
            names = ", ".join(sorted(uri.removesuffix("/schema.json") for uri in found.unchecked))
            click.echo(f"Not checked, for want of a schema (--schemas): {names}")
        faults = "1 fault" if len(found.faults) == 1 else f"{len(found.faults):,} faults"
        click.echo(f"{folder}: {faults} in {found.documents:,} documents and {found.items:,} rows of items")
    if found.faults:
        sys.exit(1)
