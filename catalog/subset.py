"""A subset: the samples that a query found. It trains and publishes straight from its parents' cubes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr
from numpy.typing import NDArray

from catalog.extension import CLASS_LAYERS, statistics_of
from pwcat.atomic import replacing
from pwcat.errors import CatalogError

if TYPE_CHECKING:
    from catalog.query import Collection

__all__ = ["ChipDataset", "Subset", "load_subset"]


@dataclass(frozen=True, kw_only=True)
class Subset:
    """Samples of one or more collections, in cube order within each.

    Attributes:
        root: the catalog's folder.
        members: the collections it was searched in, by name.
        table: columns of the items, one row a sample.
        query: what was asked for.
    """

    root: Path
    members: Mapping[str, Collection]
    table: pa.Table
    query: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return f"<Subset of {len(self)} samples from {', '.join(c.name for c in self.collections) or 'nowhere'}>"

    @cached_property
    def collections(self) -> list[Collection]:
        """The collections that its samples are of."""
        names = sorted(set(self.table["collection"].to_pylist()))
        return [self.members[name] for name in names]

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the exact set of samples and of the recipes they were made by."""
        digest = sha256()
        for collection in self.collections:
            digest.update(f"{collection.name}\0{collection.recipe_hash}\n".encode())
        for name, sample in zip(self.table["collection"].to_pylist(), self.table["id"].to_pylist(), strict=True):
            digest.update(f"{name}\0{sample}\n".encode())
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

    @property
    def index(self) -> NDArray[np.int64]:
        """Row of each sample in its own cube, ``(n,)``."""
        return np.asarray(self.table["pwcat:index"].to_numpy(), dtype=np.int64)

    @property
    def lonlat(self) -> NDArray[np.float64]:
        """``(n, 2)`` longitude and latitude of the samples' centres, EPSG:4326."""
        centroid = self.table["proj:centroid"].combine_chunks()
        return np.column_stack([pa.compute.struct_field(centroid, name).to_numpy() for name in ("lon", "lat")])

    def column(self, name: str) -> NDArray[Any]:
        """Values of one column, ``(n,)``; strings as objects, ``None`` where missing.

        Raises:
            CatalogError: there is no such column; lists those there are.
        """
        if name not in self.table.column_names:
            raise CatalogError(f"no column {name!r}; there are {', '.join(self.table.column_names)}")
        column = self.table[name]
        if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
            return column.to_numpy()
        return np.array([*column.to_pylist(), None], dtype=object)[:-1]

    @cached_property
    def _owner(self) -> NDArray[np.int64]:
        """Number of each sample's collection, in the order of :attr:`collections`."""
        names = pa.array([collection.name for collection in self.collections])
        return np.asarray(pa.compute.index_in(self.table["collection"], names).to_numpy(), dtype=np.int64)

    def read(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.uint16]:
        """Chips of some of its rows in the order asked for, ``(n, time, band, y, x)``."""
        rows = np.asarray(rows, dtype=np.int64)
        chips = np.empty((len(rows), *self.chip_shape), dtype=np.uint16)
        for number, collection in enumerate(self.collections):
            mine = np.flatnonzero(self._owner[rows] == number)
            if len(mine):
                chips[mine] = collection.cube.read(self.index[rows[mine]])
        return chips

    def select(self, rows: NDArray[Any]) -> Subset:
        """The subset of some of its rows, in their order here; ``rows`` are indices or a mask."""
        rows = np.asarray(rows)
        indices = np.flatnonzero(rows) if rows.dtype == bool else np.sort(rows)
        return replace(self, table=self.table.take(pa.array(indices)), query={**self.query, "selected": len(indices)})

    def split(self, name: str) -> Subset:
        """Its samples of one split, ``train`` or ``val``."""
        chosen = replace(self, table=self.table.filter(pa.compute.equal(self.table["pwcat:split"], name)))
        return replace(chosen, query={**self.query, "split": name})

    def stats(self) -> dict[str, Any]:
        """The four diversities of exactly these samples, as in ``stats.json``."""
        return statistics_of(self.table, layers=self._layers())

    def _layers(self) -> dict[str, str | None]:
        layers = {}
        for name in CLASS_LAYERS:
            sources = {c.stats["statistics"][name]["layer"] for c in self.collections}
            layers[name] = ", ".join(sorted(s for s in sources if s)) or None
        return layers

    def open(self) -> xr.Dataset:
        """The chips and their coordinates as a lazy dataset; continent, biome and land cover are coordinates too."""
        self._require_alike()
        parts = []
        for collection in self.collections:
            rows = self.table.filter(pa.compute.equal(self.table["collection"], collection.name))
            part = collection.cube.to_xarray().isel(sample=rows["pwcat:index"].to_numpy())
            labels = {
                name: ("sample", np.array([*rows[f"div:{name}"].to_pylist(), None], dtype=object)[:-1])
                for name in CLASS_LAYERS
            }
            entropy = ("sample", rows["div:spectral_entropy"].to_numpy())
            parts.append(part.assign_coords(labels).assign_coords(spectral_entropy=entropy))
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
            path: the file; the catalog is noted relative to it, so that both can be moved together.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        table = self.table.select(["collection", "id", "pwcat:index"])
        notes = {
            "pwcat:subset": json.dumps(
                {
                    "catalog": _relative(self.root, path.parent),
                    "hash": self.hash,
                    "query": self.query,
                    "recipe_hashes": {c.name: c.recipe_hash for c in self.collections},
                    "statistics": self.stats(),
                },
                default=str,
            )
        }
        with replacing(path) as temporary:
            pq.write_table(table.replace_schema_metadata(notes), temporary, compression="zstd")
        return path

    @staticmethod
    def load(path: str | Path) -> Subset:
        """A saved subset, checked against its parents.

        Raises:
            CatalogError: it is no subset, or its parents have changed.
        """
        from catalog.query import open_catalog

        path = Path(path)
        try:
            saved = pq.read_table(path)
            notes = json.loads((saved.schema.metadata or {})[b"pwcat:subset"])
        except (OSError, KeyError, ValueError) as exc:
            raise CatalogError(f"{path}: not a saved subset: {exc}") from exc
        if not len(saved):
            raise CatalogError(f"{path}: this subset holds no samples")
        everything = open_catalog(path.parent / notes["catalog"]).search(collections=list(notes["recipe_hashes"]))
        for name, recipe_hash in notes["recipe_hashes"].items():
            now = everything.members[name].recipe_hash
            if now != recipe_hash:
                raise CatalogError(
                    f"{path}: collection {name!r} was made from another recipe since ({now[:12]}, not {recipe_hash[:12]})"
                )
        wanted = set(zip(saved["collection"].to_pylist(), saved["id"].to_pylist(), strict=True))
        there = zip(everything.table["collection"].to_pylist(), everything.table["id"].to_pylist(), strict=True)
        subset = replace(everything, table=everything.table.filter(pa.array([k in wanted for k in there])))
        subset = replace(subset, query=notes["query"])
        if subset.hash != notes["hash"]:
            raise CatalogError(f"{path}: {len(wanted)} samples were saved, {len(subset)} of them are there now")
        return subset


def _relative(target: Path, start: Path) -> str:
    return os.path.relpath(target.resolve(), start.resolve())


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
        sample = self.subset.table.slice(row, 1)
        lon, lat = self.subset.lonlat[row]
        labels = {name: sample[f"div:{name}"][0].as_py() or "" for name in CLASS_LAYERS}
        return {
            "chips": self.subset.read(np.array([row]))[0],
            "id": sample["id"][0].as_py(),
            "lon": lon,
            "lat": lat,
            **labels,
        }


def load_subset(path: str | Path) -> Subset:
    """The samples at a path: a saved subset's file, a collection's folder, or a catalog's folder.

    Raises:
        CatalogError: there is none of them.
    """
    from catalog.query import open_catalog

    path = Path(path)
    return Subset.load(path) if path.is_file() else open_catalog(path).search()
