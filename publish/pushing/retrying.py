"""One question to the Hub, asked again while it is overloaded or out of reach, within bounds.

The Hub's client retries uploads and some reads by itself, but neither the commit, nor tags, settings and most listings
(huggingface_hub 2.4: ``_send_commit``, ``create_tag``), and it waits for answers without end. So everything here goes
through :func:`call`.
"""

from __future__ import annotations

import email.utils
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import get_session, httpx, parse_ratelimit_headers  # type: ignore[attr-defined]

from publish.pushing.tokens import conceal
from pwcat.errors import PublishError

__all__ = ["call", "status_of"]

T = TypeVar("T")
logger = logging.getLogger(__name__)

PAUSES_S: tuple[float, ...] = (1, 2, 4, 8, 16)
# The Hub counts requests in windows of 5 minutes: whoever is told to come back later than that is not merely too fast.
LONGEST_PAUSE_S: float = 300
# A commit is given up by the Hub after 60 s; a transfer that stands still for this long is dead.
CONNECT_TIMEOUT_S: float = 30
SILENCE_TIMEOUT_S: float = 300
TRANSIENT_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
CONFLICT: Final = 409  # another operation on the repository is under way

# ConnectionError is what hf_xet raises; its other failures are RuntimeErrors, as are those that the client wraps itself.
_FAILURES = (HfHubHTTPError, httpx.TransportError, LocalEntryNotFoundError, ConnectionError, TimeoutError, RuntimeError)
_XET_STATUS = re.compile(r"\((\d{3}) [A-Z]")
_XET_ERROR = re.compile(r"\b(xet|cas|network|request|shard|xorb|i/o|io) ?(client )?error", re.IGNORECASE)
_SHORT_BODY = "Consistency check failed"  # huggingface_hub.file_download.http_get, for a truncated answer


def call(what: str, ask: Callable[[], T], *, busy: bool = False) -> T:
    """The Hub's answer, asked for again with growing pauses while it is overloaded or out of reach.

    Pauses are 1, 2, 4, 8 and 16 s, or what the Hub asks for in ``Retry-After`` or ``RateLimit``, up to 5 minutes.

    Args:
        what: What is done, as in ``could not ...``: ``"commit to lab/chips"``.
        ask: Asks once, by means of the Hub's client. Asking twice must do no harm.
        busy: Whether 409 means that another operation is under way, and passes.

    Raises:
        PublishError: The Hub refused, or did not answer in time, however often it was asked. Names no token.
    """
    for pause in (*PAUSES_S, None):
        try:
            with _bounded_waits():
                return ask()
        except _FAILURES as exc:
            failure: BaseException = exc
        except OSError as exc:
            if _SHORT_BODY not in str(exc):
                raise
            failure = exc
        conceal(failure)
        if _is_bug(failure):
            raise failure
        asked = _asked_pause_s(failure)
        wait = max(pause or 0, asked or 0)
        if pause is None or wait > LONGEST_PAUSE_S or not _is_transient(failure, busy=busy):
            raise _explained(failure, what, asked=asked) from failure
        logger.warning("could not %s (%s); trying again in %g s", what, _summary(failure), wait)
        time.sleep(wait)
    raise AssertionError("the last pause is None")


@contextmanager
def _bounded_waits() -> Iterator[None]:
    """Timeouts on the client's shared connections, which have none of their own."""
    client = get_session()
    before = client.timeout
    if before == httpx.Timeout(None):
        client.timeout = httpx.Timeout(SILENCE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    try:
        yield
    finally:
        client.timeout = before


def status_of(exc: BaseException | None) -> int | None:
    """The HTTP status that an error of the Hub's client, or of :func:`call`, goes back to; None for any other."""
    if isinstance(exc, PublishError):
        exc = exc.__cause__
    root = _root(exc)
    if isinstance(root, HfHubHTTPError):
        return int(root.response.status_code)
    found = _XET_STATUS.search(str(root)) if isinstance(root, ConnectionError | RuntimeError) else None
    return int(found[1]) if found else None


def _root(exc: BaseException | None) -> BaseException | None:
    # The client wraps a failed upload in a RuntimeError and some failed reads in a LocalEntryNotFoundError.
    while isinstance(exc, RuntimeError | LocalEntryNotFoundError) and exc.__cause__ is not None:
        exc = exc.__cause__
    return exc


def _is_bug(exc: BaseException) -> bool:
    """Whether a RuntimeError is neither of the client's transfers nor of hf_xet's: it keeps its traceback."""
    root = _root(exc)
    return isinstance(root, RuntimeError) and status_of(root) is None and _XET_ERROR.search(str(root)) is None


def _is_transient(exc: BaseException, *, busy: bool) -> bool:
    root = _root(exc)
    if isinstance(root, OfflineModeIsEnabled | LocalEntryNotFoundError):
        return False
    if (status := status_of(root)) is not None:
        return status in TRANSIENT_STATUS or (busy and status == CONFLICT)
    return True


def _asked_pause_s(exc: BaseException) -> float | None:
    """Seconds after which the Hub wants to be asked again, where it says so."""
    root = _root(exc)
    if not isinstance(root, HfHubHTTPError):
        return None
    headers = root.response.headers
    limit = parse_ratelimit_headers(headers)
    if root.response.status_code == 429 and limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    after = headers.get("Retry-After", "").strip()
    if after.isdigit():
        return float(after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - time.time())
    except ValueError:
        return None


def _summary(exc: BaseException) -> str:
    status = status_of(exc)
    return f"HTTP {status}" if status else type(_root(exc)).__name__


def _explained(exc: BaseException, what: str, *, asked: float | None) -> PublishError:
    return PublishError(f"could not {what} ({_summary(exc)}): {_advice(exc, asked)}")


def _advice(exc: BaseException, asked: float | None) -> str:
    root, status = _root(exc), status_of(exc)
    if status in {401, 403} or isinstance(root, RepositoryNotFoundError):
        return "it does not exist, or the token (HF_TOKEN, or `hf auth login`) may not do this"
    if isinstance(root, OfflineModeIsEnabled):
        return "the Hub's client is offline: unset HF_HUB_OFFLINE"
    if asked is not None and asked > LONGEST_PAUSE_S:
        return f"the Hub asks to be left alone for {asked:.0f} s; run the same command again then, it goes on from here"
    if _is_transient(exc, busy=True):
        return f"{len(PAUSES_S) + 1} attempts failed; run the same command again later, it goes on from here"
    if status == 404 and "xet" in str(root):
        return "this server has no Xet storage: set HF_HUB_DISABLE_XET=1, and files go by LFS"
    lines = [line.strip() for line in str(root).splitlines() if line.strip()]
    return " ".join(lines)[:300]
