"""Chips of a published dataset, read by row group from where it lies: a cube that was never fetched."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from catalog.published.fetching import in_parallel
from catalog.published.layout import ITEMS_PATH
from catalog.published.lazy import blocks_of
from catalog.published.publication import Publication
from pwcat.cube import BAND_ATTRIBUTES, DIMS, SAMPLE_ATTRIBUTES, Cube, SensorBand
from pwcat.errors import CatalogError

if TYPE_CHECKING:
    import xarray as xr

    from catalog.published.groups import RowGroups

__all__ = ["PublishedCube", "RowGroup"]

Index = NDArray[np.int64]

# Of the rows that hold chips: what is fetched of a row group, at once, for it lies together in the file.
CHIPS = ("id", "pixels", "datetimes")
DATES = ("datetimes",)
# Of the items: by which a chip is found.
PLACES = ("id", "pwcat:shard", "pwcat:row")
# Of the items: what a cube's own arrays say of a sample.
SAMPLES = ("id", "proj:centroid", "proj:code", "proj:transform", "datetime", "div:valid_fraction", "pwcat:scene_ids")


@dataclass(frozen=True, kw_only=True)
class RowGroup:
    """What is fetched for some chips.

    Attributes:
        path: of the file.
        group: number of the row group in it.
        num_rows: that it has.
        wanted: how many of them are asked for.
        bytes: that are fetched.
    """

    path: str
    group: int
    num_rows: int
    wanted: int
    bytes: int


@dataclass(frozen=True)
class PublishedCube(Cube):
    """A cube in all that reading asks for. Samples are numbered as the items of the publication are.

    Attributes:
        publication: that holds the chips.
        collection: whose chips are asked for, for what is known of them.
    """

    publication: Publication
    collection: str

    @property
    def _chip(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.publication.record["chip"]
        return found

    @cached_property
    def attrs(self) -> dict[str, Any]:
        """What the collection's own cube says of itself: scale, offset, nodata, recipe hash, versions, licence."""
        told = self.publication.collection(self.collection)
        numbers = {name: self._chip[name] for name in ("scale", "offset", "nodata", "resolution_m")}
        return {**(told.get("attributes") or {}), **numbers, "recipe_hash": told["recipe_hash"]}

    @property
    def chips_attrs(self) -> dict[str, Any]:
        """What the collection's own cube says of its chips."""
        return dict(self.publication.collection(self.collection).get("chips_attributes") or {})

    @cached_property
    def bands(self) -> tuple[str, ...]:
        """Band names, in order."""
        return tuple(band["name"] for band in self._chip["bands"])

    @cached_property
    def meanings(self) -> tuple[SensorBand, ...]:
        """What each band is, where sensors stand beside the main source; else nothing."""
        if not any(band["sensor"] for band in self._chip["bands"]):
            return ()
        of_bands = self._of_bands
        names = [field.name for field in fields(SensorBand)]
        columns = [of_bands[name].tolist() for name in names]
        return tuple(SensorBand(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True))

    @cached_property
    def _of_bands(self) -> dict[str, NDArray[Any]]:
        """What is known of the bands, ``(band,)`` each, named as in a cube."""
        bands = self._chip["bands"]
        known = {"band": np.array([band["name"] for band in bands], dtype=object)}
        for name in ("wavelength_nm", "gsd_m", "scale", "offset"):
            known[name] = np.array([np.nan if band[name] is None else band[name] for band in bands], dtype=np.float64)
        for name in ("sensor", "unit"):
            known[name] = np.array([band[name] for band in bands], dtype=object)
        return known

    @cached_property
    def num_samples(self) -> int:
        """How many samples were published, of all collections."""
        return int(self._groups.footer(ITEMS_PATH).num_rows)

    @property
    def chip_shape(self) -> tuple[int, int, int, int]:
        """``(time, band, y, x)``."""
        time, band, y, x = (int(n) for n in self._chip["shape"])
        return time, band, y, x

    @property
    def num_times(self) -> int:
        """Dates a sample."""
        return self.chip_shape[0]

    @property
    def size_px(self) -> int:
        """Side of a chip in pixels."""
        return self.chip_shape[3]

    @cached_property
    def shard_size(self) -> int:
        """Samples that are fetched together: as many as the largest row group of the first file has."""
        first = self._places(np.zeros(1, dtype=np.int64)).files[0]
        return max(1, int(np.diff(self._groups.starts(first)).max()))

    @property
    def _groups(self) -> RowGroups:
        return self.publication.groups

    def stored(self, name: str) -> NDArray[Any] | None:
        """Values of an array that describes samples or bands; ``None`` for those that were not published."""
        if name in self._of_bands:
            return self._of_bands[name]
        everything = np.arange(self.num_samples)
        if name == "datetime":
            return self.dates(everything).astype("datetime64[s]").astype("datetime64[ns]")
        return self._of_samples(everything).get(name)

    def read(self, index: NDArray[np.integer[Any]]) -> NDArray[np.uint16]:
        """Chips of some samples in the order asked for, ``(n, time, band, y, x)``; those of a row group are fetched together.

        Raises:
            CatalogError: a sample is not there, or its row group cannot be read or is of other samples.
        """
        wanted = np.asarray(index, dtype=np.int64)
        chips = np.empty((len(wanted), *self.chip_shape), dtype=np.uint16)
        in_parallel(lambda piece: self._fill(chips, piece), self._pieces(wanted))
        return chips

    def passing(self, index: NDArray[np.integer[Any]]) -> Callable[[int], None]:
        """What gives up row groups of no more use to who reads some samples in their order, each once.

        Returns:
            To be told how many of them have been read.
        """
        wanted = np.asarray(index, dtype=np.int64)
        lasts = {(piece.path, piece.group): int(piece.positions.max()) for piece in self._pieces(wanted)}
        return lambda done: self._groups.give_up(lambda path, group: lasts.get((path, group), -1) < done)

    def _fill(self, out: NDArray[np.uint16], piece: _Piece) -> None:
        table = self._groups.read(piece.path, piece.group, CHIPS)
        if not table["id"].take(pa.array(piece.rows)).equals(piece.ids):
            raise CatalogError(f"{piece.where(self)} holds other samples than the items say: publish the dataset again")
        try:
            out[piece.positions] = _chips(table["pixels"], self.chip_shape)[piece.rows]
        except ValueError as exc:
            raise CatalogError(f"{piece.where(self)} holds chips that are not uint16 {self.chip_shape}: {exc}") from exc

    def dates(self, index: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """When some samples were taken, in the order asked for: ``(n, time)``, seconds since 1970-01-01 UTC.

        Nothing is fetched for those whose chips have just been read.
        """
        wanted = np.asarray(index, dtype=np.int64)
        dates = np.empty((len(wanted), self.num_times), dtype=np.int64)

        def fill(piece: _Piece) -> None:
            kept = self._groups.holds(piece.path, piece.group, CHIPS)
            table = self._groups.read(piece.path, piece.group, CHIPS if kept else DATES)
            lists = table["datetimes"].combine_chunks().take(pa.array(piece.rows))
            times = lists.flatten().cast(pa.timestamp("s", "UTC"), safe=False).cast(pa.int64())
            dates[piece.positions] = times.to_numpy().reshape(len(piece.rows), self.num_times)

        in_parallel(fill, self._pieces(wanted))
        return dates

    def rows(self, index: NDArray[np.integer[Any]], columns: Sequence[str]) -> pa.Table:
        """Other columns of the rows that hold some samples' chips, in the order asked for.

        Raises:
            CatalogError: there is no such column.
        """
        wanted = np.asarray(index, dtype=np.int64)
        pieces = self._pieces(wanted)
        tables = in_parallel(
            lambda piece: self._groups.read(piece.path, piece.group, tuple(columns)).take(pa.array(piece.rows)), pieces
        )
        order = np.argsort(np.concatenate([piece.positions for piece in pieces]), kind="stable")
        return pa.concat_tables(tables).take(pa.array(order))

    def row_groups(self, index: NDArray[np.integer[Any]]) -> list[RowGroup]:
        """What would be fetched to read some samples."""
        return [
            RowGroup(
                path=piece.path,
                group=piece.group,
                num_rows=int(np.diff(self._groups.starts(piece.path))[piece.group]),
                wanted=len(np.unique(piece.rows)),
                bytes=self._groups.bytes_of(piece.path, piece.group, CHIPS),
            )
            for piece in self._pieces(np.asarray(index, dtype=np.int64))
        ]

    def _pieces(self, wanted: Index) -> list[_Piece]:
        """Row groups that hold some samples, and which of their rows are wanted."""
        places = self._places(wanted)
        starts = in_parallel(self._groups.starts, places.files)
        pieces = []
        for number, path in enumerate(places.files):
            mine = np.flatnonzero(places.file == number)
            groups = np.searchsorted(starts[number], places.row[mine], side="right") - 1
            if groups.max() + 1 >= len(starts[number]):
                raise CatalogError(f"{self.publication.place}/{path}: has fewer rows than the items say")
            mine = mine[np.argsort(groups, kind="stable")]
            groups = np.sort(groups, kind="stable")
            for some, group in _runs(mine, groups):
                rows, ids = places.row[some] - starts[number][group], places.ids.take(pa.array(some))
                pieces.append(_Piece(path=path, group=group, rows=rows, positions=some, ids=ids))
        return pieces

    def _places(self, wanted: Index) -> _Places:
        found = self._items(wanted, PLACES)
        files = found["pwcat:shard"].combine_chunks().dictionary_encode()
        return _Places(
            ids=found["id"],
            files=files.dictionary.to_pylist(),
            file=files.indices.to_numpy(),
            row=found["pwcat:row"].to_numpy(),
        )

    def _items(self, wanted: Index, columns: Sequence[str]) -> pa.Table:
        """Columns of some items, in the order asked for."""
        if wanted.size and (wanted.min() < 0 or wanted.max() >= self.num_samples):
            last = self.num_samples - 1
            raise CatalogError(
                f"{self.publication.place}: samples are 0 to {last}, asked for {wanted.min()} to {wanted.max()}"
            )
        return self._groups.take(ITEMS_PATH, wanted, columns)

    def _of_samples(self, wanted: Index) -> dict[str, NDArray[Any]]:
        """What a cube's arrays say of some samples, as far as the items tell."""
        found = self._items(wanted, SAMPLES)
        centroid, transform = found["proj:centroid"], found["proj:transform"]
        code = pc.replace_substring(found["proj:code"], "EPSG:", "")
        scenes = found["pwcat:scene_ids"].to_pylist()
        known = {
            "id": np.array([*found["id"].to_pylist(), None], dtype=object)[:-1],
            "lon": pc.struct_field(centroid, "lon").to_numpy(),
            "lat": pc.struct_field(centroid, "lat").to_numpy(),
            "x0": pc.list_element(transform, 2).to_numpy(),
            "y0": pc.list_element(transform, 5).to_numpy(),
            "valid_fraction": found["div:valid_fraction"].to_numpy(),
        }
        if not code.null_count:
            known["epsg"] = code.cast(pa.int32()).to_numpy()
        if all(names is not None and len(names) == self.num_times for names in scenes):
            known["scene_id"] = np.array(scenes, dtype=object).reshape(len(scenes), self.num_times)
        return known

    def to_xarray(self) -> xr.Dataset:
        """The chips as a lazy dataset: one Dask chunk a row group."""
        return self.select(np.arange(self.num_samples))

    def select(self, index: NDArray[np.integer[Any]]) -> xr.Dataset:
        """Some samples as a lazy dataset: one Dask chunk a row group, of the samples wanted; no pixel is fetched before.

        Where samples of several splits, and so of several files, alternate, they are put in their order behind these chunks.
        """
        import xarray as xr

        wanted = np.asarray(index, dtype=np.int64)
        blocks = blocks_of(wanted, [piece.positions for piece in self._pieces(wanted)])
        dates = blocks.array(self.dates, (self.num_times,), np.int64).astype("datetime64[s]")
        kept = [name for name in self._of_bands if self.meanings or name in ("band", "wavelength_nm", "gsd_m")]
        known = self._of_samples(wanted)
        told = dict(self.publication.collection(self.collection).get("chips_attributes") or {})
        told.pop("coordinates", None)  # which xarray has as such
        return xr.Dataset(
            {"chips": (DIMS, blocks.array(self.read, self.chip_shape, np.uint16), told)},
            coords={
                **{name: ("band", self._of_bands[name], BAND_ATTRIBUTES.get(name, {})) for name in kept},
                **{name: (DIMS[: v.ndim], v, SAMPLE_ATTRIBUTES.get(name, {})) for name, v in known.items()},
                "datetime": (DIMS[:2], dates.astype("datetime64[ns]"), SAMPLE_ATTRIBUTES["datetime"]),
            },
            attrs=self.attrs,
        )


@dataclass(frozen=True, kw_only=True)
class _Places:
    """Where the chips of some samples lie: ids; names of files; and of each sample its file's number and its row there."""

    ids: pa.ChunkedArray
    files: list[str]
    file: NDArray[np.integer[Any]]
    row: Index


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """Some rows of a row group, and what they are in what was asked for."""

    path: str
    group: int
    rows: Index
    positions: Index
    ids: pa.ChunkedArray

    def where(self, cube: PublishedCube) -> str:
        """For messages."""
        return f"{cube.publication.place}/{self.path}: row group {self.group}"


def _runs(values: Index, keys: NDArray[np.integer[Any]]) -> Iterator[tuple[Index, int]]:
    """Values of one key each; keys ascend."""
    for some in np.split(np.arange(len(keys)), np.flatnonzero(np.diff(keys)) + 1):
        if some.size:
            yield values[some], int(keys[some[0]])


def _chips(column: pa.ChunkedArray, shape: tuple[int, ...]) -> NDArray[np.uint16]:
    """A column of pixels as ``(n, *shape)``, over its own memory.

    Raises:
        ValueError: a value is null, or of another length.
    """
    array = column.combine_chunks()
    array = array.cast(pa.large_binary()) if not pa.types.is_large_binary(array.type) else array
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    size = 2 * math.prod(shape)
    if array.null_count or np.any(np.diff(offsets) != size):
        raise ValueError(f"each is of {size} bytes")
    pixels = np.frombuffer(array.buffers()[2], dtype="<u2", count=len(array) * size // 2, offset=int(offsets[0]))
    return pixels.reshape(len(array), *shape)
