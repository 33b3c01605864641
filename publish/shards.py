"""The chips as Parquet shards: which samples go to which file, and the files themselves, written in blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from catalog.subset import Subset
from publish.manifest import FileRecord, describe_file
from publish.maps import attribution_of

__all__ = [
    "CHIP_SCHEMA",
    "DEFAULT_LAYOUT",
    "SENSOR_SCHEMA",
    "Layout",
    "Shard",
    "chip_schema",
    "plan_shards",
    "split_names",
    "write_shards",
]

Rows = NDArray[np.int64]
WIRE_DTYPE = "<u2"  # little-endian uint16, whatever machine wrote it

TIME = pa.timestamp("us", tz="UTC")
# What a row holds besides its pixels; names as the card explains them.
CHIP_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("pixels", pa.binary()),
        ("dtype", pa.string()),
        ("shape", pa.list_(pa.int32())),
        ("bands", pa.list_(pa.string())),
        ("lon", pa.float64()),
        ("lat", pa.float64()),
        ("datetime", TIME),
        ("datetimes", pa.list_(TIME)),
        ("epsg", pa.int32()),
        ("transform", pa.list_(pa.float64())),
        ("continent", pa.string()),
        ("biome", pa.string()),
        ("landcover", pa.string()),
        ("spectral_entropy", pa.float64()),
        ("valid_fraction", pa.float64()),
        ("scene_ids", pa.list_(pa.string())),
        ("collection", pa.string()),
        ("license", pa.string()),
        ("attribution", pa.string()),
    ]
)
# Where sensors stand beside the source, each row tells as well what its bands are, in their order.
SENSOR_SCHEMA = pa.schema(
    [
        *CHIP_SCHEMA,
        ("sensors", pa.list_(pa.string())),
        ("scales", pa.list_(pa.float64())),
        ("offsets", pa.list_(pa.float64())),
        ("units", pa.list_(pa.string())),
    ]
)


def chip_schema(subset: Subset) -> pa.Schema:
    """The columns of a subset's rows."""
    return SENSOR_SCHEMA if subset.collections[0].cube.meanings else CHIP_SCHEMA


def _leaves(schema: pa.Schema) -> list[str]:
    """Columns but the pixels: those repeat nowhere, and their minimum says nothing; no dictionaries or statistics for them."""
    return [f"{f.name}.list.element" if pa.types.is_list(f.type) else f.name for f in schema if f.name != "pixels"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Sizes of the files, in bytes of pixels before compression.

    Shards near 1 GiB keep a terabyte within one commit of some hundreds of files; row groups of at most 64 MiB are what
    a streaming reader holds at a time, well below the 286 MiB at which the Hub's viewer gives up. From eight on, the
    number of shards is a multiple of eight, so that eight workers or nodes share them evenly.
    """

    shard_bytes: int = 2**30
    row_group_bytes: int = 64 * 2**20
    row_group_rows: int = 16_384
    max_shards: int = 512


DEFAULT_LAYOUT = Layout()


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of chips: its split, its place among the split's files, and its samples as rows of the subset."""

    split: str
    number: int
    count: int
    rows: Rows

    @property
    def path(self) -> str:
        """Where it lies in the folder."""
        return f"data/{self.split}-{self.number:05d}-of-{self.count:05d}.parquet"


def split_names(subset: Subset) -> list[str]:
    """The splits that have samples: ``train`` and ``val`` first."""
    present = set(subset.column("pwcat:split"))
    return sorted(present, key=lambda name: ({"train": 0, "val": 1, "test": 2}.get(name, 3), name))


def plan_shards(subset: Subset, *, layout: Layout) -> list[Shard]:
    """The shards of a subset, split by split, each a run of neighbours in the subset's own (spatial) order."""
    splits = subset.column("pwcat:split")
    chip_bytes = 2 * math.prod(subset.chip_shape)
    shards = []
    for split in split_names(subset):
        rows = np.flatnonzero(splits == split).astype(np.int64)
        count = _shard_count(len(rows), chip_bytes, layout)
        parts = np.array_split(rows, count)
        shards += [Shard(split=split, number=i, count=count, rows=part) for i, part in enumerate(parts)]
    return shards


def _shard_count(samples: int, chip_bytes: int, layout: Layout) -> int:
    count = min(layout.max_shards, max(1, math.ceil(samples * chip_bytes / layout.shard_bytes)))
    if count >= 8:
        count = math.ceil(count / 8) * 8
    return min(count, samples)


def write_shards(
    subset: Subset, folder: Path, shards: list[Shard], *, layout: Layout, advance: Callable[[int], None]
) -> dict[str, FileRecord]:
    """The records of the files written, by path. Holds one row group of pixels at a time.

    Args:
        subset: Where the chips come from.
        folder: The dataset's folder.
        shards: What :func:`plan_shards` gave.
        layout: Sizes.
        advance: Called with the number of samples just written.
    """
    (folder / "data").mkdir(parents=True)
    schema = chip_schema(subset)
    source = _Source(subset=subset, schema=schema, datetimes=_datetimes(subset), terms=_terms(subset))
    leaves = _leaves(schema)
    records = {}
    for shard in shards:
        path = folder / shard.path
        with pq.ParquetWriter(
            path,
            schema,
            compression="zstd",
            use_dictionary=leaves,
            write_statistics=leaves,
            write_page_index=True,
            use_content_defined_chunking=True,
        ) as writer:
            for rows in _row_groups(shard.rows, subset, layout):
                writer.write_table(source.table(rows), row_group_size=len(rows))
                advance(len(rows))
        records[shard.path] = describe_file(path, rows=len(shard.rows))
    return records


def _row_groups(rows: Rows, subset: Subset, layout: Layout) -> Iterator[Rows]:
    chip_bytes = 2 * math.prod(subset.chip_shape)
    size = max(1, min(layout.row_group_rows, layout.row_group_bytes // chip_bytes))
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


@dataclass(frozen=True, kw_only=True)
class _Source:
    """What the rows of the shards are made from."""

    subset: Subset
    schema: pa.Schema
    datetimes: NDArray[np.datetime64]
    terms: dict[str, tuple[str, str | None]]

    def table(self, rows: Rows) -> pa.Table:
        """The chips of some samples."""
        part, n = self.subset.select(rows), len(rows)  # a small subset: its columns cost no more than these rows
        items, lonlat = part.table, part.lonlat
        collections = items["collection"].to_pylist()
        chips = np.ascontiguousarray(part.read(np.arange(n)), dtype=WIRE_DTYPE)
        values = {
            "id": items["id"],
            "pixels": _binary_column(chips),
            "dtype": [WIRE_DTYPE] * n,
            "shape": [self.subset.chip_shape] * n,
            "bands": [self.subset.bands] * n,
            "lon": lonlat[:, 0],
            "lat": lonlat[:, 1],
            "datetime": items["datetime"],
            "datetimes": list(self.datetimes[rows]),
            "epsg": [_epsg(code) for code in items["proj:code"].to_pylist()],
            "transform": items["proj:transform"],
            "continent": items["div:continent"],
            "biome": items["div:biome"],
            "landcover": items["div:landcover"],
            "spectral_entropy": items["div:spectral_entropy"],
            "valid_fraction": items["div:valid_fraction"],
            "scene_ids": items["pwcat:scene_ids"],
            "collection": collections,
            "license": [self.terms[name][0] for name in collections],
            "attribution": [self.terms[name][1] for name in collections],
        }
        meanings = self.subset.collections[0].cube.meanings
        values |= {
            "sensors": [[meaning.sensor for meaning in meanings]] * n,
            "scales": [[meaning.scale for meaning in meanings]] * n,
            "offsets": [[meaning.offset for meaning in meanings]] * n,
            "units": [[meaning.unit for meaning in meanings]] * n,
        }
        return pa.table([_column(values[field.name], field.type) for field in self.schema], schema=self.schema)


def _binary_column(chips: NDArray[np.uint16]) -> pa.Array:
    """One binary value a chip, over the array's own memory."""
    offsets = np.arange(len(chips) + 1, dtype=np.int32) * np.int32(chips[0].nbytes)
    return pa.Array.from_buffers(pa.binary(), len(chips), [None, pa.py_buffer(offsets), pa.py_buffer(chips)])


def _column(values: Any, dtype: pa.DataType) -> pa.ChunkedArray | pa.Array:
    return values.cast(dtype) if isinstance(values, pa.ChunkedArray | pa.Array) else pa.array(values, dtype)


def _epsg(code: str | None) -> int | None:
    return int(code.removeprefix("EPSG:")) if code else None


def _terms(subset: Subset) -> dict[str, tuple[str, str | None]]:
    """Licence and attribution of each collection, by name."""
    return {c.name: (str(c.recipe["license"]), attribution_of(c.recipe)) for c in subset.collections}


def _datetimes(subset: Subset) -> NDArray[np.datetime64]:
    """The acquisition of every date of every sample, ``(n, time)``, from the cubes: items carry the first one only."""
    index, names = subset.index, subset.column("collection")
    out = np.empty((len(subset), subset.chip_shape[0]), dtype="datetime64[us]")
    for collection in subset.collections:
        mine = np.flatnonzero(names == collection.name)
        out[mine] = collection.cube.to_xarray()["datetime"].values[index[mine]].astype("datetime64[us]")
    return out
