"""Where the pixels of a raster lie on Earth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import rasterio
from numpy.typing import NDArray
from pyproj import Transformer
from pyproj.enums import TransformDirection
from rasterio.crs import CRS
from rasterio.io import DatasetReader

from pwcat.regions.areas import band_km2
from pwcat.regions.coverage import cells_of_upright, cells_through

__all__ = ["PixelGrid", "grid_of"]

# A point has a place in a projection if that leads back to within so much of it: some metres.
BACK_DEG = 1e-4


@dataclass(frozen=True, kw_only=True)
class PixelGrid:
    """The pixels of a raster, without their values.

    Attributes:
        transform: from columns and rows to the CRS.
        crs: one in degrees, of whatever datum, is taken for longitude and latitude as it is.
        shape: rows and columns.
    """

    transform: rasterio.Affine
    crs: CRS
    shape: tuple[int, int]

    @property
    def upright(self) -> bool:
        """Whether rows are parallels and columns meridians."""
        return bool(self.crs.is_geographic) and self.transform.b == 0 and self.transform.d == 0

    def coarsened(self, most: int) -> PixelGrid:
        """A grid over the same place, of at most so many pixels."""
        height, width = self.shape
        factor = max(1.0, np.sqrt(height * width / most))
        rows, columns = max(1, int(height / factor)), max(1, int(width / factor))
        t, wide, high = self.transform, width / columns, height / rows
        transform = rasterio.Affine(t.a * wide, t.b * high, t.c, t.d * wide, t.e * high, t.f)
        return PixelGrid(transform=transform, crs=self.crs, shape=(rows, columns))

    def place(self, lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
        """Columns and rows of points, ``(n, 2)``, whole at pixels' corners; not finite where the projection has none."""
        x, y = self._projected(lonlat)
        back = ~self.transform
        return np.column_stack([back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f])

    def find(self, lonlat: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Rows and columns of the points inside, and which those are; the far edges belong to the last row and column."""
        columns, rows = self.place(lonlat).T
        inside = (columns >= 0) & (columns <= self.shape[1]) & (rows >= 0) & (rows <= self.shape[0])
        row = np.minimum(rows[inside].astype(np.int64), self.shape[0] - 1)
        return row, np.minimum(columns[inside].astype(np.int64), self.shape[1] - 1), inside

    def cells(self, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Cells of the globe that a marked pixel may touch, ``(3600, 7200)``; exact where rows are parallels.

        Args:
            marked: ``(rows, columns)``.
        """
        return cells_of_upright(marked, self.transform) if self.upright else cells_through(marked, self.place)

    def footprint(self) -> NDArray[np.bool_]:
        """Cells of the globe that the raster may touch, ``(3600, 7200)``."""
        return self.coarsened(1).cells(np.ones((1, 1), dtype=bool))

    def row_km2(self) -> NDArray[np.float64]:
        """Area of one pixel of each row."""
        t, height = self.transform, self.shape[0]
        if not self.crs.is_geographic:
            return np.full(height, abs(t.a * t.e) / 1e6)
        edges = t.f + t.e * np.arange(height + 1)
        return np.abs(band_km2(edges[:-1], edges[1:], abs(t.a)))

    def _projected(self, lonlat: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The points in the CRS; longitudes are counted as it counts them, where it lies beyond ±180°."""
        lon, lat = lonlat.T
        if not self.crs.is_geographic:
            return _forth_and_back(lon, lat, self.crs)
        t, (height, width) = self.transform, self.shape
        ends = [t.c + t.a * column + t.b * row for column in (0, width) for row in (0, height)]
        west, east = min(ends), max(ends)
        lon = np.where((lon < west) & (lon + 360 <= east), lon + 360, lon)
        return np.where((lon > east) & (lon - 360 >= west), lon - 360, lon), lat


def _forth_and_back(
    lon: NDArray[np.float64], lat: NDArray[np.float64], crs: CRS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The points in a projection; NaN where it does not lead back to them: far outside, some give any numbers."""
    transformer = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    x, y = transformer.transform(lon, lat)
    lon_back, lat_back = transformer.transform(x, y, direction=TransformDirection.INVERSE)
    with np.errstate(invalid="ignore"):  # what has no place is infinite
        east = (lon_back - lon + 180) % 360 - 180
        off = np.maximum(np.abs(lat_back - lat), np.abs(east * np.cos(np.deg2rad(lat))))
    here = off < BACK_DEG
    return np.where(here, x, np.nan), np.where(here, y, np.nan)


def grid_of(raster: DatasetReader) -> PixelGrid:
    """The pixels of an open raster."""
    return PixelGrid(transform=raster.transform, crs=raster.crs, shape=raster.shape)
