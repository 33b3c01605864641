"""From a folder builder to a publication: where the folder is built, and whether it goes to the Hub."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from publish.folders import building, is_built
from publish.hub import Kind, Preview, Push, check_before_building, check_repo_name, preview_push, push_folder
from publish.manifest import read_manifest
from publish.pushing.progress import PushProgress, silent
from publish.pushing.tagging import check_tag_name
from pwcat.errors import PublishError

__all__ = [
    "Destination",
    "Publication",
    "SampleProgress",
    "building",
    "check_destination",
    "deliver",
    "is_built",
    "uncounted",
]

# Told the samples done and in all.
SampleProgress = Callable[[int, int], None]


def uncounted(done: int, total: int) -> None:
    """No progress."""


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where a publication goes, and how.

    Attributes:
        repo: ``organisation/name`` on the Hub.
        to: Folder to build and keep.
        private: Make a new repository private; a public one that exists is refused.
        public: Make a new repository private, and public once what it holds is verified and tagged.
        tag: Name of the release, set once the pushed files are verified.
        dry_run: Send and keep nothing; say what would be done.
        progress: Told how far the push is.
    """

    repo: str | None = None
    to: Path | None = None
    private: bool = False
    public: bool = False
    tag: str | None = None
    dry_run: bool = False
    progress: PushProgress = silent


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What was published.

    Attributes:
        kind: ``"dataset"`` or ``"model"``.
        folder: The folder that was built; ``None`` where it was only needed for the push, and for a dry run that finds none.
        push: What the push did; ``None`` without one.
        files: Number of files; for such a dry run, of files of chips.
        bytes: Their size; for a dry run of a dataset that is not built, that of the pixels before compression.
        dry_run: Whether nothing was made.
        load: The line that loads it.
        preview: What a push would do; ``None`` but for a dry run with a repository.
    """

    kind: Kind
    folder: Path | None
    push: Push | None
    files: int
    bytes: int
    dry_run: bool
    load: str
    preview: Preview | None = None


def deliver(
    build: Callable[[Path], Path],
    destination: Destination,
    *,
    kind: Kind,
    message: str,
    load: Callable[[str], str],
) -> Publication:
    """Build a folder where it is to be kept, or at a temporary place, and push it where a repository is given.

    Raises:
        PublishError: The destination is none, the folder is taken, or the push failed.
    """
    check_destination(destination)
    if destination.repo is not None and not destination.dry_run:
        check_before_building(destination.repo, kind=kind, private=destination.private)
    if destination.to is not None and not destination.dry_run:
        return _delivered(build(destination.to), destination, kind=kind, message=message, load=load)
    with tempfile.TemporaryDirectory(prefix="pwcat-publish-") as scratch:
        folder = build(Path(scratch) / "folder")
        return _delivered(folder, destination, kind=kind, message=message, load=load)


def _delivered(
    folder: Path, destination: Destination, *, kind: Kind, message: str, load: Callable[[str], str]
) -> Publication:
    push, preview, repo = None, None, destination.repo
    if repo is not None and destination.dry_run:
        preview = preview_push(folder, repo=repo, kind=kind, tag=destination.tag, asked_private=destination.private)
    elif repo is not None:
        push = push_folder(
            folder,
            repo=repo,
            kind=kind,
            message=message,
            private=destination.private,
            public=destination.public,
            tag=destination.tag,
            progress=destination.progress,
        )
    _, records = read_manifest(folder)
    return Publication(
        kind=kind,
        folder=folder if folder == destination.to else None,
        push=push,
        files=len(records) + 1,
        bytes=sum(record.bytes for record in records.values()),
        dry_run=destination.dry_run,
        load=load(repo or str(destination.to)),
        preview=preview,
    )


def check_destination(destination: Destination) -> None:
    """Refuse a publication that goes nowhere, or asks of a folder what only the Hub can do.

    Raises:
        PublishError: Says every fault.
    """
    repo, tag, faults = destination.repo, destination.tag, []
    if repo is None and destination.to is None:
        faults.append("it is not said where to: give a repository (organisation/name), a folder, or both")
    for asked, what in ((destination.private, "private"), (destination.public, "public"), (tag is not None, "a tag")):
        if repo is None and asked:
            faults.append(f"{what} is for repositories")
    if destination.private and destination.public:
        faults.append("private and public exclude each other")
    faults += check_tag_name(tag) if tag is not None else []
    if faults:
        raise PublishError(f"cannot publish: {'; '.join(faults)}")
    if repo is not None:
        check_repo_name(repo)
