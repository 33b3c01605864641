"""``pwcat verify``: is a publication whole, and does it load?"""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from publish.commands.sizes import told_bytes
from publish.verify import verify_folder
from pwcat.errors import PublishError

__all__ = ["verify"]


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def verify(folder: str, as_json: bool) -> None:
    """Check a published FOLDER: checksums, columns, and a load of it in a fresh process."""
    found = verify_folder(folder)
    if as_json:
        click.echo(json.dumps({**asdict(found), "ok": found.ok}))
    if not found.ok:
        raise PublishError(f"{folder} has {len(found.faults)} fault(s): {'; '.join(found.faults)}")
    if not as_json:
        click.echo(f"{folder}: {found.kind} of {found.files} files, {told_bytes(found.bytes)}, whole, and it loads")
