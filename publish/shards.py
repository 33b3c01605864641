"""The chips as Parquet shards: which samples go to which file, and the files themselves, written in row groups."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from catalog.items import list_column, repeat
from catalog.subset import Subset
from publish.borders import class_runs, halves, place_keys, runs_within
from publish.manifest import FileRecord, RecordedFile
from publish.maps import attribution_of
from pwcat.chips import ChipReader
from pwcat.cube import Cube
from pwcat.errors import PublishError

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
# Columns of the rows that are columns of the items.
_FROM_ITEMS: Final = {
    "datetime": "datetime",
    "transform": "proj:transform",
    "continent": "div:continent",
    "biome": "div:biome",
    "landcover": "div:landcover",
    "spectral_entropy": "div:spectral_entropy",
    "valid_fraction": "div:valid_fraction",
    "scene_ids": "pwcat:scene_ids",
}
_ASKED: Final = ["id", "collection", "proj:centroid", "proj:code", "pwcat:index", *_FROM_ITEMS.values()]

# Files are written side by side, each by one thread that decodes, compresses and hashes; each holds one row group.
MOST_THREADS: Final = 4
ROWS_AT_ONCE: Final = 16_384  # of which the columns beside the pixels are read together
MOST_CHIP_BYTES: Final = 2**31 - 1  # Arrow's binary values
# Level 1 of Zstandard: on real Sentinel-2 tiles pixels take 0.41 of their bytes. Level 3 takes 0.37 and half the speed,
# LZ4 0.54 at a speed a tenth higher: benchmarks/publish.py measures them.
COMPRESSION: Final[dict[str, Any]] = {"compression": "zstd", "compression_level": 1}
# Row groups whose rows are put in the order of biomes together: who reads samples along the curve holds so many, and a few.
# Of 3e5 sites over the land's biomes, in row groups of 150, a filter for one biome (7 % of them on average) leaves 8 % of the
# bytes, and 34 % in the order of the curve alone.
GROUPS_TOGETHER: Final = 4
# From so many bytes on a chip is a page of its own, so that one that is added changes no other: of chips of 24 KB, in 1 % more
# of them spread over the globe, 12 % of the bytes are new then, and 38 % in pages of 256 KiB to 1 MiB; of 98 KB 4 and 50 %.
PAGE_OF_ITS_OWN: Final = 16 * 2**10


def chip_schema(subset: Subset) -> pa.Schema:
    """The columns of a subset's rows."""
    return SENSOR_SCHEMA if subset.collections[0].cube.meanings else CHIP_SCHEMA


def _leaves(schema: pa.Schema) -> list[str]:
    """Columns but the pixels: those repeat nowhere, and their minimum says nothing; no dictionaries or statistics for them."""
    return [f"{f.name}.list.element" if pa.types.is_list(f.type) else f.name for f in schema if f.name != "pixels"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Sizes of the files, in bytes of pixels before compression; none is exceeded by much, and few are half of it.

    Shards below 1 GiB keep a terabyte within one commit of some thousand files; row groups of at most 32 MiB are what
    a streaming reader holds at a time, well below the 286 MiB at which the Hub's viewer gives up. A split has 1, 2, 4, 8,
    16 … shards: from eight on, eight workers or nodes share them evenly, and where a dataset grows, shards are cut in two
    rather than cut anew.
    """

    shard_bytes: int = 2**30
    row_group_bytes: int = 32 * 2**20
    row_group_rows: int = 16_384
    max_shards: int = 512


DEFAULT_LAYOUT = Layout()


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of chips: its split, its place among the split's files, and its samples.

    Attributes:
        split: Name of the split.
        number: From 0.
        count: Files of the split.
        rows: Its samples as rows of the subset: in the order of places, some row groups together biome by biome.
        groups: Its row groups, each as the first and the last but one of its own rows.
    """

    split: str
    number: int
    count: int
    rows: Rows
    groups: tuple[tuple[int, int], ...]

    @property
    def path(self) -> str:
        """Where it lies in the folder."""
        return f"data/{self.split}-{self.number:05d}-of-{self.count:05d}.parquet"


def split_names(subset: Subset) -> list[str]:
    """The splits that have samples: ``train`` and ``val`` first.

    Raises:
        PublishError: Some samples have none.
    """
    column = subset.columns(["pwcat:split"])["pwcat:split"]
    if column.null_count:
        raise PublishError(
            f"{column.null_count:,} samples are of no split, and would be in no file: give them one (Subset.with_split)"
        )
    present = pc.unique(column).to_pylist()
    return sorted(present, key=lambda name: ({"train": 0, "val": 1, "test": 2}.get(name, 3), name))


def plan_shards(subset: Subset, *, layout: Layout) -> list[Shard]:
    """The shards of a subset, split by split, each a run of neighbours: along the curve, over all collections.

    A reader skips row groups by the smallest and the largest name in them, and of neighbours alone nearly every row group that
    has a desert and a tundra might hold any biome between: so some row groups at a time lie biome by biome.

    Raises:
        PublishError: A chip is larger than a value of a Parquet file may be.
    """
    chip_bytes = 2 * math.prod(subset.chip_shape)
    if chip_bytes > MOST_CHIP_BYTES:
        raise PublishError(
            f"chips of {subset.chip_shape} are {chip_bytes:,} bytes, and a row of the files holds at most "
            f"{MOST_CHIP_BYTES:,}: publish smaller chips"
        )
    splits, keys, biomes = subset.columns(["pwcat:split"])["pwcat:split"], _keys(subset), _biomes(subset)
    most = max(1, min(layout.row_group_rows, layout.row_group_bytes // chip_bytes))
    shards = []
    for split in split_names(subset):
        rows = np.flatnonzero(pc.equal(splits, split).to_numpy())
        rows = rows[np.argsort(keys[rows], kind="stable")]  # a subset's are so within each collection, at most
        times = _times_halved(len(rows), chip_bytes, layout)
        for number, (start, stop) in enumerate(halves(keys[rows], times)):
            own, groups = _biome_by_biome(rows[start:stop], biomes, keys, most)
            shards.append(Shard(split=split, number=number, count=2**times, rows=own, groups=groups))
    return shards


def _biome_by_biome(
    rows: Rows, biomes: NDArray[np.int64], keys: NDArray[np.uint32], most: int
) -> tuple[Rows, tuple[tuple[int, int], ...]]:
    """The rows of a shard, which come along the curve, stretch by stretch in the order of biomes; and its row groups."""
    ordered, groups = [], []
    for start, stop in runs_within(keys[rows], GROUPS_TOGETHER * most):
        own = rows[start:stop]
        own = own[np.argsort(biomes[own], kind="stable")]
        ordered.append(own)
        groups += [(start + first, start + last) for first, last in class_runs(biomes[own], keys[own], most)]
    return np.concatenate(ordered), tuple(groups)


def _keys(subset: Subset) -> NDArray[np.uint32]:
    """Where each sample lies along the curve, ``(n,)``; its coordinates are not kept."""
    parts = [place_keys(subset.only(rows).lonlat) for rows in _stretches(len(subset), 4 * ROWS_AT_ONCE)]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint32)


def _biomes(subset: Subset) -> NDArray[np.int64]:
    """The place of each sample's biome among their names, ``(n,)``; those without one come last."""
    column = subset.columns(["div:biome"])["div:biome"].combine_chunks().dictionary_encode()
    order = np.argsort(pc.sort_indices(column.dictionary).to_numpy())  # as Parquet compares them: by bytes
    places = np.append(order, len(order))
    found: NDArray[np.int64] = places[pc.fill_null(column.indices, len(order)).to_numpy()]
    return found


def _stretches(count: int, size: int) -> Iterator[Rows]:
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


def _times_halved(samples: int, chip_bytes: int, layout: Layout) -> int:
    """How often a split is cut in two, so that no shard is larger than asked: as far as there are samples and names."""
    wanted = math.ceil(samples * chip_bytes / layout.shard_bytes)
    return min((max(1, wanted) - 1).bit_length(), max(1, layout.max_shards).bit_length() - 1, samples.bit_length() - 1)


def write_shards(
    subset: Subset, folder: Path, shards: list[Shard], *, advance: Callable[[int], None]
) -> dict[str, FileRecord]:
    """The records of the files written, by path. Each of some threads holds one row group of pixels at a time.

    Args:
        subset: Where the chips come from.
        folder: The dataset's folder.
        shards: What :func:`plan_shards` gave.
        advance: Called with the number of samples just written, by one thread at a time.
    """
    (folder / "data").mkdir(parents=True)
    source = _Source(subset=subset, schema=chip_schema(subset))
    stop, turn = threading.Event(), threading.Lock()

    def told(samples: int) -> bool:
        """Say how many were written; whether to go on."""
        with turn:
            if not stop.is_set():
                advance(samples)
        return not stop.is_set()

    _ = source.datetimes, source.readers, source.terms  # once, before threads ask
    with ThreadPoolExecutor(_num_threads(len(shards)), thread_name_prefix="pwcat-shards") as pool:
        files = [pool.submit(_write_shard, source, shard, folder / shard.path, told) for shard in shards]
        try:
            return dict(zip([shard.path for shard in shards], _results(files), strict=True))
        finally:  # what has failed, or was interrupted, lets no other file be finished
            stop.set()
            for file in files:
                file.cancel()


def _num_threads(shards: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST_THREADS, cores, shards))


def _results(files: list[Future[FileRecord]]) -> list[FileRecord]:
    """What became of all; the first failure as soon as it is there."""
    for file in wait(files, return_when=FIRST_EXCEPTION).done:
        file.result()
    return [file.result() for file in files]


def _chunking(chip_bytes: int) -> dict[str, int]:
    """Where pages end, by their content: after every chip, or every some hundred KiB."""
    if chip_bytes >= PAGE_OF_ITS_OWN:
        return {"min_chunk_size": chip_bytes // 2, "max_chunk_size": chip_bytes - 1, "norm_level": 0}
    return {"min_chunk_size": 2**16, "max_chunk_size": 2**18, "norm_level": 0}


def _write_shard(source: _Source, shard: Shard, path: Path, told: Callable[[int], bool]) -> FileRecord:
    leaves = _leaves(source.schema)
    with (
        RecordedFile(path) as file,
        pq.ParquetWriter(
            file,
            source.schema,
            **COMPRESSION,
            use_dictionary=leaves,
            write_statistics=leaves,
            write_page_index=True,
            use_content_defined_chunking=_chunking(2 * math.prod(source.subset.chip_shape)),
        ) as writer,
    ):
        for table in source.tables(shard):
            writer.write_table(table, row_group_size=len(table))
            if not told(len(table)):
                break
    return file.record(rows=len(shard.rows))


@dataclass(frozen=True, kw_only=True)
class _Source:
    """What the rows of the shards are made from; threads share it."""

    subset: Subset
    schema: pa.Schema

    def tables(self, shard: Shard) -> Iterator[pa.Table]:
        """The row groups of a shard, one after the other."""
        for groups in _together(shard.groups):
            start = groups[0][0]
            rows, places = np.unique(shard.rows[start : groups[-1][1]], return_inverse=True)
            part = self.subset.only(rows)
            beside = self._beside(part, rows)
            if (np.diff(places) < 0).any():
                beside = {name: column.take(pa.array(places)) for name, column in beside.items()}
            for first, last in groups:
                own = places[first - start : last - start]
                pixels = _binary_column(np.ascontiguousarray(self._chips(part, own), dtype=WIRE_DTYPE))
                columns = [
                    pixels if field.name == "pixels" else beside[field.name].slice(first - start, last - first)
                    for field in self.schema
                ]
                yield pa.table(columns, schema=self.schema)

    def _chips(self, part: Subset, rows: Rows) -> NDArray[np.uint16]:
        """Chips of some samples of a part, ``(n, time, band, y, x)``."""
        members = list(self.subset.members)
        owner, index = part.part[rows], part.index[rows]
        if (owner == owner[0]).all():
            return self.readers[members[int(owner[0])]](index)
        chips = np.empty((len(rows), *self.subset.chip_shape), dtype=np.uint16)
        for number in np.unique(owner).tolist():
            mine = owner == number
            chips[mine] = self.readers[members[number]](index[mine])
        return chips

    @cached_property
    def readers(self) -> dict[str, Callable[[Rows], NDArray[np.uint16]]]:
        """What reads the chips of each collection."""
        return {collection.name: _reader_of(collection.cube) for collection in self.subset.collections}

    def _beside(self, part: Subset, rows: Rows) -> dict[str, pa.ChunkedArray | pa.Array]:
        """All columns of some samples but the pixels, by name."""
        items, count = part.columns(_ASKED), len(part)
        owner = pa.array(part.part)
        centroid = items["proj:centroid"]
        values: dict[str, Any] = {
            "id": items["id"],
            "lon": pc.struct_field(centroid, "lon"),
            "lat": pc.struct_field(centroid, "lat"),
            "datetimes": list_column(self.datetimes[rows]),
            "epsg": _epsg(items["proj:code"]),
            **{name: items[column] for name, column in _FROM_ITEMS.items()},
            "collection": items["collection"],
            **{name: terms.take(owner) for name, terms in self.terms.items()},
        }
        named = {name: (values[name], self.schema.field(name).type) for name in values}
        alike = {name: repeat(value, count, self.schema.field(name).type) for name, value in self._alike.items()}
        return {name: column.cast(kind) for name, (column, kind) in named.items()} | alike

    @cached_property
    def _alike(self) -> dict[str, Any]:
        """Values that all rows have in common."""
        values = {"dtype": WIRE_DTYPE, "shape": self.subset.chip_shape, "bands": self.subset.bands}
        meanings = self.subset.collections[0].cube.meanings
        if not meanings:
            return values
        return values | {
            "sensors": [meaning.sensor for meaning in meanings],
            "scales": [meaning.scale for meaning in meanings],
            "offsets": [meaning.offset for meaning in meanings],
            "units": [meaning.unit for meaning in meanings],
        }

    @cached_property
    def terms(self) -> dict[str, pa.Array]:
        """Licence and attribution of each collection that was searched, null where none of its samples was chosen."""
        recipes = {collection.name: collection.recipe for collection in self.subset.collections}
        found = [recipes.get(name) for name in self.subset.members]
        licenses = [None if recipe is None else str(recipe["license"]) for recipe in found]
        named = [None if recipe is None else attribution_of(recipe) for recipe in found]
        return {"license": pa.array(licenses, pa.string()), "attribution": pa.array(named, pa.string())}

    @cached_property
    def datetimes(self) -> NDArray[np.datetime64]:
        """The acquisition of every date of every sample, ``(n, time)``, from the cubes: items carry the first one only."""
        out = np.empty((len(self.subset), self.subset.chip_shape[0]), dtype="datetime64[us]")
        for collection, rows in self.subset.parts():
            dates = collection.cube.to_xarray()["datetime"].values
            out[rows] = dates[self.subset.index[rows]].astype("datetime64[us]")
        return out


def _reader_of(cube: Cube) -> Callable[[Rows], NDArray[np.uint16]]:
    """What reads chips of a cube in the thread that asks: shards are written side by side already.

    Threads of the reader's own would wait for each other, twice as long as small chips take to be decoded.
    """
    if type(cube) is not Cube:  # far away, or foreign: it knows best
        return cube.read
    reader = ChipReader(cube, threads=1)

    def read(index: Rows) -> NDArray[np.uint16]:
        chips = np.empty((len(index), *cube.chip_shape), dtype=np.uint16)
        reader.read_into(chips, index)
        return chips

    return read


def _together(groups: tuple[tuple[int, int], ...]) -> Iterator[list[tuple[int, int]]]:
    """Row groups of a shard by stretches that are not much longer than what is read together."""
    waiting: list[tuple[int, int]] = []
    for group in groups:
        waiting.append(group)
        if group[1] - waiting[0][0] >= ROWS_AT_ONCE:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _binary_column(chips: NDArray[np.uint16]) -> pa.Array:
    """One binary value a chip, over the array's own memory."""
    offsets = (np.arange(len(chips) + 1, dtype=np.int64) * chips[0].nbytes).astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), len(chips), [None, pa.py_buffer(offsets), pa.py_buffer(chips)])


def _epsg(codes: pa.ChunkedArray) -> pa.ChunkedArray:
    """``EPSG:32631`` as its number; null where it is no such code."""
    known = pc.if_else(pc.starts_with(codes, "EPSG:"), codes, pa.scalar(None, pa.string()))
    return pc.utf8_slice_codeunits(known, 5).cast(pa.int32())
