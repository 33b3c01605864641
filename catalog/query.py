"""Finding samples: one query over the items' Parquet files, answered by DuckDB."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pystac
import yaml

from catalog.cql2_sql import Condition, bbox_condition, to_sql
from catalog.extension import CLASS_LAYERS
from catalog.subset import Subset
from pwcat.cube import Cube, open_cube
from pwcat.errors import CatalogError, RegionError
from pwcat.regions import require_class

__all__ = ["Catalog", "Collection", "open_catalog"]

# Names that a query may use, and the columns they stand for.
QUERYABLES: Mapping[str, str] = {
    **{name: f'"{name}"' for name in ("id", "collection", "datetime", "geometry")},
    **{short: f'"div:{short}"' for short in (*CLASS_LAYERS, "spectral_entropy", "valid_fraction")},
    **{f"div:{short}": f'"div:{short}"' for short in (*CLASS_LAYERS, "spectral_entropy", "valid_fraction")},
    "split": '"pwcat:split"',
    "pwcat:split": '"pwcat:split"',
    "pwcat:index": '"pwcat:index"',
    "proj:code": '"proj:code"',
    "lon": '"proj:centroid".lon',
    "lat": '"proj:centroid".lat',
}

# Columns that a subset carries: all but what is the same for every item.
COLUMNS = (
    "id, collection, geometry, bbox, datetime, "
    '"proj:code", "proj:shape", "proj:transform", "proj:centroid", '
    '"div:continent", "div:biome", "div:landcover", "div:landcover_fractions", "div:spectral_entropy", '
    '"div:valid_fraction", "pwcat:index", "pwcat:split", "pwcat:scene_ids"'
)

Classes = str | Sequence[str] | None


@dataclass(frozen=True)
class Collection:
    """One dataset of a catalog. Opening it reads nothing; what is asked for is read then, once."""

    path: Path

    @property
    def name(self) -> str:
        """Its name, which is its folder's."""
        return self.path.name

    @cached_property
    def cube(self) -> Cube:
        """Its chips."""
        return open_cube(self.path / "cube.zarr")

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """The recipe it was made from, defaults included."""
        document: dict[str, Any] = yaml.safe_load((self.path / "recipe.yaml").read_text(encoding="utf-8"))
        return document

    @cached_property
    def stats(self) -> dict[str, Any]:
        """Its ``stats.json``.

        Raises:
            CatalogError: it is missing or unreadable.
        """
        return _read_json(self.path / "stats.json")

    @property
    def recipe_hash(self) -> str:
        """Hash of the recipe it was made from."""
        return str(self.stats["recipe_hash"])

    @cached_property
    def metadata(self) -> pystac.Collection:
        """Its STAC Collection."""
        return pystac.Collection.from_dict(_read_json(self.path / "collection.json"))

    @property
    def items_path(self) -> Path:
        """Its items."""
        return self.path / "items.parquet"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise CatalogError(f"{path}: cannot be read: {exc}") from exc
    return document


@dataclass(frozen=True)
class Catalog:
    """Datasets in a folder. Opening it does not read their items."""

    path: Path
    members: Mapping[str, Collection]

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
            raise CatalogError(f"{self.path}: no collection {name!r}; there are {', '.join(self.members)}")
        return self.members[name]

    def search(
        self,
        *,
        biome: Classes = None,
        landcover: Classes = None,
        continent: Classes = None,
        collections: str | Sequence[str] | None = None,
        split: str | None = None,
        bbox: Sequence[float] | None = None,
        datetime: str | tuple[date | None, date | None] | None = None,
        min_spectral_entropy: float | None = None,
        filter: str | Mapping[str, Any] | None = None,
        limit: int | None = None,
    ) -> Subset:
        """The samples that meet every condition given.

        Args:
            biome: one class or several; case and underscores do not matter.
            landcover: likewise, the class with the largest share of the chip.
            continent: likewise.
            collections: only of these datasets; all where ``None``.
            split: ``train`` or ``val``.
            bbox: west, south, east, north, EPSG:4326; may cross the antimeridian.
            datetime: a day, or an interval such as ``2021-03-01/2021-05-31`` or ``2021-03-01/..``; both ends included.
            min_spectral_entropy: nats.
            filter: a CQL2 filter, as text or JSON.
            limit: at most this many, spread over the answer by a hash of the sample's id.

        Raises:
            CatalogError: a name, class, date or filter that is not known or makes no sense.
        """
        wanted = self._wanted(collections)
        conditions = [
            condition
            for name, classes in (("biome", biome), ("landcover", landcover), ("continent", continent))
            for condition in _class_condition(name, classes, wanted)
        ]
        if split is not None:
            conditions.append(Condition('"pwcat:split" = ?', [_known_split(split)]))
        if bbox is not None:
            conditions.append(_bbox(bbox))
        if datetime is not None:
            conditions.append(_datetime(datetime))
        if min_spectral_entropy is not None:
            conditions.append(Condition('"div:spectral_entropy" >= ?', [min_spectral_entropy]))
        if filter is not None:
            conditions.append(to_sql(filter, QUERYABLES))
        query = {
            "biome": biome, "landcover": landcover, "continent": continent, "collections": collections,
            "split": split, "bbox": bbox, "datetime": datetime, "min_spectral_entropy": min_spectral_entropy,
            "filter": filter, "limit": limit,
        }  # fmt: skip
        table = _run(wanted, conditions, limit)
        return Subset(
            root=self.path,
            members={member.name: member for member in wanted},
            table=table,
            query={name: value for name, value in query.items() if value is not None},
        )

    def _wanted(self, names: str | Sequence[str] | None) -> list[Collection]:
        if names is None:
            return list(self.members.values())
        return [self.collection(name) for name in ([names] if isinstance(names, str) else names)]


def open_catalog(path: str | Path) -> Catalog:
    """The catalog in a folder; or one collection's folder, as a catalog of it alone.

    Raises:
        CatalogError: the folder holds neither.
    """
    path = Path(path).resolve()
    if (path / "collection.json").is_file():
        return Catalog(path, {path.name: Collection(path)})
    folders = sorted(found.parent for found in path.glob("*/collection.json"))
    if not folders:
        raise CatalogError(f"{path}: no catalog there: neither collection.json nor a folder that has one")
    return Catalog(path, {folder.name: Collection(folder) for folder in folders})


def _class_condition(layer: str, classes: Classes, members: Iterable[Collection]) -> list[Condition]:
    if classes is None:
        return []
    asked = [classes] if isinstance(classes, str) else list(classes)
    known = {name for member in members for name in member.stats["statistics"][layer]["counts"]}
    try:
        values = [require_class(value, known, layer=layer) for value in asked]
    except RegionError as exc:
        raise CatalogError(str(exc)) from exc
    return [Condition(f'"div:{layer}" IN ({", ".join("?" * len(values))})', list(values))]


def _known_split(split: str) -> str:
    if split not in ("train", "val"):
        raise CatalogError(f"unknown split {split!r}: train or val")
    return split


def _bbox(bbox: Sequence[float]) -> Condition:
    if len(bbox) != 4 or not (-90 <= bbox[1] <= bbox[3] <= 90) or not all(-180 <= x <= 180 for x in (bbox[0], bbox[2])):
        raise CatalogError(f"bbox is west, south, east, north in degrees with south <= north, got {list(bbox)}")
    condition = Condition("")
    condition.sql = bbox_condition([float(number) for number in bbox], condition.values)
    return condition


def _datetime(span: str | tuple[date | None, date | None]) -> Condition:
    parts: list[str | date | None] = [*span.split("/")] if isinstance(span, str) else [*span]
    if len(parts) == 1:
        parts = [parts[0], parts[0]]
    if len(parts) != 2:
        raise CatalogError(f"datetime is a day or an interval start/end, got {span!r}")
    first, last = (_moment(parts[0], end=False), _moment(parts[1], end=True))
    if first and last and last < first:
        raise CatalogError(f"datetime: the end lies before the start: {span!r}")
    bounds = [("datetime >= ?", first), ("datetime <= ?", last)]
    return Condition(
        " AND ".join(sql for sql, value in bounds if value) or "TRUE", [value for _, value in bounds if value]
    )


def _moment(part: Any, *, end: bool) -> datetime | None:
    if part in (None, "", ".."):
        return None
    text = part if isinstance(part, str) else part.isoformat()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise CatalogError(f"datetime: {text!r} is no ISO 8601 date or time") from exc
    if end and _is_day(text):
        moment = moment.replace(hour=23, minute=59, second=59, microsecond=999999)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _run(members: Sequence[Collection], conditions: Sequence[Condition], limit: int | None) -> pa.Table:
    missing = [str(member.items_path) for member in members if not member.items_path.is_file()]
    if missing:
        raise CatalogError(f"no items at {', '.join(missing)}; build the collection again")
    if limit is not None and limit < 1:
        raise CatalogError(f"limit is at least 1, got {limit}")
    where = " AND ".join(condition.sql for condition in conditions) or "TRUE"
    values = [value for condition in conditions for value in condition.values]
    # Only names of columns and operators of ours are in the text; what the user gave is bound.
    sql = f"SELECT {COLUMNS} FROM read_parquet(?) WHERE {where}"  # noqa: S608
    if limit is not None:
        sql = f"SELECT * FROM ({sql} ORDER BY hash(id), id LIMIT {int(limit)})"  # noqa: S608
    paths = [str(member.items_path) for member in members]
    try:
        with duckdb.connect() as connection:
            table = connection.sql(
                f'{sql} ORDER BY collection, "pwcat:index"', params=[paths, *values]
            ).to_arrow_table()
    except duckdb.Error as exc:
        raise CatalogError(f"the query cannot be answered: {str(exc).splitlines()[0]}") from exc
    # DuckDB hands times over in the machine's own zone; the instants are the same.
    times = table["datetime"].cast(pa.timestamp("us", tz="UTC"))
    return table.set_column(table.column_names.index("datetime"), "datetime", times)
