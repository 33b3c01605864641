"""A cube in a Zarr store far away, read by ranges: of a shard its index, and the chips wanted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype

from catalog.published.fetching import in_parallel, merged
from catalog.published.lazy import blocks_of
from catalog.querying.places import Place
from pwcat.chunks.layout import MISSING, Layout, layout_of
from pwcat.cube import DIMS, Cube, quietly
from pwcat.errors import CatalogError, CubeError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["FarCube", "PlaceStore", "open_far_cube"]

Index = NDArray[np.int64]


class PlaceStore(Store):
    """A place as zarr-python wants it, to read from; nothing is listed. Files that are read whole, all small, are kept."""

    supports_writes = False
    supports_deletes = False
    supports_listing = False

    def __init__(self, place: Place) -> None:
        super().__init__(read_only=True)
        self.place = place
        self._whole: dict[str, bytes] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlaceStore) and other.place == self.place

    def __str__(self) -> str:
        return str(self.place)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """A file or some bytes of it; ``None`` where there is none."""
        found = await asyncio.to_thread(self._get, key, byte_range)
        return None if found is None else prototype.buffer.from_bytes(found)

    def _get(self, key: str, wanted: ByteRequest | None) -> bytes | None:
        if key not in self._whole and not self.place.has(key):
            return None
        if wanted is None:
            if key not in self._whole:
                self._whole[key] = self.place.read(key)
            return self._whole[key]
        if isinstance(wanted, RangeByteRequest):
            return self.place.range(key, wanted.start, wanted.end - wanted.start)
        size = self.place.size(key)
        start = wanted.offset if isinstance(wanted, OffsetByteRequest) else max(0, size - wanted.suffix)
        return self.place.range(key, start, size - start)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Some bytes of several files."""
        return list(await asyncio.gather(*(self.get(key, prototype, wanted) for key, wanted in key_ranges)))

    async def exists(self, key: str) -> bool:
        """Whether there is such a file."""
        return await asyncio.to_thread(self.place.has, key)

    async def set(self, key: str, value: Buffer) -> None:
        """Refused."""
        raise CatalogError(f"{self.place}/{key}: catalogs are only read")

    async def delete(self, key: str) -> None:
        """Refused."""
        raise CatalogError(f"{self.place}/{key}: catalogs are only read")

    def list(self) -> AsyncIterator[str]:
        """Refused: consolidated metadata say what there is."""
        raise CatalogError(f"{self.place}: is not listed")

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Refused as :meth:`list` is."""
        return self.list()

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Refused as :meth:`list` is."""
        return self.list()


@dataclass(frozen=True)
class FarCube(Cube):
    """A cube far away. Opening it reads metadata alone.

    Attributes:
        place: of the store.
    """

    place: Place
    _indexes: dict[int, NDArray[np.uint64]] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def _store(self) -> PlaceStore:
        return PlaceStore(self.place)

    @cached_property
    def _group(self) -> zarr.Group:
        return zarr.open_group(self._store, mode="r", zarr_format=3, use_consolidated=True)

    def _member(self, name: str) -> zarr.Array[Any]:
        found = self._group[name]
        assert isinstance(found, zarr.Array)
        return found

    def _has(self, name: str) -> bool:
        return name in self._group

    @cached_property
    def attrs(self) -> dict[str, Any]:
        """What the store says of itself: scale, offset, nodata, recipe hash, versions, licence."""
        return dict(self._group.attrs)

    @cached_property
    def _layout(self) -> Layout:
        layout = layout_of(self.array.metadata.to_dict())
        if layout is None:
            raise CatalogError(
                f"{self.place}: its chips lie in a way that is read from this computer's own disks alone: copy it"
            )
        return layout

    def read(self, index: NDArray[np.integer[Any]]) -> NDArray[np.uint16]:
        """Chips of some samples in the order asked for, ``(n, time, band, y, x)``: of each shard no more than these.

        Raises:
            CatalogError: a sample is not in the cube, or a shard is missing, damaged or cannot be reached.
        """
        wanted = np.asarray(index, dtype=np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= self.num_samples):
            last = self.num_samples - 1
            raise CatalogError(f"{self.place}: samples are 0 to {last}, asked for {wanted.min()} to {wanted.max()}")
        chips = np.empty((len(wanted), *self.chip_shape), dtype=np.uint16)
        in_parallel(lambda mine: self._fill(chips, wanted, mine), self._shards(wanted))
        return chips

    def _shards(self, wanted: Index) -> list[Index]:
        """Positions of the samples of each shard."""
        shards = wanted // self._layout.shard_size
        order = np.argsort(shards, kind="stable")
        cuts = np.flatnonzero(np.diff(shards[order])) + 1
        return [some for some in np.split(order, cuts) if some.size]

    def _fill(self, out: NDArray[np.uint16], wanted: Index, mine: Index) -> None:
        layout = self._layout
        shard = int(wanted[mine[0]]) // layout.shard_size
        name = f"chips/c/{shard}/0/0/0/0"
        try:
            index = self._index(shard, name)
            entries = index[wanted[mine] % layout.shard_size].tolist()
            there = [(start, start + length) for start, length in entries if start != MISSING]
            parts = [(start, self.place.range(name, start, end - start)) for start, end in merged(there)]
            for position, (start, length) in zip(mine.tolist(), entries, strict=True):
                if start == MISSING:
                    out[position] = layout.fill_value
                else:
                    _decode(layout, _cut(parts, start, length), out[position])
        except (ValueError, RuntimeError) as exc:
            raise CatalogError(f"{self.place}/{name}: is damaged ({exc})") from exc

    def _index(self, shard: int, name: str) -> NDArray[np.uint64]:
        """Where the chips of a shard lie in its file; kept."""
        if shard not in self._indexes:
            length, size = self._layout.index_bytes, self.place.size(name)
            if size < length:
                raise ValueError(f"it has {size} bytes, its index alone {length}")
            start = 0 if self._layout.index_first else size - length
            self._indexes[shard] = self._layout.index_of(self.place.range(name, start, length))
        return self._indexes[shard]

    def select(self, index: NDArray[np.integer[Any]]) -> xr.Dataset:
        """Some samples as a lazy dataset: one Dask chunk a shard, of the samples wanted; no pixel is fetched before."""
        import xarray as xr

        wanted = np.asarray(index, dtype=np.int64)
        with quietly():
            whole = xr.open_zarr(self._store, consolidated=True, zarr_format=3, chunks=None)
        blocks = blocks_of(wanted, self._shards(wanted))
        chips = (DIMS, blocks.array(self.read, self.chip_shape, np.uint16), whole["chips"].attrs)
        about = whole.drop_vars("chips").isel(sample=wanted)
        return about.set_coords(list(about.variables)).assign(chips=chips)

    def to_xarray(self) -> xr.Dataset:
        """The cube as a lazy dataset: one Dask chunk a shard."""
        return self.select(np.arange(self.num_samples))


def _cut(parts: list[tuple[int, bytes]], start: int, length: int) -> memoryview:
    """Some bytes of what was fetched."""
    begin, part = next((begin, part) for begin, part in parts if begin <= start and start + length <= begin + len(part))
    return memoryview(part)[start - begin : start - begin + length]


def _decode(layout: Layout, stored: memoryview, out: NDArray[np.uint16]) -> None:
    if layout.decode is not None:
        layout.decode(stored, out.reshape(-1))
        return
    if len(stored) != layout.chip_bytes:
        raise ValueError(f"a chip is of {len(stored)} bytes, not {layout.chip_bytes}")
    out.reshape(-1)[:] = np.frombuffer(stored, dtype="<u2")


def open_far_cube(place: Place) -> FarCube:
    """The cube in a folder far away.

    Raises:
        CatalogError: there is none, or its metadata cannot be read.
    """
    if not place.has("zarr.json"):
        raise CatalogError(f"{place}: no cube there (looked for zarr.json): its samples can be searched, not read")
    cube = FarCube(Path(str(place)), place)
    try:
        _ = cube.num_samples, cube.bands, cube.attrs
    except (ValueError, KeyError, CubeError) as exc:
        raise CatalogError(f"{place}: its metadata cannot be read ({exc})") from exc
    return cube
