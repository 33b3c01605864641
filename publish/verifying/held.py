"""A publication where it lies: a folder here, or one commit of a repository on the Hub. Both answer the same questions."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from huggingface_hub import HfFileSystem, constants, get_token
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile

from publish.hub import check_repo_name
from publish.pushing.retrying import call
from publish.pushing.target import Kind, hub_api
from pwcat.errors import PublishError

__all__ = ["Held", "HeldFolder", "HeldRepository", "Listed", "find_publication"]

# hf://, datasets/ or models/, organisation/name, @revision; a pull request's revision has slashes.
_ADDRESS = re.compile(
    r"(?:hf://)?(?:(?P<kind>datasets|models)/)?(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>refs/[^/]+/[^/]+|[^/]+))?/?"
)
_NOT_OURS = frozenset({".gitattributes"})  # the Hub's own
FOOTER_BLOCK_BYTES = 2**17


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A file as it is listed: bytes, and the hash by which its host knows it, where it has one."""

    bytes: int
    sha256: str | None = None
    git_hash: str | None = None


class Held(Protocol):
    """What can be asked of a publication."""

    @property
    def name(self) -> str:
        """As people know it."""

    @property
    def revision(self) -> str | None:
        """The commit that it is read at; ``None`` for a folder."""

    def files(self) -> Mapping[str, Listed]:
        """All files by path."""

    def read(self, path: str) -> bytes:
        """All of a small file."""

    def open(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A file to read parts of."""

    def hash(self, path: str) -> str:
        """The SHA-256 of a file, in hex: reads every byte of it."""


@dataclass(frozen=True, kw_only=True)
class HeldFolder:
    """A folder on this computer."""

    path: Path

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.path)

    @property
    def revision(self) -> str | None:
        """None: folders have no commits."""
        return None

    def files(self) -> Mapping[str, Listed]:
        """All files by path."""
        found = sorted(path for path in self.path.rglob("*") if path.is_file())
        return {path.relative_to(self.path).as_posix(): Listed(bytes=path.stat().st_size) for path in found}

    def read(self, path: str) -> bytes:
        """All of a small file."""
        return (self.path / path).read_bytes()

    def open(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A file to read parts of."""
        return (self.path / path).open("rb")

    def hash(self, path: str) -> str:
        """The SHA-256 of a file, in hex."""
        with (self.path / path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, kw_only=True)
class HeldRepository:
    """One commit of a repository.

    Attributes:
        repo: ``organisation/name``.
        kind: what the Hub keeps it as.
        commit: 40 hexadecimal digits.
        asked: the revision that was asked for, if any.
    """

    repo: str
    kind: Kind
    commit: str
    asked: str | None

    @property
    def name(self) -> str:
        """Repository, and the revision that was asked for."""
        return f"{self.repo}@{self.asked}" if self.asked else self.repo

    @property
    def revision(self) -> str | None:
        """Its commit."""
        return self.commit

    @cached_property
    def _tree(self) -> Mapping[str, Listed]:
        def ask() -> Mapping[str, Listed]:
            tree = hub_api().list_repo_tree(self.repo, recursive=True, revision=self.commit, repo_type=self.kind)
            return {entry.path: _listed(entry) for entry in tree if isinstance(entry, RepoFile)}

        return call(f"list the files of {self.name}", ask)

    def files(self) -> Mapping[str, Listed]:
        """All files by path, but for the Hub's own."""
        return {path: listed for path, listed in self._tree.items() if path not in _NOT_OURS}

    def read(self, path: str) -> bytes:
        """All of a small file."""
        with self._fetched(path) as file:
            return file.read_bytes()

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """A file to read parts of: nothing but what is asked for is fetched, in blocks of 128 KiB."""
        prefix = "datasets/" if self.kind == "dataset" else ""
        at, system = f"{prefix}{self.repo}@{self.commit}/{path}", HfFileSystem(skip_instance_cache=True)
        with call(f"open {path} of {self.name}", lambda: system.open(at, "rb", block_size=FOOTER_BLOCK_BYTES)) as file:
            yield cast(BinaryIO, file)

    def hash(self, path: str) -> str:
        """The SHA-256 of a file, in hex: it is downloaded, and not kept."""
        with self._fetched(path) as file, file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()

    @contextmanager
    def _fetched(self, path: str) -> Iterator[Path]:
        """A file, downloaded for as long as it is looked at."""
        with tempfile.TemporaryDirectory(prefix="pwcat-verify-") as scratch:
            got = call(
                f"fetch {path} of {self.name}",
                lambda: hub_api().hf_hub_download(
                    self.repo, path, repo_type=self.kind, revision=self.commit, local_dir=scratch
                ),
            )
            yield Path(got)


def _listed(entry: RepoFile) -> Listed:
    if entry.lfs is not None:
        return Listed(bytes=entry.size, sha256=entry.lfs.sha256)
    return Listed(bytes=entry.size, git_hash=entry.blob_id)


def find_publication(source: str | Path, *, kind: Kind | None = None) -> HeldFolder | HeldRepository:
    """Where a publication lies.

    Args:
        source: A folder; ``organisation/name`` on the Hub, behind it ``@`` and a tag, branch or commit; or the same as an
            address, ``hf://datasets/organisation/name@revision``.
        kind: What the Hub keeps it as. Without it datasets are looked through first, then models.

    Raises:
        PublishError: There is no such folder, repository or revision, or it may not be read.
    """
    if str(source) and Path(source).is_dir():
        return HeldFolder(path=Path(source))
    found = _ADDRESS.fullmatch(str(source))
    if found is None:
        raise PublishError(
            f"{str(source) or 'nothing'} is neither a folder nor a repository: give a folder, organisation/name, "
            "organisation/name@revision or hf://datasets/organisation/name@revision"
        )
    check_repo_name(found["repo"])
    named: dict[str | None, Kind] = {"datasets": "dataset", "models": "model"}
    asked = named.get(found["kind"])
    if asked is not None and kind is not None and asked != kind:
        raise PublishError(f"{source} is the address of a {asked}, and a {kind} was asked for: leave one of them out")
    return _repository(found["repo"], asked=found["revision"], kind=kind or asked)


def _repository(repo: str, *, asked: str | None, kind: Kind | None) -> HeldRepository:
    kinds: tuple[Kind, ...] = (kind,) if kind else ("dataset", "model")
    for each in kinds:
        if (commit := _commit(repo, asked, each)) is not None:
            return HeldRepository(repo=repo, kind=each, commit=commit, asked=asked)
    sort = " or ".join(kinds)
    token = "the token (HF_TOKEN, or `hf auth login`) may not read it" if get_token() else "it is private: set HF_TOKEN"
    folder = "no folder and " if kind is None else ""
    raise PublishError(f"{repo} is {folder}no {sort} at {constants.ENDPOINT}: it does not exist there, or {token}")


def _commit(repo: str, revision: str | None, kind: Kind) -> str | None:
    """The commit that a revision names today; None where there is no such repository."""
    api = hub_api()
    try:
        return call(f"read {repo}", lambda: str(api.repo_info(repo, repo_type=kind, revision=revision).sha))
    except PublishError as exc:
        if isinstance(exc.__cause__, RevisionNotFoundError):
            refs = call(f"list the tags of {repo}", lambda: api.list_repo_refs(repo, repo_type=kind))
            there = ", ".join(ref.name for ref in (*refs.branches, *refs.tags))
            raise PublishError(f"the {kind} {repo} has no revision {revision!r}: there are {there}") from exc
        if isinstance(exc.__cause__, RepositoryNotFoundError):
            return None
        raise
