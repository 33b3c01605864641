"""A subset: the samples that a query found. It trains and publishes straight from its parents' cubes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from catalog.querying.beside import column_at, is_column_name, matrix_of
from catalog.querying.conditions import named_beside
from catalog.querying.queryables import COLUMN_TYPES, LAYERS
from pwcat.errors import CatalogError

if TYPE_CHECKING:
    import xarray as xr

    from catalog.query import Collection
    from catalog.querying.conditions import Condition
    from catalog.querying.engine import Items

__all__ = ["ChipDataset", "Subset", "load_subset", "rows_of"]

# What a subset knows of each sample: its collection, by its place among the members; its row among that one's items; its id.
ROWS = pa.schema([("part", pa.int32()), ("row", pa.int64()), ("id", pa.string())])
# Columns that are the same for every item, or lead to it.
CONSTANT = ("type", "stac_version", "stac_extensions", "links", "assets")
SPLIT = "pwcat:split"


def rows_of(members: Sequence[Collection], conditions: Sequence[Condition]) -> pa.Table:
    """The samples of some collections that meet all conditions, :data:`ROWS`, in the order of their items' files.

    Raises:
        CatalogError: the items are missing or damaged, or the query cannot be answered.
    """
    if not members:
        return ROWS.empty_table()
    where = " AND ".join(condition.sql for condition in conditions) or "TRUE"
    values = [value for condition in conditions for value in condition.values]
    # Only names of columns and operators of ours are in the text, and the catalog's own files; what was asked for is bound.
    beside = named_beside(conditions)
    parts = [
        f"SELECT {number}::INTEGER AS part, file_row_number AS row, id FROM {member.items.source_with(beside)} WHERE {where}"  # noqa: S608
        for number, member in enumerate(members)
    ]
    found = members[0].engine.table(" UNION ALL ".join(parts), values * len(members)).cast(ROWS)
    # A join may give rows in any order
    return found.sort_by([("part", "ascending"), ("row", "ascending")]) if beside else found


@dataclass(frozen=True, kw_only=True, eq=False)
class Subset:
    """Samples of one or more collections, in the order of their items within each: that of the cube.

    Attributes:
        members: the collections it was searched in, by name.
        rows: which samples, :data:`ROWS`; columns of the items are read when they are asked for.
        query: what was asked for.
        own: columns that stand for the items' own, such as a split made for this subset.
    """

    members: Mapping[str, Collection]
    rows: pa.Table
    query: dict[str, Any] = field(default_factory=dict)
    own: Mapping[str, pa.ChunkedArray] = field(default_factory=dict)
    _kept: dict[str, pa.ChunkedArray] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"<Subset of {len(self)} samples from {', '.join(c.name for c in self.collections) or 'nowhere'}>"

    @cached_property
    def part(self) -> NDArray[np.int32]:
        """Each sample's collection, ``(n,)``, as its place among :attr:`members`; ascending."""
        return np.asarray(_numbers(self.rows["part"]), dtype=np.int32)

    @cached_property
    def row(self) -> NDArray[np.int64]:
        """Each sample's row among its collection's items, ``(n,)``; ascending within a collection."""
        return np.asarray(_numbers(self.rows["row"]), dtype=np.int64)

    def parts(self) -> list[tuple[Collection, slice]]:
        """The collections that its samples are of, and which of its rows are of each."""
        members = list(self.members.values())
        starts = np.searchsorted(self.part, np.arange(len(members) + 1))
        return [
            (member, slice(int(starts[k]), int(starts[k + 1])))
            for k, member in enumerate(members)
            if starts[k] < starts[k + 1]
        ]

    @cached_property
    def collections(self) -> list[Collection]:
        """The collections that its samples are of."""
        return [member for member, _ in self.parts()]

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the exact set of samples and of the recipes they were made by; of its own split too, where it has one."""
        digest = sha256()
        for collection in self.collections:
            digest.update(f"{collection.name}\0{collection.recipe_hash}\n".encode())
        for collection, rows in self.parts():
            _add_ids(digest, collection.name, self.rows["id"][rows.start : rows.stop])
        for name, column in sorted(self.own.items()):
            _add_ids(digest, name, column)
        return digest.hexdigest()

    @cached_property
    def chip_shape(self) -> tuple[int, int, int, int]:
        """``(time, band, y, x)``, the same for all samples.

        Raises:
            CatalogError: the subset is empty, or its collections' chips differ.
        """
        self._require_alike()
        return self.collections[0].cube.chip_shape

    @cached_property
    def bands(self) -> tuple[str, ...]:
        """Band names, the same for all samples.

        Raises:
            CatalogError: the subset is empty, or its collections' bands differ.
        """
        self._require_alike()
        return self.collections[0].cube.bands

    def _require_alike(self) -> None:
        if not self.collections:
            raise CatalogError(f"the subset is empty (query {self.query}): nothing to read")
        kinds = {c.name: (c.cube.chip_shape, c.cube.bands) for c in self.collections}
        if len(set(kinds.values())) > 1:
            told = "; ".join(f"{name}: {shape} of {', '.join(bands)}" for name, (shape, bands) in kinds.items())
            raise CatalogError(f"chips of these collections differ and cannot be read together: {told}")
        if len({repr(c.cube.meanings) for c in self.collections}) > 1:  # NaN is not equal to itself
            names = ", ".join(kinds)
            raise CatalogError(
                f"bands of {names} have the same names and other scales, offsets or units, and cannot be read together: "
                "take one of them, or give their recipes the same `sensors`"
            )

    @cached_property
    def index(self) -> NDArray[np.int64]:
        """Row of each sample in its own cube, ``(n,)``.

        Raises:
            CatalogError: a sample is in no cube.
        """
        column = self.columns(["pwcat:index"])["pwcat:index"]
        if column.null_count:
            raise CatalogError(
                f"{column.null_count:,} samples of this subset are in no cube of ours: pixels stay where they are"
            )
        return np.asarray(_numbers(column), dtype=np.int64)

    @cached_property
    def lonlat(self) -> NDArray[np.float64]:
        """``(n, 2)`` longitude and latitude of the samples' centres, EPSG:4326."""
        centroid = self.columns(["proj:centroid"])["proj:centroid"]
        return np.column_stack([_numbers(pc.struct_field(centroid, name)) for name in ("lon", "lat")])

    @cached_property
    def table(self) -> pa.Table:
        """Columns of the items, one row a sample: all but those that are the same for every item.

        The geometries among them are most of the bytes: :meth:`columns` reads some alone.
        """
        from catalog.items import ITEM_SCHEMA

        return self.columns([name for name in ITEM_SCHEMA.names if name not in CONSTANT])

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Some columns of its samples' items, read once.

        Raises:
            CatalogError: there is no such column.
        """
        if missing := [name for name in dict.fromkeys(names) if name not in self._kept]:
            read = [name for name in missing if name not in ("id", "collection", *self.own)]
            self._kept.update(self._read_columns(read) if read else {})
            self._kept.update({name: self._known(name) for name in missing if name not in read})
        return pa.table({name: self._kept[name] for name in names})

    def _known(self, name: str) -> pa.ChunkedArray:
        """A column that needs no reading."""
        if name in self.own:
            return self.own[name]
        if name == "id":
            return self.rows["id"]
        names = [pa.repeat(pa.scalar(c.name), rows.stop - rows.start) for c, rows in self.parts()]
        return pa.chunked_array(names, type=pa.string())

    def _read_columns(self, names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
        beside = self._named_beside(names)
        parts = [_fetch(member.items, names, self.row[rows], beside=beside) for member, rows in self.parts()]
        if not parts:
            return {name: pa.chunked_array([], type=_type_of(name, beside=beside)) for name in names}
        whole = pa.concat_tables(parts, promote_options="permissive")
        return {name: whole[name] for name in names}

    def _named_beside(self, names: Sequence[str]) -> dict[str, str]:
        """Those of some names that are columns kept beside the items, each with its kind.

        Raises:
            CatalogError: a name is one that such a column may have, and no collection has it; lists those there are.
        """
        found: dict[str, str] = {}
        for name in filter(is_column_name, names):
            told = [column.kind for member in self.members.values() if (column := column_at(member.place, name))]
            if told:
                found[name] = told[0]
            elif not any(name in member.items.columns for member in self.collections):
                _type_of(name, there=[known for member in self.members.values() for known in member.columns])
        return found

    def column(self, name: str) -> NDArray[Any]:
        """Values of one column, ``(n,)``; strings as objects, ``None`` where missing; of vectors ``(n, D)``, NaN where missing.

        Raises:
            CatalogError: there is no such column; lists those there are.
        """
        column = self.columns([name])[name]
        if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
            return column.to_numpy()
        if pa.types.is_list(column.type) and is_column_name(name):
            return matrix_of(column)
        return np.array([*column.to_pylist(), None], dtype=object)[:-1]

    @cached_property
    def _owner(self) -> NDArray[np.int64]:
        """Number of each sample's collection, in the order of :attr:`collections`."""
        return np.unique(self.part, return_inverse=True)[1].reshape(-1)

    def read(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.uint16]:
        """Chips of some of its rows in the order asked for, ``(n, time, band, y, x)``."""
        rows = np.asarray(rows, dtype=np.int64)
        if len(self.collections) == 1:
            return self.collections[0].cube.read(self.index[rows])
        chips = np.empty((len(rows), *self.chip_shape), dtype=np.uint16)
        for number, collection in enumerate(self.collections):
            mine = np.flatnonzero(self._owner[rows] == number)
            if len(mine):
                chips[mine] = collection.cube.read(self.index[rows[mine]])
        return chips

    def select(self, rows: NDArray[Any]) -> Subset:
        """The subset of some of its rows, in their order here and each once; ``rows`` are indices or a mask.

        Raises:
            IndexError: there is no such row, or the mask is of another length.
        """
        chosen = self.only(rows)
        return replace(chosen, query={**self.query, "selected": len(chosen)})

    def only(self, rows: NDArray[Any]) -> Subset:
        """As :meth:`select`, the query unchanged."""
        rows = np.asarray(rows)
        chosen = np.arange(len(self))[rows if rows.size else np.empty(0, dtype=np.int64)]
        taken = pa.array(chosen if rows.dtype == bool else np.unique(chosen))
        return replace(
            self,
            rows=self.rows.take(taken),
            own={name: column.take(taken) for name, column in self.own.items()},
            _kept={name: column.take(taken) for name, column in self._kept.items() if _is_narrow(column)},
        )

    def split(self, name: str) -> Subset:
        """Its samples of one split, ``train`` or ``val``."""
        chosen = self.only(pc.fill_null(pc.equal(self.columns([SPLIT])[SPLIT], name), False).to_numpy())
        return replace(chosen, query={**self.query, "split": name})

    def with_split(self, split: NDArray[np.object_], **query: Any) -> Subset:
        """The same samples with a split of their own, ``(n,)`` of ``train`` and ``val``; saved with them.

        Args:
            split: of each sample.
            query: how it was made, as the subset notes it.
        """
        own = {**self.own, SPLIT: pa.chunked_array([pa.array(split, pa.string())])}
        return replace(self, own=own, query={**self.query, **query}, _kept={})

    def sample(self, limit: int | None, *, by: str | None = None, seed: int = 0) -> Subset:
        """At most so many of its samples, drawn at random; a larger limit holds the samples of a smaller one.

        Args:
            limit: how many.
            by: a layer or ``split``: as many of each of its classes, as far as they go.
            seed: of the draw.

        Raises:
            CatalogError: the limit is below 1, or the classes are unknown.
        """
        from catalog.subsets.drawing import draw

        return draw(self, limit, by=by, seed=seed)

    def __or__(self, other: Subset) -> Subset:
        from catalog.subsets.sets import union

        return union(self, other)

    def __and__(self, other: Subset) -> Subset:
        from catalog.subsets.sets import intersection

        return intersection(self, other)

    def __sub__(self, other: Subset) -> Subset:
        from catalog.subsets.sets import difference

        return difference(self, other)

    def stats(self) -> dict[str, Any]:
        """The four diversities of exactly these samples, as in ``stats.json``."""
        from catalog.extension import statistics_of
        from catalog.items import ITEM_SCHEMA

        names = [name for name in ITEM_SCHEMA.names if name.startswith("div:")]
        table = self.columns(["id", "collection", *names, "proj:centroid", "bbox"])
        layers, codebooks = self._layers(), self._codebooks()
        return statistics_of(table, layers=layers, codebooks=codebooks, things=self._things())

    def _things(self) -> dict[str, dict[str, int]]:
        """What maps hold on its samples, by class; nothing where no collection has a map."""
        if not any(collection.place.has("entities.parquet") for collection in self.collections):
            return {}
        from catalog.osm import things_of_subset

        return things_of_subset(self)

    def _layers(self) -> dict[str, str | None]:
        layers = {}
        for name in (*LAYERS, "entity", "tag"):
            told = [c.stats["statistics"].get(name) or {} for c in self.collections]
            layers[name] = ", ".join(sorted({str(t["layer"]) for t in told if t.get("layer")})) or None
        return layers

    def _codebooks(self) -> dict[str, str]:
        """Hash of each collection's codebook: entropies by different ones have no mean together."""
        told = {c.name: c.stats["statistics"].get("spectral_codebook") or {} for c in self.collections}
        return {name: str(numbers["codebook"]) for name, numbers in told.items() if numbers.get("codebook")}

    def open(self) -> xr.Dataset:
        """The chips and their coordinates as a lazy dataset; continent, biome and land cover are coordinates too."""
        import xarray as xr

        self._require_alike()
        parts = []
        labels = ("continent", "biome", "landcover")
        for collection, rows in self.parts():
            part = collection.cube.select(self.index[rows])
            known = {name: ("sample", self.column(f"div:{name}")[rows]) for name in labels}
            entropy = ("sample", self.column("div:spectral_entropy")[rows])
            parts.append(part.assign_coords(known).assign_coords(spectral_entropy=entropy))
        return (
            parts[0]
            if len(parts) == 1
            else xr.concat(parts, dim="sample", coords="different", compat="equals", combine_attrs="drop_conflicts")
        )

    def dataset(self) -> ChipDataset:
        """A map-style dataset that a torch ``DataLoader`` takes as it is."""
        self._require_alike()
        return ChipDataset(self)

    def save(self, path: str | Path) -> Path:
        """Write the subset to a small Parquet file: ids, statistics and hash; the pixels stay where they are.

        Args:
            path: the file; the collections are noted relative to it, so that they can be moved together.
        """
        from catalog.subsets.saved import save_subset

        return save_subset(self, Path(path))

    @staticmethod
    def load(path: str | Path) -> Subset:
        """A saved subset, checked against its parents.

        Raises:
            CatalogError: it is no subset, or its parents have changed.
        """
        from catalog.subsets.saved import read_subset

        return read_subset(Path(path))


def _numbers(column: pa.ChunkedArray) -> NDArray[Any]:
    """Values of a column of numbers, NaN where missing.

    Arrow's own conversion loads pandas first, which takes longer than to read the column; only nulls need it.
    """
    if column.null_count or not column.num_chunks:
        return np.asarray(column.to_numpy())
    return np.concatenate([np.from_dlpack(chunk) for chunk in column.chunks])


def _is_narrow(column: pa.ChunkedArray) -> bool:
    """Whether to take rows of a column that was read, rather than read it again if it is asked for."""
    return pa.types.is_primitive(column.type) or pa.types.is_string(column.type) or pa.types.is_struct(column.type)


def _add_ids(digest: Any, name: str, ids: pa.ChunkedArray) -> None:
    """Add ``name, NUL, id, newline`` of each to a digest, without making an object of any."""
    before, after, nothing = (pa.scalar(text, pa.large_string()) for text in (f"{name}\0", "\n", ""))
    for chunk in ids.chunks:
        lines = pc.binary_join_element_wise(before, chunk.cast(pa.large_string()), after, nothing)
        offsets = np.frombuffer(lines.buffers()[1], dtype=np.int64)[lines.offset : lines.offset + len(lines) + 1]
        if len(lines):
            digest.update(memoryview(lines.buffers()[2])[offsets[0] : offsets[-1]])


def _fetch(items: Items, names: Sequence[str], rows: NDArray[np.int64], *, beside: Mapping[str, str]) -> pa.Table:
    """Some columns of some rows of a collection's items, in their order.

    Args:
        items: of the collection.
        names: of the columns.
        rows: of the items, ascending.
        beside: those of the names that are kept beside the items, each with its kind.

    Raises:
        CatalogError: there is no such column.
    """
    asked = [name for name in names if name in items.columns or name in COLUMN_TYPES or name in beside]
    absent = {name: _type_of(name) for name in names if name not in asked}
    columns = ", ".join(f'"{name}"' for name in asked)
    source = items.source_with(beside)
    if len(rows) == items.num_rows:
        found = items.engine.table(f"SELECT file_row_number, {columns} FROM {source}")  # noqa: S608
    else:
        found = items.engine.table(
            f"SELECT file_row_number, {columns} FROM {source} "  # noqa: S608
            "WHERE file_row_number IN (SELECT row FROM wanted)",
            wanted=pa.table({"row": rows}),
        )
    if len(found) != len(rows):
        raise CatalogError(f"{items.place}: the items have changed since they were searched; search again")
    order = _numbers(found["file_row_number"])
    if np.any(order[1:] < order[:-1]):
        found = found.take(pa.array(np.argsort(order, kind="stable")))
    for name, kind in absent.items():
        found = found.append_column(name, pa.nulls(len(found), kind))
    return found


def _type_of(name: str, *, beside: Mapping[str, str] | None = None, there: Sequence[str] = ()) -> pa.DataType:
    """Type of a column that a file lacks: of what is written today.

    Raises:
        CatalogError: there is no such column; lists those there are.
    """
    from catalog.items import ITEM_SCHEMA

    if beside and name in beside:
        return {"number": pa.float64(), "text": pa.string(), "vector": pa.list_(pa.float32())}[beside[name]]
    if name not in ITEM_SCHEMA.names:
        own = (n for n in ITEM_SCHEMA.names if n not in CONSTANT)
        raise CatalogError(
            f"no column {name!r}; there are {', '.join(dict.fromkeys(['id', 'collection', *own, *there]))}"
        )
    return ITEM_SCHEMA.field(name).type


@dataclass(frozen=True)
class ChipDataset:
    """Samples one by one, as dicts of NumPy values; torch's default collation makes batches of them."""

    subset: Subset

    def __len__(self) -> int:
        return len(self.subset)

    def __getitem__(self, row: int) -> dict[str, Any]:
        """``chips`` (time, band, y, x) uint16, ``id``, ``lon``, ``lat``, and the labels, empty where there is none."""
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        row %= len(self)
        labels = ("continent", "biome", "landcover")
        known = self.subset.columns(["id", *(f"div:{name}" for name in labels)])
        lon, lat = self.subset.lonlat[row]
        return {
            "chips": self.subset.read(np.array([row]))[0],
            "id": known["id"][row].as_py(),
            "lon": lon,
            "lat": lat,
            **{name: known[f"div:{name}"][row].as_py() or "" for name in labels},
        }


def load_subset(path: str | Path) -> Subset:
    """The samples at a path: a saved subset's file, a collection's folder, or a catalog's folder.

    Raises:
        CatalogError: there is none of them.
    """
    from catalog.query import open_catalog

    if "://" not in str(path) and Path(path).is_file():
        return Subset.load(path)
    return open_catalog(path).search()
