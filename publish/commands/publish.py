"""``pwcat publish``: datasets and models to a folder, to the Hub, or both."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from publish.commands.sizes import told_bytes
from publish.publication import Publication, check_destination

__all__ = ["publish"]

_OPTIONS = [
    click.option("--repo", metavar="ORG/NAME", help="Repository on the Hub; made where there is none."),
    click.option("--to", type=click.Path(file_okay=False, path_type=Path), help="Folder to build and keep."),
    click.option("--private", is_flag=True, help="Make a new repository private."),
    click.option("--tag", metavar="NAME", help="Release to set once the pushed files are verified, such as v1."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON for programs."),
]


def _destination(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group()
def publish() -> None:
    """Publish a dataset or a model, to a folder, to the Hugging Face Hub, or both.

    The token for the Hub is read from HF_TOKEN or from `hf auth login`.
    """


@publish.command()
@click.argument("subset", type=click.Path(exists=True))
@_destination
@click.option("--dry-run", is_flag=True, help="Make and send nothing; say what it would be.")
def dataset(
    subset: str, repo: str | None, to: Path | None, private: bool, tag: str | None, as_json: bool, dry_run: bool
) -> None:
    """Publish SUBSET: a subset file, a collection folder or a catalog folder."""
    _check(repo, to, private, tag)
    from publish.dataset import publish_dataset

    with _progress("chips") as progress:
        done = publish_dataset(subset, repo=repo, to=to, private=private, tag=tag, dry_run=dry_run, progress=progress)
    _report(done, as_json=as_json, first="from datasets import load_dataset")


@publish.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False))
@_destination
@click.option("--license", "license_", metavar="SPDX", help="Licence of the weights, such as CC-BY-4.0.")
def model(
    run: str, repo: str | None, to: Path | None, private: bool, tag: str | None, as_json: bool, license_: str | None
) -> None:
    """Publish the model of RUN, the folder that `pwcat pretrain` or `pwcat weights import` wrote."""
    _check(repo, to, private, tag)
    from publish.weights import publish_model

    done = publish_model(run, repo=repo, to=to, private=private, tag=tag, license=license_)
    _report(done, as_json=as_json, first="import pwcat")


def _check(repo: str | None, to: Path | None, private: bool, tag: str | None) -> None:
    if repo is None and to is None:
        raise click.UsageError("say where to: --repo ORG/NAME for the Hub, --to FOLDER for a folder, or both")
    check_destination(repo=repo, to=to, private=private, tag=tag)


def _report(done: Publication, *, as_json: bool, first: str) -> None:
    if as_json:
        click.echo(json.dumps(_values(done)))
        return
    if done.dry_run:
        click.echo(
            f"would make {done.files} files of chips, {told_bytes(done.bytes)} of pixels before compression; nothing was made"
        )
        return
    if done.folder is not None:
        click.echo(f"built {done.folder}: {done.files} files, {told_bytes(done.bytes)}")
    if (push := done.push) is not None:
        sent = f"sent {push.files_sent} files, {told_bytes(push.bytes_sent)}"
        change = "already had exactly this: nothing was sent" if push.unchanged else sent
        deleted = f", removed {push.files_deleted} of an earlier release" if push.files_deleted else ""
        click.echo(f"{push.url} {change}{deleted}; verified at commit {push.commit[:12]}")
        if push.tag:
            click.echo(f"release {push.tag}")
    click.echo(f"load it with:\n  {first}\n  {done.load}")


def _values(done: Publication) -> dict[str, Any]:
    push = {**asdict(done.push), "unchanged": done.push.unchanged} if done.push else None
    return {**asdict(done), "folder": str(done.folder) if done.folder else None, "push": push}


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield show
