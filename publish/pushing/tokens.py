"""The token for the Hub: from ``HF_TOKEN`` or the Hub's own login, never an argument, and never in what is written."""

from __future__ import annotations

from huggingface_hub import get_token

from pwcat.errors import PublishError

__all__ = ["conceal", "concealed", "require_token"]

HIDDEN = "<token>"


def require_token() -> None:
    """Refuse to begin without a token.

    Raises:
        PublishError: Neither ``HF_TOKEN`` nor a login gives one.
    """
    if get_token() is None:
        raise PublishError("there is no Hub token: set HF_TOKEN to one that may write, or run `hf auth login`")


def conceal(exc: BaseException | None) -> None:
    """Take the token out of the texts of an error and of those behind it, in place: a server may echo what it was sent."""
    token = get_token()
    seen: set[int] = set()
    while token and exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        exc.args = tuple(_hidden(arg, token) for arg in exc.args)
        for name, value in list(vars(exc).items()):
            if isinstance(value, str):
                setattr(exc, name, _hidden(value, token))
        exc = exc.__cause__ or exc.__context__


def concealed(text: str) -> str:
    """A text without the token: what another process printed, which has the same one."""
    token = get_token()
    return text.replace(token, HIDDEN) if token else text


def _hidden(value: object, token: str) -> object:
    return value.replace(token, HIDDEN) if isinstance(value, str) else value
