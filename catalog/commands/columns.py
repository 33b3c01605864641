"""``pwcat catalog columns``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pwcat.errors import CatalogError

if TYPE_CHECKING:
    from catalog.query import Catalog

__all__ = ["columns"]


@click.command()
@click.argument("catalog")
@click.option(
    "--add", "file", type=click.Path(path_type=Path), metavar="FILE", help="Add what `pwcat losses -o` wrote."
)
@click.option("--replace", is_flag=True, help="Let it take the place of a column of that name.")
@click.option("--remove", multiple=True, metavar="NAME", help="Remove a column; several times for several.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def columns(catalog: str, file: Path | None, replace: bool, remove: tuple[str, ...], as_json: bool) -> None:
    """List columns kept beside the items of CATALOG, a catalog's or a collection's folder; add and remove them.

    Each is asked for by its name, as in --filter '"loss:europe" > 0.3'.
    """
    from catalog.columns import attach_column
    from catalog.query import open_catalog

    found = open_catalog(catalog)
    if remove:
        _remove(found, remove)
    if file is not None:
        attach_column(found, file, overwrite=replace)
    told = _told(found)
    click.echo(json.dumps(told, indent=2)) if as_json else _show(told)


def _remove(catalog: Catalog, names: tuple[str, ...]) -> None:
    from catalog.columns import remove_column

    there = {name: [one for one in catalog.members.values() if name in one.columns] for name in names}
    if missing := [name for name, members in there.items() if not members]:
        known = sorted({name for one in catalog.members.values() for name in one.columns})
        raise CatalogError(
            f"{catalog.place}: no column {', '.join(missing)} to remove; there are {', '.join(known) or 'none'}"
        )
    for name, members in there.items():
        for member in members:
            remove_column(member, name)


def _told(catalog: Catalog) -> list[dict[str, Any]]:
    from catalog.columns import misfits

    told = []
    for member in catalog.members.values():
        refused = misfits(member)
        for name, column in member.columns.items():
            known = {"collection": member.name, **asdict(column), "of": member.items.num_rows}
            told.append({**known, "refused": refused.get(name)})
    return told


def _show(told: list[dict[str, Any]]) -> None:
    for one in told:
        made = one["made"]
        by = ", ".join(str(made[key]) for key in ("by", "run", "date") if made.get(key))
        unit = f", {one['unit']}" if one["unit"] else ""
        click.echo(
            f"{one['collection']}: {one['name']}: {one['meaning']}{unit}; "
            f"{one['samples']:,} of {one['of']:,} samples; {by or 'who made it is not known'}"
        )
        if one["refused"]:
            click.echo(f"  refused: {one['refused']}")
    if not told:
        click.echo("no columns beside the items")
