"""``pwcat catalog add``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
import yaml
from pydantic import ValidationError
from rich.console import Console

from catalog.importers import IMPORTERS, find_importer, recognise
from catalog.importers.adding import Added, NothingAdded, Wishes, add_dataset
from catalog.importers.batches import Losses
from catalog.importers.importer import Options
from catalog.measures.codebook import read_codebook
from pwcat.commands import DEFAULT_CATALOG
from pwcat.errors import CatalogError
from pwcat.layers import RegionLayers
from pwcat.progress import show_counts
from pwcat.regions import Regions
from pwcat.regions.opening import open_regions
from pwcat.signals import terminable

__all__ = ["add"]

MOST_REASONS = 8
MOST_SUSPECTS = 3

_formats = "\b\n" + "\n".join(f"{name}: {importer.about}" for name, importer in IMPORTERS.items())


@click.command(
    epilog=f"Formats:\n\n{_formats}\n\nExit code 1: samples could not be read, and are told; 2: none could be.",
)
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--catalog", type=click.Path(path_type=Path), default=DEFAULT_CATALOG, show_default=True, help="Folder.")
@click.option("--name", help="Of the collection; the folder's own where left out.")
@click.option("--format", "format_name", type=click.Choice(list(IMPORTERS)), help="Recognised where left out.")
@click.option(
    "--regions",
    "regions_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="YAML with `regions` as in a recipe, or a recipe: layers that label the samples.",
)
@click.option("--layer", "layers", multiple=True, metavar="NAME=DATASET", help="A layer by its dataset's name.")
@click.option("--bands", metavar="B02,B03,…", help="Names of the bands, in the files' order; or those to take.")
@click.option("--offset", type=click.IntRange(0, 65535), help="DN to remove from every reflectance.")
@click.option("--scale", type=float, help="What values are multiplied by to be reflectance times 10,000.")
@click.option("--date", metavar="DATE", help="For samples without one.")
@click.option("--table", metavar="CSV", help="The CSV beside GeoTIFFs, where there are several.")
@click.option("--column", "columns", multiple=True, metavar="ROLE=NAME", help="Which column of it is file, datetime, …")
@click.option("--product", metavar="NAME", help="SSL4EO-S12: S2L2A or S2L1C.")
@click.option("--size-px", type=click.IntRange(1, 4096), help="Chips are centre windows of so many pixels a side.")
@click.option("--title", help="A few words.")
@click.option("--license", "license_id", metavar="SPDX", help="The format's own, else `other`.")
@click.option("--attribution", metavar="TEXT", help="Whom to name.")
@click.option("--val-fraction", type=click.FloatRange(0, 0.9), default=0.0, help="To validate with, in whole blocks.")
@click.option("--block-km", type=click.FloatRange(1), default=50.0, show_default=True, help="Side of these blocks.")
@click.option(
    "--codebook",
    "codebook_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Another collection's codebook.parquet, so that entropies over it compare; fitted where left out.",
)
@click.option("--replace", is_flag=True, help="Describe a collection anew that was added before.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def add(
    folder: Path,
    catalog: Path,
    name: str | None,
    format_name: str | None,
    regions_file: Path | None,
    layers: tuple[str, ...],
    codebook_file: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Index the dataset in FOLDER where it lies: labels, statistics and a catalog entry, without copying a pixel."""
    importer = find_importer(format_name) if format_name else recognise(folder)
    wishes = Wishes(
        name=name or _name_of(folder),
        title=given["title"],
        license=given["license_id"],
        attribution=given["attribution"],
        size_px=given["size_px"],
        val_fraction=given["val_fraction"],
        block_km=given["block_km"],
        codebook=read_codebook(codebook_file) if codebook_file else None,
        replace=given["replace"],
    )
    try:
        with terminable(), show_counts(Console(stderr=True), "reading samples") as progress:
            added = add_dataset(
                folder,
                catalog=catalog,
                wishes=wishes,
                importer=importer,
                options=_options(given),
                regions=_regions(regions_file, layers),
                progress=progress,
            )
    except NothingAdded as exc:
        _show_losses(exc.losses)
        raise
    _show(added, as_json=as_json)
    if added.losses.total:
        total = added.samples + added.losses.total
        click.echo(f"pwcat: {added.folder}: {added.losses.total:,} of {total:,} samples could not be read", err=True)
        sys.exit(1)


def _name_of(folder: Path) -> str:
    return folder.resolve().name.lower().replace(" ", "-")


def _options(given: dict[str, Any]) -> Options:
    bands = given["bands"]
    return Options(
        bands=tuple(band.strip() for band in bands.split(",")) if bands else None,
        columns=_pairs("--column", given["columns"]),
        **{name: given[name] for name in ("offset", "scale", "date", "table", "product")},
    )


def _pairs(option: str, texts: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    if wrong := [text for text, (_, sign, value) in zip(texts, pairs, strict=True) if not sign or not value]:
        raise CatalogError(f"{option} {wrong[0]}: give it as NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _regions(file: Path | None, layers: tuple[str, ...]) -> Regions:
    """The layers of a file and those named; names come first."""
    document: Any = {}
    if file is not None:
        try:
            document = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
            raise CatalogError(f"{file}: cannot be read as YAML: {str(exc).splitlines()[0]}") from exc
        if not isinstance(document, dict):
            raise CatalogError(f"{file}: a mapping `regions` is to be there, as in a recipe")
        document = document.get("regions", document)
    try:
        asked = RegionLayers.model_validate({**document, **_pairs("--layer", layers)})
    except ValidationError as exc:
        raise CatalogError(f"{file or '--layer'}: {_faults(exc)}") from exc
    return open_regions(asked, base_dir=file.parent if file else Path(), source=None)


def _faults(exc: ValidationError) -> str:
    """Every fault in a line, with the layer that it is of."""
    told = (
        (".".join(map(str, error["loc"][:1])), error["msg"].removeprefix("Value error, ")) for error in exc.errors()
    )
    return "; ".join(dict.fromkeys(f"{layer}: {message}" for layer, message in told))


def _show(added: Added, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_as_json(added), indent=2, ensure_ascii=False))
        return
    click.echo(f"{added.folder}: {added.samples:,} samples added, read in place ({added.format})")
    for note in added.notes:
        click.echo(f"  {note}")
    if added.size_px is None:
        click.echo(f"  chips differ in size ({added.sizes}): to train from them, add with --size-px")
    if added.suspects:
        few = "; ".join(f"{name}: {seen}" for name, seen in added.suspects[:MOST_SUSPECTS])
        click.echo(f"  {len(added.suspects):,} samples contradict the offset that is removed; {few}")
    _show_losses(added.losses)
    click.echo(f"Next: pwcat stats {added.folder}")


def _show_losses(losses: Losses) -> None:
    for reason, count in losses.counts.most_common(MOST_REASONS):
        click.echo(f"  {count:,} not read: {reason}; such as {', '.join(losses.examples[reason])}", err=True)
    if rest := losses.counts.most_common()[MOST_REASONS:]:
        click.echo(f"  {sum(count for _, count in rest):,} not read for {len(rest):,} other reasons", err=True)


def _as_json(added: Added) -> dict[str, Any]:
    return {
        "folder": str(added.folder),
        "format": added.format,
        "samples": added.samples,
        "lost": [
            {"reason": reason, "samples": count, "examples": added.losses.examples[reason]}
            for reason, count in added.losses.counts.most_common()
        ],
        "notes": list(added.notes),
        "suspect_offsets": [{"id": name, "seen": seen} for name, seen in added.suspects],
        "size_px": added.size_px,
        "sizes": added.sizes,
    }
