"""Which version of a dataset a file is, as far as the file says it."""

from __future__ import annotations

import logging
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import rasterio

from pwcat.regions.cache import place_of, read_receipt
from pwcat.regions.datasets import Dataset

__all__ = ["Edition", "edition_of", "warn_of_another"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Edition:
    """A version, and what says so.

    Attributes:
        version: as the makers number it: ``061``.
        year: that the data is of.
        said_by: the file's metadata or its name, for people.
    """

    version: str
    year: str
    said_by: str

    def __str__(self) -> str:
        return f"version {self.version} of {self.year}"


def edition_of(dataset: Dataset, path: Path) -> Edition | None:
    """The version that a file says it is: in its metadata, in the name it was fetched by, or in its own name.

    ``None`` where it says nothing, and for datasets of one version only.

    Args:
        dataset: that the file is of; its ``granule`` is what to look for.
        path: the file, in the cache or anywhere.

    Raises:
        RegionError: the file's receipt in the cache cannot be read.
    """
    if not dataset.granule:
        return None
    for text, said_by in ((_metadata(path), "its metadata"), (_name_of(dataset, path), "its name")):
        found = re.search(dataset.granule, text)
        if found:
            return Edition(version=found["version"], year=found["year"], said_by=said_by)
    return None


def warn_of_another(dataset: Dataset, edition: Edition | None) -> None:
    """Log a line where the file at hand is another version than the one that is known."""
    if edition is not None and edition.version != dataset.version:
        log.warning(
            "the file of %s is %s (%s says so), while pwcat knows and credits version %s: name yours where you publish",
            dataset.name,
            edition,
            edition.said_by,
            dataset.version,
        )


def _metadata(path: Path) -> str:
    try:
        with warnings.catch_warnings(), rasterio.open(path) as raster:
            warnings.simplefilter("ignore")
            return "\n".join(map(str, raster.tags().values()))
    except rasterio.errors.RasterioError:
        return ""  # whoever opens it for its pixels says what is wrong


def _name_of(dataset: Dataset, path: Path) -> str:
    receipt = read_receipt(path) if path == place_of(dataset) else None
    return Path(receipt.source).name if receipt is not None else path.name
