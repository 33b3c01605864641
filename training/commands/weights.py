"""``pwcat weights``: released weights as model folders, and what is in either."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from training.weights.importing import FAMILIES, import_weights
from training.weights.showing import describe

__all__ = ["weights"]

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


@click.group()
def weights() -> None:
    """Import released weights, and show what weights there are.

    Files are read as data: a pickle that names any code is refused, and nothing of it is run.
    """


@weights.command("import")
@click.argument("architecture", type=click.Choice(sorted(FAMILIES)))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="New model folder.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="A field of the config, such as heads=12.")
@as_json
def import_(architecture: str, file: Path, out: Path, sets: tuple[str, ...], as_json: bool) -> None:
    """Make a model folder of FILE, a checkpoint released by others (.pth, .pt, .ckpt, .safetensors)."""
    done = import_weights(architecture, file, out, overrides=dict(_pair(text) for text in sets))
    told = {**describe(done.path), "notes": list(done.notes)}
    if as_json:
        click.echo(json.dumps(told))
        return
    _print(told)
    for note in done.notes:
        click.echo(note + ".")


@weights.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@as_json
def show(path: Path, as_json: bool) -> None:
    """Show what PATH holds: a model folder, a run folder, or a checkpoint of others."""
    told = describe(path)
    if as_json:
        click.echo(json.dumps(told))
    else:
        _print(told)


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not (equals and key):
        raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--set")
    return key, yaml.safe_load(value)


def _print(told: dict[str, Any]) -> None:
    table = Table(title=escape(told["path"]), show_header=False, title_justify="left")
    table.add_column()
    table.add_column(overflow="fold")  # hashes are copied
    for key, value in told.items():
        if key not in {"path", "notes"} and value not in (None, [], {}):
            table.add_row(key.replace("_", " "), escape(_text(value)))
    Console().print(table)


def _text(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(" + ".join(item) if isinstance(item, list | tuple) else _text(item) for item in value)
    return str(value)
