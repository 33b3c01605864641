"""What one commit is to change, from the repository as it is: files to send, files to remove, files to leave alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.hf_api import RepoFile

from publish.describing.front_matter import loaded_paths
from publish.manifest import MANIFEST, FileRecord, parse_manifest
from publish.pushing.retrying import call
from publish.pushing.target import Target, Tree, git_blob_hash
from pwcat.errors import PublishError

__all__ = ["Plan", "plan_commit"]

# The Hub makes these itself, or asks people to write them on its pages: a release replaces them without a word.
NOT_FOREIGN = frozenset({"README.md", ".gitattributes"})


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One commit.

    Attributes:
        head: The commit that it starts from.
        tree: The files there.
        changed: Paths to send.
        stale: Paths to remove: an earlier release listed them, and this one does not have them.
        manifest: The manifest there, of the earlier release; None without one.
    """

    head: str
    tree: Tree
    changed: tuple[str, ...]
    stale: tuple[str, ...]
    manifest: Mapping[str, Any] | None = None

    @property
    def edited(self) -> tuple[str, ...]:
        """Paths to send whose file there is another than the earlier release listed: somebody changed it since.

        Of small files the Hub lists no SHA-256, so that a change of theirs which keeps the size is not seen.
        """
        listed = self.manifest["files"] if self.manifest else {}
        return tuple(path for path in self.changed if path in listed and _differs(self.tree.get(path), listed[path]))

    @property
    def is_empty(self) -> bool:
        """Whether the repository already holds exactly the folder."""
        return not self.changed and not self.stale

    def touched_since(self, now: Tree, records: frozenset[str]) -> list[str]:
        """Paths of this release that are other files in a later tree than in this plan's."""
        ours = records | set(self.stale)
        return sorted(path for path in ours if _identity(self.tree.get(path)) != _identity(now.get(path)))


def plan_commit(target: Target, head: str) -> Plan:
    """What would make a repository hold exactly the folder, from one of its commits.

    Files that an earlier release listed in its manifest and this one does not have are removed; those of others stay.

    Raises:
        PublishError: The release would overwrite files that no manifest of ours lists, or ``load_dataset`` would take such
            files for parts of it, or the manifest that is there cannot be read: nobody knows which files are ours then.
    """
    tree = target.tree(head)
    changed = target.differing(tree)
    manifest = _manifest(target, tree, head)
    listed = frozenset(manifest["files"]) if manifest else frozenset()
    foreign = [path for path in changed if path in tree and path not in listed | NOT_FOREIGN | {MANIFEST}]
    if foreign:
        raise PublishError(
            f"{target.repo} holds files that no release of ours made, and this one would replace them: "
            f"{_named(foreign)}; push to another repository, or move them there"
        )
    others = [path for path in tree if path not in listed and path not in target.records]
    if loaded := loaded_paths(target.folder, others) if target.records else []:
        raise PublishError(
            f"{target.repo} holds files that no release of ours made, and load_dataset would take them for parts of this "
            f"one: {_named(loaded)}; push to another repository, or move them there"
        )
    stale = tuple(path for path in tree if path in listed and path not in target.records)
    return Plan(head=head, tree=tree, changed=changed, stale=stale, manifest=manifest)


def _differs(entry: RepoFile | None, record: FileRecord) -> bool:
    if entry is None:
        return False
    return entry.size != record.bytes or (entry.lfs is not None and entry.lfs.sha256 != record.sha256)


def _named(paths: Sequence[str]) -> str:
    return f"{', '.join(paths[:10])}{' …' if len(paths) > 10 else ''}"


def _manifest(target: Target, tree: Tree, head: str) -> dict[str, Any] | None:
    """The manifest on the Hub; None without one, so that no file there is ours to remove."""
    if MANIFEST not in tree:
        return None

    def fetch(force: bool) -> Path:
        def ask() -> Path:
            return Path(
                target.api.hf_hub_download(
                    target.repo, MANIFEST, revision=head, repo_type=target.kind, force_download=force
                )
            )

        return call(f"read {MANIFEST} of {target.repo}", ask)

    path, entry = fetch(False), tree[MANIFEST]
    if entry.lfs is None and git_blob_hash(path) != entry.blob_id:  # a cache that forgets
        path = fetch(True)
    try:
        header, records = parse_manifest(path.read_bytes(), where=f"{MANIFEST} of {target.repo}")
    except PublishError as exc:
        raise PublishError(
            f"{target.repo} holds a {MANIFEST} that is none of ours, or damaged, so that nobody knows which files there are "
            "ours to replace: push to another repository, or put back there the one of the last release"
        ) from exc
    return {**header, "files": records}


def _identity(entry: RepoFile | None) -> tuple[str, str | None] | None:
    return (entry.blob_id, entry.lfs.sha256 if entry.lfs else None) if entry is not None else None
