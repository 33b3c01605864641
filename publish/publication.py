"""From a folder builder to a publication: where the folder is built, and whether it goes to the Hub."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from publish.hub import Kind, Push, check_repo_name, push_folder
from publish.manifest import MANIFEST, check_sizes, read_manifest
from pwcat.errors import PublishError

__all__ = ["Publication", "building", "deliver", "is_built"]


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What was published.

    Attributes:
        kind: ``"dataset"`` or ``"model"``.
        folder: The folder that was built; ``None`` where it was only needed for the push, or for a dry run.
        push: What the push did; ``None`` without one.
        files: Number of files.
        bytes: Their size; for a dry run, that of the pixels before compression.
        dry_run: Whether nothing was made.
        load: The line that loads it.
    """

    kind: Kind
    folder: Path | None
    push: Push | None
    files: int
    bytes: int
    dry_run: bool
    load: str


def deliver(
    build: Callable[[Path], Path],
    *,
    kind: Kind,
    message: str,
    load: Callable[[str], str],
    repo: str | None,
    to: Path | None,
    private: bool,
    tag: str | None,
) -> Publication:
    """Build a folder at ``to``, or at a temporary place, and push it where ``repo`` is given."""
    check_destination(repo=repo, to=to, private=private, tag=tag)
    if to is not None:
        return _deliver(
            build(to), kept=True, kind=kind, message=message, load=load, repo=repo, private=private, tag=tag
        )
    with tempfile.TemporaryDirectory(prefix="pwcat-publish-") as scratch:
        folder = build(Path(scratch) / "folder")
        return _deliver(folder, kept=False, kind=kind, message=message, load=load, repo=repo, private=private, tag=tag)


def _deliver(
    folder: Path,
    *,
    kept: bool,
    kind: Kind,
    message: str,
    load: Callable[[str], str],
    repo: str | None,
    private: bool,
    tag: str | None,
) -> Publication:
    push = push_folder(folder, repo=repo, kind=kind, message=message, private=private, tag=tag) if repo else None
    _, records = read_manifest(folder)
    return Publication(
        kind=kind,
        folder=folder if kept else None,
        push=push,
        files=len(records) + 1,
        bytes=sum(record.bytes for record in records.values()),
        dry_run=False,
        load=load(repo or str(folder)),
    )


def check_destination(*, repo: str | None, to: Path | None, private: bool, tag: str | None) -> None:
    """Refuse a publication that goes nowhere, or asks of a folder what only the Hub can do.

    Raises:
        PublishError: Says every fault.
    """
    faults = []
    if repo is None and to is None:
        faults.append("it is not said where to: give a repository (organisation/name), a folder, or both")
    if repo is None and private:
        faults.append("private is for repositories")
    if repo is None and tag is not None:
        faults.append("a tag is for repositories")
    if faults:
        raise PublishError(f"cannot publish: {'; '.join(faults)}")
    if repo is not None:
        check_repo_name(repo)


def is_built(folder: Path, header: Mapping[str, Any]) -> bool:
    """Whether a whole folder of exactly this header lies there already."""
    if not (folder / MANIFEST).is_file():
        return False
    there, records = read_manifest(folder)
    return there == header and not check_sizes(folder, records)


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that takes its place at the end, or is removed on an error.

    Raises:
        PublishError: ``folder`` exists and is neither empty nor a publication of ours.
    """
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise PublishError(
            f"{folder} exists and is no publication (no {MANIFEST}): give another folder, or an empty one"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex[:8]
    temporary, former = (folder.with_name(f".{folder.name}.{mark}.{end}") for end in ("partial", "former"))
    temporary.mkdir()
    try:
        yield temporary
        if folder.exists():
            folder.rename(former)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)
