"""Why a chip could not be had, in a word or two, so that thousands of reasons are counted in a few lines."""

from __future__ import annotations

import re
from typing import Literal, get_args

from pwcat.errors import ForbiddenError, SourceError

__all__ = ["CAUSES", "Cause", "cause_of"]

# The last two are of samples that were read: they are no failures.
Cause = Literal[
    "not found",
    "forbidden",
    "server error",
    "timed out",
    "corrupt data",
    "other grid",
    "other",
    "no data",
    "cloud",
]
CAUSES: tuple[Cause, ...] = get_args(Cause)

# Words of our tile reader, of GDAL, libtiff and curl. The first that is found counts: what a server says goes before what
# GDAL then makes of the file.
_SAYS = r"(?:\(|answers |HTTP |code(?: on .*)?[: ]+)"
_SIGNS: tuple[tuple[Cause, str], ...] = (
    ("forbidden", rf"{_SAYS}40[13]\b|refused to read|gives no token|hands out tokens"),
    ("not found", rf"{_SAYS}(404|410)\b|does not exist|no such file"),
    (
        "timed out",
        rf"{_SAYS}(408|504)\b|timed? ?out|does not answer|stops before the end|could ?n.t connect|connection",
    ),
    ("server error", rf"{_SAYS}(429|5\d\d)\b|bytes came where|does not serve the range"),
    (
        "corrupt data",
        r"damaged|ends before|not recognized|changed while|readblock|readencoded|TIFF\w*:|\w+Decode|read failed|header",
    ),
)
_SIGN_OF = tuple((cause, re.compile(pattern, re.IGNORECASE)) for cause, pattern in _SIGNS)
_ADDRESS = re.compile(r"\w+:/?/?[^\s'\",;]*[/.][^\s'\",;]*")


def cause_of(exc: Exception | str) -> Cause:
    """The cause of a failed read, by what its message says beside addresses."""
    if isinstance(exc, ForbiddenError):
        return "forbidden"
    text = _ADDRESS.sub("", str(exc))
    found = next((cause for cause, sign in _SIGN_OF if sign.search(text)), None)
    return found or ("not found" if isinstance(exc, SourceError) else "other")
