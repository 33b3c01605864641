"""``pwcat build``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import click
from rich.console import Console

from catalog.commands.building_maps import show_map_build
from catalog.store import Built, NothingWritten, build_map
from catalog.store import build as build_collection
from pwcat.building.ledger import UNUSABLE
from pwcat.building.progress import show_build
from pwcat.commands import DEFAULT_CATALOG
from pwcat.errors import PwcatError
from pwcat.materialize import BuildReport
from pwcat.osm.document import is_map_recipe
from pwcat.readers import ReaderName
from pwcat.signals import terminable

__all__ = ["build"]

MOST_LOSSES = 6  # causes shown of why samples are missing, and strata that the reserve is short of


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

    Of a recipe of `kind: map`, entities of the map are written beside the images of its tiles.

    Exit code 1: samples are missing in the end; all that could be written are there. Exit code 2: none could be.
    """
    if is_map_recipe(recipe):
        _require_none(replace_failed, reader)
        with terminable(), show_build(Console(stderr=True)) as progress:
            mapped = build_map(
                recipe, catalog=catalog, scheduler=scheduler, progress=progress.stage, standing=progress.standing
            )
        show_map_build(mapped, as_json=as_json)
        return
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


def _require_none(replace_failed: bool, reader: ReaderName) -> None:
    """See that nothing is asked of a map recipe that it has not."""
    given = [
        name for name, is_given in (("--replace-failed", replace_failed), ("--reader", reader != "auto")) if is_given
    ]
    if given:
        raise PwcatError(f"{' and '.join(given)}: a map recipe has neither a reserve nor another reader; leave it out")


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
