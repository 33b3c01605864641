"""Layers of class rasters with one legend: one file, or many that lie beside each other."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.windows import Window

from pwcat.errors import RegionError
from pwcat.gdal import GDAL_OPTIONS
from pwcat.geo.antimeridian import within_reach
from pwcat.plain import open_plain
from pwcat.providers.guard import gdal_options
from pwcat.providers.redaction import unsign
from pwcat.regions.areas import METRES_PER_DEGREE
from pwcat.regions.cells import grow
from pwcat.regions.coverage import cells_under
from pwcat.regions.layer import NONE, named
from pwcat.regions.pixels import PixelGrid, grid_of

__all__ = ["Files", "FixedFiles", "RasterFile", "RasterLayer", "open_raster"]

# A raster of up to this many pixels is read whole; a larger one is read window by window.
WHOLE_RASTER_PIXELS = 64_000_000

# Side of the squares of pixels that a larger raster is read in: what lies in one is read at once.
READ_PX = 1024


WORLD = shapely.box(-180, -90, 180, 90)


@dataclass(frozen=True, kw_only=True)
class RasterFile:
    """One class raster: where it can be read, unsigned, and where on Earth it lies at most (EPSG:4326)."""

    href: str
    footprint: shapely.Geometry


@dataclass(frozen=True, kw_only=True)
class LocalFile:
    """A class raster on disk.

    Attributes:
        href: of the file.
        grid: that it is read on; a coarser one than its own takes the nearest pixel of each.
        kept: whether it is read whole, once, and kept in memory.
    """

    href: str
    grid: PixelGrid
    kept: bool


class Files(Protocol):
    """The files of a layer, listed or asked for."""

    def over(self, bounds: NDArray[np.float64]) -> Sequence[RasterFile]:
        """At least the files that may lie over boxes ``(n, 4)`` of west, south, east, north; the first of several wins."""
        ...

    def outline(self) -> Sequence[shapely.Geometry]:
        """Polygons that hold every file, EPSG:4326; none where there is no file."""
        ...

    def readable(self, href: str) -> str:
        """A file's href as it can be read right now; not to be kept."""
        ...


@dataclass(frozen=True)
class FixedFiles:
    """Files that are known from the start."""

    files: tuple[RasterFile, ...]

    def over(self, bounds: NDArray[np.float64]) -> Sequence[RasterFile]:
        """All of them."""
        return self.files

    def outline(self) -> Sequence[shapely.Geometry]:
        """The footprint of each."""
        return [file.footprint for file in self.files]

    def readable(self, href: str) -> str:
        """The href as it is."""
        return href


@dataclass(frozen=True, kw_only=True, eq=False)
class RasterLayer:
    """Class rasters, each in its own CRS. One in degrees, of whatever datum, is read as longitude and latitude as it is.

    Attributes:
        name: landcover, biome, …
        source: where it came from, for the record.
        files: of the layer.
        legend: name of each value; values without one have no class, and several values may share one.
        pixel_m: native sampling in metres; of degrees, along a meridian.
        local: the one file, where it is one on disk.
    """

    name: str
    source: str
    files: Files
    legend: Mapping[int, str]
    pixel_m: float
    local: LocalFile | None = None

    @cached_property
    def classes(self) -> list[str]:
        """The classes, sorted."""
        return sorted(set(self.legend.values()))

    def codes(self, lonlat: NDArray[np.float64]) -> NDArray[np.int16]:
        """Code of the pixel that each point lies in, ``(n,)`` or ``(n, k)``; -1 outside, and where the value has no class.

        Raises:
            RegionError: a file cannot be read.
            SourceError: a file's address is refused, or cannot be signed.
        """
        if not lonlat.size:
            return np.full(lonlat.shape[:-1], NONE, dtype=np.int16)
        grids = np.asarray(lonlat, dtype=np.float64).reshape(len(lonlat), -1, 2)
        codes = np.full(grids.shape[:2], NONE, dtype=np.int16)
        finite = np.isfinite(grids).all(axis=(1, 2))
        wide = np.ptp(grids[..., 0], axis=1) > 180  # a chip across the antimeridian: its points are asked one by one
        near = np.flatnonzero(finite & ~wide)
        codes[near] = self._codes_of_chips(grids[near])
        rest = np.flatnonzero(~finite | wide)
        points = grids[rest].reshape(-1, 1, 2)
        single = np.flatnonzero(np.isfinite(points).all(axis=(1, 2)))
        found = np.full((len(points), 1), NONE, dtype=np.int16)
        found[single] = self._codes_of_chips(points[single])
        codes[rest] = found.reshape(len(rest), grids.shape[1])
        return codes.reshape(lonlat.shape[:-1])

    def label(self, lonlat: NDArray[np.float64]) -> NDArray[np.object_]:
        """Class of each point; ``None`` where there is none."""
        return named(self.codes(lonlat), self.classes)

    def possible(self, codes: Sequence[int] | None, *, margin_km: float = 0.0) -> NDArray[np.bool_]:
        """Cells where a point with one of these codes can lie, ``(3600, 7200)``; see :class:`pwcat.regions.RegionLayer`.

        Of a raster that is read whole, those that its pixels of these codes touch. Of a larger one, and of a collection,
        those that its files touch, whatever their pixels are; a collection is asked for all of its files.

        Raises:
            RegionError: the file cannot be read.
            SourceError: the STAC API does not answer.
        """
        if self.local is None or not self.local.kept:
            return grow(self._footprint, margin_km)
        wanted = np.full(len(self.classes) + 1, codes is None)
        wanted[list(codes or [])] = True
        wanted[NONE] = False
        return grow(self.local.grid.cells(wanted[self._codes_of_values(self._pixels)]), margin_km)

    def rough(self) -> RasterLayer | None:
        """The layer, for millions of points; of a large file fewer pixels; ``None`` for a collection, read over a network."""
        if self.local is None:
            return None
        return self if self.local.kept else self._thinned

    def areas_km2(self) -> NDArray[np.float64] | None:
        """Area of each class, ``(K,)``; ``None`` but for one raster that is read whole."""
        if self.local is None or not self.local.kept:
            return None
        codes = self._codes_of_values(self._pixels)
        rows = np.zeros((len(codes), len(self.classes)))
        for number, row in enumerate(codes):
            rows[number] = np.bincount(row[row >= 0], minlength=len(self.classes))
        return self.local.grid.row_km2() @ rows

    @cached_property
    def _pixels(self) -> NDArray[np.int64]:
        """Values of the file on disk, on the grid that it is read on."""
        assert self.local is not None, "only what is on disk is kept in memory"
        with self._reading(self.local.href) as raster:
            return np.asarray(raster.read(1, out_shape=self.local.grid.shape))

    @cached_property
    def _thinned(self) -> RasterLayer:
        """The layer with as many pixels of a large file as are kept in memory."""
        assert self.local is not None, "only what is on disk is thinned"
        return replace(self, local=replace(self.local, grid=self.local.grid.coarsened(WHOLE_RASTER_PIXELS), kept=True))

    @cached_property
    def _footprint(self) -> NDArray[np.bool_]:
        """Cells that the files may touch, ``(3600, 7200)``."""
        if self.local is not None:
            return self.local.grid.footprint()
        polygons = shapely.get_parts(np.array([*self.files.outline()], dtype=object))
        return cells_under(within_reach(polygons[~shapely.is_empty(polygons)]))

    @cached_property
    def _values(self) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
        """The legend's values, sorted, and the code of each."""
        values = np.array(sorted(self.legend), dtype=np.int64)
        return values, np.array([self.classes.index(self.legend[int(value)]) for value in values], dtype=np.int16)

    def _codes_of_values(self, pixels: NDArray[np.int64]) -> NDArray[np.int16]:
        values, codes = self._values
        if pixels.dtype in (np.uint8, np.uint16):  # a table of every value there can be
            table = np.full(np.iinfo(pixels.dtype).max + 1, NONE, dtype=np.int16)
            inside = (values >= 0) & (values < len(table))
            table[values[inside]] = codes[inside]
            return np.asarray(table[pixels])
        place = np.minimum(np.searchsorted(values, pixels), len(values) - 1)
        return np.where(values[place] == pixels, codes[place], NONE).astype(np.int16)

    def _codes_of_chips(self, grids: NDArray[np.float64]) -> NDArray[np.int16]:
        codes = np.full(grids.shape[:2], NONE, dtype=np.int16)
        if not len(grids):
            return codes
        bounds = np.concatenate([grids.min(axis=1), grids.max(axis=1)], axis=1)
        for file, chips in _by_file(self.files.over(bounds), bounds):
            rows, columns = np.nonzero(codes[chips] == NONE)  # the first file that has a class there wins
            if len(rows):
                points = chips[rows], columns
                codes[points] = self._codes_in(file, grids[points])
        return codes

    def _codes_in(self, file: RasterFile, lonlat: NDArray[np.float64]) -> NDArray[np.int16]:
        codes = np.full(len(lonlat), NONE, dtype=np.int16)
        if self.local is not None and self.local.kept:
            rows, columns, inside = self.local.grid.find(lonlat)
            codes[inside] = self._codes_of_values(self._pixels[rows, columns])
            return codes
        with self._reading(file.href) as raster:
            values, inside = _sample(raster, self.local.grid if self.local else grid_of(raster), lonlat)
        codes[inside] = self._codes_of_values(values)
        return codes

    @contextmanager
    def _reading(self, href: str) -> Iterator[DatasetReader]:
        """A raster opened for reading; what GDAL cannot read is told with the layer and the file."""
        # beside a file on disk may lie others that belong to it
        options = {} if self.local else GDAL_OPTIONS
        try:
            opens, readable = rasterio.open if self.local else open_plain, self.files.readable(href)
            with rasterio.Env(**options, **gdal_options(readable)), opens(readable) as raster:
                yield raster
        except rasterio.errors.RasterioError as exc:
            raise RegionError(f"regions.{self.name}: {href} cannot be read: {unsign(str(exc))}") from exc


def _by_file(
    files: Sequence[RasterFile], bounds: NDArray[np.float64]
) -> Iterator[tuple[RasterFile, NDArray[np.int64]]]:
    """Each file, and the numbers of the boxes that its footprint meets, in the order of the files."""
    if len(files) == 1:
        west, south, east, north = files[0].footprint.bounds
        turned = west < -180 or east > 180  # longitudes counted otherwise, such as from 0 to 360
        beside = (bounds[:, 0] <= east) & (bounds[:, 2] >= west)
        yield files[0], np.flatnonzero((turned | beside) & (bounds[:, 1] <= north) & (bounds[:, 3] >= south))
        return
    tree = shapely.STRtree([file.footprint for file in files])
    points = (bounds[:, :2] == bounds[:, 2:]).all(axis=1)
    boxes = np.where(points, shapely.points(bounds[:, :2]), shapely.box(*bounds.T))
    box_index, file_index = tree.query(boxes, predicate="intersects")
    for number in np.unique(file_index):
        yield files[number], np.sort(box_index[file_index == number])


def _sample(
    raster: DatasetReader, grid: PixelGrid, lonlat: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Values at the points inside, and which points those are; each square of pixels is read once."""
    rows, columns, inside = grid.find(lonlat)
    values = np.empty(len(rows), dtype=raster.dtypes[0])
    squares = (rows // READ_PX) * (raster.width // READ_PX + 1) + columns // READ_PX
    order = np.argsort(squares, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(squares[order])) + 1):
        if len(members):
            values[members] = _read_window(raster, rows[members], columns[members])
    return values, inside


def _read_window(raster: DatasetReader, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
    top, left = int(rows.min()), int(columns.min())
    window = Window(left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1)
    return np.asarray(raster.read(1, window=window)[rows - top, columns - left])


def open_raster(path: Path, *, name: str, source: str, legend: Mapping[int, str]) -> RasterLayer:
    """A class raster file as a layer.

    Raises:
        RegionError: it cannot be read, or is not georeferenced.
    """
    try:
        with warnings.catch_warnings(), rasterio.open(path) as raster:
            warnings.simplefilter("ignore")
            return _described(raster, path=path, name=name, source=source, legend=legend)
    except (rasterio.errors.RasterioError, AttributeError) as exc:
        raise RegionError(f"regions.{name}: {path} cannot be read as a georeferenced raster: {exc}") from exc


def _described(raster: DatasetReader, *, path: Path, name: str, source: str, legend: Mapping[int, str]) -> RasterLayer:
    grid = grid_of(raster)
    file = RasterFile(href=str(path), footprint=shapely.box(*raster.bounds) if grid.upright else WORLD)
    kept = raster.width * raster.height <= WHOLE_RASTER_PIXELS
    return RasterLayer(
        name=name,
        source=source,
        files=FixedFiles((file,)),
        legend=legend,
        pixel_m=pixel_metres(raster),
        local=LocalFile(href=file.href, grid=grid, kept=kept),
    )


def pixel_metres(raster: DatasetReader) -> float:
    """Native sampling in metres; of degrees, along a meridian."""
    scale = METRES_PER_DEGREE if raster.crs.is_geographic else float(raster.crs.linear_units_factor[1])
    return abs(float(raster.transform.e)) * scale
