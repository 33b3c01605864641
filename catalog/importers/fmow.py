"""fMoW-Sentinel: a CSV a split, and one GeoTIFF an image, composites of Sentinel-2 level 1C.

Layout, by the dataset's own description (purl.stanford.edu/vg497cb6002, ``README.md``) and the README of SatMAE
(github.com/sustainlab-group/SatMAE), whose path holds where the two differ::

    train.csv  val.csv  test_gt.csv           category, location_id, image_id, timestamp, polygon
    <split>/<category>/<category>_<location_id>/<category>_<location_id>_<image_id>.tif

- 13 bands in the order of their wavelengths: B1 … B8, B8A, B9, B10, B11, B12 (the description calls the eighth and ninth
  "B8A, B8B"). Reflectance times 10,000; scenes of 2015 to 2019 carry no offset of 1000.
- ``timestamp`` is the middle of the 90 days that a composite is made of, not the day of a scene.
- ``polygon`` is WKT, longitude and latitude; it is used where a file has no CRS.
- Images that failed to download have a single empty band: they are counted as lost, where a CSV still lists them.
- Images differ in size. They can be described as they are; to be read as chips they need ``--size-px``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import shapely
from numpy.typing import NDArray

from catalog.importers.importer import Block, Facts, Found, Grid, Lost, Options, Place, Sample
from catalog.importers.rasters import L1C_BANDS, RasterError, read_raster
from catalog.importers.tables import moment, rows_of
from pwcat.errors import CatalogError

__all__ = ["FmowSentinel"]

# The CSV of each split; the folder of its images is named like it, without the ending.
TABLES = {"train.csv": "train", "val.csv": "val", "test_gt.csv": "test"}
COLUMNS = ("category", "location_id", "image_id", "timestamp")
# SatMAE's own paths begin with this folder, beside or above the CSVs.
TOP = "fmow-sentinel"


@dataclass(frozen=True)
class FmowSentinel:
    """fMoW-Sentinel, see the module."""

    folder: Path
    options: Options

    name: ClassVar[str] = "fmow-sentinel"
    about: ClassVar[str] = "fMoW-Sentinel: train.csv, val.csv, test_gt.csv, and GeoTIFFs of 13 bands"
    license: ClassVar[str | None] = "other"
    attribution: ClassVar[str | None] = (
        "fMoW-Sentinel (Cong et al. 2022): locations under the fMoW Challenge Public License; contains modified Copernicus "
        "Sentinel data 2015-2019"
    )

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """One of its CSVs, with its columns."""
        return any(set(COLUMNS) <= set(_header(folder / name)) for name in TABLES)

    @property
    def tables(self) -> list[str]:
        """The CSVs that are there."""
        return [name for name in TABLES if (self.folder / name).is_file()]

    def facts(self) -> Facts:
        """See :class:`~catalog.importers.importer.Importer`."""
        if not self.tables:
            raise CatalogError(
                f"{self.folder}: no {', '.join(TABLES)} there; give the folder that holds fMoW-Sentinel's CSVs"
            )
        for name in self.tables:
            lacking = [column for column in COLUMNS if column not in _header(self.folder / name)]
            if lacking:
                raise CatalogError(f"{self.folder / name}: not fMoW-Sentinel's: it has no column {', '.join(lacking)}")
        total = sum(sum(1 for _ in rows_of(self.folder / name)) for name in self.tables)
        notes = (
            f"an offset of {self.options.offset or 0} is removed; composites of 2015 to 2019 have none",
            "dates are the middle of the 90 days of each composite",
        )
        return Facts(bands=L1C_BANDS, total=total, notes=notes)

    def walk(self) -> Iterator[Block | Lost]:
        """Row by row of each CSV."""
        for table in self.tables:
            for row in rows_of(self.folder / table):
                place = f"{row['category']}_{row['location_id']}"
                name = f"{place}_{row['image_id']}"
                path = self._path(f"{Path(table).stem}/{row['category']}/{place}/{name}.tif")
                if path is None:
                    yield Lost(name, f"is listed in {table}, and its file is not there")
                else:
                    yield Block(path=path, told={**row, "id": f"{TABLES[table]}_{name}", "split": TABLES[table]})

    def _path(self, path: str) -> str | None:
        if ".." in Path(path).parts:
            return None
        return next((p for p in (path, f"{TOP}/{path}") if (self.folder / p).is_file()), None)

    def load(self, block: Block) -> Iterator[Found | Lost]:
        """The one image of a file."""
        try:
            yield self._found(block)
        except RasterError as exc:
            yield Lost(block.path, str(exc))

    def _found(self, block: Block) -> Found:
        dn, grid = self._chip(block.path)
        try:
            time = moment(block.told["timestamp"])
        except ValueError as exc:
            raise RasterError("has a timestamp in the table that is not ISO 8601") from exc
        sample = Sample(
            id=block.told["id"],
            place=Place(path=block.path, offset=self.options.offset or 0),
            grid=grid or _grid_of(block.told.get("polygon", ""), dn.shape[2], dn.shape[3]),
            times=(time,),
            split=block.told["split"],
        )
        return Found(sample, dn)

    def _chip(self, path: str) -> tuple[NDArray[np.uint16], Grid | None]:
        raster = read_raster(str(self.folder / path), scale=self.options.scale)
        if len(raster.dn) == 1:
            raise RasterError("has a single band: its download failed when the dataset was made")
        if len(raster.dn) != len(L1C_BANDS):
            raise RasterError(f"has {len(raster.dn)} bands, not {len(L1C_BANDS)}")
        return raster.dn[None], raster.grid

    def read(self, path: str, part: int, rows: Sequence[int]) -> Iterator[NDArray[np.uint16]]:
        """See :class:`~catalog.importers.importer.Importer`."""
        try:
            dn, _ = self._chip(path)
        except RasterError as exc:
            raise CatalogError(f"{self.folder / path} {exc}; it was readable when the dataset was added") from exc
        for _ in rows:
            yield dn


def _header(path: Path) -> list[str]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return [name.strip() for name in file.readline().split(",")]


def _grid_of(polygon: str, height: int, width: int) -> Grid:
    """The grid over a polygon's bounds, EPSG:4326.

    Raises:
        RasterError: it is no WKT of a polygon with an area.
    """
    try:
        west, south, east, north = shapely.from_wkt(polygon).bounds
    except (shapely.errors.ShapelyError, AttributeError, TypeError, ValueError) as exc:
        raise RasterError("has no CRS, and no polygon in the table that can be read as WKT") from exc
    if not (west < east and south < north):
        raise RasterError("has no CRS, and no polygon in the table with an area")
    transform = ((east - west) / width, 0.0, west, 0.0, -(north - south) / height, north)
    return Grid("EPSG:4326", transform, height, width)
