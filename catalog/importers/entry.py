"""The entry of an imported dataset in the catalog: what its STAC Collection says of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from catalog.importers.importer import Facts, Importer
from catalog.importers.pixels import DOCUMENT, PIXELS
from catalog.stac.collection import PARQUET, CollectionFacts
from catalog.stac.describing import CODEBOOK
from pwcat.cube import NODATA, OFFSET, SCALE, SENTINEL2_BANDS

__all__ = ["entry_of"]

# Files of the collection's folder, beside items and statistics: key, file, media type, title.
FILES = (
    ("pixels", PIXELS, PARQUET, "Where the pixels of each sample lie"),
    ("import", DOCUMENT, "application/json", "How the dataset's files are read, and what was assumed"),
)
CODEBOOK_FILE = ("codebook", CODEBOOK, PARQUET, "Reflectance spectra that the samples' pixels are counted to")


def entry_of(
    opened: Importer, facts: Facts, document: Mapping[str, Any], *, layers: Mapping[str, str], codebook: bool
) -> CollectionFacts:
    """What is known of an imported dataset beside its items.

    Args:
        opened: its importer.
        facts: of the dataset.
        document: ``import.json``.
        layers: source of each region layer.
        codebook: whether one lies there.
    """
    size, lost = document["size_px"], sum(document["lost"].values())
    unread = f" {lost:,} more could not be read." if lost else ""
    about = f"{document['title']}. {document['num_samples']:,} samples, read where they lie ({opened.about}).{unread}"
    files = (*FILES, CODEBOOK_FILE) if codebook else FILES
    return CollectionFacts(
        name=document["name"],
        title=document["title"],
        description=f"{about} {_sentences(facts.notes)}",
        license=document["license"],
        recipe_hash=document["hash"],
        layers=layers,
        providers=_providers(opened, document),
        citation=document["attribution"],
        bands=[{"name": band} for band in facts.bands],
        pixel_bands=[_band(band) for band in facts.bands],
        pixels_per_sample=None if size is None else facts.num_times * size * size,
        assets={
            key: {"href": f"./{file}", "type": kind, "roles": ["metadata"], "title": title}
            for key, file, kind, title in files
        },
        item_assets={"chips": {"roles": ["data"], "title": "Pixels, where they lie"}},
        summaries={"gsd": [document["resolution_m"]]},
        extra={
            "pwcat:format": opened.name,
            "pwcat:version": version("pwcat"),
            "pwcat:chip": {
                "shape": None if size is None else [facts.num_times, len(facts.bands), size, size],
                "resolution_m": document["resolution_m"],
            },
        },
    )


def _sentences(notes: tuple[str, ...]) -> str:
    return " ".join(f"{note[0].upper()}{note[1:]}." for note in notes)


def _providers(opened: Importer, document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Whose data it is, and what was done to them."""
    processor = {
        "name": "pwcat",
        "roles": ["processor"],
        "processing:lineage": f"indexed in place from {opened.about}. {_sentences(tuple(document['notes']))}",
        "processing:software": {"pwcat": version("pwcat")},
        "processing:expression": {"format": "pwcat-import-sha256", "expression": document["hash"]},
    }
    named = document["attribution"]
    return [*([{"name": named, "roles": ["producer"]}] if named else []), processor]


def _band(name: str) -> dict[str, Any]:
    """A band with what its numbers mean, once offsets are removed."""
    wavelength, sampling = SENTINEL2_BANDS.get(name, (math.nan, math.nan))
    band: dict[str, Any] = {"name": name, "nodata": NODATA, "raster:scale": SCALE, "raster:offset": OFFSET}
    if math.isfinite(wavelength):
        band |= {"eo:center_wavelength": round(wavelength / 1000, 6), "gsd": sampling}
    return band
