"""Command line of the catalog: ``pwcat build``, ``search``, ``stats``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from catalog.extension import CLASS_LAYERS
from catalog.query import open_catalog
from catalog.store import Built, NothingWritten
from catalog.store import build as build_collection
from catalog.subset import Subset, load_subset
from pwcat.building.ledger import UNUSABLE
from pwcat.building.progress import show_build
from pwcat.commands import DEFAULT_CATALOG
from pwcat.materialize import BuildReport
from pwcat.readers import ReaderName
from pwcat.signals import terminable

__all__ = ["build", "search", "stats"]

MOST_LOSSES = 6  # causes shown of why samples are missing, and strata that the reserve is short of
BIOME_WIDTH = 24  # characters of a biome's name, so that a row of samples fits into 80


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--catalog", type=click.Path(path_type=Path), default=DEFAULT_CATALOG, show_default=True, help="Folder.")
@click.option("--scheduler", metavar="ADDRESS", help="A Dask scheduler whose workers see the catalog's folder.")
@click.option("--replace-failed", is_flag=True, help="Replace samples that cannot be read by sites of the reserve.")
@click.option(
    "--reader",
    type=click.Choice(get_args(ReaderName)),
    default="auto",
    show_default=True,
    help="Who reads the pixels: tiles fetches each tile once, stackstac reads whatever GDAL reads.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def build(
    recipe: Path, catalog: Path, scheduler: str | None, replace_failed: bool, reader: ReaderName, as_json: bool
) -> None:
    """Materialise the chips of RECIPE into a Zarr cube and describe them in a catalog. Run again, it does what is missing.

    Exit code 1: samples are missing in the end; all that could be written are there. Exit code 2: none could be.
    """
    try:
        with terminable(), show_build(Console(stderr=True)) as progress:
            built = build_collection(
                recipe,
                catalog=catalog,
                scheduler=scheduler,
                replace_failed=replace_failed,
                reader=reader,
                progress=progress.stage,
                standing=progress.standing,
            )
    except NothingWritten as exc:
        _show_build(exc.built, as_json=as_json)
        raise
    _show_build(built, as_json=as_json)
    if built.report.missing:
        click.echo(f"pwcat: {_missing_line(built)}", err=True)
        sys.exit(1)


def _show_build(built: Built, *, as_json: bool) -> None:
    report = built.report
    if as_json:
        known = {"folder": str(built.folder), "missing": report.missing}
        click.echo(json.dumps({**known, **asdict(report)}, indent=2))
        return
    counts = ", ".join(f"{count:,} {status}" for status, count in sorted(report.counts.items(), reverse=True))
    made = f"{report.shards_built:,} of {report.shards:,} shards made now" if report.shards_built else "all there"
    click.echo(f"{built.folder}: {counts}; {made}")
    told = (_loss_lines, _fallback_lines, _lack_lines, _flag_lines, _reserve_lines, _cost_lines)
    for line in (line for lines in told for line in lines(report)):
        click.echo(f"  {line}")
    click.echo(f"Next: pwcat {'doctor' if report.missing else 'stats'} {built.folder}")


def _loss_lines(report: BuildReport) -> Iterator[str]:
    """Why samples have no pixels, the most frequent causes first."""
    yield from map(str, report.losses[:MOST_LOSSES])
    if rest := report.losses[MOST_LOSSES:]:
        yield f"{sum(loss.count for loss in rest):,} for {len(rest):,} other {'cause' if len(rest) == 1 else 'causes'}"


def _fallback_lines(report: BuildReport) -> Iterator[str]:
    """What other sources than the recipe's first served."""
    for name, count in report.fallback.items():
        yield f"{'1 date' if count == 1 else f'{count:,} dates'} of samples from a fallback, {name}"


def _lack_lines(report: BuildReport) -> Iterator[str]:
    """What sensors beside the source have nothing for."""
    for name, count in report.lacks.items():
        if count:
            dates = "1 date" if count == 1 else f"{count:,} dates"
            yield f"{name} has nothing for {dates} of samples; its bands are 0 there"


def _flag_lines(report: BuildReport) -> Iterator[str]:
    if report.flagged:
        name, seen = next(iter(report.flagged.items()))
        what = "1 scene contradicts the offset that it states"
        if len(report.flagged) > 1:
            what = f"{len(report.flagged):,} scenes contradict the offset that they state"
        yield f"{what}; {name}: {seen}"


def _missing_line(built: Built) -> str:
    """How many samples are missing, and what to do."""
    report = built.report
    lost = {name: count for name in ("failed", *UNUSABLE) if (count := report.counts.get(name))}
    what = " and ".join(f"{count:,} {name}" for name, count in lost.items())
    todo = []
    if "failed" in lost:
        todo.append("the same command tries the failed ones again")
        if report.reserve_left:
            todo.append("--replace-failed replaces them from the reserve")
    if lost.keys() & {*UNUSABLE}:
        used = (
            "the reserve is used up where they are" if report.reserve_left is not None else "the recipe has no reserve"
        )
        more = "a larger" if report.reserve_left is not None else "a"
        todo.append(f"{used}: plan anew, under another name, with {more} `constraints.reserve_fraction`")
    total = sum(report.counts.values())
    return f"{built.folder}: {report.missing:,} of {total:,} samples are missing ({what}); {'; '.join(todo)}"


def _reserve_lines(report: BuildReport) -> list[str]:
    if report.reserve_left is None:
        return []
    total = sum(report.counts.values())
    lines = [f"{report.replaced:,} of {total:,} samples replaced from the reserve; {report.reserve_left:,} left"]
    short = sorted(report.short.items(), key=lambda item: (-item[1], item[0]))
    for stratum, count in short[:MOST_LOSSES]:
        lines.append(f"{count:,} x not replaced: the reserve has no site left of stratum {stratum!r}")
    if rest := short[MOST_LOSSES:]:
        strata = "stratum" if len(rest) == 1 else "strata"
        lines.append(f"{sum(count for _, count in rest):,} x not replaced, likewise, in {len(rest):,} other {strata}")
    return lines


def _cost_lines(report: BuildReport) -> Iterator[str]:
    """What reading took in this run, and what was expected of it."""
    if (cost := report.cost) is None:
        return
    actual, estimate = cost.actual, cost.estimate
    took = "requests and bytes not measured (this GDAL cannot be asked)"
    if actual.requests is not None and actual.bytes is not None:
        rate = "" if actual.mb_s is None else f", {actual.mb_s:,.1f} MB/s"
        took = f"{actual.requests:,} requests, {actual.bytes / 1e6:,.1f} MB{rate}"
    again = f", {report.retries:,} {'retry' if report.retries == 1 else 'retries'}"
    speed = f", {cost.samples / actual.seconds:,.1f} chips/s" if actual.seconds else ""
    expected = f"{estimate.requests or 0:,} requests, {(estimate.bytes or 0) / 1e6:,.1f} MB"
    yield f"read in {actual.seconds:,.1f} s: {took}{speed}{again}"
    beside = ", sensors not counted" if report.lacks else ""
    yield f"estimated of these {cost.samples:,} samples: {expected}{beside}"


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


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stats(data: Path, as_json: bool) -> None:
    """Show the diversity of DATA: a catalog's or collection's folder, or a saved subset. A catalog has a row a dataset."""
    subsets = _parts(data)
    if as_json:
        click.echo(json.dumps({name: part.stats() for name, part in subsets.items()}, indent=2))
        return
    table = Table(title="Diversity, with 95 % intervals (nats)", title_justify="left", box=SIMPLE_HEAD)
    for name in ("Dataset", "Samples", "Continent", "Biome", "Land cover", "Spectral"):
        table.add_column(name, justify="left" if name == "Dataset" else "right")
    for name, part in subsets.items():
        numbers = part.stats()
        table.add_row(
            name, f"{len(part):,}", *(_entropy(numbers[layer]) for layer in CLASS_LAYERS), _mean(numbers["spectral"])
        )
    Console().print(table)


def _parts(data: Path) -> dict[str, Subset]:
    if data.is_file():
        return {data.stem: load_subset(data)}
    opened = open_catalog(data)
    return {name: opened.search(collections=name) for name in opened.collections}


def _entropy(numbers: dict[str, Any]) -> str:
    if numbers["shannon"] is None:
        return "none"
    return f"{numbers['shannon']:.3f}\n[{numbers['ci_low']:.3f}, {numbers['ci_high']:.3f}]"


def _mean(numbers: dict[str, Any]) -> str:
    if numbers["mean"] is None:
        return "none"
    if numbers["ci_low"] is None:
        return f"{numbers['mean']:.3f}"
    return f"{numbers['mean']:.3f}\n[{numbers['ci_low']:.3f}, {numbers['ci_high']:.3f}]"
