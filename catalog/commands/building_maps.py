"""What ``pwcat build`` prints of a map recipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict

import click

from catalog.store import BuiltMap
from pwcat.osm.building import MapReport

__all__ = ["show_map_build"]

MOST_LOSSES = 6  # causes shown of why tiles have no image


def show_map_build(built: BuiltMap, *, as_json: bool) -> None:
    """Print what a build of a map recipe did; the process ends with exit code 1 where images could not be read."""
    report = built.report
    if as_json:
        click.echo(json.dumps({"folder": str(built.folder), **asdict(report)}, indent=2))
    else:
        made = f"{report.shards_built:,} of {report.shards:,} shards made now" if report.shards_built else "all there"
        tiles = "1 tile" if report.tiles == 1 else f"{report.tiles:,} tiles"
        click.echo(
            f"{built.folder}: {tiles}, {report.mapped:,} with {report.entities:,} entities, {report.pictured:,} with an image; "
            f"{made}"
        )
        for line in _lines(report):
            click.echo(f"  {line}")
        click.echo(f"Next: pwcat {'doctor' if report.failed else 'stats'} {built.folder}")
    if report.failed:
        images = "1 image" if report.failed == 1 else f"{report.failed:,} images"
        click.echo(
            f"pwcat: {built.folder}: {images} could not be read, and tiles stay without; the same command tries again",
            err=True,
        )
        sys.exit(1)


def _lines(report: MapReport) -> Iterator[str]:
    """Why tiles have no image, the most frequent causes first."""
    yield from map(str, report.losses[:MOST_LOSSES])
    if rest := report.losses[MOST_LOSSES:]:
        yield f"{sum(loss.count for loss in rest):,} for {len(rest):,} other {'cause' if len(rest) == 1 else 'causes'}"
