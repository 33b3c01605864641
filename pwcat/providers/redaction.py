"""Messages and addresses without secrets: what signs a request must reach no file, no log line and no error."""

from __future__ import annotations

import logging
import re
from urllib.parse import unquote

__all__ = ["redact_logs", "strip_signature", "unsign"]

# Parameters that sign a request or hold a credential: Azure's SAS (`sig` and what it signs), AWS, Google, CloudFront, keys.
_SECRET = (
    r"sig|se|st|sp|sv|sr|spr|skoid|sktid|skt|ske|sks|skv|token|access_token|api[_-]?key|subscription-key|signature|"
    r"awsaccesskeyid|key-pair-id|policy|expires|x-amz-[a-z-]+|x-goog-[a-z-]+"
)
# The same without the short names, which alone may be anything.
_PLAIN = (
    r"sig|se|token|access_token|api[_-]?key|subscription-key|signature|awsaccesskeyid|key-pair-id|"
    r"x-amz-[a-z-]+|x-goog-[a-z-]+"
)
_QUERY = re.compile(r"(?<=[^\s?])\?[^\s\"'<>`]*")
_ENCODED_QUERY = re.compile(r"%3F[^\s\"'<>`]*", re.IGNORECASE)
_PARAMETER = re.compile(rf"(?:^|[?&;])(?:{_SECRET})=", re.IGNORECASE)
_PAIR = re.compile(rf"(?<![\w-])({_PLAIN})=[^\s&\"'<>`,;)\]}}]+", re.IGNORECASE)
_LOGIN = re.compile(r"(?<=://)[^\s/@\"'<>]+@")
_BEARER = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)


def unsign(text: str) -> str:
    """A message without signatures: queries that sign are dropped whole, other secrets are blanked."""
    text = _QUERY.sub(_unless_signed, text)
    text = _ENCODED_QUERY.sub(_unless_signed, text)
    text = _PAIR.sub(r"\1=***", text)
    return _BEARER.sub(r"\1 ***", _LOGIN.sub("", text))


def _unless_signed(query: re.Match[str]) -> str:
    """Nothing for a query that signs, but for the punctuation of the sentence that it ends."""
    text = query.group()
    if not _PARAMETER.search(unquote(text)):
        return text
    return text[len(text.rstrip(".,:;)]}")) :]


def strip_signature(href: str) -> str:
    """An address without the parameters that sign it and without a login; others stay."""
    href = _LOGIN.sub("", href, count=1)
    path, mark, query = href.partition("?")
    if not mark or not _PARAMETER.search(f"?{query}"):
        return href
    kept = [pair for pair in query.split("&") if not _PARAMETER.match(f"&{pair}")]
    return f"{path}?{'&'.join(kept)}" if kept else path


class _Redacting(logging.Filter):
    """Takes secrets out of a record before any handler sees it."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = unsign(record.getMessage()), ()
        return True


_REDACTING = _Redacting()


def redact_logs(package: str) -> None:
    """Take secrets out of what another package logs: it is given signed addresses, and names them in its lines.

    Args:
        package: that has been imported, so that its loggers are there.
    """
    for name in [package, *logging.root.manager.loggerDict]:
        if name == package or name.startswith(f"{package}."):
            logging.getLogger(name).addFilter(_REDACTING)
