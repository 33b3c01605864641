"""Links from a model to the published datasets that it was trained on: repository and commit, never a moving branch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from publish.hub import check_repo_name, fetch_folder
from publish.manifest import MANIFEST, read_manifest
from publish.pushing.retrying import call
from publish.pushing.target import hub_api
from pwcat.errors import PublishError
from training.run import Run

__all__ = ["HUB", "WHOLE", "DataLink", "extent_of", "link_to", "links_of"]

HUB = "https://huggingface.co"  # in what is published; where it was pushed to is another matter
WHOLE, PULLED = "exactly these samples", "samples pulled from it"
COMMIT = re.compile(r"[0-9a-f]{40}")
PREFIX = re.compile(r"^(hf://)?(datasets/)?")


@dataclass(frozen=True, kw_only=True)
class DataLink:
    """A published dataset that a model was trained on.

    Attributes:
        repo: ``organisation/name`` on the Hub.
        commit: of the release, 40 hex digits.
        tag: name of the release; ``None`` where it has none, or that is not known.
        extent: what of it the model has seen, in words.
    """

    repo: str
    commit: str
    tag: str | None
    extent: str

    @property
    def url(self) -> str:
        """Its files, as they were then."""
        return f"{HUB}/datasets/{self.repo}/tree/{self.commit}"

    @property
    def collection_url(self) -> str:
        """Its STAC Collection, as it was then."""
        return f"{HUB}/datasets/{self.repo}/resolve/{self.commit}/stac/collection.json"


def links_of(run: Run) -> tuple[DataLink, ...]:
    """What a run itself recorded of where its samples were pulled from; nothing, of runs on collections built here.

    Raises:
        PublishError: it recorded something else than repositories and commits.
    """
    return tuple(_link(told, run) for told in run.data.get("origins", ()))


def link_to(data: str, run: Run) -> DataLink:
    """The link to a dataset that is named by hand, checked: its manifest must list the very samples of the run.

    Args:
        data: ``organisation/name`` or ``organisation/name@revision``; the prefix ``datasets/`` may stand before it.
        run: the pretraining.

    Raises:
        PublishError: there is no such dataset, it was not published by pwcat, or the run was trained on other samples.
    """
    repo, _, revision = PREFIX.sub("", data).partition("@")
    check_repo_name(repo)
    info = call(
        f"find the dataset {repo}{f' at revision {revision}' if revision else ''}",
        lambda: hub_api().repo_info(repo, repo_type="dataset", revision=revision or None),
    )
    commit = str(info.sha)
    folder = fetch_folder(repo, kind="dataset", revision=commit, patterns=[MANIFEST])
    if not (folder / MANIFEST).is_file():
        raise PublishError(
            f"{repo} has no {MANIFEST} at {revision or commit[:12]}: it was not published by pwcat, so that nothing says "
            "which samples it holds; leave it out, and link it by hand"
        )
    header, _ = read_manifest(folder)
    extent, where = extent_of(header, run), f"{repo}@{commit[:12]}"
    if extent is None:
        there = [f"all are {str(header.get('subset_hash'))[:12]}"]
        there += [f"{name} is {told[:12]}" for name, told in (header.get("split_hashes") or {}).items()]
        raise PublishError(
            f"the run was trained on the samples {run.data['hash'][:12]}, and {where} does not have that set "
            f"({', '.join(there)}): name the release that it was trained on, or leave it out"
        )
    tag = revision if revision and not COMMIT.fullmatch(revision) and revision != "main" else None
    return DataLink(repo=repo, commit=commit, tag=tag, extent=extent)


def extent_of(header: Mapping[str, Any], run: Run) -> str | None:
    """What of a release a run was trained on, in words: all of it, or a split; ``None`` where it is neither.

    Args:
        header: of the release's manifest.
        run: the pretraining.
    """
    wanted, splits = run.data["hash"], header.get("split_hashes") or {}
    if header.get("subset_hash") == wanted:
        return WHOLE
    split = next((name for name, told in splits.items() if told == wanted), None)
    return f"exactly its split {split}" if split else None


def _link(told: Any, run: Run) -> DataLink:
    try:
        repo, commit = str(told["repository"]), str(told["revision"])
        check_repo_name(repo)
        if not COMMIT.fullmatch(commit):
            raise ValueError(f"{commit!r} is no commit")
        extent = WHOLE if told.get("subset_hash") == run.data["hash"] else PULLED
        return DataLink(repo=repo, commit=commit, tag=told.get("tag"), extent=extent)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise PublishError(
            f"{run.path} names where its samples were pulled from as {told!r}, which is no repository and commit ({exc}): "
            "pull them again, or correct `origins` in its run.json"
        ) from exc
