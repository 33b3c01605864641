"""Major TOM Core-S2L2A and Core-S2L1C: Parquet, one row a row group, each band a GeoTIFF in a binary column.

Layout, by Major TOM's own code (github.com/ESA-PhiLab/Major-TOM: ``filter_download``, ``docs/SPEC.md``,
``docs/evidence``) and the cards of the datasets on the Hub::

    images/part_00001.parquet …    product_id, grid_cell, timestamp or product_datetime, thumbnail (PNG),
                                   B01 … B12 (bytes of GeoTIFF, uint16), cloud_mask
    metadata.parquet               grid_cell, product_id, timestamp, cloud_cover, centre_lat, centre_lon, crs,
                                   parquet_url, parquet_row, …: not needed here, and not read

- A chip is 1068 pixels of 10 m a side; bands of 20 and 60 m are 534 and 178. They are brought to the 10 m grid by
  repeating pixels, so that no number is invented.
- The processing baseline is part of the name of the product (``_N0509_``): from 04.00 on 1000 is removed. Products named
  ``N9999`` do not say theirs: nothing is removed, and how many there are is told.
- Some of the real files have no ``crs`` other than the bands' own, which is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from catalog.importers.importer import Block, Facts, Found, Grid, Lost, Options, Place, Sample
from catalog.importers.rasters import L1C_BANDS, Raster, RasterError, read_bytes
from catalog.importers.tables import moment
from pwcat.errors import CatalogError
from pwcat.pixels.harmonise import OFFSET

__all__ = ["MajorTom"]

NEEDED = ("grid_cell", "product_id")
TIMES = ("timestamp", "product_datetime")
PRODUCT = re.compile(r"_(\d{8}T\d{6})_N(\d{4})_")
FIRST_BASELINE_WITH_OFFSET = 400
UNKNOWN_BASELINE = 9999
# A real row group is one row of some 10 MB; a file with larger ones would be held as a whole.
MOST_ROWS, MOST_BYTES = 16, 2**30


@dataclass(frozen=True)
class MajorTom:
    """Parquet files of Major TOM, see the module."""

    folder: Path
    options: Options

    name: ClassVar[str] = "major-tom"
    about: ClassVar[str] = "Major TOM Core (S2L2A, S2L1C): Parquet with a GeoTIFF a band"
    license: ClassVar[str | None] = "CC-BY-SA-4.0"
    attribution: ClassVar[str | None] = (
        "Major TOM Core (Francis and Czerkawski 2024); contains modified Copernicus Sentinel data"
    )

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """A Parquet file with its columns and a band."""
        return any(_bands_in(path) for path in _files(folder)[:3])

    @cached_property
    def files(self) -> list[Path]:
        """The files with pixels, by name."""
        return [path for path in _files(self.folder) if path.name != "metadata.parquet"]

    @cached_property
    def bands(self) -> tuple[str, ...]:
        """Those asked for; else those of the first file that can be read, in the order of their wavelengths."""
        there = next((bands for path in self.files if (bands := _bands_in(path))), ())
        if not there:
            raise CatalogError(
                f"{self.folder}: no Parquet file of Major TOM there (looked for the columns {', '.join(NEEDED)} and bands)"
            )
        lacking = [band for band in self.options.bands or () if band not in there]
        if lacking:
            raise CatalogError(f"--bands: {', '.join(lacking)} are not in the files, which have {', '.join(there)}")
        return self.options.bands or there

    def facts(self) -> Facts:
        """See :class:`~catalog.importers.importer.Importer`."""
        bands, total = self.bands, 0
        for path in self.files:
            opened = _open(path)
            total += opened.metadata.num_rows if isinstance(opened, pq.ParquetFile) else 0
        how = f"an offset of {self.options.offset} is removed from all samples"
        if self.options.offset is None:
            how = f"an offset of {OFFSET} is removed from products of baseline 04.00 on, by their names"
        return Facts(
            bands=bands, total=total, notes=(how, "bands of 20 and 60 m are on the grid of 10 m, pixels repeated")
        )

    def walk(self) -> Iterator[Block | Lost]:
        """Row group by row group."""
        for path in self.files:
            relative = path.relative_to(self.folder).as_posix()
            opened = _open(path)
            if not isinstance(opened, pq.ParquetFile):
                yield Lost(relative, opened)
                continue
            lacking = [name for name in (*NEEDED, *self.bands) if name not in opened.schema_arrow.names]
            if lacking:
                yield Lost(relative, f"has no column {', '.join(lacking)}", opened.metadata.num_rows)
                continue
            for group in range(opened.metadata.num_row_groups):
                yield Block(path=relative, part=group)

    def load(self, block: Block) -> Iterator[Found | Lost]:
        """The samples of a row group: one, in the real files."""
        try:
            for row, record in enumerate(self._records(block.path, block.part)):
                yield self._found(block, row, record)
        except (OSError, ValueError, pa.ArrowException) as exc:
            yield Lost(f"{block.path}, row group {block.part}", f"cannot be read: {str(exc).splitlines()[0]}")

    def _records(self, path: str, group: int) -> Iterator[dict[str, Any]]:
        with pq.ParquetFile(self.folder / path) as opened:
            rows = opened.metadata.row_group(group).num_rows
            times = [name for name in TIMES if name in opened.schema_arrow.names]
            size = opened.metadata.row_group(group).total_byte_size
            if rows > MOST_ROWS or size > MOST_BYTES:
                raise ValueError(f"row groups of {rows} rows and {size:,} bytes: these are not Major TOM's")
            yield from opened.read_row_group(group, columns=[*NEEDED, *times, *self.bands]).to_pylist()

    def _found(self, block: Block, row: int, record: dict[str, Any]) -> Found | Lost:
        product = str(record["product_id"])
        name = f"{record['grid_cell']}_{product}"
        try:
            dn, grid = self._stack(record)
            place = Place(path=block.path, part=block.part, row=row, offset=self._offset(product))
            time = _time(record, product)
        except RasterError as exc:
            return Lost(name, str(exc))
        return Found(Sample(id=name, place=place, grid=grid, times=(time,), scene_ids=(product,)), dn)

    def _stack(self, record: dict[str, Any]) -> tuple[NDArray[np.uint16], Grid]:
        """All bands on the finest grid among them, ``(1, band, y, x)``."""
        rasters = {band: _band(band, record[band]) for band in self.bands}
        finest = max(rasters.values(), key=lambda raster: raster.dn.shape[1])
        assert finest.grid is not None, "_band saw to it"
        height, width = finest.dn.shape[1:]
        dn = np.empty((1, len(self.bands), height, width), dtype=np.uint16)
        for number, (band, raster) in enumerate(rasters.items()):
            down, across = height // raster.dn.shape[1], width // raster.dn.shape[2]
            if (raster.dn.shape[1] * down, raster.dn.shape[2] * across) != (height, width):
                got = f"{raster.dn.shape[1]} x {raster.dn.shape[2]}"
                raise RasterError(f"has a {band} of {got} pixels, of which no whole number fits {height} x {width}")
            dn[0, number] = raster.dn[0].repeat(down, axis=0).repeat(across, axis=1)
        return dn, finest.grid

    def _offset(self, product: str) -> int:
        if self.options.offset is not None:
            return self.options.offset
        match = PRODUCT.search(product)
        baseline = int(match[2]) if match else UNKNOWN_BASELINE
        return OFFSET if FIRST_BASELINE_WITH_OFFSET <= baseline < UNKNOWN_BASELINE else 0

    def read(self, path: str, part: int, rows: Sequence[int]) -> Iterator[NDArray[np.uint16]]:
        """See :class:`~catalog.importers.importer.Importer`."""
        try:
            records = list(self._records(path, part))
            for row in rows:
                yield self._stack(records[row])[0]
        except (OSError, ValueError, IndexError, RasterError, pa.ArrowException) as exc:
            raise CatalogError(
                f"{self.folder / path}, row group {part}: {exc}; it was readable when the dataset was added"
            ) from exc


def _files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.parquet"), *folder.glob("images/*.parquet")])


def _open(path: Path) -> pq.ParquetFile | str:
    """The file; why not, where it cannot be opened."""
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as exc:
        return f"is no Parquet file that can be read: {str(exc).splitlines()[0].replace(str(path), 'it')}"


def _bands_in(path: Path) -> tuple[str, ...]:
    """Bands of a file of Major TOM, in the order of their wavelengths; none where it is no such file."""
    opened = _open(path)
    if not isinstance(opened, pq.ParquetFile):
        return ()
    schema = opened.schema_arrow
    if not set(NEEDED) <= set(schema.names):
        return ()
    binary = {field.name for field in schema if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)}
    return tuple(band for band in L1C_BANDS if band in binary)


def _band(band: str, content: Any) -> Raster:
    if not isinstance(content, bytes):
        raise RasterError(f"has no {band}")
    try:
        raster = read_bytes(content)
    except RasterError as exc:
        raise RasterError(f"has a {band} that {exc}") from exc
    if raster.grid is None or len(raster.dn) != 1:
        raise RasterError(f"has a {band} that is not one band with a CRS")
    return raster


def _time(record: dict[str, Any], product: str) -> datetime:
    told = next((record[name] for name in TIMES if record.get(name)), None)
    match = PRODUCT.search(product)
    if isinstance(told, datetime):
        return told if told.tzinfo else told.replace(tzinfo=UTC)
    try:
        return moment(str(told or (match[1] if match else "")))
    except ValueError as exc:
        raise RasterError("has no date, and a product whose name has none") from exc
