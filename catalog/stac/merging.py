"""Several catalogs as one: each dataset stays where it is and is linked to; statistics of all are the sum of their tallies."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from catalog.extension import require_known_version
from catalog.measures.statistics import lonlat_of, statistics_from
from catalog.measures.tally import Tally, sum_tallies
from catalog.stac.mirror import open_items, read_items
from catalog.stac.validation import collections_of, read_document, read_tally
from catalog.store import write_catalog, write_json
from pwcat.errors import CatalogError

__all__ = ["Member", "Merged", "merge_catalogs"]


@dataclass(frozen=True, kw_only=True)
class Member:
    """A dataset that is merged.

    Attributes:
        folder: where it lies.
        recipe_hash: of what it was made from.
        layers: source of each of its region layers.
        tally: of its samples.
    """

    folder: Path
    recipe_hash: str
    layers: Mapping[str, str | None]
    tally: Tally

    @property
    def name(self) -> str:
        """Of the collection."""
        return self.folder.name

    def is_same(self, other: Member) -> bool:
        """Whether both are one dataset: made from the same, with the same samples as far as counts tell."""
        return self.recipe_hash == other.recipe_hash and self.tally == other.tally


@dataclass(frozen=True, kw_only=True)
class Merged:
    """What :func:`merge_catalogs` leaves behind.

    Attributes:
        folder: of the catalog.
        samples: of each collection, by its name.
        statistics: of all samples together; one that is in two collections counts twice.
    """

    folder: Path
    samples: dict[str, int]
    statistics: dict[str, Any]


def merge_catalogs(sources: Sequence[Path], *, to: Path, copy: bool = False) -> Merged:
    """Make one catalog of several, of collections, or of both; what is in ``to`` already stays in it.

    Of the items only the places are read, for their dispersion, which does not add; the rest of collections that were
    described before there were tallies.

    Args:
        sources: folders of catalogs and collections.
        to: folder of the catalog; collections are symbolic links in it, relative, so that all can be moved together.
        copy: copy the collections, pixels included, instead.

    Raises:
        CatalogError: a source is no catalog, ``to`` is a collection, one cannot be read, or two that differ have one name.
            Nothing is written then.
    """
    if (to / "collection.json").is_file():
        raise CatalogError(f"{to}: is a collection, not a catalog; name a folder beside it, or one that is not there")
    if to.exists() and not to.is_dir():
        raise CatalogError(f"{to}: is no folder; name the catalog's, which may be there or not")
    there = collections_of(to) if any(to.glob("*/collection.json")) else []
    members: dict[str, Member] = {}
    for folder in [*there, *(folder for source in sources for folder in collections_of(source))]:
        member = _opened(folder)
        known = members.setdefault(member.name, member)
        if known is not member and known.folder.resolve() != folder.resolve() and not known.is_same(member):
            raise CatalogError(
                f"two datasets that differ are called {member.name!r}: {known.folder} and {folder}; "
                "merge them from folders of other names, or take one of them"
            )
    to.mkdir(parents=True, exist_ok=True)
    for member in members.values():
        if not (to / member.name).exists():
            _place(member.folder, to / member.name, copy=copy)
    statistics = statistics_of_all(members.values())
    samples = {name: member.tally.num_samples for name, member in sorted(members.items())}
    summary = {"collections": samples, "num_samples": sum(samples.values()), "statistics": statistics}
    write_json(to / "stats.json", summary)
    write_catalog(to)
    return Merged(folder=to, samples=samples, statistics=statistics)


def statistics_of_all(members: Iterable[Member]) -> dict[str, Any]:
    """Diversities of all samples of some datasets, from their tallies; their dispersion from the places of the items."""
    members = list(members)
    names = sorted({name for member in members for name in member.layers})
    layers = {name: _together(member.layers.get(name) for member in members) for name in names}
    places = [lonlat_of(read_items(member.folder / "items.parquet", columns=["proj:centroid"])) for member in members]
    told = [lonlat for lonlat in places if lonlat is not None]
    lonlat = np.concatenate(told) if told else None
    return statistics_from(sum_tallies(member.tally for member in members), layers=layers, lonlat=lonlat)


def _together(sources: Iterable[str | None]) -> str | None:
    return ", ".join(sorted({source for source in sources if source})) or None


def _opened(folder: Path) -> Member:
    """A collection, looked at: what it says of itself, and whether its items are as many as were counted."""
    document = read_document(folder / "collection.json")
    require_known_version(document, where=str(folder / "collection.json"))
    with open_items(folder / "items.parquet") as file:
        count = file.metadata.num_rows
    tally = read_tally(folder)
    if tally is None:
        tally = Tally.of(read_items(folder / "items.parquet"))
    if tally.num_samples != count:
        raise CatalogError(
            f"{folder}: {count:,} items, and a tally of {tally.num_samples:,}; describe it again with "
            f"`pwcat catalog build {folder}`"
        )
    statistics = document.get("div:statistics") or {}
    layers = {name: measured.get("layer") for name, measured in statistics.items() if "counts" in measured}
    return Member(folder=folder, recipe_hash=str(document.get("pwcat:recipe_hash")), layers=layers, tally=tally)


def _place(folder: Path, target: Path, *, copy: bool) -> None:
    if not copy:
        target.symlink_to(os.path.relpath(folder.resolve(), target.parent.resolve()), target_is_directory=True)
        return
    # two levels down, so that a catalog is not seen to hold it, should it stay unfinished
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder, partial / target.name)
    (partial / target.name).rename(target)
    partial.rmdir()
