"""SSL4EO-S12 v1.1 in its Zarr edition: zipped Zarr v2 stores of 64 places with four dates each.

Layout, by the dataset's README, ``zarr_dataset.py`` and ``ssl4eos12_dataset.py`` (github.com/DLR-MF-DAS/SSL4EO-S12-v1.1),
as it is on the Hub (embed2scale/SSL4EO-S12-v1.1-Zarr) and at Jülich::

    train/S2L2A/ssl4eos12_train_seasonal_data_000001.zarr.zip …     also S2L1C, S1GRD, S2RGB
    val/S2L2A/ssl4eos12_val_seasonal_data_000001.zarr.zip …

    bands (sample, time, band, y, x) int16      band, sample: names      center_lat, center_lon, crs (EPSG) by sample
    time_ by sample and date, as xarray encodes it     x_, y_: centres of pixels, metres     file_id: products
    cloud_mask (sample, time, y, x): 0 land, 1 water, 2 snow, 3 thin cloud, 4 thick cloud, 5 shadow, 6 no data

- **The Zarr edition carries an offset of 1000** in S2L2A and S2L1C, whatever the baseline ("statistics include a +1000
  offset to align with the newest ESA processing version. The offset was removed in the later webdataset version"): it is
  removed, unless ``--offset 0`` says otherwise. Values of 0 are no data, and so is what ``cloud_mask`` says is none.
- A folder that holds one product is taken as it is; where there are several, ``--product`` chooses, S2L2A unless said.
- S1GRD is in decibels and S2RGB is rendered: neither is reflectance, and they are refused.
- The later edition of tar files (``ssl4eos12_shard_000001.tar``, one store a sample) is refused with a line that says so: its
  stores can be unpacked, but their layout is another.
- Stores that are not zipped (``….zarr`` folders) are read as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar
from zipfile import BadZipFile, is_zipfile

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore, ZipStore

from catalog.importers.importer import Block, Facts, Found, Grid, Lost, Options, Place, Sample
from catalog.importers.numbers import to_dn
from catalog.importers.rasters import band_name
from pwcat.errors import CatalogError
from pwcat.pixels.harmonise import OFFSET

__all__ = ["Ssl4eo"]

PRODUCTS = ("S2L2A", "S2L1C")
OTHERS = ("S1GRD", "S2RGB", "NDVI", "DEM", "LULC")
SUFFIXES = (".zarr.zip", ".zarr")
NO_DATA_CLASS = 6
NEEDED = ("bands", "band", "sample", "center_lat", "center_lon", "crs", "time_", "x_", "y_")
# Codecs that are read: none of them runs code, as pickle does.
CODECS = frozenset({"blosc", "zstd", "zlib", "gzip", "lz4", "bz2", "lzma", "shuffle", "delta", "vlen-utf8"})
# Bytes of a chunk's samples, all dates: real ones are 428 MB at most.
MOST_BYTES = 2**31
# What reading bytes that are wrong can raise: zip, zarr, its codecs and xarray have no error in common.
_WRONG = (OSError, ValueError, KeyError, TypeError, RuntimeError, BadZipFile)


@dataclass(frozen=True)
class Ssl4eo:
    """SSL4EO-S12 v1.1, see the module."""

    folder: Path
    options: Options

    name: ClassVar[str] = "ssl4eo-s12"
    about: ClassVar[str] = "SSL4EO-S12 v1.1, Zarr edition: zipped stores of 64 places with four dates each"
    license: ClassVar[str | None] = "CC-BY-4.0"
    attribution: ClassVar[str | None] = (
        "SSL4EO-S12 v1.1 (Blumenstiel et al. 2025, after Wang et al. 2022); contains modified Copernicus Sentinel data"
    )

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Stores of its name, in the folder or in those of its products and splits."""
        return any(path.name.startswith("ssl4eos12_") for path in (*_stores(folder, ""), *_stores(folder, "**/")))

    @cached_property
    def product(self) -> str | None:
        """The product's folder; ``None`` where the folder given holds stores itself."""
        if any(_stores(self.folder, "")):
            return None
        there = [name for name in (*PRODUCTS, *OTHERS) if any(_stores(self.folder, f"**/{name}/"))]
        wanted = self.options.product or next((name for name in there if name in PRODUCTS), None)
        if wanted in OTHERS or (wanted is None and there):
            raise CatalogError(
                f"{self.folder}: {wanted or ', '.join(there)} is no reflectance; products are {', '.join(PRODUCTS)}"
            )
        if wanted is None or wanted not in there:
            raise CatalogError(
                f"{self.folder}: no stores {wanted or PRODUCTS[0]}/*.zarr.zip there; {_what_else(self.folder)}"
            )
        return wanted

    @cached_property
    def files(self) -> list[Path]:
        """The stores, by split and name."""
        where = "" if self.product is None else f"**/{self.product}/"
        return sorted(_stores(self.folder, where))

    @cached_property
    def bands(self) -> tuple[str, ...]:
        """Those of the first store that can be read."""
        for path in self.files:
            try:
                with _opened(path) as group:
                    return _bands_of(group)
            except _WRONG:
                continue
        raise CatalogError(f"{self.folder}: none of its {len(self.files)} stores can be read")

    @property
    def offset(self) -> int:
        """DN to be removed."""
        return OFFSET if self.options.offset is None else self.options.offset

    def facts(self) -> Facts:
        """See :class:`~catalog.importers.importer.Importer`."""
        if any(band_name(band) is None for band in self.bands):
            raise CatalogError(
                f"{self.folder}: bands {', '.join(self.bands)} are no reflectance; give the folder of S2L2A or S2L1C"
            )
        total = times = 0
        for path in self.files:
            try:
                with _opened(path) as group:
                    total, times = total + _array(group, "bands").shape[0], _array(group, "bands").shape[1]
            except _WRONG:
                continue
        note = f"an offset of {self.offset} is removed from all samples"
        if self.options.offset is None:
            note += ", which the Zarr edition of the dataset carries throughout"
        return Facts(bands=self.bands, num_times=times, total=total, notes=(note,))

    def walk(self) -> Iterator[Block | Lost]:
        """Store by store, in blocks of the samples that a chunk holds."""
        for path in self.files:
            relative = path.relative_to(self.folder).as_posix()
            try:
                with _opened(path) as group:
                    count, step, bands = (
                        _array(group, "bands").shape[0],
                        _array(group, "bands").chunks[0],
                        _bands_of(group),
                    )
            except _WRONG as exc:
                yield Lost(relative, f"is no Zarr store that can be read: {_first_line(exc, path)}")
                continue
            if bands != self.bands:
                yield Lost(relative, f"has the bands {', '.join(bands)}, unlike the first store", count)
                continue
            for start in range(0, count, step):
                yield Block(path=relative, part=start, told={"count": str(min(step, count - start))})

    def load(self, block: Block) -> Iterator[Found | Lost]:
        """The samples of a chunk, whose pixels are read at once."""
        path = self.folder / block.path
        try:
            with _opened(path) as group:
                told, dn = _told(group), _chips(group, block.part)
        except _WRONG as exc:
            yield Lost(block.path, f"cannot be read: {_first_line(exc, path)}", int(block.told["count"]))
            return
        for row, dn_TBHW in enumerate(dn):
            try:
                yield Found(self._sample(block.path, block.part, row, told), dn_TBHW)
            except ValueError as exc:
                yield Lost(f"{block.path}, sample {block.part + row}", str(exc))

    def _sample(self, path: str, part: int, within: int, told: dict[str, NDArray[Any]]) -> Sample:
        names, row = told.get("file_id"), part + within
        return Sample(
            id=str(told["sample"][row]),
            place=Place(path=path, part=part, row=within, offset=self.offset),
            grid=_grid(int(told["crs"][row]), told["x_"][row], told["y_"][row]),
            times=tuple(_moment(value) for value in told["time_"][row]),
            lonlat=(float(told["center_lon"][row]), float(told["center_lat"][row])),
            split=_split(path),
            scene_ids=() if names is None else tuple(str(name) for name in names[row]),
        )

    def read(self, path: str, part: int, rows: Sequence[int]) -> Iterator[NDArray[np.uint16]]:
        """See :class:`~catalog.importers.importer.Importer`; the chunk that samples share is read once."""
        try:
            with _opened(self.folder / path) as group:
                if len(rows) == 1:
                    yield _chips(group, part, only=rows[0])[0]
                else:
                    chips = _chips(group, part)
                    yield from (chips[row] for row in rows)
        except _WRONG as exc:
            why = _first_line(exc, self.folder / path)
            raise CatalogError(
                f"{self.folder / path}, sample {part}: {why}; it was readable when the dataset was added"
            ) from exc


def _stores(folder: Path, where: str) -> Iterator[Path]:
    for suffix in SUFFIXES:
        yield from folder.glob(f"{where}*{suffix}")


def _what_else(folder: Path) -> str:
    if any(folder.glob("**/*.tar")):
        return "its tar files are of the later edition, which is another layout: use embed2scale/SSL4EO-S12-v1.1-Zarr"
    return "give the folder that holds train/ and val/, or one product's folder"


@contextmanager
def _opened(path: Path) -> Iterator[zarr.Group]:
    """A store, zipped or not, opened for reading; a file has no thread but the one that opened it."""
    if path.is_file() and not is_zipfile(path):
        raise BadZipFile("it is not a whole zip file")
    store: ZipStore | LocalStore = LocalStore(path, read_only=True) if path.is_dir() else ZipStore(path, mode="r")
    try:
        yield zarr.open_group(store, mode="r", zarr_format=2, use_consolidated=False)
    finally:
        store.close()


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    found = group[name]
    if not isinstance(found, zarr.Array):
        raise ValueError(f"{name} is no array")
    metadata: Any = found.metadata
    used = {codec.codec_id for codec in (*(metadata.filters or ()), metadata.compressor) if codec is not None}
    if strange := used - CODECS:
        raise ValueError(f"{name} is encoded by {', '.join(sorted(strange))}, which is not read")
    return found


def _bands_of(group: zarr.Group) -> tuple[str, ...]:
    lacking = [name for name in NEEDED if name not in group]
    if lacking:
        raise ValueError(f"it has no {', '.join(lacking)}")
    shape, step = _array(group, "bands").shape, _array(group, "bands").chunks[0]
    if len(shape) != 5 or step * math.prod(shape[1:]) * 2 > MOST_BYTES:
        raise ValueError(f"its bands are {shape} in chunks of {step} samples, which is more than is read at once")
    names = [str(name) for name in np.asarray(_array(group, "band")[:])]
    return tuple(band_name(name) or name for name in names)


def _told(group: zarr.Group) -> dict[str, NDArray[Any]]:
    """Everything but the pixels; times decoded by xarray, which encoded them."""
    names = [name for name in (*NEEDED[2:], "file_id") if name in group]
    told = {name: np.asarray(_array(group, name)[:]) for name in names}
    times = xr.Variable(("sample", "time"), told["time_"], dict(group["time_"].attrs))
    return {**told, "time_": xr.conventions.decode_cf_variable("time_", times).values}


def _chips(group: zarr.Group, part: int, *, only: int | None = None) -> NDArray[np.uint16]:
    """Pixels of the samples of a chunk, or of one of them, ``(n, time, band, y, x)``."""
    bands = _array(group, "bands")
    rows = slice(part, min(part + bands.chunks[0], bands.shape[0]))
    if only is not None:
        rows = slice(part + only, part + only + 1)
    dn = np.empty((len(range(*rows.indices(bands.shape[0]))), *bands.shape[1:]), dtype=np.uint16)
    for date in range(bands.shape[1]):  # each lies in a chunk of its own
        dn[:, date] = to_dn(np.asarray(bands[rows, date]))
    if "cloud_mask" in group:
        gone = np.asarray(_array(group, "cloud_mask")[rows]) == NO_DATA_CLASS
        np.copyto(dn, 0, where=gone[:, :, None])
    return dn


def _grid(epsg: int, x: NDArray[np.float64], y: NDArray[np.float64]) -> Grid:
    """The grid whose pixels have these centres."""
    across, down = (x[-1] - x[0]) / (len(x) - 1), (y[-1] - y[0]) / (len(y) - 1)
    if not (np.isfinite([across, down]).all() and across and down):
        raise ValueError("x_ and y_ are no grid")
    transform = (float(across), 0.0, float(x[0] - across / 2), 0.0, float(down), float(y[0] - down / 2))
    return Grid(f"EPSG:{epsg}", transform, len(y), len(x))


def _moment(value: np.datetime64) -> datetime:
    if np.isnat(value):
        raise ValueError("a date is missing")
    return datetime.fromtimestamp(value.astype("datetime64[us]").astype(np.int64) / 1e6, tz=UTC)


def _split(path: str) -> str | None:
    parts = Path(path).parts
    stem = parts[-1].split("_")
    return next((name for name in ("train", "val") if name in parts or name in stem), None)


def _first_line(exc: Exception, path: Path) -> str:
    text = str(exc).replace(str(path), "it").splitlines()
    return text[0] if text and text[0] else type(exc).__name__
