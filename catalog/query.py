"""Finding samples: one query over the items' Parquet files, answered by DuckDB."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from catalog.published.place import PublishedPlace
from catalog.published.publication import Publication, is_published
from catalog.querying.beside import Beside, Column, columns_at
from catalog.querying.conditions import Classes, Condition, Question, Seam, Times, conditions, named_beside
from catalog.querying.engine import Engine, Items
from catalog.querying.places import Folder, Place, open_place, read_json
from catalog.querying.queryables import QUERYABLES
from catalog.subset import Subset, rows_of
from pwcat.copies import read_origin
from pwcat.errors import CatalogError

if TYPE_CHECKING:
    import pystac

    from catalog.querying.nearness import Near
    from pwcat.cube import Cube

__all__ = ["QUERYABLES", "Catalog", "Collection", "open_catalog"]

CUBE = "cube.zarr"  # folder in a collection's
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Collection:
    """One dataset of a catalog. Opening it reads nothing; what is asked for is read then, once.

    Attributes:
        place: its folder.
        engine: the database of its catalog.
    """

    place: Place
    engine: Engine

    @property
    def name(self) -> str:
        """Its name, which is its folder's."""
        return self.place.name

    @property
    def path(self) -> Path:
        """Its folder on this computer.

        Raises:
            CatalogError: it lies elsewhere.
        """
        return self.place.local("the dataset")

    @cached_property
    def cube(self) -> Cube:
        """Its chips.

        Raises:
            CatalogError: it has no cube that can be read from here, or has another dataset's.
            CubeError: the cube is damaged.
        """
        from catalog.published.far import open_far_cube
        from pwcat.cube import open_cube

        if isinstance(self.place, PublishedPlace):
            from catalog.published.cube import PublishedCube

            return PublishedCube(Path(str(self.place)), self.place.publication, self.name)
        if self.place.has("import.json"):  # a foreign dataset: its pixels lie where they lay
            from catalog.importers.pixels import open_foreign_cube

            return open_foreign_cube(self.place.local("pixels of a dataset that was added"))
        cube = open_cube(self.place.path / CUBE) if isinstance(self.place, Folder) else open_far_cube(self.place / CUBE)
        made_by = str(cube.attrs.get("recipe_hash") or self.recipe_hash)
        if made_by != self.recipe_hash:
            raise CatalogError(
                f"{self.place}/{CUBE} holds the chips of another dataset (recipe {made_by[:12]}, not "
                f"{self.recipe_hash[:12]}): put its own cube back, or build it again"
            )
        return cube

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """The recipe it was made from, defaults included.

        Raises:
            CatalogError: it was added from elsewhere, and no recipe made it.
        """
        import yaml

        if self.place.has("import.json"):
            raise CatalogError(
                f"{self.place}: was added from elsewhere, so that there is no recipe: it can be searched, compared and "
                "trained from, and is not published by pwcat"
            )
        if not self.place.has("recipe.yaml"):
            raise CatalogError(
                f"{self.place}: there is no recipe.yaml: what was added from elsewhere has none, nor has a copy of it: it can "
                "be searched, compared and trained from, and is not published by pwcat"
            )
        document: dict[str, Any] = yaml.safe_load(self.place.read("recipe.yaml"))
        return document

    @cached_property
    def stats(self) -> dict[str, Any]:
        """Its ``stats.json``.

        Raises:
            CatalogError: it is missing or unreadable.
        """
        return read_json(self.place, "stats.json")

    @property
    def recipe_hash(self) -> str:
        """Hash of the recipe it was made from."""
        return str(self.stats.get("recipe_hash") or "")

    @cached_property
    def document(self) -> dict[str, Any]:
        """Its ``collection.json``.

        Raises:
            CatalogError: it is missing or unreadable, or of a version of the extension that is not known.
        """
        from catalog.extension import require_known_version

        document = read_json(self.place, "collection.json")
        require_known_version(document, where=f"{self.place}/collection.json")
        return document

    @cached_property
    def metadata(self) -> pystac.Collection:
        """Its STAC Collection."""
        import pystac

        return pystac.Collection.from_dict(self.document)

    @property
    def items_path(self) -> Path:
        """Its items."""
        return self.path / "items.parquet"

    @cached_property
    def items(self) -> Items:
        """Its items, as queries see them."""
        part = self.place.part if isinstance(self.place, PublishedPlace) else None
        return Items(self.engine, self.place, part)

    @property
    def columns(self) -> dict[str, Column]:
        """Columns that are kept beside its items, by name, as the loss of each sample; :mod:`catalog.columns` adds them."""
        return columns_at(self.place)

    def classes(self, layer: str) -> list[str]:
        """Classes of a layer that its samples have."""
        found = self.stats.get("statistics", {}).get(layer) or {}
        return list(found.get("counts", {}))


@dataclass(frozen=True)
class Catalog:
    """Datasets in a folder, here or far away. Opening it does not read their items."""

    place: Place
    members: Mapping[str, Collection]
    engine: Engine

    @property
    def path(self) -> Path:
        """The folder on this computer.

        Raises:
            CatalogError: it lies elsewhere.
        """
        return self.place.local("the catalog")

    @property
    def collections(self) -> list[str]:
        """Names of the datasets."""
        return list(self.members)

    def collection(self, name: str) -> Collection:
        """One dataset.

        Raises:
            CatalogError: there is none of that name; lists those there are.
        """
        if name not in self.members:
            raise CatalogError(f"{self.place}: no collection {name!r}; there are {', '.join(self.members)}")
        return self.members[name]

    def search(
        self,
        *,
        biome: Classes = None,
        landcover: Classes = None,
        continent: Classes = None,
        ecoregion: Classes = None,
        landcover_share: Mapping[str, float | tuple[float, float]] | None = None,
        collections: str | Sequence[str] | None = None,
        ids: str | Sequence[str] | None = None,
        split: str | None = None,
        bbox: Sequence[float] | None = None,
        near: Near | None = None,
        within_km: float | None = None,
        datetime: Times = None,
        min_spectral_entropy: float | None = None,
        filter: str | Mapping[str, Any] | None = None,
        limit: int | None = None,
        limit_by: str | None = None,
        seed: int = 0,
    ) -> Subset:
        """The samples that meet every condition given.

        Args:
            biome: one class or several; case and underscores do not matter.
            landcover: likewise, the class with the largest share of the chip.
            continent: likewise.
            ecoregion: likewise.
            landcover_share: by land cover, the least share of the chip's area, or the least and the largest.
            collections: only of these datasets; all where ``None``.
            ids: only this sample, or these.
            split: ``train`` or ``val``; of map tiles also ``test``.
            bbox: west, south, east, north, EPSG:4326; may cross the antimeridian.
            near: a place, as longitude and latitude, or a subset: only samples less than ``within_km`` from it, or from one of
                its samples, on the ellipsoid.
            within_km: that distance, kilometres.
            datetime: a day, or an interval such as ``2021-03-01/2021-05-31`` or ``2021-03-01/..``; both ends included.
            min_spectral_entropy: nats.
            filter: a CQL2 filter, as text or JSON.
            limit: at most this many, drawn at random over the answer; a larger limit holds the samples of a smaller one.
            limit_by: a layer or ``split``: the limit takes as many of each of its classes, as far as they go.
            seed: of that draw.

        Raises:
            CatalogError: a name, class, date or filter that is not known or makes no sense.
        """
        from catalog.querying.nearness import nearer_than, surroundings

        question = Question(
            biome=biome, landcover=landcover, continent=continent, ecoregion=ecoregion, landcover_share=landcover_share,
            ids=ids, split=split, bbox=bbox, datetime=datetime, min_spectral_entropy=min_spectral_entropy, filter=filter,
        )  # fmt: skip
        wanted = self._wanted(collections)
        asked = self.conditions(question, wanted)
        if near is not None or within_km is not None:
            asked += surroundings(near, within_km, crossing=lambda: _seam(wanted))
        found = Subset(
            members={member.name: member for member in wanted},
            rows=rows_of(wanted, asked),
            query=_told(question, collections=collections, near=near, within_km=within_km),
        )
        if near is not None and within_km is not None:
            found = nearer_than(found, near, within_km)
        found = replace(found, own=_own_columns(found))
        if limit is None and limit_by is None:
            return found
        return found.sample(limit, by=limit_by, seed=seed)

    def count(
        self,
        by: Sequence[str] = (),
        *,
        question: Question | None = None,
        collections: str | Sequence[str] | None = None,
    ) -> pa.Table:
        """How many samples there are of each combination of classes, the most frequent first; samples are not read for it.

        Args:
            by: names of fields, such as ``biome`` and ``continent``; with none, there is one row.
            question: only samples that meet it.
            collections: only of these datasets.

        Returns:
            A column for each field, as the layer names its classes, null where there is none; and ``samples``.

        Raises:
            CatalogError: a field is unknown, or the question makes no sense.
        """
        if unknown := [name for name in by if name not in QUERYABLES or name == "geometry"]:
            raise CatalogError(f"counts by {unknown[0]!r} are not known; there are {', '.join(sorted(QUERYABLES))}")
        wanted = self._wanted(collections)
        if not wanted:
            return pa.table({**{name: pa.array([], pa.string()) for name in by}, "samples": pa.array([], pa.int64())})
        asked = self.conditions(question or Question(), wanted)
        where = " AND ".join(condition.sql for condition in asked) or "TRUE"
        values = [value for condition in asked for value in condition.values]
        named = "".join(f'{QUERYABLES[name]} AS "{name}", ' for name in by)
        beside = named_beside(asked)
        parts = [
            f"SELECT {named}count(*) AS samples FROM {member.items.source_with(beside)} WHERE {where} GROUP BY ALL"  # noqa: S608
            for member in wanted
        ]
        group = "".join(f'"{name}", ' for name in by)
        sql = f"SELECT {group}sum(samples)::BIGINT AS samples FROM ({' UNION ALL '.join(parts)}) GROUP BY ALL "  # noqa: S608
        order = "".join(f', "{name}"' for name in by)
        return self.engine.table(f"{sql} ORDER BY samples DESC{order}", values * len(wanted))

    def conditions(self, question: Question, wanted: Iterable[Collection] | None = None) -> list[Condition]:
        """A question as conditions of SQL over the items of some collections; all of them where ``None``.

        Raises:
            CatalogError: a name, class, date or filter that is not known or makes no sense.
        """
        members = list(self.members.values() if wanted is None else wanted)
        for member in members:
            _ = member.items.columns, member.document  # whole, and of a version that is known, before it is asked
        return conditions(
            question,
            known=_Classes(members),
            crossing=lambda: _seam(members),
            columns=QUERYABLES,
            more=Beside(tuple(member.items for member in members)),
        )

    def _wanted(self, names: str | Sequence[str] | None) -> list[Collection]:
        if names is None:
            return list(self.members.values())
        asked = [names] if isinstance(names, str) else list(names)
        found = {name: self.collection(name) for name in asked}
        return [member for name, member in self.members.items() if name in found]


def _own_columns(found: Subset) -> dict[str, pa.ChunkedArray]:
    """Columns that stand for the items' own, as published or copied with a subset that had such: part of its hash."""
    told = [_made_columns(member.place) for member in found.members.values()]
    names = set(told[0]).intersection(*told) if told else ()
    return {name: found.columns([name])[name] for name in sorted(names)}


def _made_columns(place: Place) -> list[str]:
    """Columns of a collection's items that were made for the subset that it was published or copied with."""
    if isinstance(place, PublishedPlace):
        return place.publication.own_columns
    origin = read_origin(place.path) if isinstance(place, Folder) else None
    return list((origin or {}).get("copied", {}).get("own_columns", ()))


class _Classes(Mapping[str, list[str]]):
    """Classes of each layer in some collections, read from their statistics when a layer is asked for."""

    def __init__(self, members: Sequence[Collection]) -> None:
        self.members = members

    def __getitem__(self, layer: str) -> list[str]:
        return list(dict.fromkeys(name for member in self.members for name in member.classes(layer)))

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


def _seam(members: Iterable[Collection]) -> Seam:
    """The bounding boxes of items of some collections that lie across the antimeridian."""
    return Seam(boxes=tuple(box for member in members for box in member.items.seam.boxes))


def _told(question: Question, **others: Any) -> dict[str, Any]:
    """What was asked, as a subset notes it: no more than was given."""
    asked = {one.name: getattr(question, one.name) for one in fields(question)} | others
    if isinstance(asked["near"], Subset):
        asked["near"] = {"subset": asked["near"].hash, "samples": len(asked["near"])}
    return {name: value for name, value in asked.items() if value is not None}


def open_catalog(path: str | Path) -> Catalog:
    """The catalog in a folder; or one collection's folder, as a catalog of it alone. No items are read.

    Args:
        path: of the folder; or its address, ``s3://``, ``gs://``, ``az://``, ``http://``, ``https://`` or ``hf://``, whose
            files are then read by ranges. A published dataset, as a folder or a repository on the Hub, is opened as a catalog
            of the collections that its samples come from.

    Raises:
        CatalogError: the folder holds neither.
    """
    place = open_place(path)
    engine = Engine(place)
    if place.has("collection.json"):
        return Catalog(place, {place.name: Collection(place, engine)}, engine)
    folders = _folders(place) if isinstance(place, Folder) else _children(place)
    if not folders and is_published(place):
        publication = Publication(place)
        members = {name: Collection(PublishedPlace(publication, name), engine) for name in publication.names}
        return Catalog(place, members, engine)
    if not folders:
        raise CatalogError(
            f"{place}: no catalog there: neither collection.json nor a folder that has one, nor a published dataset"
        )
    return Catalog(place, {folder.name: Collection(folder, engine) for folder in folders}, engine)


def _folders(place: Folder) -> list[Place]:
    if is_published(place):  # whose folder stac/ has such a file, too
        return []
    return [Folder(found.parent) for found in sorted(place.path.glob("*/collection.json"))]


def _children(place: Place) -> list[Place]:
    """Folders that a catalog far away links to; no listing of it is needed."""
    if not place.has("catalog.json"):
        return []
    links = read_json(place, "catalog.json").get("links", [])
    hrefs = [str(link.get("href", "")) for link in links if isinstance(link, dict) and link.get("rel") == "child"]
    names = [href.removeprefix("./").removesuffix("/collection.json") for href in hrefs]
    if foreign := [href for href, name in zip(hrefs, names, strict=True) if not _is_folder_name(name)]:
        raise CatalogError(f"{place}/catalog.json: child {foreign[0]!r} is not <name>/collection.json in its folder")
    return [place / name for name in sorted(set(names))]


def _is_folder_name(name: str) -> bool:
    return bool(name) and name not in (".", "..") and not set(name) & set("/\\?#:")
