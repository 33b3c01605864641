"""The repository that is pushed to: what it is to hold, and what it holds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from publish.manifest import FileRecord
from publish.pushing.retrying import call
from pwcat import __version__
from pwcat.errors import PublishError

__all__ = ["Kind", "Target", "Tree", "hub_api"]

Kind = Literal["dataset", "model"]
Tree = Mapping[str, RepoFile]
BLOCK_BYTES = 2**20


def hub_api() -> HfApi:
    """The Hub's client, which finds the token by itself."""
    return HfApi(library_name="pwcat", library_version=__version__)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A repository, and the folder that it is to hold.

    Attributes:
        api: The Hub's client.
        repo: ``organisation/name``.
        kind: ``"dataset"`` or ``"model"``.
        folder: The folder.
        records: Its files by path, the manifest among them.
    """

    api: HfApi
    repo: str
    kind: Kind
    folder: Path
    records: Mapping[str, FileRecord]

    @property
    def url(self) -> str:
        """The address of its page."""
        return f"{constants.ENDPOINT}/{'datasets/' if self.kind == 'dataset' else ''}{self.repo}"

    def is_private(self) -> bool | None:
        """Whether only some may read it; None where there is none, or none that this token may read."""

        def ask() -> bool | None:
            try:
                return bool(self.api.repo_info(self.repo, repo_type=self.kind).private)
            except RepositoryNotFoundError:
                return None

        return call(f"read {self.repo}", ask)

    def head(self) -> str:
        """The newest commit of its main branch."""
        return call(f"read {self.repo}", lambda: str(self.api.repo_info(self.repo, repo_type=self.kind).sha))

    def tree(self, revision: str) -> Tree:
        """Its files at a commit, by path, with the checksums that the Hub has of them."""

        def listing() -> Tree:
            entries = self.api.list_repo_tree(self.repo, recursive=True, revision=revision, repo_type=self.kind)
            return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}

        return call(f"list the files of {self.repo}", listing)

    def tags(self) -> dict[str, str]:
        """The commits that its tags name."""
        refs = call(f"list the tags of {self.repo}", lambda: self.api.list_repo_refs(self.repo, repo_type=self.kind))
        return {ref.name: ref.target_commit for ref in refs.tags}

    def differing(self, tree: Tree) -> tuple[str, ...]:
        """Paths of the folder that are not in a tree, or not with the same bytes."""
        return tuple(path for path, record in self.records.items() if not self._same(tree.get(path), path, record))

    def _same(self, entry: RepoFile | None, path: str, record: FileRecord) -> bool:
        if entry is None or entry.size != record.bytes:
            return False
        if entry.lfs is not None:
            return bool(entry.lfs.sha256 == record.sha256)
        return bool(entry.blob_id == git_blob_hash(self.folder / path))

    def require_same(self, revision: str) -> None:
        """Compare every checksum that the Hub lists at a commit with the folder's.

        Raises:
            PublishError: Some differ; says which.
        """
        if differing := self.differing(self.tree(revision)):
            raise PublishError(
                f"after the push, the Hub lists other checksums than {self.folder} has for {', '.join(differing)}: "
                "run the same command again, and do not use this commit before that"
            )


def git_blob_hash(path: Path) -> str:
    """Git's own hash of a file, which the Hub keeps of those that are not in its large storage; read in blocks."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
