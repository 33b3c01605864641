"""``pwcat catalog build``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click
from rich.console import Console

from catalog.measures.codebook import read_codebook
from catalog.stac.describing import CODEBOOK, PARTS
from catalog.store import describe, write_catalog
from pwcat.copies import require_no_copy
from pwcat.errors import CatalogError
from pwcat.progress import show_counts

__all__ = ["build"]


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--codebook", type=click.Path(path_type=Path), metavar="FILE", help="codebook.parquet of a collection.")
@click.option("--scheduler", metavar="ADDRESS", help="A Dask scheduler whose workers see the folder.")
@click.option("--anew", is_flag=True, help="Read every chip again, and fit another codebook.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def build(folder: Path, codebook: Path | None, scheduler: str | None, anew: bool, as_json: bool) -> None:
    """Describe the collection in FOLDER, or all that were built in a catalog: items, tallies, statistics, documents.

    Only shards whose pixels or labels changed are read. `pwcat build` does this itself.
    """
    given = read_codebook(codebook) if codebook else None
    folders = _built(folder)
    counts = {}
    for one in folders:
        if anew:
            shutil.rmtree(one / PARTS, ignore_errors=True)
            (one / CODEBOOK).unlink(missing_ok=True)
        with show_counts(Console(stderr=True), f"describe {one.name}") as progress:
            describe(one, codebook=given, scheduler=scheduler, progress=progress)
        counts[one.name] = int(json.loads((one / "stats.json").read_text(encoding="utf-8"))["num_samples"])
    for root in dict.fromkeys(one.parent for one in folders):
        write_catalog(root)
    if as_json:
        click.echo(json.dumps({"described": counts}, indent=2))
        return
    for name, count in counts.items():
        click.echo(f"{name}: {count:,} samples described")


def _built(folder: Path) -> list[Path]:
    """Collections there that were built here: they have a plan and a cube."""
    require_no_copy(folder, doing="describe")
    if (folder / "plan.parquet").is_file():
        return [folder]
    found = sorted(path.parent for path in folder.glob("*/plan.parquet") if (path.parent / "cube.zarr").is_dir())
    if not found:
        raise CatalogError(
            f"{folder}: no dataset there that was built here (plan.parquet and cube.zarr); `pwcat build RECIPE` makes one, "
            "`pwcat catalog add` indexes others"
        )
    return found
