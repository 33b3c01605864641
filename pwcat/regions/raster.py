"""Layers of class rasters with one legend: one file, or many that lie beside each other."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.io import DatasetReader
from rasterio.windows import Window

from pwcat.errors import RegionError
from pwcat.gdal import GDAL_OPTIONS
from pwcat.regions.areas import band_km2
from pwcat.regions.cells import CELL_DEG, SHAPE, grow
from pwcat.regions.layer import NONE, named

__all__ = ["Files", "FixedFiles", "RasterFile", "RasterLayer", "open_raster"]

# A raster of up to this many pixels is read whole; a larger one is read window by window.
WHOLE_RASTER_PIXELS = 64_000_000

# Side of the squares of pixels that a larger raster is read in: what lies in one is read at once.
READ_PX = 1024

METRES_PER_DEGREE = 111_320.0  # along a meridian, on the sphere of the equator's radius

# Part of a pixel by which it is taken for smaller when it is laid on cells, so that rounding makes it touch no neighbour.
SLACK = 1e-6


@dataclass(frozen=True, kw_only=True)
class RasterFile:
    """One class raster: where it can be read now, and where on Earth it lies (EPSG:4326)."""

    href: str
    footprint: shapely.Geometry


class Files(Protocol):
    """The files of a layer, listed or asked for."""

    def over(self, bounds: NDArray[np.float64]) -> Sequence[RasterFile]:
        """At least the files that may lie over boxes ``(n, 4)`` of west, south, east, north; the first of several wins."""
        ...


@dataclass(frozen=True)
class FixedFiles:
    """Files that are known from the start."""

    files: tuple[RasterFile, ...]

    def over(self, bounds: NDArray[np.float64]) -> Sequence[RasterFile]:
        """All of them."""
        return self.files


@dataclass(frozen=True, kw_only=True, eq=False)
class RasterLayer:
    """Class rasters, each in its own CRS. One in degrees, of whatever datum, is read as longitude and latitude as it is.

    Attributes:
        name: landcover, biome, …
        source: where it came from, for the record.
        files: of the layer.
        legend: name of each value; values without one have no class, and several values may share one.
        pixel_m: native sampling in metres; of degrees, along a meridian.
        whole: the one file, where it is small enough to be kept in memory.
    """

    name: str
    source: str
    files: Files
    legend: Mapping[int, str]
    pixel_m: float
    whole: str | None = None

    @cached_property
    def classes(self) -> list[str]:
        """The classes, sorted."""
        return sorted(set(self.legend.values()))

    def codes(self, lonlat: NDArray[np.float64]) -> NDArray[np.int16]:
        """Code of the pixel that each point lies in, ``(n,)`` or ``(n, k)``; -1 outside, and where the value has no class.

        Raises:
            RegionError: a file cannot be read.
        """
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

    def possible(self, codes: Sequence[int] | None, *, margin_km: float = 0.0) -> NDArray[np.bool_] | None:
        """Cells that a pixel of these codes overlaps, ``(3600, 7200)``; ``None`` but for one raster in degrees, read whole."""
        if self.whole is None or not self._pixels.upright:
            return None
        wanted = np.full(len(self.classes) + 1, codes is None)
        wanted[list(codes or [])] = True
        wanted[NONE] = False
        return grow(self._pixels.on_cells(wanted[self._codes_of_values(self._pixels.values)]), margin_km)

    def areas_km2(self) -> NDArray[np.float64] | None:
        """Area of each class, ``(K,)``; ``None`` but for one raster that is read whole."""
        if self.whole is None:
            return None
        codes = self._codes_of_values(self._pixels.values)
        rows = np.zeros((len(codes), len(self.classes)))
        for number, row in enumerate(codes):
            rows[number] = np.bincount(row[row >= 0], minlength=len(self.classes))
        return self._pixels.row_km2() @ rows

    @cached_property
    def _pixels(self) -> Pixels:
        assert self.whole is not None, "only one small file is kept in memory"
        with _reading(self.whole, self.name) as raster:
            return Pixels(values=raster.read(1), transform=raster.transform, crs=raster.crs)

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
        if file.href == self.whole:
            rows, columns, inside = self._pixels.find(lonlat)
            codes[inside] = self._codes_of_values(self._pixels.values[rows, columns])
            return codes
        with _reading(file.href, self.name) as raster:
            values, inside = _sample(raster, lonlat)
        codes[inside] = self._codes_of_values(values)
        return codes


@dataclass(frozen=True, kw_only=True, eq=False)
class Pixels:
    """A raster in memory."""

    values: NDArray[np.int64]
    transform: rasterio.Affine
    crs: CRS

    @property
    def upright(self) -> bool:
        """Whether rows are parallels and columns meridians."""
        return bool(self.crs.is_geographic) and self.transform.b == 0 and self.transform.d == 0

    def find(self, lonlat: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Rows and columns of the points inside, and which points those are."""
        points = _projected(lonlat, crs=self.crs, transform=self.transform, width=self.values.shape[1])
        return _locate(points, self.transform, self.values.shape)

    def on_cells(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Cells of the global grid that a marked pixel overlaps, ``(3600, 7200)``."""
        height, width = mask.shape
        t = self.transform
        tops = (90 - (t.f + t.e * np.arange(height + 1))) / CELL_DEG
        lefts = ((t.c + 180) % 360 + t.a * np.arange(width + 1)) / CELL_DEG
        rows = _overlapped(mask, tops, SHAPE[0], slack=SLACK * abs(t.e) / CELL_DEG)
        around = _overlapped(
            np.ascontiguousarray(rows.T), lefts, 2 * SHAPE[1], slack=SLACK * abs(t.a) / CELL_DEG
        ).T  # east of 180°, too
        return np.asarray(around[:, : SHAPE[1]] | around[:, SHAPE[1] :])

    def row_km2(self) -> NDArray[np.float64]:
        """Area of one pixel of each row."""
        t, height = self.transform, len(self.values)
        if not self.crs.is_geographic:
            return np.full(height, abs(t.a * t.e) / 1e6)
        edges = t.f + t.e * np.arange(height + 1)
        return np.abs(band_km2(edges[:-1], edges[1:], abs(t.a)))


def _overlapped(mask: NDArray[np.bool_], edges: NDArray[np.float64], cells: int, *, slack: float) -> NDArray[np.bool_]:
    """True in each of ``cells`` rows that one of the rows of the mask between ``edges`` overlaps and is True in."""
    if edges[0] > edges[-1]:
        mask, edges = mask[::-1], edges[::-1]
    first = np.clip(np.searchsorted(edges[1:] - slack, np.arange(cells), side="right"), 0, len(mask))
    last = np.clip(np.searchsorted(edges[:-1] + slack, np.arange(1, cells + 1), side="left"), 0, len(mask))
    result = np.zeros((cells, mask.shape[1]), dtype=bool)
    for further in range(int((last - first).max(initial=0))):
        some = np.flatnonzero(first + further < last)
        result[some] |= mask[first[some] + further]
    return result


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


def _locate(
    points: NDArray[np.float64], transform: rasterio.Affine, shape: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Rows and columns of the points inside, and which those are; the far edges belong to the last row and column."""
    x, y = points.T
    back = ~transform
    columns, rows = back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f
    inside = (columns >= 0) & (columns <= shape[1]) & (rows >= 0) & (rows <= shape[0])
    row = np.minimum(rows[inside].astype(np.int64), shape[0] - 1)
    return row, np.minimum(columns[inside].astype(np.int64), shape[1] - 1), inside


def _projected(lonlat: NDArray[np.float64], *, crs: CRS, transform: rasterio.Affine, width: int) -> NDArray[np.float64]:
    """The points in a raster's CRS; longitudes are counted as it counts them, where it lies beyond ±180°."""
    if not crs.is_geographic:
        points = np.column_stack(Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(*lonlat.T))
        points[~np.isfinite(points)] = np.nan
        return points
    west, east = transform.c, transform.c + transform.a * width
    lon = lonlat[:, 0]
    lon = np.where((lon < west) & (lon + 360 <= east), lon + 360, lon)
    lon = np.where((lon > east) & (lon - 360 >= west), lon - 360, lon)
    return np.column_stack([lon, lonlat[:, 1]])


def _sample(raster: DatasetReader, lonlat: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Values at the points inside, and which points those are; each square of pixels is read once."""
    points = _projected(lonlat, crs=raster.crs, transform=raster.transform, width=raster.width)
    rows, columns, inside = _locate(points, raster.transform, raster.shape)
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


@contextmanager
def _reading(href: str, name: str) -> Iterator[DatasetReader]:
    """A raster opened for reading; what GDAL cannot read is told with the layer and the file."""
    try:
        with rasterio.Env(**GDAL_OPTIONS), rasterio.open(href) as raster:
            yield raster
    except rasterio.errors.RasterioError as exc:
        raise RegionError(f"regions.{name}: {href} cannot be read: {exc}") from exc


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
    bounds = raster.bounds
    if not raster.crs.is_geographic:
        bounds = rasterio.warp.transform_bounds(raster.crs, "EPSG:4326", *raster.bounds)
    file = RasterFile(href=str(path), footprint=shapely.box(*bounds))
    whole = raster.width * raster.height <= WHOLE_RASTER_PIXELS
    return RasterLayer(
        name=name,
        source=source,
        files=FixedFiles((file,)),
        legend=legend,
        pixel_m=pixel_metres(raster),
        whole=file.href if whole else None,
    )


def pixel_metres(raster: DatasetReader) -> float:
    """Native sampling in metres; of degrees, along a meridian."""
    scale = METRES_PER_DEGREE if raster.crs.is_geographic else float(raster.crs.linear_units_factor[1])
    return abs(float(raster.transform.e)) * scale
