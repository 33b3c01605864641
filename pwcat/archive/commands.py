"""``pwcat archive``: make, extend and serve an embedded archive."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pwcat.errors import ArchiveError

__all__ = ["archive"]


@click.group()
def archive() -> None:
    """Turn a folder of scenes into a STAC API on loopback."""


@archive.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--seed", default=0, show_default=True, help="Same seed and options, same bytes.")
@click.option("--places", default=4, show_default=True, help="Places a continent to pretrain on.")
@click.option("--test-places", default=2, show_default=True, help="Places a continent held out.")
@click.option("--dates", default=2, show_default=True, help="Scenes a place.")
@click.option("--size-px", default=512, show_default=True, help="Side of a scene in pixels of 10 m.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def synth(directory: Path, seed: int, places: int, test_places: int, dates: int, size_px: int, as_json: bool) -> None:
    """Make synthetic Sentinel-2-like scenes, with land cover, on six continents; or complete what was interrupted."""
    from pwcat.archive import synthesise_archive
    from pwcat.archive.synth import SynthOptions

    options = SynthOptions(seed=seed, places=places, test_places=test_places, dates=dates, size_px=size_px)
    with _progress() as bar:
        task = bar.add_task("Places", total=None)
        synthesise_archive(
            directory, options=options, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    _show(directory, as_json)


@archive.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--seed", default=0, show_default=True, help="Same seed and options, same bytes.")
@click.option("--towns", default=12, show_default=True, help="Towns, each in a group of tiles of its own.")
@click.option("--across", default=4, show_default=True, help="Tiles of zoom 16 on a side of a town, 4 at most.")
@click.option("--no-images", is_flag=True, help="The map alone.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def towns(directory: Path, seed: int, towns: int, across: int, no_images: bool, as_json: bool) -> None:
    """Make synthetic towns on six continents: a map as .osm.pbf, with aerial images; or complete what was interrupted."""
    from pwcat.archive.towns import TownOptions, synthesise_towns

    options = TownOptions(seed=seed, towns=towns, across=across, images=not no_images)
    with _progress() as bar:
        task = bar.add_task("Towns", total=None)
        made = synthesise_towns(
            directory, options=options, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    if as_json:
        click.echo(json.dumps({"archive": str(directory), **made}))
        return
    click.echo(", ".join(f"{count:,} {what}" for what, count in made.items()))
    click.echo(f"Next: pwcat build {directory / 'towns.yaml'}")


@archive.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--collection", required=True, help="Collection to add to.")
@click.option(
    "--datetime", "moment", help="Of the files: 2021-06-01, a month 2021-06, a span A/B; default: what each file says."
)
@click.option("--processing-baseline", help="Of Sentinel-2, as 04.00: from 04.00 on, DN carry an offset of 1000.")
@click.option("--bands", help="Names of the bands in the files' order, as B02,B03,B04.")
@click.option("--cloud-cover", type=float, help="Percentage.")
@click.option("--license", "license_", default="other", show_default=True, help="SPDX name, for a new collection.")
@click.option("--link", is_flag=True, help="Link to the files as they are instead of writing COGs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def add(
    directory: Path,
    files: tuple[Path, ...],
    collection: str,
    moment: str | None,
    processing_baseline: str | None,
    bands: str | None,
    cloud_cover: float | None,
    license_: str,
    link: bool,
    as_json: bool,
) -> None:
    """Add GeoTIFFs to an archive, made where there is none; pixels stay as they are, and twice is as good as once."""
    from pwcat.archive.add import add_scenes, parse_span

    try:
        when, until = parse_span(moment) if moment else (None, None)
    except ValueError as exc:
        raise ArchiveError(
            f"--datetime {moment!r} is no date; write it as 2021-06-01 or 2021-06-01T10:30:00Z, as a month, 2021-06, or as a "
            "span, 2021-06-01/2021-06-30"
        ) from exc
    with _progress() as bar:
        task = bar.add_task("Items", total=None)
        report = add_scenes(
            directory,
            files,
            collection=collection,
            when=when,
            until=until,
            processing_baseline=processing_baseline,
            bands=tuple(name.strip() for name in bands.split(",")) if bands else (),
            cloud_cover=cloud_cover,
            license=license_,
            link=link,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for path, reason in report.failed:
        click.echo(f"pwcat: {path}: {reason}", err=True)
    if report.added or report.kept:
        _show(directory, as_json)
    if report.failed:
        raise ArchiveError(f"{len(report.failed)} of {len(files)} files were not added; the rest is in the archive")


@archive.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=0, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one."
)
def serve(directory: Path, host: str, port: int) -> None:
    """Serve an archive as a STAC API until Ctrl-C; the folder is read once, at the start."""
    from pwcat.archive.server import run_server

    with suppress(KeyboardInterrupt):  # how a server is meant to end
        run_server(directory, host=host, port=port)


def _progress() -> Progress:
    """A progress bar on stderr, quiet when that is not a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


def _show(directory: Path, as_json: bool) -> None:
    """Print what an archive holds, and what to try next."""
    rows = []
    for path in sorted(directory.glob("*/collection.json")):
        files = [file for file in path.parent.rglob("*") if file.is_file()]
        items = sum(1 for file in files if file.suffix == ".json" and file.stem == file.parent.name)
        megabytes = round(sum(file.stat().st_size for file in files) / 1e6, 1)
        rows.append({"collection": path.parent.name, "items": items, "megabytes": megabytes})
    if as_json:
        click.echo(json.dumps({"archive": str(directory), "collections": rows}))
        return
    table = Table("Collection", "Items", "MB", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(str(row["collection"]), str(row["items"]), str(row["megabytes"]))
    Console().print(table)
    click.echo(f"Next: pwcat archive serve {directory}")
