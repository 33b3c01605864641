"""``pwcat pull``: a published dataset, or some of its samples, as a local catalog."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from catalog.commands.asking import GroupedCommand, conditions_of, search_options
from publish.commands.sizes import told_bytes
from publish.pull import Needed, Pulled, plan_pull
from pwcat.progress import show_counts
from pwcat.signals import terminable

__all__ = ["pull"]

# What is not a condition, and no part of the command that the doctor names.
_BESIDE = frozenset({"source", "out", "dry_run", "as_json"})


def _with_conditions(command: Any) -> Any:
    return search_options(command, also={"--filter": "--where"})


@click.command(cls=GroupedCommand)
@click.argument("source")
@_with_conditions
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Catalog to make.")
@click.option("--dry-run", is_flag=True, help="Fetch no chip; say what would be fetched.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def pull(context: click.Context, /, source: str, out: Path, dry_run: bool, as_json: bool, **options: Any) -> None:
    """Make a local catalog of SOURCE, or of those of its samples that meet all that is given.

    SOURCE is ORG/NAME[@REVISION] on the Hugging Face Hub, an address (hf://datasets/ORG/NAME) or the folder of a published
    dataset. Only the row groups that hold the wanted chips are fetched. Chips, items and statistics are those of the same
    samples of the original; the same command goes on where it was broken off, at the same commit.
    """
    with terminable():
        plan = plan_pull(source, out, command=_words(context), **conditions_of(**options))
        if not as_json and not plan.pulled.is_there:
            _show_plan(plan.pulled)
        if dry_run:
            _report(plan.pulled, as_json=as_json, dry_run=True)
            return
        with show_counts(Console(stderr=True), "pull") as progress:
            done = plan.fetch(progress=progress)
    _report(done, as_json=as_json, dry_run=False)


def _words(context: click.Context) -> list[str]:
    """The command, but for the folder."""
    source = str(context.params["source"])
    words = ["pwcat", "pull", str(Path(source).resolve()) if Path(source).exists() else source]
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        if parameter.name in _BESIDE or value in (None, (), False) or value == parameter.default:
            continue
        words += list(_option_words(parameter, value))
    return words


def _option_words(parameter: click.Parameter, value: Any) -> Iterator[str]:
    """An option as it is typed, once for each of its values."""
    for one in value if parameter.multiple else [value]:
        yield parameter.opts[0]
        yield from map(str, one) if isinstance(one, tuple) else [str(one)]


def _show_plan(found: Pulled) -> None:
    at = f" ({found.tag})" if found.tag else ""
    click.echo(f"{found.source}{at}")
    of = f" of {found.needed.samples_of:,}" if found.needed is not None else ""
    counts = ", ".join(f"{count:,} of {name}" for name, count in found.collections.items())
    click.echo(f"  {found.samples:,}{of} samples: {counts}")
    if found.needed is not None:
        click.echo(f"  {_needed_line(found.needed)}")


def _needed_line(needed: Needed) -> str:
    groups = (
        f"{needed.row_groups:,} of {needed.row_groups_of:,} row groups of {needed.files:,} of {needed.files_of:,} files"
    )
    more = f", and what is needed of {told_bytes(needed.map_bytes)} of a map" if needed.map_bytes else ""
    return f"to fetch: {groups}, {told_bytes(needed.bytes)} of {told_bytes(needed.bytes_of)}{more}"


def _report(done: Pulled, *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        told = {**asdict(done), "folder": str(done.folder), "samples": done.samples, "dry_run": dry_run}
        click.echo(json.dumps(told, indent=2))
        return
    if dry_run:
        click.echo("nothing was fetched" if not done.is_there else f"{done.folder} is there already")
        return
    if done.is_there:
        at = f" at {done.revision[:12]}" if done.revision else ""
        click.echo(f"{done.folder}: {done.samples:,} samples of {done.repository or done.source}{at} are there already")
        return
    net = f"; {told_bytes(done.bytes)} came in {done.requests:,} requests" if done.requests else ""
    click.echo(f"{done.folder}: {done.samples:,} samples{net}")
    click.echo(f"  the same samples and statistics as the original's: {done.subset_hash[:12]}")
    click.echo(f"Next: pwcat stats {done.folder}")
