"""``pwcat catalog``: build, add, merge, validate, export. Each is imported when it is called."""

from __future__ import annotations

import importlib

import click

__all__ = ["catalog"]

# name: (module, one line of help)
SUBCOMMANDS: dict[str, tuple[str, str]] = {
    "build": ("catalog.commands.describe", "Describe datasets that are built, anew where anything changed."),
    "add": ("catalog.commands.add", "Index a dataset that was made elsewhere, in place."),
    "merge": ("catalog.commands.merge", "Make one catalog of several."),
    "validate": ("catalog.commands.validate", "Check a catalog against its schemas, tallies and cubes, offline."),
    "columns": ("catalog.commands.columns", "List, add and remove columns of values, such as losses."),
    "export": ("catalog.commands.export", "Write a catalog as static JSON, for STAC Browser."),
}


class _Group(click.Group):
    """Knows its subcommands by name, and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUBCOMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(SUBCOMMANDS[cmd_name][0]), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in SUBCOMMANDS.items()])


@click.group(cls=_Group)
def catalog() -> None:
    """Describe, merge, check and export what is in datasets."""
