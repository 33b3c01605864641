"""Collections of a source, so that one that it does not have is told as that."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import pystac_client
from pystac import STACError
from pystac_client.errors import ClientTypeError
from pystac_client.exceptions import APIError

from pwcat.errors import SourceError
from pwcat.providers.source import OpenSource

__all__ = ["require_collection"]

# Collections that a message lists.
MOST_LISTED = 40


def require_collection(source: OpenSource, collection: str | None = None) -> None:
    """See that the source has the collection; by default its own. What cannot be asked counts as had.

    Raises:
        SourceError: it has not; names the close matches and all there are.
    """
    wanted, known = collection or source.collection, _collections(source)
    if known is None or wanted in known:
        return
    where = "the archive" if source.provider == "archive" else f"{source.provider} ({source.url})"
    folded = {name.casefold(): name for name in known}
    parts = [name for name in folded if wanted.casefold() in name]
    close = dict.fromkeys([*parts, *difflib.get_close_matches(wanted.casefold(), folded, n=3, cutoff=0.5)])
    hint = f"did you mean {' or '.join(repr(folded[name]) for name in [*close][:3])}? " if close else ""
    more = f", and {len(known) - MOST_LISTED:,} more" if len(known) > MOST_LISTED else ""
    listed = ", ".join(known[:MOST_LISTED]) + more if known else "none at all"
    raise SourceError(f"{where} has no collection {wanted!r}: {hint}It has {listed}")


def _collections(source: OpenSource) -> Sequence[str] | None:
    """Names of the source's collections, sorted; ``None`` where it does not list them."""
    try:
        client = pystac_client.Client.open(source.url)
        if not client.conforms_to("COLLECTIONS"):
            return None
        return sorted({collection.id for collection in client.get_collections()})
    except (APIError, ClientTypeError, OSError, STACError, KeyError):
        return None
