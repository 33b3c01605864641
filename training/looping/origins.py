"""Where published samples came from: what collections that were pulled from a Hub say of it, for a run to keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catalog.querying.places import read_json
from pwcat.copies import ORIGIN

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["origins_of"]

KEPT = ("repository", "revision", "tag", "subset_hash")


def origins_of(subset: Subset) -> list[dict[str, Any]]:
    """The published datasets that samples were pulled from, each with the collections that came from it; often none.

    Each has ``repository``, ``revision`` (a commit), ``tag``, ``subset_hash`` (of the whole release) and ``collections``.
    Folders of this computer are not told: what was pulled from one has no repository, and is left out.

    Raises:
        CatalogError: such a document cannot be read.
    """
    found: dict[tuple[Any, ...], list[str]] = {}
    for collection in subset.collections:
        told = read_json(collection.place, ORIGIN) if collection.place.has(ORIGIN) else {}
        if told.get("repository") and told.get("revision"):
            found.setdefault(tuple(told.get(key) for key in KEPT), []).append(collection.name)
    return [dict(zip(KEPT, values, strict=True)) | {"collections": names} for values, names in found.items()]
