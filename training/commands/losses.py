"""``pwcat losses``."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pwcat.progress import show_counts
from training.losses import BATCH_SIZE, REPEATS, Losses, Summary, column_name, measure_losses

__all__ = ["losses"]


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("data", type=click.Path(exists=True))
@click.option("--name", metavar="NAME", help="Of the column; loss: and the name of RUN's folder by default.")
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="FILE", help="Write a file, and no column.")
@click.option("--replace", is_flag=True, help="Let it take the place of a column of that name.")
@click.option("--repeats", default=REPEATS, show_default=True, type=click.IntRange(1), help="Masks of each sample.")
@click.option("--seed", default=0, show_default=True, type=int, help="Fixes the masks.")
@click.option("--batch-size", default=BATCH_SIZE, show_default=True, type=click.IntRange(2), help="Samples at once.")
@click.option("--highest", default=10, show_default=True, type=click.IntRange(0), help="Samples to show.")
@click.option("--device", help="Torch device, such as cuda or cpu; the fastest there is by default.")
@click.option("--other-units", is_flag=True, help="Let data of another unit than in pretraining pass.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def losses(
    run: Path,
    data: str,
    name: str | None,
    out: Path | None,
    replace: bool,
    repeats: int,
    seed: int,
    batch_size: int,
    highest: int,
    device: str | None,
    other_units: bool,
    as_json: bool,
) -> None:
    """Measure the loss that the model of RUN has on each sample of DATA, and keep it as a column of its collections.

    RUN is a run's folder or a model's, DATA a subset's file, or the folder of a dataset or a catalog. Samples can be searched
    by the column then: pwcat search CATALOG --filter '"loss:run" > 0.3'
    """
    from catalog.columns import require_room
    from catalog.subset import load_subset

    subset, name = load_subset(data), name or column_name(run)
    if out is None:
        require_room(subset, name, overwrite=replace)  # before the work
    with show_counts(Console(stderr=True), "losses") as tell:
        found = measure_losses(
            run,
            subset,
            repeats=repeats,
            seed=seed,
            batch_size=batch_size,
            device=device,
            other_units=other_units,
            progress=tell,
        )
    summary = found.to_json(highest=highest)
    files = [found.save(out, name)] if out is not None else found.keep(name, overwrite=replace)
    if as_json:
        click.echo(json.dumps({"name": name, "files": [str(path) for path in files], **summary}, indent=2))
        return
    _show(found, highest=highest)
    if out is not None:
        click.echo(f"{out}: column {name}. Next: pwcat catalog columns CATALOG --add {out}")
    else:
        click.echo(f"Column {name} of {', '.join(path.parent.parent.name for path in files)}")


def _percentiles(told: Summary) -> list[tuple[str, str]]:
    return [(str(percent), f"{value:.4g}") for percent, value in told.percentiles.items()]


def _show(found: Losses, *, highest: int) -> None:
    told = found.summary(highest=highest)
    console = Console()
    without = f"; {told.without:,} without data" if told.without else ""
    console.print(
        f"{found.meaning}: {told.mean:.4g} ± {told.sd:.2g} over {told.samples:,} samples{without}", highlight=False
    )
    percents, values = (", ".join(parts) for parts in zip(*_percentiles(told), strict=True))
    console.print(f"Percentiles {percents}:\n  {values}", highlight=False, soft_wrap=True)
    if told.highest:
        table = Table(box=SIMPLE_HEAD, title="Highest", title_justify="left", padding=(0, 1, 0, 0))
        for heading in ("Loss", "Sample", "Collection"):
            table.add_column(heading, justify="right" if heading == "Loss" else "left")
        for collection, sample, value in told.highest:
            table.add_row(f"{value:.4g}", sample, collection)
        console.print(table)
