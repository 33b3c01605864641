"""Images of a map recipe, opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pwcat.osm.document import MapImages
from pwcat.osm.imagery.catalogued import CataloguedImages
from pwcat.osm.imagery.files import FileImages, silent_about_places
from pwcat.osm.imagery.folder import FolderImages
from pwcat.osm.imagery.offers import Imagery
from pwcat.providers import open_source

__all__ = ["open_imagery"]


@contextmanager
def open_imagery(images: MapImages | None, *, base_dir: Path, pages: Path | None = None) -> Iterator[Imagery | None]:
    """What a recipe's images are read from, ready to answer; ``None`` where it has none.

    Args:
        images: the recipe's.
        base_dir: the folder that relative paths start from.
        pages: folder for what a source has answered so far, so that a search that breaks goes on there.

    Raises:
        SourceError: an archive's folder does not exist.
    """
    if images is None:
        yield None
    elif images.source is not None:
        with open_source(images.source, base_dir=base_dir) as source:
            kept = None if source.provider == "archive" else pages  # an archive is at hand, and may have changed
            yield CataloguedImages(said=images, source=source, pages=kept)
    else:
        with silent_about_places():
            yield FileImages(said=images, base_dir=base_dir) if images.files else FolderImages(images, base_dir)
