"""How sources are called in ledgers, reasons and summaries: the same in every run, two of them never alike, and no secrets."""

from __future__ import annotations

from hashlib import sha256
from pathlib import PurePath
from urllib.parse import urlsplit

__all__ = ["name_source"]

# What these say does not tell which server, or which folder.
ANYWHERE = ("stac", "archive")


def name_source(provider: str, collection: str, *, url: str | None, path: str | None) -> str:
    """``earth-search/sentinel-2-l2a``, ``stac:example.org/api/collection``, ``archive:../folder/collection``.

    Names are published: of a folder that a recipe names from the root of its machine, the last part is told, and a digest.

    Args:
        provider: by name.
        collection: of it.
        url: of the API, as the recipe has it; user, password and query are left out.
        path: of an archive's folder, as the recipe has it.
    """
    if provider not in ANYWHERE or (url is None and path is None):
        return f"{provider}/{collection}"
    return f"{provider}:{_folder(path) if path else _place(url or '')}/{collection}"


def _folder(path: str) -> str:
    """A folder as the recipe has it, unless that would tell of this machine."""
    if not PurePath(path).is_absolute():
        return path
    return f"{PurePath(path).name}-{sha256(path.encode()).hexdigest()[:8]}"


def _place(url: str) -> str:
    """Host, port and path of an address."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2].lower() + parts.path.partition(";")[0].rstrip("/")
