"""Who may see a repository: made private where it is asked for, and opened once what it holds is verified."""

from __future__ import annotations

from publish.pushing.retrying import call
from publish.pushing.target import Target
from pwcat.errors import PublishError

__all__ = ["open_repository", "prepare_repository", "refuse_public"]


def prepare_repository(target: Target, *, private: bool, public: bool) -> None:
    """Make the repository where there is none: private, if it is to stay so or to be opened at the end.

    With neither, the choice is the organisation's own default. One that exists is taken as it is.

    Raises:
        PublishError: It exists and is public, but a private one was asked for; or the token may not make it.
    """
    is_private = target.is_private()
    if is_private is None:
        asked = True if private or public else None
        # Somebody may make it at this moment, which the Hub answers by 409: then it exists.
        call(
            f"create {target.repo}",
            lambda: target.api.create_repo(target.repo, repo_type=target.kind, private=asked, exist_ok=True),
        )
        is_private = target.is_private() if private else None
    if private:
        refuse_public(target, is_private)


def refuse_public(target: Target, is_private: bool | None) -> None:
    """Refuse a public repository where a private one was asked for; one that does not exist will be private.

    Raises:
        PublishError: It exists and is public.
    """
    if is_private is False:
        raise PublishError(f"{target.repo} exists and is public, but a private one was asked for: nothing was sent")


def open_repository(target: Target) -> bool:
    """Make the repository public, where it is not; whether it had to be.

    Raises:
        PublishError: The token may not, or the Hub did not.
    """
    if not target.is_private():
        return False
    call(
        f"make {target.repo} public",
        lambda: target.api.update_repo_settings(target.repo, private=False, repo_type=target.kind),
        busy=True,
    )
    if target.is_private():
        raise PublishError(
            f"{target.repo} holds the release, but the Hub still calls it private: open it on {target.url}/settings"
        )
    return True
