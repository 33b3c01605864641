"""Push a built folder to the Hugging Face Hub in one commit, and fetch one back.

Readers never see half a release: large files are sent ahead, out of sight, and one commit, guarded by its parent, makes
everything visible. Then the checksums that the Hub lists are compared with the manifest, and only then is a tag set.
The token comes from ``HF_TOKEN`` or the Hub's own login, and is never an argument here.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import httpx, validate_repo_id  # type: ignore[attr-defined]
from huggingface_hub.utils.sha import git_hash

from publish.manifest import MANIFEST, FileRecord, check_sizes, describe_file, read_manifest
from pwcat import __version__
from pwcat.errors import PublishError

__all__ = ["Push", "check_repo_name", "fetch_folder", "push_folder"]

Kind = Literal["dataset", "model"]
T = TypeVar("T")
logger = logging.getLogger(__name__)

# The Hub client retries uploads by itself, but neither the commit nor small reads (huggingface_hub 2.4, _send_commit).
BACKOFF_SECONDS = (1, 2, 4, 8)
TRANSIENT_STATUS = frozenset({429, 500, 502, 503, 504})
BATCH_FILES = 16


@dataclass(frozen=True, kw_only=True)
class Push:
    """What a push did: the commit that now holds the folder, and how much of it had to be sent."""

    repo: str
    kind: Kind
    commit: str
    url: str
    files_sent: int
    bytes_sent: int
    files_deleted: int
    tag: str | None

    @property
    def unchanged(self) -> bool:
        """Whether the Hub already had exactly this folder."""
        return self.files_sent == 0 and self.files_deleted == 0


@dataclass(frozen=True, kw_only=True)
class _Target:
    """The repository that is pushed to, and what it is to hold."""

    api: HfApi
    repo: str
    kind: Kind
    folder: Path
    records: Mapping[str, FileRecord]

    def head(self) -> str:
        info = _attempt(lambda: self.api.repo_info(self.repo, repo_type=self.kind), what=f"read {self.repo}")
        return str(info.sha)

    def tree(self, revision: str) -> dict[str, RepoFile]:
        def listing() -> dict[str, RepoFile]:
            tree = self.api.list_repo_tree(self.repo, recursive=True, revision=revision, repo_type=self.kind)
            return {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}

        return _attempt(listing, what=f"list the files of {self.repo}")

    def differing(self, tree: Mapping[str, RepoFile]) -> list[str]:
        return [path for path, record in self.records.items() if not _same(tree.get(path), self.folder / path, record)]


def check_repo_name(repo: str) -> None:
    """Refuse a name that the Hub would refuse.

    Raises:
        PublishError: The name is not ``organisation/name`` of letters, digits, ``-``, ``_`` and ``.``.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError as exc:
        raise PublishError(f"{repo!r} is no name for a repository: {exc}") from exc
    if repo.count("/") != 1:
        raise PublishError(f"{repo!r} is no name for a repository: give organisation/name, as in my-lab/amazon-chips")


def push_folder(
    folder: Path, *, repo: str, kind: Kind, message: str, private: bool = False, tag: str | None = None
) -> Push:
    """What was done to make a Hub repository hold exactly a built folder: nothing, where it already does.

    Files that an earlier release listed in its manifest and this one does not have are deleted in the same commit;
    files that others added to the repository are left alone.

    Args:
        folder: A folder with a ``MANIFEST.json``.
        repo: ``organisation/name``; made where it does not exist.
        kind: ``"dataset"`` or ``"model"``.
        message: First line of the commit.
        private: Make a new repository private; an existing public one is refused.
        tag: Name of a release to set on the verified commit. Releases never move.

    Raises:
        PublishError: The folder does not match its manifest, there is no token or it may not write, someone else
            committed meanwhile, the tag is taken, or what the Hub lists differs from what was sent.
    """
    check_repo_name(repo)
    _, records = read_manifest(folder)
    if faults := check_sizes(folder, records):
        raise PublishError(f"{folder} is not what its manifest says: {'; '.join(faults)}; build it again")
    if get_token() is None:
        raise PublishError("there is no Hub token: set HF_TOKEN to one that may write, or run `hf auth login`")
    api = HfApi(library_name="pwcat", library_version=__version__)
    records = {**records, MANIFEST: describe_file(folder / MANIFEST)}
    target = _Target(api=api, repo=repo, kind=kind, folder=folder, records=records)
    _create(target, private=private)
    return _push(target, message=message, tag=tag)


def fetch_folder(repo: str, *, kind: Kind, revision: str | None, patterns: Sequence[str]) -> Path:
    """The local folder with the files of a repository that match ``patterns``, fetched where they are not yet there.

    Raises:
        PublishError: The repository or revision does not exist or may not be read, or the Hub cannot be reached.
    """
    check_repo_name(repo)

    def fetch() -> str:
        return str(snapshot_download(repo, repo_type=kind, revision=revision, allow_patterns=list(patterns)))

    at = f" at revision {revision}" if revision else ""
    return Path(_attempt(fetch, what=f"fetch {repo}{at} from {constants.ENDPOINT}"))


def _create(target: _Target, *, private: bool) -> None:
    # None leaves the choice to the organisation's own default.
    def create() -> None:
        target.api.create_repo(target.repo, repo_type=target.kind, private=private or None, exist_ok=True)

    _attempt(create, what=f"create {target.repo}")
    if private:
        info = _attempt(lambda: target.api.repo_info(target.repo, repo_type=target.kind), what=f"read {target.repo}")
        if not info.private:
            raise PublishError(f"{target.repo} exists and is public, but a private one was asked for: nothing was sent")


def _push(target: _Target, *, message: str, tag: str | None) -> Push:
    head = target.head()
    tree = target.tree(head)
    changed = target.differing(tree)
    stale = _stale(target, tree, head)
    if tag is not None:
        _check_tag(target, tag, head=head, clean=not changed and not stale)
    commit = _commit(target, changed, stale, head=head, message=message) if changed or stale else head
    if tag is not None:
        _attempt(
            lambda: target.api.create_tag(target.repo, tag=tag, revision=commit, repo_type=target.kind, exist_ok=True),
            what=f"tag {target.repo}",
        )
    prefix = "datasets/" if target.kind == "dataset" else ""
    return Push(
        repo=target.repo,
        kind=target.kind,
        commit=commit,
        url=f"{constants.ENDPOINT}/{prefix}{target.repo}",
        files_sent=len(changed),
        bytes_sent=sum(target.records[path].bytes for path in changed),
        files_deleted=len(stale),
        tag=tag,
    )


def _stale(target: _Target, tree: Mapping[str, RepoFile], head: str) -> list[str]:
    """Paths that the release on the Hub lists in its manifest and that this one no longer has."""
    foreign = [path for path in tree if path not in target.records]
    if MANIFEST not in tree or not foreign:
        return []

    def fetch() -> str:
        return str(target.api.hf_hub_download(target.repo, MANIFEST, revision=head, repo_type=target.kind))

    try:
        listed = json.loads(Path(_attempt(fetch, what=f"read {MANIFEST} of {target.repo}")).read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        return []  # not a manifest of ours: its files are not ours to delete
    ours = listed.get("files", {}) if isinstance(listed, dict) else {}
    return [path for path in foreign if path in ours]


def _check_tag(target: _Target, tag: str, *, head: str, clean: bool) -> None:
    refs = _attempt(
        lambda: target.api.list_repo_refs(target.repo, repo_type=target.kind), what=f"list the tags of {target.repo}"
    )
    taken = {ref.name: ref.target_commit for ref in refs.tags}
    if tag in taken and not (clean and taken[tag] == head):
        raise PublishError(
            f"the tag {tag} of {target.repo} already names commit {taken[tag][:12]}, which holds other files, and "
            f"releases do not move: choose a tag other than {', '.join(sorted(taken))}"
        )


def _commit(target: _Target, changed: Sequence[str], stale: Sequence[str], *, head: str, message: str) -> str:
    additions = [CommitOperationAdd(path, target.folder / path) for path in changed]
    for batch in _batches(additions):
        _attempt(
            lambda batch=batch: target.api.preupload_lfs_files(  # type: ignore[misc]
                target.repo, additions=batch, repo_type=target.kind, free_memory=False
            ),
            what=f"send files to {target.repo}",
        )
        logger.info("sent %s", ", ".join(addition.path_in_repo for addition in batch))
    deletions = [CommitOperationDelete(path) for path in stale]

    def commit() -> str:
        info = target.api.create_commit(
            target.repo, [*additions, *deletions], commit_message=message, repo_type=target.kind, parent_commit=head
        )
        return str(info.oid)

    try:
        oid = _attempt(commit, what=f"commit to {target.repo}")
    except PublishError as exc:
        oid = _landed(target, stale, head=head, cause=exc)
    _verify(target, oid)
    return oid


def _landed(target: _Target, stale: Sequence[str], *, head: str, cause: PublishError) -> str:
    """The head, where it holds this folder after all: the commit arrived, its answer was lost, and a retry met 412."""
    if _status(cause.__cause__) != 412:
        raise cause
    now = target.head()
    tree = target.tree(now)
    if not target.differing(tree) and not set(stale) & set(tree):
        return now
    raise PublishError(
        f"someone else committed to {target.repo} meanwhile (its head was {head[:12]} and is {now[:12]}), so nothing "
        "was committed: look at their change, then run the same command again; what was sent is not sent twice"
    ) from cause


def _verify(target: _Target, commit: str) -> None:
    if differing := target.differing(target.tree(commit)):
        raise PublishError(
            f"after the push, the Hub lists other checksums than {target.folder} has for {', '.join(differing)}: "
            "run the same command again, and do not use this commit before that"
        )


def _same(entry: RepoFile | None, path: Path, record: FileRecord) -> bool:
    if entry is None or entry.size != record.bytes:
        return False
    if entry.lfs is not None:
        return bool(entry.lfs.sha256 == record.sha256)
    return bool(entry.blob_id == git_hash(path.read_bytes()))  # small text: the Hub keeps git's own hash of it


def _batches(additions: Sequence[CommitOperationAdd]) -> Iterator[Sequence[CommitOperationAdd]]:
    for start in range(0, len(additions), BATCH_FILES):
        yield additions[start : start + BATCH_FILES]


def _attempt(call: Callable[[], T], *, what: str) -> T:
    """The answer of a call to the Hub, asked again with growing pauses while it is overloaded or out of reach."""
    for pause in (*BACKOFF_SECONDS, None):
        try:
            return call()
        # The client wraps a failed upload in a RuntimeError and some failed reads in a LocalEntryNotFoundError.
        except (HfHubHTTPError, httpx.TransportError, LocalEntryNotFoundError, RuntimeError) as exc:
            if pause is None or not _is_transient(exc):
                raise _explain(exc, what) from exc
            logger.warning("could not %s (%s); trying again in %s s", what, _summary(exc), pause)
            time.sleep(pause)
    raise AssertionError("the last pause is None")


def _root(exc: BaseException | None) -> BaseException | None:
    while isinstance(exc, RuntimeError | LocalEntryNotFoundError) and exc.__cause__ is not None:
        exc = exc.__cause__
    return exc


def _status(exc: BaseException | None) -> int | None:
    root = _root(exc)
    return root.response.status_code if isinstance(root, HfHubHTTPError) else None


def _is_transient(exc: BaseException) -> bool:
    root = _root(exc)
    if isinstance(root, RuntimeError):
        raise root  # not of the Hub: a bug keeps its traceback
    return isinstance(root, httpx.TransportError) or _status(root) in TRANSIENT_STATUS


def _summary(exc: BaseException) -> str:
    status = _status(exc)
    return f"HTTP {status}" if status else type(_root(exc)).__name__


def _explain(exc: BaseException, what: str) -> PublishError:
    status = _status(exc)
    if status in TRANSIENT_STATUS or isinstance(_root(exc), httpx.TransportError):
        advice = f"{len(BACKOFF_SECONDS) + 1} attempts failed; run the same command again later, it goes on from here"
    elif status in {401, 403} or isinstance(_root(exc), RepositoryNotFoundError):
        advice = "it does not exist, or the token (HF_TOKEN, or `hf auth login`) may not do this"
    else:
        lines = [line for line in str(_root(exc)).splitlines() if line.strip()]
        advice = " ".join(lines)[:300]
    return PublishError(f"could not {what} ({_summary(exc)}): {advice}")
