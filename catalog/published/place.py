"""A collection that samples of a published dataset come from, as a place: what its folder would have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from catalog.published.layout import ENTITIES_PATH, ITEMS_PATH
from catalog.published.publication import Publication
from catalog.querying.engine import Part
from catalog.querying.places import Place
from pwcat.errors import CatalogError

__all__ = ["PublishedPlace"]

# Names of files that a collection's folder has, and where they are among what is published.
_FILES = {"items.parquet": ITEMS_PATH}
# That of map tiles alone, where a map was published.
_OF_MAPS = {"entities.parquet": ENTITIES_PATH}


@dataclass(frozen=True)
class PublishedPlace:
    """One collection of a publication. Its documents are made from what was published, its items are some of the items.

    Attributes:
        publication: that holds it.
        name: of the collection.
    """

    publication: Publication
    name: str

    @property
    def base(self) -> Place:
        """Where the publication lies."""
        return self.publication.place

    @property
    def part(self) -> Part:
        """Its rows among the items of the publication."""
        counts = {name: int(self.publication.collection(name)["num_samples"]) for name in self.publication.names}
        before = list(counts)[: list(counts).index(self.name)]
        first = sum(counts[name] for name in before)
        return Part(name=self.name, first=first, count=counts[self.name], alone=len(counts) == 1)

    def __str__(self) -> str:
        return str(self.base)

    def __truediv__(self, name: str) -> Place:
        return self.base / name

    def address(self, name: str) -> str:
        """What a file is called in SQL."""
        return self.base.address(_FILES.get(name, name))

    def has(self, name: str) -> bool:
        """Whether something of that name was published."""
        if name in _FILES:
            return True
        if name in _OF_MAPS:
            return self.publication.holds_map(self.name) and self.base.has(_OF_MAPS[name])
        return self.publication.read(self.name, name) is not None

    def read(self, name: str) -> bytes:
        """A file, whole."""
        if name in _FILES:
            return self.base.read(_FILES[name])
        found = self.publication.read(self.name, name)
        if found is None:
            raise CatalogError(f"{self}: nothing like {name} of {self.name} was published")
        return found

    def tail(self, name: str, length: int) -> bytes:
        """The last bytes of a file."""
        return self.base.tail(_FILES.get(name, name), length)

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return self.base.size(_FILES.get(name, name))

    def range(self, name: str, start: int, length: int) -> bytes:
        """So many bytes of a file."""
        return self.base.range(_FILES.get(name, name), start, length)

    def local(self, wanted: str) -> Path:
        """Refused: no folder of a collection was published."""
        raise CatalogError(
            f"{self}: {wanted} cannot be had from a published dataset: `pwcat pull` makes a collection of it"
        )
