"""``pwcat search``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from catalog.extension import CLASS_LAYERS
from catalog.query import open_catalog
from catalog.subset import Subset

__all__ = ["search"]

BIOME_WIDTH = 24  # characters of a biome's name, so that a row of samples fits into 80


@click.command()
@click.argument("catalog", type=click.Path(path_type=Path))
@click.option("--biome", multiple=True, help="A biome; can be given several times.")
@click.option("--landcover", multiple=True, help="The land cover with the largest share of a chip.")
@click.option("--continent", multiple=True)
@click.option("--collection", "collections", multiple=True, help="Only this dataset.")
@click.option("--split", help="train or val.")
@click.option("--bbox", nargs=4, type=float, metavar="W S E N", help="Degrees, EPSG:4326.")
@click.option("--datetime", metavar="START/END", help="A day or an interval; .. leaves an end open.")
@click.option("--min-spectral-entropy", type=float, metavar="NATS")
@click.option("--filter", "filter_", metavar="CQL2", help="A CQL2 text filter over the items' fields.")
@click.option("--limit", type=int, help="At most this many, spread over the answer.")
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE", help="Save the answer as a subset.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one feature a sample.")
def search(
    catalog: Path,
    biome: tuple[str, ...],
    landcover: tuple[str, ...],
    continent: tuple[str, ...],
    collections: tuple[str, ...],
    split: str | None,
    bbox: tuple[float, float, float, float] | None,
    datetime: str | None,
    min_spectral_entropy: float | None,
    filter_: str | None,
    limit: int | None,
    save: Path | None,
    as_json: bool,
) -> None:
    """Find samples in CATALOG, a catalog's or a collection's folder."""
    found = open_catalog(catalog).search(
        biome=list(biome) or None,
        landcover=list(landcover) or None,
        continent=list(continent) or None,
        collections=list(collections) or None,
        split=split,
        bbox=bbox,
        datetime=datetime,
        min_spectral_entropy=min_spectral_entropy,
        filter=filter_,
        limit=limit,
    )
    if save is not None and len(found):
        found.save(save)
    if as_json:
        click.echo(json.dumps({"matched": len(found), "hash": found.hash, "samples": _samples(found)}, indent=2))
        return
    _show_samples(found)
    if save is not None and not len(found):
        click.echo(f"Nothing was found, and nothing is saved to {save}")
    elif save is not None:
        click.echo(f"Saved to {save}. Next: pwcat stats {save}")


def _samples(found: Subset) -> list[dict[str, Any]]:
    columns = ["collection", "id", "pwcat:split", *(f"div:{name}" for name in CLASS_LAYERS), "div:spectral_entropy"]
    rows = found.table.select([*columns, "datetime"]).to_pylist()
    return [
        {
            **{key.rpartition(":")[2]: value for key, value in row.items()},
            "datetime": row["datetime"].isoformat(),
            "lon": lon,
            "lat": lat,
        }
        for row, (lon, lat) in zip(rows, found.lonlat.tolist(), strict=True)
    ]


def _show_samples(found: Subset, *, most: int = 12) -> None:
    table = Table(title=f"{len(found):,} samples", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("Sample", "Date"):
        table.add_column(name, no_wrap=True)
    table.add_column("Biome", no_wrap=True)
    table.add_column("Land cover", no_wrap=True)
    table.add_column("Nats", justify="right", no_wrap=True)
    for row in _samples(found.select(np.arange(min(most, len(found))))):
        entropy = "" if row["spectral_entropy"] is None else f"{row['spectral_entropy']:.2f}"
        biome = row["biome"] or "none"
        shown = biome if len(biome) <= BIOME_WIDTH else f"{biome[: BIOME_WIDTH - 1].rstrip()}…"
        table.add_row(row["id"], row["datetime"][:10], shown, row["landcover"] or "none", entropy)
    console = Console()
    console.print(table)
    if len(found) > most:
        console.print(
            f"and {len(found) - most:,} more; --json prints all, with place, continent and split", highlight=False
        )
