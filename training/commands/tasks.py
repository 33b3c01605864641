"""``pwcat tasks``: which benchmarks there are, fetching their official files, and whether a folder's are whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pwcat.errors import TrainingError
from pwcat.signals import terminable
from training.tasks import BENCHMARKS, CATALOG_TASKS, folder_of, origin_of, unknown_task
from training.tasks.base import TaskData
from training.tasks.files.fetching import fetch, standing
from training.tasks.inspection import Inspected, inspect

__all__ = ["tasks"]

SHOWN_CLASSES = 20
PREDICTS = {"classification": "a class", "multilabel": "labels", "regression": "a number", "segmentation": "pixels"}
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
a_folder = click.Path(file_okay=False, path_type=Path)


@click.group()
def tasks() -> None:
    """List, fetch and check the benchmarks that models are scored on."""


@tasks.command("list")
@click.option("--in", "folder", type=a_folder, help="Folder to look for their files in, as `fetch -o` fills it.")
@as_json
def list_(folder: Path | None, as_json: bool) -> None:
    """Show all benchmarks, and those whose files are here."""
    rows = [_row(name, folder) for name in BENCHMARKS]
    if as_json:
        click.echo(json.dumps({"tasks": rows, "catalog": [*CATALOG_TASKS, "column:NAME", "number:NAME"]}, indent=2))
        return
    table = Table(box=SIMPLE_HEAD)
    for heading in ("Task", "Predicts", "Samples, licence", *(("Here",) if folder else ())):
        table.add_column(heading, no_wrap=heading != "Samples, licence", overflow="fold")
    for row in rows:
        samples = f"{escape(row['size'])}\n[dim]{escape(row['licence'])}[/]"
        here = [row["here"]] if folder else []
        table.add_row(escape(row["name"]), f"{PREDICTS[row['kind']]}\n[dim]{row['metric']}[/]", samples, *here)
    console = Console()
    console.print(table)
    console.print(
        f"Of a catalog: {', '.join(CATALOG_TASKS)}; any column as column:NAME, its numbers as number:NAME",
        highlight=False,
    )
    console.print("Next: pwcat tasks fetch TASK -o DIR, pwcat tasks check DIR --task TASK", highlight=False)


def _row(name: str, folder: Path | None) -> dict[str, Any]:
    info, origin = BENCHMARKS[name].info, origin_of(name)
    here = standing(origin, folder_of(name, folder)) if folder and folder_of(name, folder) != folder else "no"
    return {
        "name": name,
        "title": info.title,
        "kind": info.kind,
        "metric": info.metric,
        "classes": len(info.classes),
        "size": info.size,
        "licence": info.licence,
        "citation": info.citation,
        "source": info.source,
        "by_hand": origin.by_hand,
        "here": here if folder else None,
    }


@tasks.command("fetch")
@click.argument("names", nargs=-1, required=True, metavar="TASK...")
@click.option(
    "-o", "--out", "folder", required=True, type=a_folder, help="Each task's files go to a folder of its name here."
)
def fetch_(names: tuple[str, ...], folder: Path) -> None:
    """Bring the official files of TASK into a folder, checked and unpacked.

    What is there is left; what broke off goes on where it was.
    """
    _require(names)
    failed = []
    for name in dict.fromkeys(names):
        try:
            _fetch(name, folder / name)
        except TrainingError as exc:
            if len(names) == 1:
                raise
            failed.append(str(exc))
    if failed:
        raise TrainingError("; ".join(failed))


def _require(names: Sequence[str]) -> None:
    """See that all are benchmarks.

    Raises:
        TrainingError: one is none.
    """
    for name in names:
        if name in CATALOG_TASKS:
            raise TrainingError(
                f"task {name} is of a catalog, and has no files of its own: `pwcat evaluate RUN CATALOG --task {name}`"
            )
        if name not in BENCHMARKS:
            raise unknown_task(name)


def _fetch(name: str, folder: Path) -> None:
    origin, info = origin_of(name), BENCHMARKS[name].info
    if origin.parts:
        terms = origin.agreement or f"its licence, {info.licence}"
        click.echo(f"{name}: by using it you agree to {terms}")
    with terminable(), _bars() as tell:
        done = fetch(name, origin, folder, progress=tell)
    told = f"fetched {', '.join(done)}" if done else "all of it was there"
    click.echo(f"{name}: {told}; check it with: pwcat tasks check {folder} --task {name}")


@contextmanager
def _bars() -> Iterator[Any]:
    """A bar for each thing that is done; lines where nobody watches."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
        of: dict[str, Any] = {}

        def tell(what: str, done: int, total: int | None) -> None:
            if what not in of:
                of[what] = bars.add_task(escape(what), total=total, told="")
                if not console.is_terminal:
                    click.echo(f"{what}: {_extent(what, total)}" if total else what, err=True)
            told = _extent(what, done) + (f" of {_extent(what, total)}" if total else "")
            bars.update(of[what], completed=done, total=total, told=told)

        yield tell


def _extent(what: str, number: int) -> str:
    """Files of what is unpacked, bytes of what is fetched."""
    return f"{number:,} files" if what.startswith("unpacking") else f"{number / 1e6:,.1f} MB"


@tasks.command()
@click.argument("folder", type=a_folder)
@click.option(
    "--task", "names", multiple=True, help="May be repeated; by default all whose folder is in DIR.", metavar="TASK"
)
@as_json
def check(folder: Path, names: tuple[str, ...], as_json: bool) -> None:
    """Say what is missing or damaged in FOLDER, and else what is in it: samples, classes, bands, units, places."""
    names = names or tuple(name for name in BENCHMARKS if (folder / name).is_dir())
    if not names:
        raise TrainingError(f"{folder} holds no folder of a benchmark's name: say which it is with --task")
    _require(names)
    console, told, whole = Console(), {}, True
    for name in names:
        at = folder_of(name, folder)
        with Console(stderr=True).status(f"reading {name}"):
            faults, data, inspected = _checked(name, at)
        whole = whole and not faults
        told[name] = {"faults": faults, **(inspected.to_json() if inspected else {})}
        if not as_json:
            _show(console, name, at, faults, data, inspected)
    if as_json:
        click.echo(json.dumps(told, indent=2))
    if not whole:
        sys.exit(1)


def _checked(name: str, folder: Path) -> tuple[list[str], TaskData | None, Inspected | None]:
    """What is wrong with a folder; where nothing is, the task and what is in it."""
    if faults := BENCHMARKS[name].faults(folder):
        return faults, None, None
    try:
        data = BENCHMARKS[name].open(folder)
        return [], data, inspect(data)
    except TrainingError as exc:  # what is seen in pixels alone: other units, bands in another order
        return [str(exc)], None, None


def _show(
    console: Console, name: str, folder: Path, faults: list[str], data: TaskData | None, inspected: Inspected | None
) -> None:
    if data is None or inspected is None:
        console.print(
            f"[bold]{escape(name)}[/] in {escape(str(folder))} cannot be used:", highlight=False, soft_wrap=True
        )
        for fault in faults:
            console.print(f"  - {escape(fault)}", highlight=False, soft_wrap=True)
        return
    console.print(
        f"[bold]{escape(name)}[/], {escape(data.info.title)}: nothing is missing", highlight=False, soft_wrap=True
    )
    console.print(_samples(inspected))
    if inspected.bands:
        console.print(_bands(inspected))
    for line in inspected.lines():
        console.print(escape(line), highlight=False, soft_wrap=True)


def _samples(inspected: Inspected) -> Table:
    """Samples by class and side."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column(inspected.counted)
    sides = list(inspected.splits)
    for side in sides:
        table.add_column(side, justify="right")
    for counted, row in list(inspected.classes.items())[:SHOWN_CLASSES]:
        table.add_row(escape(counted), *(f"{row.get(side, 0):,}" for side in sides))
    if (more := len(inspected.classes) - SHOWN_CLASSES) > 0:
        table.add_row(f"and {more} more", *([""] * len(sides)))
    table.add_section()
    table.add_row("samples", *(f"{inspected.splits[side]:,}" for side in sides))
    return table


def _bands(inspected: Inspected) -> Table:
    """What a few chips hold."""
    table = Table(box=SIMPLE_HEAD, title=f"values of {inspected.looked_at} samples", title_justify="left")
    for heading in ("band", "unit", "least", "middle", "most", "no data"):
        table.add_column(heading, justify="left" if heading in {"band", "unit"} else "right")
    for band in inspected.bands:
        values = [f"{value:.4g}" if np.isfinite(value) else "" for value in (band.least, band.middle, band.most)]
        table.add_row(escape(band.name), escape(band.unit), *values, f"{band.no_data:.1%}")
    return table
