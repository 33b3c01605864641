"""Foreign datasets in a catalog, where they lie: formats, and adding them.

To add a format, see :mod:`catalog.importers.importer`; then name its class here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from catalog.importers.fmow import FmowSentinel
from catalog.importers.geotiffs import GeoTiffs
from catalog.importers.importer import Importer
from catalog.importers.major_tom import MajorTom
from catalog.importers.published import Published
from catalog.importers.ssl4eo import Ssl4eo
from pwcat.errors import CatalogError

__all__ = ["IMPORTERS", "find_importer", "recognise"]

# In the order in which a folder is asked: the general format comes last.
IMPORTERS: Mapping[str, type[Importer]] = {
    importer.name: importer for importer in (Published, MajorTom, Ssl4eo, FmowSentinel, GeoTiffs)
}


def find_importer(name: str) -> type[Importer]:
    """The importer of a format.

    Raises:
        CatalogError: there is none; lists those there are.
    """
    if name not in IMPORTERS:
        raise CatalogError(f"unknown format {name!r}: there are {', '.join(IMPORTERS)}")
    return IMPORTERS[name]


def recognise(folder: Path) -> type[Importer]:
    """The importer of what lies in a folder.

    Raises:
        CatalogError: it looks like none of the formats known; lists them.
    """
    for importer in IMPORTERS.values():
        if importer.recognises(folder):
            return importer
    known = "; ".join(f"{name}: {importer.about}" for name, importer in IMPORTERS.items())
    raise CatalogError(f"{folder}: what lies there looks like none of the formats known. These are {known}")
