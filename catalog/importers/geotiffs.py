"""A folder of GeoTIFFs and a CSV that lists them: one file a sample, all bands in it.

S2-100K of SatCLIP comes like this (github.com/microsoft/satclip: ``index.csv`` with ``fn, lon, lat`` and ``images/*.tif``
of twelve bands), and so does much of what laboratories have on their disks. Of the CSV only the column of files is needed;
the grid and the CRS are the file's own. S2-100K has no dates, and no processing baseline: both are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from catalog.importers.importer import Block, Facts, Found, Lost, Options, Place, Sample
from catalog.importers.rasters import L1C_BANDS, L2A_BANDS, Raster, RasterError, read_raster, same_names
from catalog.importers.tables import columns_of, find_table, moment, offset_of, rows_of
from pwcat.errors import CatalogError
from pwcat.pixels.harmonise import boa_offset

__all__ = ["GeoTiffs"]

SUFFIXES = (".tif", ".tiff", ".TIF", ".TIFF")
# Where files may lie that a table names without their folder.
FOLDERS = ("", "images", "tiles", "data")
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class GeoTiffs:
    """GeoTIFFs listed by a CSV, see the module."""

    folder: Path
    options: Options

    name: ClassVar[str] = "geotiff"
    about: ClassVar[str] = "a folder of GeoTIFFs, one a sample, and a CSV that lists them"
    license: ClassVar[str | None] = None
    attribution: ClassVar[str | None] = None

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """A CSV, and a GeoTIFF in the folder or one below it."""
        tables = any(folder.glob("*.csv"))
        return tables and any(any(folder.glob(f"{where}*{suffix}")) for where in ("", "*/") for suffix in SUFFIXES)

    @cached_property
    def table(self) -> Path:
        """The CSV."""
        return find_table(self.folder, self.options)

    @cached_property
    def columns(self) -> dict[str, str]:
        """The CSV's column of each role."""
        return columns_of(self.table, self.options)

    @cached_property
    def bands(self) -> tuple[str, ...]:
        """As given; else as the first file that can be read names them; else by their number."""
        if self.options.bands is not None:
            return self.options.bands
        for block in self.walk():
            if isinstance(block, Block):
                try:
                    raster = read_raster(str(self.folder / block.path), scale=self.options.scale or 1.0)
                except RasterError:
                    continue
                return _bands_of(raster, self.folder)
        raise CatalogError(f"{self.folder}: none of the files that {self.table.name} lists can be read")

    def facts(self) -> Facts:
        """See :class:`~catalog.importers.importer.Importer`."""
        if "datetime" not in self.columns and self.options.date is None:
            raise CatalogError(
                f"{self.table}: no column with dates, which STAC asks for: name one (--column datetime=NAME), or say one "
                "for all samples (--date 2021-07-01)"
            )
        notes = [f"bands, in the files' order: {', '.join(self.bands)}"]
        if "datetime" not in self.columns:
            notes.append(f"no dates in {self.table.name}: all samples are given {self.options.date}")
        if self.options.offset is not None:
            notes.append(f"an offset of {self.options.offset} is removed from all samples")
        elif role := next((role for role in ("offset", "baseline") if role in self.columns), None):
            notes.append(f"offsets are removed as the column {self.columns[role]} says")
        else:
            notes.append("no offset is removed: neither a column nor --offset says that there is one")
        total = sum(1 for _ in rows_of(self.table))
        return Facts(bands=self.bands, total=total, notes=tuple(notes))

    def walk(self) -> Iterator[Block | Lost]:
        """Row by row of the CSV."""
        for number, row in enumerate(rows_of(self.table), 1):
            path = self._path(row.get(self.columns["file"], ""))
            if path is None:
                named = row.get(self.columns["file"], "") or f"row {number}"
                yield Lost(named, f"is listed in {self.table.name}, and there is no such file in the folder")
            else:
                yield Block(path=path, told={role: row.get(name, "") for role, name in self.columns.items()})

    def _path(self, named: str) -> str | None:
        """Where a file lies; ``None`` where it does not, or would lie outside of the folder."""
        pure = PurePosixPath(named.replace("\\", "/"))
        if not named or pure.is_absolute() or ".." in pure.parts:
            return None
        for where in FOLDERS:
            path = PurePosixPath(where) / pure
            if (self.folder / path).is_file():
                return str(path)
        return None

    def load(self, block: Block) -> Iterator[Found | Lost]:
        """The one sample of a file."""
        try:
            yield self._found(block)
        except RasterError as exc:
            yield Lost(block.path, str(exc))

    def _found(self, block: Block) -> Found:
        raster = self._raster(block.path)
        if raster.grid is None:
            raise RasterError("has no CRS: nothing says where its pixels lie")
        sample = Sample(
            id=block.told.get("id") or str(PurePosixPath(block.path).with_suffix("")).replace("/", "_"),
            place=Place(path=block.path, offset=self._offset(block)),
            grid=raster.grid,
            times=(self._time(block),),
            split=_split(block.told.get("split", "")),
            scene_ids=(block.told["scene"],) if block.told.get("scene") else (),
        )
        return Found(sample, raster.dn[None])

    def _raster(self, path: str) -> Raster:
        raster = read_raster(str(self.folder / path), scale=self.options.scale)
        if len(raster.dn) != len(self.bands):
            raise RasterError(f"has {len(raster.dn)} bands, not {len(self.bands)}")
        return raster

    def _offset(self, block: Block) -> int:
        if self.options.offset is not None:
            return self.options.offset
        if "offset" not in self.columns:
            return boa_offset(block.told, baseline="baseline")
        try:
            return offset_of(block.told.get("offset", ""))
        except ValueError as exc:
            raise RasterError("has an offset in the table that is neither a number, nor yes or no") from exc

    def _time(self, block: Block) -> datetime:
        text = block.told.get("datetime") or self.options.date or ""
        try:
            return moment(text)
        except ValueError as exc:
            why = "no date in the table" if not text else "a date in the table that is not ISO 8601"
            raise RasterError(f"has {why}") from exc

    def read(self, path: str, part: int, rows: Sequence[int]) -> Iterator[NDArray[np.uint16]]:
        """See :class:`~catalog.importers.importer.Importer`."""
        try:
            dn = self._raster(path).dn[None]
        except RasterError as exc:
            raise CatalogError(f"{self.folder / path} {exc}; it was readable when the dataset was added") from exc
        for _ in rows:
            yield dn


def _bands_of(raster: Raster, folder: Path) -> tuple[str, ...]:
    named = same_names(raster.names)
    by_count = {len(L2A_BANDS): L2A_BANDS, len(L1C_BANDS): L1C_BANDS}
    if named is None and len(raster.dn) not in by_count:
        raise CatalogError(
            f"{folder}: files have {len(raster.dn)} bands without names of their own; say them in order, such as "
            "--bands B02,B03,B04,B08"
        )
    return named or by_count[len(raster.dn)]


def _split(text: str) -> str | None:
    return SPLITS.get(text.strip().lower())
