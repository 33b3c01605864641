"""``pwcat search``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from catalog.commands.asking import GroupedCommand, asked, search_options, shown_place
from catalog.querying.queryables import LAYERS
from catalog.subset import Subset

__all__ = ["search", "show_samples"]

BIOME_WIDTH = 24  # characters of a biome's name, so that a row of samples fits into 80
ID_WIDTH = 22


@click.command(cls=GroupedCommand)
@click.argument("catalog")
@search_options
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE", help="Save the answer as a subset.")
@click.option("--column", "columns", multiple=True, metavar="NAME", help="Show this column, too; several times.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a sample.")
def search(catalog: str, save: Path | None, columns: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Find samples in CATALOG: a catalog's or a collection's folder, or its address (s3://, gs://, az://, https://).

    All that is given must hold. Classes are spelt as `pwcat stats` shows them; case and underscores do not matter.
    """
    found = asked(catalog, **options)
    if save is not None and len(found):
        found.save(save)
    if as_json:
        samples = samples_of(found, more=columns)
        click.echo(json.dumps({"matched": len(found), "hash": found.hash, "samples": samples}, indent=2, default=str))
        return
    show_samples(found, more=columns)
    if save is not None and not len(found):
        click.echo(f"Nothing was found, and nothing is saved to {save}")
    elif save is not None:
        click.echo(f"Saved to {save}. Next: pwcat stats {save}")


def samples_of(found: Subset, *, more: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Its samples as JSON objects: collection, id, split, labels, spectral entropy, date and place; and more columns."""
    columns = [
        "collection",
        "id",
        "pwcat:split",
        *(f"div:{name}" for name in LAYERS),
        "div:spectral_entropy",
        "datetime",
    ]
    rows = found.columns(columns).to_pylist()
    others = found.columns(more).to_pylist() if more else [{}] * len(rows)
    return [
        {
            **{key.rpartition(":")[2]: value for key, value in row.items()},
            "datetime": row["datetime"] and row["datetime"].isoformat(),
            "lon": lon,
            "lat": lat,
            **other,
        }
        for row, other, (lon, lat) in zip(rows, others, found.lonlat.tolist(), strict=True)
    ]


def show_samples(found: Subset, *, more: Sequence[str] = (), most: int = 12) -> None:
    """Print the first samples as a table, and how many there are."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{_counted(len(found))}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("Sample", "Date"):
        table.add_column(name, no_wrap=True)
    table.add_column("Biome", no_wrap=True)
    if not more:  # a row fits into 80 signs
        table.add_column("Land cover", no_wrap=True)
        table.add_column("Nats", justify="right", no_wrap=True)
    for name in more:
        table.add_column(name, justify="right", no_wrap=True)
    for row in samples_of(found.only(np.arange(min(most, len(found)))), more=more):
        entropy = "" if row["spectral_entropy"] is None else f"{row['spectral_entropy']:.2f}"
        table.add_row(
            shown_place(row["id"], ID_WIDTH),
            (row["datetime"] or "")[:10],
            shown_place(row["biome"], BIOME_WIDTH),
            *((_shown(row[name]) for name in more) if more else (shown_place(row["landcover"], 18), entropy)),
        )
    console = Console()
    console.print(table)
    if len(found) > most:
        console.print(
            f"and {len(found) - most:,} more; --json prints all, with place, continent and split", highlight=False
        )


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else shown_place(str(value), ID_WIDTH)


def _counted(count: int) -> str:
    return "1 sample" if count == 1 else f"{count:,} samples"
