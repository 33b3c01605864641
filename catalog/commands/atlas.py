"""``pwcat atlas``."""

from __future__ import annotations

from pathlib import Path

import click

from pwcat.outputs import require_output

__all__ = ["atlas"]

FORMATS = (".html",)


@click.command()
@click.argument("data")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default=Path("atlas.html"), show_default=True, help="The page."
)
@click.option("--title", help="Of the page; the collection's title, or the folder's name, if left out.")
def atlas(data: str, out: Path, title: str | None) -> None:
    """Show DATA on one page: a catalog's or collection's folder, its address, or a saved subset.

    The page holds everything that it shows, opens without a network, and is small enough for a dataset's card.
    """
    from catalog.atlas import write_atlas

    require_output(out, FORMATS, "--out")
    size = write_atlas(data, out, title=title)
    click.echo(f"{out}: {size / 1000:,.0f} kB")
