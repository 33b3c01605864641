"""Repositories of the Hugging Face Hub as stores of a catalog: opened at one commit, read by ranges.

The entry point ``pwcat.stores`` names :func:`open_hub_store`, by which :func:`catalog.query.open_catalog` finds it: the core
does not know the Hub's client. The token comes from ``HF_TOKEN`` or the Hub's login. It goes to the Hub's own host alone: the
client leaves it away where an answer leads to another (presigned) address.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import TypeVar
from urllib.parse import unquote

from huggingface_hub import HfApi, get_hf_file_metadata, get_token, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    get_session,
    hf_raise_for_status,
    httpx,
    validate_repo_id,
)

from catalog.querying.remote import UNKNOWN, Store
from publish.pushing.retrying import call
from pwcat import __version__
from pwcat.errors import CatalogError, PublishError
from pwcat.providers.redaction import unsign

__all__ = ["HubFiles", "open_hub_store"]

T = TypeVar("T")

# hf://datasets/org/name@revision/folder; `datasets/` may be left out, for catalogs lie in datasets alone.
_ADDRESS = re.compile(
    r"hf://(?:datasets/)?(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>refs/(?:pr|convert)/[^/]+|[^/]+))?(?:/(?P<folder>.*))?",
    re.IGNORECASE,
)
_OTHER_KINDS = ("models", "spaces", "buckets")
# Files that one listing may name; of what has more, as a Zarr store of very many shards, each file is asked for by itself.
MOST_LISTED = 3_000
# Seconds without a byte after which a read is given up and asked for again.
READ_TIMEOUT = 30.0


@dataclass(frozen=True)
class HubFiles:
    """Files of a dataset's repository at one commit.

    Attributes:
        repo: ``organisation/name``.
        commit: 40 hexadecimal digits.
        folder: below which names are; with a slash at its end unless it is empty.
    """

    repo: str
    commit: str
    folder: str

    @cached_property
    def _listed(self) -> tuple[dict[str, int], bool]:
        """Sizes of its files by name, and whether these are all."""

        def ask() -> tuple[dict[str, int], bool]:
            tree = _api().list_repo_tree(
                self.repo, self.folder.rstrip("/") or None, recursive=True, revision=self.commit, repo_type="dataset"
            )
            entries = list(islice(tree, MOST_LISTED))
            files = {entry.path: entry.size for entry in entries if isinstance(entry, RepoFile)}
            return files, len(entries) < MOST_LISTED

        try:
            return _asked(ask, "list its files", where=str(self), repo=self.repo)
        except FileNotFoundError:  # there is no such folder
            return {}, True

    def __str__(self) -> str:
        return f"hf://datasets/{self.repo}@{self.commit}/{self.folder}".rstrip("/")

    def facts(self, name: str) -> tuple[int, datetime]:
        """Bytes of a file; when it was written is not asked for: a commit does not change."""
        sizes, whole = self._listed
        if (path := self.folder + name) in sizes:
            return sizes[path], UNKNOWN
        if whole:
            raise FileNotFoundError(f"{self}/{name}")
        found = self._read(lambda: get_hf_file_metadata(self._url(name)), name)
        return int(found.size or 0), UNKNOWN

    def whole(self, name: str) -> bytes:
        """All of a file."""
        size, _ = self.facts(name)
        return self.part(name, 0, size) if size else b""

    def part(self, name: str, start: int, end: int) -> bytes:
        """Some of its bytes; asked for again, within bounds, where fewer came."""
        return self._read(lambda: _get(self._url(name), start, end), name)

    def _url(self, name: str) -> str:
        return hf_hub_url(self.repo, self.folder + name, repo_type="dataset", revision=self.commit)

    def _read(self, ask: Callable[[], T], name: str) -> T:
        return _asked(ask, f"read {name}", where=str(self), repo=self.repo)


def _get(url: str, start: int, end: int) -> bytes:
    """Bytes of a file from ``start`` up to ``end``.

    Raises:
        httpx.TransportError: they did not all come.
    """
    headers = build_hf_headers(library_name="pwcat", library_version=__version__)
    headers |= {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
    response = get_session().get(url, headers=headers, timeout=READ_TIMEOUT)
    hf_raise_for_status(response)
    body: bytes = response.content
    if response.status_code == 200 and len(body) >= end:  # a server that does not know ranges
        body = body[start:end]
    if len(body) != end - start:
        raise httpx.RemoteProtocolError(f"{end - start} bytes were asked for, {len(body)} came")
    return body


def open_hub_store(url: str) -> Store:
    """The files of a repository, or of a folder in it, at the commit that the address names today.

    Args:
        url: ``hf://datasets/org/name``, ``hf://org/name``; behind the name ``@`` and a branch, tag or commit, else ``main``;
            then a folder.

    Raises:
        CatalogError: the address makes no sense; there is no such repository or revision, or it may not be read; or the Hub
            cannot be reached.
    """
    repo, revision, folder = _parsed(url)
    at = f" at revision {revision}" if revision else ""
    info = _asked(
        lambda: _api().repo_info(repo, repo_type="dataset", revision=revision), f"open it{at}", where=url, repo=repo
    )
    files = HubFiles(repo, str(info.sha), f"{folder}/" if folder else "")
    return Store(str(files), files)


def _parsed(url: str) -> tuple[str, str | None, str]:
    """Repository, revision and folder of an address."""
    found = _ADDRESS.fullmatch(url.rstrip("/"))
    kind = url.partition("://")[2].partition("/")[0]
    if found is None or kind in _OTHER_KINDS:
        raise CatalogError(
            f"{url}: no address of a dataset on the Hub: hf://datasets/org/name is wanted, as in "
            "hf://datasets/my-lab/amazon-chips@v1"
        )
    try:
        validate_repo_id(found["repo"])
    except HFValidationError as exc:
        raise CatalogError(f"{url}: {found['repo']!r} is no name for a repository: {exc}") from exc
    revision = unquote(found["revision"]) if found["revision"] else None
    return found["repo"], revision, (found["folder"] or "").strip("/")


def _api() -> HfApi:
    return HfApi(library_name="pwcat", library_version=__version__)


def _asked(ask: Callable[[], T], what: str, *, where: str, repo: str) -> T:
    """The answer of the Hub, asked again within bounds.

    Raises:
        FileNotFoundError: there is no such file at that commit.
        CatalogError: it cannot be had; one line says why.
    """
    try:
        return call(f"{what} of {where}", ask)
    except PublishError as exc:
        if isinstance(exc.__cause__, EntryNotFoundError):
            raise FileNotFoundError(f"{where}: could not {what}: there is no such file") from exc
        raise CatalogError(_told(exc.__cause__, what, where=where, repo=repo) or unsign(str(exc))) from exc
    except OfflineModeIsEnabled as exc:
        raise CatalogError(f"{where}: could not {what}: the Hub's client is offline (HF_HUB_OFFLINE is set)") from exc


def _told(cause: BaseException | None, what: str, *, where: str, repo: str) -> str | None:
    """What is the matter, where more is known than that the Hub would not."""
    token = get_token() is not None
    if isinstance(cause, GatedRepoError):
        log_in = "this token's account" if token else "your account, and set HF_TOKEN or run `hf auth login`"
        return f"{where}: {repo} is gated: ask for access on its page with {log_in}"
    if isinstance(cause, RepositoryNotFoundError):
        why = (
            "or this token may not read it: it may be private"
            if token
            else "or it is private and there is no token: set HF_TOKEN or run `hf auth login`"
        )
        return f"{where}: there is no dataset {repo} on the Hub, {why}"
    if isinstance(cause, RevisionNotFoundError):
        return f"{where}: {repo} has no such branch, tag or commit"
    if isinstance(cause, HfHubHTTPError) and cause.response.status_code in (401, 403):
        return f"{where}: could not {what}: the Hub refuses the token; set HF_TOKEN anew or run `hf auth login`"
    return None
