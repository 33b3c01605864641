"""Layers of polygons, each of a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.errors import RegionError
from pwcat.regions.areas import polygons_km2
from pwcat.regions.cells import grow
from pwcat.regions.index import PolygonIndex
from pwcat.regions.layer import named

__all__ = ["VectorLayer", "read_vector", "vector_layer"]

POLYGON = 3  # shapely's type id


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorLayer:
    """Polygons with a class each; labels are exact, borders included.

    Attributes:
        name: continent, biome, …
        source: the file it was read from, for the record.
        class_of: class of each polygon, ``(m,)`` of str.
        polygons: geometry of each polygon, ``(m,)``, EPSG:4326.
        pixel_m: none: polygons have no pixels.
    """

    name: str
    source: str
    class_of: NDArray[np.object_]
    polygons: NDArray[np.object_]
    pixel_m: None = None

    @cached_property
    def classes(self) -> list[str]:
        """The classes, sorted."""
        return sorted(set(self.class_of))

    @cached_property
    def index(self) -> PolygonIndex:
        """The index that answers; it is kept for the life of the layer."""
        codes = np.searchsorted(np.array(self.classes, dtype=object), self.class_of).astype(np.int16)
        return PolygonIndex(polygons=self.polygons, code_of=codes)

    def codes(self, lonlat: NDArray[np.float64]) -> NDArray[np.int16]:
        """Code of each point, ``(n,)`` or ``(n, k)``; -1 where no polygon is.

        The answer of a spatial join with the predicate ``intersects``; on a border the polygon first in the file wins.
        """
        flat = np.asarray(lonlat, dtype=np.float64).reshape(-1, 2)
        return self.index.codes(flat).reshape(lonlat.shape[:-1])

    def label(self, lonlat: NDArray[np.float64]) -> NDArray[np.object_]:
        """Class of each point; ``None`` where no polygon is."""
        return named(self.codes(lonlat), self.classes)

    def possible(self, codes: Sequence[int] | None, *, margin_km: float = 0.0) -> NDArray[np.bool_]:
        """Cells where a point with one of these codes can lie, ``(3600, 7200)``; see :class:`pwcat.regions.RegionLayer`."""
        wanted = np.full(len(self.classes), codes is None)
        wanted[list(codes or [])] = True
        return grow(self.index.touching(wanted), margin_km)

    def rough(self) -> VectorLayer:
        """The layer itself: it answers millions of points in seconds."""
        return self

    def polygons_of(self, value: str | None = None) -> list[shapely.Geometry]:
        """The polygons of one class, or of all."""
        return list(self.polygons if value is None else self.polygons[self.class_of == value])

    def areas_km2(self) -> NDArray[np.float64]:
        """Area of each class on the sphere, ``(K,)``; exact, with what polygons of a class share counted once each."""
        areas = polygons_km2(self.polygons)
        return np.asarray(np.bincount(self.index.code_of, weights=areas, minlength=len(self.classes)), dtype=np.float64)


def read_vector(path: Path, *, name: str, inside: str | None = None) -> gpd.GeoDataFrame:
    """A vector file in EPSG:4326.

    Args:
        path: any that GDAL reads; a zip archive may hold it.
        name: of the layer, for messages.
        inside: the file within a zip archive.

    Raises:
        RegionError: it cannot be read.
    """
    try:
        frame = gpd.read_file(f"/vsizip/{{{path}}}/{inside}" if inside else path)
    except Exception as exc:  # pyogrio raises many kinds for what is not a vector file
        raise RegionError(f"regions.{name}: {path} cannot be read as a vector file: {exc}") from exc
    if not isinstance(frame, gpd.GeoDataFrame):
        raise RegionError(f"regions.{name}: {path} holds a table without geometry")
    return frame if frame.crs is None else frame.to_crs("EPSG:4326")


def vector_layer(frame: gpd.GeoDataFrame, *, name: str, source: str, field: str, path: Path) -> VectorLayer:
    """The polygons of a table as a layer: made valid, multipolygons taken apart, rows without a class left out.

    Raises:
        RegionError: there is no such field, or no polygon with a class.
    """
    if field not in frame.columns:
        fields = ", ".join(column for column in frame.columns if column != frame.geometry.name)
        raise RegionError(f"regions.{name}: {path} has no field {field!r}; it has {fields}")
    rows = np.flatnonzero(frame[field].notna().to_numpy() & ~frame.geometry.isna().to_numpy())
    shapes = np.asarray(frame.geometry.to_numpy()[rows], dtype=object)
    invalid = ~shapely.is_valid(shapes)
    shapes[invalid] = shapely.make_valid(shapes[invalid])
    parts, row_of = shapely.get_parts(shapes, return_index=True)
    parts, nested = shapely.get_parts(
        parts, return_index=True
    )  # what was made valid may be a collection of multipolygons
    polygons = (shapely.get_type_id(parts) == POLYGON) & ~shapely.is_empty(parts)
    if not polygons.any():
        raise RegionError(f"regions.{name}: {path} holds no polygon with a value in {field!r}")
    values = frame[field].astype(str).to_numpy(dtype=object)[rows]
    return VectorLayer(name=name, source=source, class_of=values[row_of[nested][polygons]], polygons=parts[polygons])
