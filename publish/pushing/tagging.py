"""Releases: tags on verified commits, which never move."""

from __future__ import annotations

import re

from publish.pushing.planning import Plan
from publish.pushing.retrying import call
from publish.pushing.target import Target
from pwcat.errors import PublishError

__all__ = ["check_tag_name", "require_free", "set_tag"]

# Git's own rules for names of references (git check-ref-format), and what would be taken for a branch or a commit.
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/.]|[/.]$|/\.|\.lock(/|$)")
_TAKEN = re.compile(r"main|HEAD|@|refs(/.*)?|[0-9a-fA-F]{5,40}")


def check_tag_name(tag: str) -> list[str]:
    """Why a name is none for a release; nothing where it is one."""
    if not tag or _FORBIDDEN.search(tag):
        return [f"{tag!r} is no name for a tag: use letters, digits, '.', '-' and '_', as in v1.0.0"]
    if _TAKEN.fullmatch(tag):
        return [f"the tag {tag!r} would be taken for a branch or a commit: use a name such as v1.0.0"]
    return []


def require_free(target: Target, tag: str, plan: Plan) -> None:
    """Refuse a tag that names something else than what is about to be there.

    Raises:
        PublishError: Says which tags are taken.
    """
    taken = target.tags()
    if tag in taken and not (plan.is_empty and taken[tag] == plan.head):
        raise PublishError(
            f"the tag {tag} of {target.repo} already names commit {taken[tag][:12]}, which holds other files, and "
            f"releases do not move: choose a tag other than {', '.join(sorted(taken))}"
        )


def set_tag(target: Target, tag: str, commit: str) -> None:
    """Set a tag on a commit; nothing where it is there already, as after a lost answer.

    Raises:
        PublishError: Somebody else set it on another commit meanwhile.
    """
    call(
        f"tag {target.repo}",
        lambda: target.api.create_tag(target.repo, tag=tag, revision=commit, repo_type=target.kind, exist_ok=True),
    )
    if (named := target.tags().get(tag, commit)) != commit:
        raise PublishError(
            f"someone else set the tag {tag} of {target.repo} on commit {named[:12]} meanwhile; the files of this release "
            f"are there, verified, at commit {commit[:12]}: choose another tag and run the same command again"
        )
