"""``pwcat publish``: datasets and models to a folder, to the Hub, or both."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from publish.commands.showing import showing
from publish.commands.sizes import told_bytes
from publish.commands.study import collection, study
from publish.hub import Preview, Push
from publish.publication import Destination, Publication, check_destination

__all__ = ["publish"]

_OPTIONS = [
    click.option("--repo", metavar="ORG/NAME", help="Repository on the Hub; made where there is none."),
    click.option("--to", type=click.Path(file_okay=False, path_type=Path), help="Folder to build and keep."),
    click.option("--private", is_flag=True, help="Make a new repository private."),
    click.option("--public", is_flag=True, help="Make a new repository private, and public once all is verified."),
    click.option("--tag", metavar="NAME", help="Release to set once the pushed files are verified, such as v1."),
    click.option("--dry-run", is_flag=True, help="Send and keep nothing; say what would be done."),
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


publish.add_command(collection)
publish.add_command(study)


@publish.command()
@click.argument("subset", type=click.Path(exists=True))
@_destination
@click.option("--zarr", metavar="ORG/NAME", help="Another repository, for the same chips as Zarr.")
def dataset(
    subset: str,
    repo: str | None,
    to: Path | None,
    private: bool,
    public: bool,
    tag: str | None,
    dry_run: bool,
    as_json: bool,
    zarr: str | None,
) -> None:
    """Publish SUBSET: a subset file, a collection folder or a catalog folder."""
    _check(repo, to, private, public, tag)
    from publish.dataset import publish_dataset
    from publish.zarr import check_sibling, publish_zarr

    if zarr is not None:
        check_sibling(zarr, of=repo)

    with showing(quiet=as_json) as show:
        done = publish_dataset(
            subset,
            repo=repo,
            to=to,
            private=private,
            public=public,
            tag=tag,
            dry_run=dry_run,
            progress=show.chips,
            push_progress=show.push,
        )
        beside = zarr and publish_zarr(
            subset,
            repo=zarr,
            dataset=repo,
            private=private,
            public=public,
            tag=tag,
            dry_run=dry_run,
            progress=show.chips,
            push_progress=show.push,
        )
    if as_json:
        click.echo(json.dumps({**_values(done), **({"zarr": _values(beside)} if beside else {})}))
        return
    _report(done, as_json=False, first="from datasets import load_dataset")
    if beside:
        _report(beside, as_json=False, first="import xarray as xr")


@publish.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False))
@_destination
@click.option("--license", "license_", metavar="SPDX", help="Licence of the weights, such as CC-BY-4.0.")
@click.option(
    "--data", metavar="ORG/NAME[@REV]", help="The published dataset that it was trained on, to be checked and linked."
)
def model(
    run: str,
    repo: str | None,
    to: Path | None,
    private: bool,
    public: bool,
    tag: str | None,
    dry_run: bool,
    as_json: bool,
    license_: str | None,
    data: str | None,
) -> None:
    """Publish the model of RUN, the folder that `pwcat pretrain` or `pwcat weights import` wrote."""
    _check(repo, to, private, public, tag)
    from publish.weights import publish_model

    with showing(quiet=as_json) as show:
        done = publish_model(
            run,
            repo=repo,
            to=to,
            private=private,
            public=public,
            tag=tag,
            dry_run=dry_run,
            license=license_,
            data=data,
            progress=show.push,
        )
    _report(done, as_json=as_json, first="import pwcat")


def _check(repo: str | None, to: Path | None, private: bool, public: bool, tag: str | None) -> None:
    if repo is None and to is None:
        raise click.UsageError("say where to: --repo ORG/NAME for the Hub, --to FOLDER for a folder, or both")
    check_destination(Destination(repo=repo, to=to, private=private, public=public, tag=tag))


def _report(done: Publication, *, as_json: bool, first: str) -> None:
    if as_json:
        click.echo(json.dumps(_values(done)))
        return
    if done.dry_run:
        for line in _plan_lines(done):
            click.echo(line)
        return
    if done.folder is not None:
        click.echo(f"built {done.folder}: {done.files} files, {told_bytes(done.bytes)}")
    if done.push is not None:
        for line in _push_lines(done.push):
            click.echo(line)
    click.echo(f"load it with:\n  {first}\n  {done.load}")


def _push_lines(push: Push) -> list[str]:
    sent = f"sent {_files(push.files_sent)}, {told_bytes(push.bytes_sent)}"
    change = "already had exactly this: nothing was sent" if push.unchanged else sent
    deleted = f", removed {push.files_deleted} of an earlier release" if push.files_deleted else ""
    lines = [f"{push.url} {change}{deleted}; verified at commit {push.commit[:12]}"]
    if push.tag:
        lines.append(f"release {push.tag}")
    if push.opened:
        lines.append("the repository is public now")
    return lines


def _plan_lines(done: Publication) -> list[str]:
    """What a dry run found: what would be made, then what would become of the repository."""
    size, preview = told_bytes(done.bytes), done.preview
    limits = ", within the Hub's limits" if preview is not None and preview.exact else ""
    if done.folder is not None:
        lines = [f"{done.folder} is built: {_files(done.files)}, {size}{limits}"]
    elif done.kind == "model":
        lines = [f"would make {_files(done.files)}, {size}{limits}"]
    else:
        lines = [f"would make {_files(done.files)} of chips, {size} of pixels before compression"]
    return [*lines, *(_repository_lines(preview) if preview else []), "nothing was made" + " or sent" * bool(preview)]


def _repository_lines(preview: Preview) -> list[str]:
    if preview.exists:
        release = preview.holds.get("release") if preview.holds else None
        seen = "private" if preview.private else "public"
        head = f"{preview.url} is there ({seen}{f', holds release {release}' if release else ''})"
    else:
        head = f"{preview.url} is not there, or may not be read: it would be made"
    if not preview.exact:
        send = f"would send what differs of {_files(len(preview.send))} of chips and of the documents beside them, once built"
    elif preview.send:
        send = f"would send {_files(len(preview.send))}, {told_bytes(preview.bytes_to_send)}"
    else:
        send = "would send nothing"
    remove = [f"would remove {path}, of the release that is there" for path in preview.remove]
    return [head, *(f"  {line}" for line in (send, *remove))]


def _files(count: int) -> str:
    return f"{count:,} file" + "s" * (count != 1)


def _values(done: Publication) -> dict[str, Any]:
    push = {**asdict(done.push), "unchanged": done.push.unchanged} if done.push else None
    return {**asdict(done), "folder": str(done.folder) if done.folder else None, "push": push}
