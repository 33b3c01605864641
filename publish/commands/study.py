"""``pwcat publish study`` and ``pwcat publish collection``: what belongs together, on the Hub."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pwcat.errors import PublishError

if TYPE_CHECKING:
    from publish.studies.collections import CollectionEntry, PublishedCollection
    from publish.studies.studied import Studied

__all__ = ["collection", "study"]


@click.command()
@click.argument("items", nargs=-1, required=True, metavar="ITEM...")
@click.option("--owner", required=True, metavar="ORG", help="Organisation or user that has the collection.")
@click.option("--title", required=True, help="Its title, at most 60 characters; one that is there is completed.")
@click.option("--description", default="", help="At most 150 characters.")
@click.option("--note", "notes", multiple=True, metavar="ITEM=TEXT", help="What an item is; may be repeated.")
@click.option("--private", is_flag=True, help="Make a new collection private.")
@click.option("--public", is_flag=True, help="Make a private collection public.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def collection(
    items: tuple[str, ...],
    owner: str,
    title: str,
    description: str,
    notes: tuple[str, ...],
    private: bool,
    public: bool,
    as_json: bool,
) -> None:
    """Make a collection of the Hub list each ITEM, in this order: datasets/ORG/NAME, ORG/NAME of a model, papers/2604.21104.

    The same command changes nothing; what others added stays, after these.
    """
    from publish.studies.collections import publish_collection

    done = publish_collection(
        title,
        owner=owner,
        entries=_entries(items, notes),
        description=description,
        private=private,
        public=public,
    )
    click.echo(json.dumps(asdict(done)) if as_json else _told(done))


@click.command()
@click.argument("folder", metavar="STUDY", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--owner", metavar="ORG", help="Organisation or user that gets repositories and collection.")
@click.option("--to", type=click.Path(file_okay=False, path_type=Path), help="Folder to keep what is built in.")
@click.option(
    "--models",
    type=click.Choice(["all", "best", "none"]),
    default="all",
    show_default=True,
    help="Pretrainings to publish: all; of each model the one of the best mean rank over its scores; none.",
)
@click.option("--private", is_flag=True, help="Make new repositories and the collection private.")
@click.option("--public", is_flag=True, help="Make each repository public once what it holds is verified.")
@click.option("--tag", metavar="NAME", help="Release of every repository, such as v1.")
@click.option("--license", "license_", metavar="SPDX", help="Licence of weights and tables, such as CC-BY-4.0.")
@click.option("--dry-run", is_flag=True, help="Make and send nothing; say what it would be.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def study(
    folder: Path,
    owner: str | None,
    to: Path | None,
    models: str,
    private: bool,
    public: bool,
    tag: str | None,
    license_: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Publish what the finished STUDY holds: datasets, models with their scores, tables, and a collection of them all.

    Killed, or stopped by a fault, the same command goes on.
    """
    if owner is None and to is None:
        raise click.UsageError("say where to: --owner ORG for the Hub, --to FOLDER for folders, or both")
    from publish.studies.studied import read_study
    from publish.studies.study import publish_study

    if dry_run:
        _preview(read_study(folder, models=models), owner, as_json=as_json)  # type: ignore[arg-type]
        return
    done = publish_study(
        folder,
        owner=owner,
        to=to,
        private=private,
        public=public,
        tag=tag,
        models=models,  # type: ignore[arg-type]
        license=license_,
        tell=lambda line: click.echo(line, err=as_json),
    )
    if as_json:
        click.echo(json.dumps(asdict(done)))
        return
    _tell_left_out(done.left_out)
    if done.collection is not None:
        click.echo(_told(done.collection))


def _entries(items: tuple[str, ...], notes: tuple[str, ...]) -> list[CollectionEntry]:
    from publish.studies.collections import parse_entry

    if bare := [note for note in notes if not note.partition("=")[2].strip()]:
        raise PublishError(
            f"--note is ITEM=TEXT, as in org/name='What it is', and {', '.join(map(repr, bare))} has no text"
        )
    told = dict(note.partition("=")[::2] for note in notes)
    if unknown := [name for name in told if name not in items]:
        raise PublishError(f"--note is of an item that is named: {', '.join(unknown)} is none of {', '.join(items)}")
    return [parse_entry(item, note=told.get(item, "")) for item in items]


def _told(done: PublishedCollection) -> str:
    if done.created:
        return f"{done.url} made, with {len(done.added)} entries"
    if not done.added and not done.changed:
        return f"{done.url} already was exactly this: nothing was changed"
    return f"{done.url} completed: {len(done.added)} entries added{', others changed' if done.changed else ''}"


def _preview(studied: Studied, owner: str | None, *, as_json: bool) -> None:
    start = f"{owner}/" if owner else ""
    datasets = [f"{start}{each.name}" for each in studied.datasets if each.published is None]
    models = [f"{start}{each.name}" for each in studied.models]
    if as_json:
        told = {"datasets": datasets, "models": models, "tables": f"{start}{studied.name}", "paper": studied.arxiv}
        click.echo(json.dumps({**told, "left_out": list(studied.left_out)}))
        return
    samples = sum(each.num_samples for each in studied.datasets if each.published is None)
    click.echo(
        f"would publish {len(datasets)} datasets of {samples:,} samples in all, {len(models)} models, the tables:"
    )
    for name in datasets:
        click.echo(f"  dataset {name}")
    for each in studied.datasets:
        if each.published is not None:
            click.echo(f"  linked  {each.published.repo}, which it was pulled from")
    for name, model in zip(models, studied.models, strict=True):
        click.echo(f"  model   {name}: {model.words}, {len(model.scores)} tasks scored")
    click.echo(f"  tables  {start}{studied.name}")
    if owner:
        paper = f", the paper {studied.arxiv}" if studied.arxiv else ""
        click.echo(f"  collection {studied.title!r} of {owner}{paper}")
    _tell_left_out(studied.left_out)
    click.echo("nothing was made")


def _tell_left_out(left_out: tuple[str, ...]) -> None:
    for line in left_out:
        click.echo(f"left out: {line}")
