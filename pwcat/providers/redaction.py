"""Messages and addresses without secrets: what signs a request must reach no file, no log line and no error."""

from __future__ import annotations

import logging
import re
from urllib.parse import unquote

__all__ = ["bare", "redact_logs", "strip_signature", "unsign"]

# What the name of a parameter that signs, or holds a credential, has in it, or is. A list of all that sign there cannot be:
# with Azure's, Amazon's, Google's, Alibaba's, Akamai's and CloudFront's, these take keys of APIs and sessions of servers.
_PARTS = (
    r"key|token|secret|passw|passphrase|pwd|auth|credential|session|jwt|signature|hmac|cookie|policy|"
    r"hdn[te]|x-(?:amz|goog|oss|ms)-"
)
_NAMES = (
    r"sig|sign|pass|code|user|username|login|sid|ticket|nonce|otp|md5|exp|expires|expiry|"
    r"se|st|sp|sv|sr|ss|srt|spr|sip|ske|sks|skt|skv|skoid|sktid|saoid|suoid|scid|sdd"
)
# What has one of those parts in it and signs nothing.
_HARMLESS = re.compile(r"key_?words?|key_?frames?|author|authors|authority|authid", re.IGNORECASE)
_SIGNS = re.compile(rf"[^=]*(?:{_PARTS})[^=]*|{_NAMES}", re.IGNORECASE)
# In a sentence the short names may be anything, but for these.
_PAIR = re.compile(rf"(?<![\w-])([\w.-]*(?:{_PARTS})[\w.-]*|sig|se|pass)=(?!\*\*\*)[^\s&\"'<>`,;)\]}}]+", re.IGNORECASE)
_HEADER = re.compile(r"\b((?:x-)?api-?key[\"']?: *[\"']?)(?!\*\*\*)[^\s\"',;)\]}]+", re.IGNORECASE)
_QUERY = re.compile(r"(?<=[^\s?])\?[^\s\"'<>`]*")
_FRAGMENT = re.compile(r"(?<=[^\s#])#[^\s\"'<>`]*")
_ENCODED_QUERY = re.compile(r"%3F[^\s\"'<>`]*", re.IGNORECASE)
_PATH_PARAMETER = re.compile(r";([\w.%-]+)=[^\s;/?#\"'<>`]*")
_BETWEEN = re.compile(r"[&;?#]")
_LOGIN = re.compile(r"(?<=://)[^\s/?#\"'<>]+@")
_BEARER = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)


def unsign(text: str) -> str:
    """A message without signatures: queries that sign are dropped whole, other secrets are blanked."""
    text = _LOGIN.sub("", text)
    for pattern in (_QUERY, _FRAGMENT, _ENCODED_QUERY):
        text = pattern.sub(_unless_signed, text)
    text = _PATH_PARAMETER.sub(_unless_secret, text)
    text = _HEADER.sub(r"\1***", _PAIR.sub(_blanked, text))
    return _BEARER.sub(r"\1 ***", text)


def strip_signature(href: str) -> str:
    """An address without the parameters that sign it and without a login; others stay."""
    rest, mark, fragment = _LOGIN.sub("", href, count=1).partition("#")
    path, asks, query = rest.partition("?")
    path = _PATH_PARAMETER.sub(_unless_secret, path)
    if _signs(query):
        query = "&".join(pair for pair in re.split("[&;]", query) if not _signs(pair))
        asks = "?" if query else ""
    return f"{path}{asks}{query}" + (f"{mark}{fragment}" if not _signs(fragment) else "")


def bare(url: str) -> str:
    """An address without a login, a query and a fragment: all of it that may be shown to anybody."""
    return re.split(r"[?#]", _PATH_PARAMETER.sub(_unless_secret, _LOGIN.sub("", url, count=1)), maxsplit=1)[0]


def _signs(query: str) -> bool:
    """Whether one of some parameters is secret by its name."""
    return any(_is_secret(pair.partition("=")[0]) for pair in _BETWEEN.split(query) if "=" in pair)


def _is_secret(name: str) -> bool:
    name = unquote(name).strip()
    return bool(_SIGNS.fullmatch(name)) and not _HARMLESS.fullmatch(name)


def _unless_secret(parameter: re.Match[str]) -> str:
    return _end_of(parameter[0]) if _is_secret(parameter[1]) else parameter[0]


def _blanked(pair: re.Match[str]) -> str:
    return f"{pair[1]}=***" if _is_secret(pair[1]) else pair[0]


def _unless_signed(query: re.Match[str]) -> str:
    """Nothing for a query that signs, but for the punctuation of the sentence that it ends."""
    text = query.group()
    return _end_of(text) if _signs(unquote(text)) else text


def _end_of(text: str) -> str:
    """The punctuation that it ends with."""
    return text[len(text.rstrip(".,:;)]}")) :]


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
