"""Where things lie in a published dataset; facts of the format, written by :mod:`publish` and read here."""

from __future__ import annotations

from typing import Final

__all__ = [
    "ATLAS_PATH",
    "CARD_PATH",
    "CHANGELOG_PATH",
    "COLLECTION_PATH",
    "CROISSANT_PATH",
    "DATA_FOLDER",
    "ENTITIES_PATH",
    "ITEMS_PATH",
    "LICENSES_PATH",
    "MANIFEST_PATH",
    "PICTURE_PATH",
    "PREVIEW_PATH",
    "RECIPES_FOLDER",
    "STATISTICS_PATH",
    "TAGS_PATH",
]

DATA_FOLDER: Final = "data"  # <split>-<number>-of-<count>.parquet
ITEMS_PATH: Final = "items/items.geoparquet"
PREVIEW_PATH: Final = "preview/preview-00000-of-00001.parquet"
COLLECTION_PATH: Final = "stac/collection.json"
STATISTICS_PATH: Final = "stats/diversity.json"
RECIPES_FOLDER: Final = "recipes"  # <name of the collection>.yaml
ENTITIES_PATH: Final = "map/entities.parquet"
TAGS_PATH: Final = "map/tags.parquet"
CROISSANT_PATH: Final = "croissant.json"
ATLAS_PATH: Final = "atlas.html"
PICTURE_PATH: Final = "map.png"
MANIFEST_PATH: Final = "MANIFEST.json"
CARD_PATH: Final = "README.md"
LICENSES_PATH: Final = "LICENSES.md"
CHANGELOG_PATH: Final = "CHANGELOG.md"
