"""Command line of the doctor: ``pwcat doctor``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from pwcat.doctor.examination import examine
from pwcat.doctor.findings import Diagnosis

__all__ = ["doctor"]


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--recipe",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The recipe it was built from: compared with the plan, and named in the commands.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(folder: Path, recipe: Path | None, as_json: bool) -> None:
    """Say what is wrong with the dataset in DIR, a folder of a catalog, and the command that mends it; changes nothing.

    Every shard is compared with the checksum in its ledger, the other files with what plan and ledgers say. Exit code 1:
    something is wrong.
    """
    diagnosis = examine(folder, recipe=recipe)
    if as_json:
        click.echo(json.dumps(diagnosis.to_dict(), indent=2))
    else:
        _show(diagnosis)
    if not diagnosis.is_well:
        sys.exit(1)


def _show(diagnosis: Diagnosis) -> None:
    counts = ", ".join(f"{count:,} {status}" for status, count in diagnosis.counts.items()) or "no samples"
    click.echo(f"{diagnosis.folder}: {counts}; {diagnosis.shards:,} shards")
    if diagnosis.is_well:
        click.echo(
            "All is well: every shard has the bytes that its ledger names, and all that describes the samples is there"
        )
    for finding in diagnosis.findings:
        click.echo(f"- {finding.what}")
        if finding.mend is not None:
            click.echo(f"    {finding.mend}")
    for note in diagnosis.notes:
        click.echo(f"Note: {note}")
