"""``pwcat verify``: is a publication whole, and does it load?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from publish.commands.sizes import told_bytes
from publish.verify import Verification
from publish.verify import verify as look_at
from pwcat.errors import PublishError

__all__ = ["verify"]

MARKS: Final = {"passed": "✓", "failed": "✗", "not tried": "–"}
COMMIT_SHOWN = 12
FAULTS_SHOWN = 3


@click.command()
@click.argument("source", metavar="SOURCE")
@click.option(
    "--model", is_flag=True, help="SOURCE is a model on the Hub; without it datasets are looked through first."
)
@click.option("--full", is_flag=True, help="Download every file, one at a time, and compare its checksum.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def verify(source: str, model: bool, full: bool, as_json: bool) -> None:
    """Check SOURCE, what was published: a folder, ORG/NAME[@REVISION] on the Hub, or an hf:// address.

    Files against the manifest, columns and rows of the tables, and, in fresh processes: load_dataset of a first row of every
    config, a search by open_catalog, the embedding of invented samples by a model. From the Hub, little is downloaded unless
    --full is given. Exit code 2: something is wrong.
    """
    with _progress() as progress:
        found = look_at(source, kind="model" if model else None, full=full, progress=progress)
    if as_json:
        click.echo(json.dumps({**asdict(found), "faults": found.faults, "ok": found.ok}))
    else:
        _show(found)
    if not found.ok:
        shown = "; ".join(found.faults[:FAULTS_SHOWN])
        more = f"; and {len(found.faults) - FAULTS_SHOWN} more" if len(found.faults) > FAULTS_SHOWN else ""
        raise PublishError(f"{found.source} has {len(found.faults)} fault(s): {shown}{more}")


def _show(found: Verification) -> None:
    at = f" at commit {found.revision[:COMMIT_SHOWN]}" if found.revision else ""
    click.echo(f"{found.source}: {found.kind} of {found.files} files, {told_bytes(found.bytes)}{at}")
    width = max(len(check.name) for check in found.checks)
    for check in found.checks:
        lines = list(check.faults) or [check.told or "not tried, for what is above"]
        click.echo(f"{MARKS[check.state]} {check.name:<{width}}  {lines[0]}")
        for line in lines[1:]:
            click.echo(f"  {'':<{width}}  {line}")
    if found.others:
        click.echo(f"Note: {len(found.others)} file(s) of others: {', '.join(found.others[:FAULTS_SHOWN])}")


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("hashing", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield show
