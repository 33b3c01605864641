"""Push a built folder to the Hugging Face Hub in one commit, and fetch one back.

Readers never see half a release: large files are sent ahead, out of sight, and one commit, guarded by its parent, makes
everything visible. Then the checksums that the Hub lists are compared with the manifest, only then is a tag set, and only
then is a repository opened that is to be public. The steps are modules of :mod:`publish.pushing`. The token comes from
``HF_TOKEN`` or the Hub's own login, and is never an argument here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from publish.limits import check_limits, check_room
from publish.manifest import MANIFEST, check_hashes, check_sizes, describe_file, read_manifest
from publish.pushing.card import check_card
from publish.pushing.committing import Committing
from publish.pushing.planning import Plan, plan_commit
from publish.pushing.progress import PushProgress, PushState, silent
from publish.pushing.retrying import call
from publish.pushing.tagging import check_tag_name, require_free, set_tag
from publish.pushing.target import Kind, Target, hub_api
from publish.pushing.tokens import require_token
from publish.pushing.visibility import open_repository, prepare_repository, refuse_public
from pwcat.errors import PublishError

__all__ = [
    "Kind",
    "Preview",
    "Push",
    "check_before_building",
    "check_repo_name",
    "fetch_folder",
    "preview_paths",
    "preview_push",
    "push_folder",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Push:
    """What a push did.

    Attributes:
        repo: ``organisation/name``.
        kind: ``"dataset"`` or ``"model"``.
        commit: The commit that now holds the folder, its checksums verified.
        url: Address of its page.
        files_sent: Files that the commit added or changed.
        bytes_sent: Their size; the Hub may have had parts of them.
        files_deleted: Files of an earlier release that it removed.
        tag: The release that was set on it.
        opened: Whether the repository was made public at the end.
    """

    repo: str
    kind: Kind
    commit: str
    url: str
    files_sent: int
    bytes_sent: int
    files_deleted: int
    tag: str | None
    opened: bool = False

    @property
    def unchanged(self) -> bool:
        """Whether the Hub already had exactly this folder."""
        return self.files_sent == 0 and self.files_deleted == 0


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a push would do, without doing it.

    Attributes:
        repo: ``organisation/name``.
        url: Address of its page.
        exists: Whether there is such a repository, that this token, or anyone, may read.
        private: Whether it is private; None where it does not exist.
        head: The commit that the push would start from; None where it does not exist.
        send: Paths that would be sent.
        bytes_to_send: Their size.
        remove: Paths of an earlier release that would be removed.
        exact: Whether checksums were compared, and not names alone: the folder is built.
        holds: What the manifest there says of the release that it holds, but for its files; None without one.
    """

    repo: str
    url: str
    exists: bool
    private: bool | None
    head: str | None
    send: tuple[str, ...]
    bytes_to_send: int
    remove: tuple[str, ...]
    exact: bool
    holds: Mapping[str, Any] | None


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


def check_before_building(repo: str, *, kind: Kind, private: bool) -> None:
    """Refuse, before a folder is built for it, a push that could not begin: building may take hours.

    Raises:
        PublishError: There is no token, or a private repository was asked for and it is public.
    """
    check_repo_name(repo)
    require_token()
    if private:
        target = _unbuilt(repo, kind)
        refuse_public(target, target.is_private())


def _unbuilt(repo: str, kind: Kind) -> Target:
    return Target(api=hub_api(), repo=repo, kind=kind, folder=Path(), records={})


def push_folder(
    folder: Path,
    *,
    repo: str,
    kind: Kind,
    message: str,
    private: bool = False,
    public: bool = False,
    tag: str | None = None,
    progress: PushProgress = silent,
) -> Push:
    """What was done to make a Hub repository hold exactly a built folder: nothing, where it already does.

    Files that an earlier release listed in its manifest and this one does not have are deleted in the same commit;
    files that others added to the repository are left alone. Stopped at any moment, the same call goes on.

    Args:
        folder: A folder with a ``MANIFEST.json``.
        repo: ``organisation/name``; made where it does not exist.
        kind: ``"dataset"`` or ``"model"``.
        message: First line of the commit.
        private: Make a new repository private; an existing public one is refused.
        public: Make a new repository private, and public once its files are verified and tagged; so is an existing
            private one. One that is public already stays so.
        tag: Name of a release to set on the verified commit. Releases never move.
        progress: Told of each step and after each batch of files.

    Raises:
        PublishError: The folder does not match its manifest or passes a limit of the Hub, there is no token or it may not
            write, someone else committed to the same files meanwhile, the tag is taken, or what the Hub lists differs
            from what was sent.
    """
    if private and public:
        raise PublishError("private and public exclude each other: a repository is left private, or opened at the end")
    progress(PushState(step="checking"))
    target = _checked(folder, repo=repo, kind=kind, tag=tag)
    require_token()
    check_card(folder, kind)
    prepare_repository(target, private=private, public=public)
    plan = _planned(target, tag=tag)
    commit, done = plan.head, plan
    if not plan.is_empty:
        commit, done = Committing(target=target, message=message, progress=progress).carry_out(plan)
    if tag is not None:
        progress(PushState(step="tagging"))
        set_tag(target, tag, commit)
    opened = False
    if public:
        progress(PushState(step="opening"))
        opened = open_repository(target)
    return Push(
        repo=repo,
        kind=kind,
        commit=commit,
        url=target.url,
        files_sent=len(done.changed),
        bytes_sent=_size(target, done.changed),
        files_deleted=len(done.stale),
        tag=tag,
        opened=opened,
    )


def preview_push(
    folder: Path, *, repo: str, kind: Kind, tag: str | None = None, asked_private: bool = False
) -> Preview:
    """What :func:`push_folder` would do with a folder; nothing is sent, and no token is needed for a public repository.

    ``asked_private`` is its ``private``: a public repository is refused then.

    Raises:
        PublishError: As of :func:`push_folder`, as far as it shows without sending anything.
    """
    target = _checked(folder, repo=repo, kind=kind, tag=tag)
    private = target.is_private()
    if asked_private:
        refuse_public(target, private)
    plan = _planned(target, tag=tag) if private is not None else None
    send = plan.changed if plan else tuple(target.records)
    return Preview(
        repo=repo,
        url=target.url,
        exists=plan is not None,
        private=private,
        head=plan.head if plan else None,
        send=send,
        bytes_to_send=_size(target, send),
        remove=plan.stale if plan else (),
        exact=True,
        holds=_release(plan),
    )


def preview_paths(
    paths: Sequence[str], *, repo: str, kind: Kind, tag: str | None = None, asked_private: bool = False
) -> Preview:
    """The same before a folder is built, by the names of its largest files alone: any of them may have to be sent.

    Args:
        paths: Paths in the folder that is to be; those beside them in their folders that an earlier release listed would
            be removed.
        repo: ``organisation/name``.
        kind: ``"dataset"`` or ``"model"``.
        tag: Name of the release.
        asked_private: Refuse a public repository.

    Raises:
        PublishError: The tag is taken, the repository is public and a private one was asked for, or it cannot be asked.
    """
    check_repo_name(repo)
    target = _unbuilt(repo, kind)
    private = target.is_private()
    if asked_private:
        refuse_public(target, private)
    head = target.head() if private is not None else None
    plan = plan_commit(target, head) if head is not None else None
    if plan is not None and tag is not None:
        require_free(target, tag, plan)
    folders = {PurePosixPath(path).parent for path in paths}
    stale = plan.stale if plan else ()
    return Preview(
        repo=repo,
        url=target.url,
        exists=plan is not None,
        private=private,
        head=head,
        send=tuple(paths),
        bytes_to_send=0,
        remove=tuple(path for path in stale if PurePosixPath(path).parent in folders and path not in paths),
        exact=False,
        holds=_release(plan),
    )


def _release(plan: Plan | None) -> Mapping[str, Any] | None:
    listed = plan.manifest if plan else None
    return {key: value for key, value in listed.items() if key != "files"} if listed else None


def fetch_folder(
    repo: str,
    *,
    kind: Kind,
    revision: str | None,
    patterns: Sequence[str],
    force: bool = False,
    hashes: bool = True,
) -> Path:
    """The local folder with the files of a repository that match ``patterns``, fetched where they are not yet there.

    Where the repository has a manifest, what was fetched is compared with it, and fetched once more where it differs: the
    Hub's client compares sizes, but no checksums (huggingface_hub 2.4, ``http_get``).

    Args:
        repo: ``organisation/name``.
        kind: ``"dataset"`` or ``"model"``.
        revision: Branch, tag or commit; the newest of the main branch without one.
        patterns: Paths, with ``*`` for any part of one.
        force: Fetch even what is there.
        hashes: Compare checksums, which reads every byte; else sizes alone.

    Raises:
        PublishError: The repository or revision does not exist or may not be read, the Hub cannot be reached, or what it
            gives is not what the manifest says.
    """
    check_repo_name(repo)
    at = f" at revision {revision}" if revision else ""

    def fetch(force: bool) -> Path:
        def ask() -> Path:
            wanted = [*patterns, MANIFEST]
            try:
                found = snapshot_download(
                    repo, repo_type=kind, revision=revision, allow_patterns=wanted, force_download=force
                )
            except ValueError as exc:  # of what is fetched anew, the client hides in it why the Hub could not be asked
                if not force or exc.__cause__ is None:
                    raise
                raise exc.__cause__ from None
            return Path(found)

        return call(f"fetch {repo}{at} from {constants.ENDPOINT}", ask)

    folder = fetch(force)
    if _fetched_faults(folder, hashes=hashes):
        folder = fetch(True)
        if faults := _fetched_faults(folder, hashes=hashes):
            raise PublishError(
                f"{repo}{at} is not what its manifest says, twice in a row: {'; '.join(faults[:5])}; do not use it, and tell "
                "those who published it"
            )
    return folder


def _fetched_faults(folder: Path, *, hashes: bool) -> list[str]:
    if not (folder / MANIFEST).is_file():
        return []
    try:
        _, records = read_manifest(folder)
    except PublishError as exc:
        return [str(exc)]
    there = {path: record for path, record in records.items() if (folder / path).is_file()}
    sizes = [f"{path} has another size" for path, r in there.items() if (folder / path).stat().st_size != r.bytes]
    return sizes or (check_hashes(folder, there) if hashes else [])


def _checked(folder: Path, *, repo: str, kind: Kind, tag: str | None) -> Target:
    """The target of a push whose folder is whole and within the Hub's limits."""
    check_repo_name(repo)
    _, records = read_manifest(folder)
    if faults := check_sizes(folder, records):
        raise PublishError(f"{folder} is not what its manifest says: {'; '.join(faults)}; build it again")
    if tag is not None and (faults := check_tag_name(tag)):
        raise PublishError("; ".join(faults))
    records = {**records, MANIFEST: describe_file(folder / MANIFEST)}
    check_limits(folder, records, kind, repo=repo)
    return Target(api=hub_api(), repo=repo, kind=kind, folder=folder, records=records)


def _planned(target: Target, *, tag: str | None) -> Plan:
    plan = plan_commit(target, target.head())
    _require_same_sort(target, plan)
    if plan.edited:
        logger.warning(
            "%s was changed on %s since its last release: this one replaces it; the history there keeps it",
            ", ".join(plan.edited[:10]),
            target.repo,
        )
    check_room(target.repo, {*plan.tree, *target.records} - set(plan.stale))
    if tag is not None:
        require_free(target, tag, plan)
    return plan


def _require_same_sort(target: Target, plan: Plan) -> None:
    """Refuse to put, say, weights where chips are; say so where a release of another name is about to be replaced."""
    header, _ = read_manifest(target.folder)
    there = plan.manifest or header
    if there.get("kind") != header.get("kind"):
        raise PublishError(
            f"{target.repo} holds a release of kind {there.get('kind')!r}, and this one is of kind {header.get('kind')!r}: "
            "push it to another repository"
        )
    if there.get("name") != header.get("name") and plan.changed:
        logger.warning(
            "%s holds %r: this release of %r takes its place", target.repo, there.get("name"), header.get("name")
        )


def _size(target: Target, paths: Sequence[str]) -> int:
    return sum(target.records[path].bytes for path in paths)
