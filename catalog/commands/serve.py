"""``pwcat serve``: a catalog as a STAC API, with the explorer."""

from __future__ import annotations

from contextlib import suppress

import click

__all__ = ["serve"]


@click.command()
@click.argument("catalog")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 takes a free one."
)
@click.option("--max-page", default=1000, show_default=True, type=click.IntRange(1, 10_000), help="Items of a page.")
@click.option(
    "--max-seconds", default=10.0, show_default=True, type=click.FloatRange(0.1, 600), help="Time of one search."
)
@click.option(
    "--allow-origin",
    "origins",
    multiple=True,
    metavar="URL",
    help="Let pages of this origin read the answers in a browser, as https://radiantearth.github.io; repeatable.",
)
def serve(catalog: str, host: str, port: int, max_page: int, max_seconds: float, origins: tuple[str, ...]) -> None:
    """Serve a catalog as a STAC API, with the explorer, until Ctrl-C; read-only, to this computer unless --host says more."""
    from catalog.query import open_catalog
    from catalog.server import Limits
    from catalog.server import serve as run

    opened = open_catalog(catalog)
    limits = Limits(page=max_page, default_page=min(10, max_page), seconds=max_seconds)

    def started(url: str) -> None:
        click.echo(url)
        click.echo(f"{len(opened.collections)} collections, read-only; Ctrl-C ends it", err=True)

    with suppress(KeyboardInterrupt):  # how a server is meant to end
        run(opened, host=host, port=port, limits=limits, origins=origins, started=started)
