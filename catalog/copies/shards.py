"""The chips of a copy, one shard at a time: read, written with its ledger, described; what is whole already is kept.

A shard is done where its ledger names these samples and as many bytes as lie there, and its description is of these bytes. One
that is whole but not described is described from the copy's own bytes: nothing is fetched twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from catalog.importers.pixels import ForeignCube
from catalog.items import ITEM_SCHEMA
from catalog.measures.tally import Tally
from catalog.published.cube import PublishedCube
from catalog.query import Collection
from catalog.spectral import ESTIMATOR_VERSIONS, SpectralMeasures, measure
from catalog.stac.describing import as_reflectance, mark_of, part_path, write_part
from catalog.subset import CONSTANT, Subset
from pwcat.building.ledger import digest_of, ledger_path, ledger_settles, write_ledger
from pwcat.cube import Cube, CubeSpec, encode_shard, shard_path, write_shard
from pwcat.errors import CatalogError
from pwcat.sharding import shard_size_of

__all__ = ["DATES", "OFFSETS", "CopyJob", "Step", "copied_columns", "spec_of_copy"]

_Read = tuple[NDArray[np.uint16], NDArray[np.int64]]

# Columns of a shard's description that become coordinates of the cube, not items.
DATES: Final = "copy:dates"
OFFSETS: Final = "copy:boa_offset"
# Rows of items that are read together: one query, some 20 MB.
ITEMS_AT_ONCE: Final = 16_384
# Columns of published items that say where a chip lies there.
_PUBLISHED: Final = frozenset({"pwcat:shard", "pwcat:row", "pwcat:collection"})
# What the pixels say of spectral entropy, and what the items do, may differ by rounding on another processor.
ENTROPY_TOLERANCE: Final = 1e-6


@dataclass(frozen=True, kw_only=True)
class Step:
    """What became of one shard.

    Attributes:
        shard: its number.
        samples: that it holds.
        is_read: whether its chips were read from the original just now.
    """

    shard: int
    samples: int
    is_read: bool


@dataclass(frozen=True, kw_only=True)
class _Coming:
    """A shard whose chips are being read; ``read`` is ``None`` where nothing is to be done."""

    shard: int
    items: pa.Table
    is_read: bool = False
    read: Future[_Read] | None = None


def copied_columns(collection: Collection) -> list[str]:
    """Columns of a collection's items that its copy has: all but those that are the same for every item, or lead elsewhere."""
    there = collection.items.columns
    named = [name for name in ITEM_SCHEMA.names if name in there]
    others = [name for name in there if name not in named]
    return [name for name in (*named, *others) if name not in {*CONSTANT, *_PUBLISHED, "pwcat:index"}]


def spec_of_copy(cube: Cube, num_samples: int) -> CubeSpec:
    """Shape and layout of the copy's cube: shards of the original's size, where it has any of ours."""
    chip_bytes = 2 * int(np.prod(cube.chip_shape))
    is_ours = type(cube) is Cube
    return CubeSpec(
        num_samples=num_samples,
        num_times=cube.num_times,
        bands=cube.bands,
        size_px=cube.size_px,
        shard_size=cube.shard_size if is_ours else shard_size_of(num_samples, chip_bytes),
    )


@dataclass(frozen=True, kw_only=True)
class CopyJob:
    """Samples of one collection, on their way into a cube of their own.

    Attributes:
        part: the samples, of one collection alone.
        folder: of the copy.
        spec: of its cube.
        mark: what tells this copy from others.
        codebooks: hash of the collection's codebook, by its name; empty where it has none.
    """

    part: Subset
    folder: Path
    spec: CubeSpec
    mark: str
    codebooks: Mapping[str, str]

    @property
    def collection(self) -> Collection:
        """The original."""
        return self.part.collections[0]

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Rows of the part in the order of the copy's cube, which is that of the original's."""
        return np.argsort(self.part.index, kind="stable").astype(np.int64)

    @property
    def own(self) -> Cube:
        """The copy's cube."""
        return Cube(self.folder / "cube.zarr")

    @property
    def parts(self) -> list[Path]:
        """Descriptions of the shards, in their order."""
        return [part_path(self.folder, shard) for shard in range(self.spec.num_shards)]

    def steps(self) -> Iterator[Step]:
        """Copy shard after shard; while one is measured and written, the next is read.

        Raises:
            CatalogError: the original cannot be read, or pixels are not those that their items tell of.
        """
        _ = self._offsets  # read before there are two who read
        with ThreadPoolExecutor(1, thread_name_prefix="reading") as pool:
            coming: _Coming | None = None
            for shard, items in self._shards():
                before, coming = coming, self._begin(shard, items, pool)
                if before is not None:
                    yield self._step(before)
            if coming is not None:
                yield self._step(coming)

    def _shards(self) -> Iterator[tuple[int, pa.Table]]:
        """Shards and their items."""
        size = self.spec.shard_size
        block = max(1, ITEMS_AT_ONCE // size) * size
        for start in range(0, len(self.order), block):
            items = self._items(start, min(start + block, len(self.order)))
            for first in range(start, start + len(items), size):
                yield first // size, items.slice(first - start, size)

    def _items(self, start: int, stop: int) -> pa.Table:
        """Items of some rows of the copy's cube, in its order, numbered anew."""
        rows = self.order[start:stop]
        ordered = np.sort(rows)
        chosen = self.part.only(ordered)
        read = chosen.columns(copied_columns(self.collection))
        read = read.take(pa.array(np.searchsorted(ordered, rows)))
        return read.append_column("pwcat:index", pa.array(np.arange(start, stop)))

    def _begin(self, shard: int, items: pa.Table, pool: ThreadPoolExecutor) -> _Coming:
        """Have the chips of a shard read, where it is not there."""
        path, ledger = shard_path(self.folder / "cube.zarr", shard), ledger_path(self.folder, shard)
        ids = items["id"].to_pylist()
        there = path.is_file() and ledger_settles(ledger, plan_hash=self.mark, shard_bytes=path.stat().st_size, ids=ids)
        if there and mark_of(part_path(self.folder, shard)) == self._described(path):
            return _Coming(shard=shard, items=items)
        read = pool.submit(self._read_again if there else self._read, shard, items)
        return _Coming(shard=shard, items=items, is_read=not there, read=read)

    def _read(self, shard: int, items: pa.Table) -> _Read:
        """Chips and dates of a shard, from the original."""
        index, cube = self._index(items), self.collection.cube
        chips, dates = cube.read(index), cube.dates(index)
        self._passed(shard * self.spec.shard_size + len(items))
        return chips, dates

    @cached_property
    def _passed(self) -> Callable[[int], None]:
        """To be told how many chips have been read."""
        cube = self.collection.cube
        return cube.passing(self.part.index[self.order]) if isinstance(cube, PublishedCube) else lambda done: None

    def _read_again(self, shard: int, items: pa.Table) -> _Read:
        """Chips of a shard that is there, and their dates from the original."""
        return self.own.read_shard(shard), self.collection.cube.dates(self._index(items))

    def _step(self, coming: _Coming) -> Step:
        shard, items = coming.shard, coming.items
        if coming.read is not None:
            chips, dates = coming.read.result()
            self._write(shard, items, chips, dates, is_there=not coming.is_read)
        return Step(shard=shard, samples=len(items), is_read=coming.is_read)

    def _write(
        self, shard: int, items: pa.Table, chips: NDArray[np.uint16], dates: NDArray[np.int64], *, is_there: bool
    ) -> None:
        """Write a shard with its ledger, where it is not there, and what describes it."""
        found = self._measured(items, chips)
        if not is_there:
            payload = encode_shard(self.spec, shard, chips)
            write_ledger(
                ledger_path(self.folder, shard), _ledger_rows(items, chips), plan_hash=self.mark, shard=payload
            )
            write_shard(self.folder / "cube.zarr", shard, payload)
        path = shard_path(self.folder / "cube.zarr", shard)
        columns = self._with_dates(items, dates)
        write_part(part_path(self.folder, shard), columns, self._tally(items, found), mark=self._described(path))

    def _index(self, items: pa.Table) -> NDArray[np.int64]:
        """Rows of some of the copy's samples in the original's cube."""
        return self.part.index[self.order[items["pwcat:index"].to_numpy()]]

    def _described(self, path: Path) -> str:
        """The mark of the description of a shard that is there."""
        return sha256(f"{self.mark} {digest_of(path)}".encode()).hexdigest()

    def _measured(self, items: pa.Table, chips: NDArray[np.uint16]) -> SpectralMeasures:
        """What the pixels say.

        Raises:
            CatalogError: another spectral entropy than the items tell of.
        """
        cube = self.collection.cube
        found = measure(as_reflectance(cube, chips), codebook=None, bands=cube.bands[cube.main])
        told = (self.collection.stats.get("statistics") or {}).get("spectral") or {}
        if not isinstance(cube, ForeignCube) and told.get("version") == ESTIMATOR_VERSIONS["band-histogram"]:
            _require_alike(self.collection, items, found.band_histogram)
        return found

    def _tally(self, items: pa.Table, found: SpectralMeasures) -> Tally:
        """Of the items, by the codebook of the original, which is not needed for it; of the bands, by the pixels."""
        return replace(Tally.of(items, codebooks=self.codebooks), bands=Tally.of(items, found).bands)

    def _with_dates(self, items: pa.Table, dates: NDArray[np.int64]) -> pa.Table:
        items = items.append_column(DATES, pa.array(list(dates), pa.list_(pa.int64())))
        offsets = self._offsets
        if offsets is None:
            return items
        return items.append_column(OFFSETS, pa.array(list(offsets[self._index(items)]), pa.list_(pa.int32())))

    @cached_property
    def _offsets(self) -> NDArray[Any] | None:
        """What harmonisation subtracted, ``(sample, time)`` of the original; ``None`` where that is not known."""
        stored = self.collection.cube.stored("boa_offset")
        return None if stored is None else np.asarray(stored)


def _require_alike(collection: Collection, items: pa.Table, measured: NDArray[np.float64]) -> None:
    told = items["div:spectral_entropy"].to_numpy()
    with np.errstate(invalid="ignore"):
        other = np.flatnonzero((np.isnan(told) != np.isnan(measured)) | (np.abs(told - measured) > ENTROPY_TOLERANCE))
    if len(other):
        ids = ", ".join(items["id"].take(pa.array(other[:3])).to_pylist())
        raise CatalogError(
            f"{collection.place}: pixels of {len(other):,} samples ({ids}) are not those that their items tell of: their "
            f"spectral entropy is {measured[other[0]]:.6f}, and should be {told[other[0]]:.6f}; nothing was written of them"
        )


def _ledger_rows(items: pa.Table, chips: NDArray[np.uint16]) -> list[dict[str, Any]]:
    """The ledger of a copied shard: which samples have pixels, of which share."""
    pictured = np.asarray(chips.reshape(len(chips), -1).any(axis=1))
    valid = items["div:valid_fraction"].to_pylist()
    return [
        {"id": name, "status": "written" if seen else "empty", "valid_fraction": share}
        for name, seen, share in zip(items["id"].to_pylist(), pictured.tolist(), valid, strict=True)
    ]
