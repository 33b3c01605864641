"""Files of places: points, lines and polygons from vector files, GeoParquet, and tables with longitude and latitude."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyogrio
import shapely
from numpy.typing import NDArray

from pwcat.errors import RegionError
from pwcat.geo.antimeridian import unwrap

__all__ = ["Places", "read_places"]

log = logging.getLogger(__name__)

# What columns of coordinates are called where the user does not say; any case.
LON_NAMES = ("lon", "longitude")
LAT_NAMES = ("lat", "latitude")

# Edges of projected files are straight there and bent in degrees: they get a vertex at least this often, in metres.
EDGE_M = 10_000.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """What a file holds.

    Attributes:
        source: the file.
        geometries: ``(n,)`` shapely geometries, EPSG:4326, none of them missing or empty.
        columns: ``(n,)`` values of the columns that were asked for, by name.
    """

    source: str
    geometries: NDArray[np.object_]
    columns: Mapping[str, NDArray[np.generic]]

    def __len__(self) -> int:
        return len(self.geometries)

    def centres(self) -> NDArray[np.float64]:
        """``(n, 2)`` longitude and latitude of each: points as they are, of others the centroid in degrees.

        What is cut in two by the antimeridian is put together first.
        """
        whole = self.geometries.copy()
        for number in np.flatnonzero(_width(whole) > 180):
            whole[number] = _joined(whole[number])
        lon, lat = shapely.get_coordinates(shapely.centroid(whole)).T
        return np.column_stack([(lon + 180) % 360 - 180, lat])


def read_places(path: Path, *, columns: Sequence[str] = (), lon: str | None = None, lat: str | None = None) -> Places:
    """The places in a file: CSV, Parquet (with a geometry, or with coordinates in columns), or what GDAL reads.

    A file that does not say its CRS is in EPSG:4326. Rows without a geometry are left out, with a warning.

    Args:
        path: the file.
        columns: those wanted beside the geometry; where none is spelt so, case does not matter.
        lon: column of longitudes of a table, degrees; found by its name where not given.
        lat: column of latitudes.

    Raises:
        RegionError: the file is missing, unreadable or empty, lacks a column, or has coordinates that are none.
    """
    if not path.exists():
        raise RegionError(f"{path}: no such file of places; relative paths start from the recipe's folder")
    try:
        frame = _read(path, columns, lon, lat)
    except RegionError:
        raise
    except Exception as exc:  # the readers of formats raise what they like
        raise RegionError(f"{path}: cannot be read as places: {' '.join(str(exc).split())}") from exc
    geometries = frame.geometry.to_numpy()
    whole = ~(shapely.is_missing(geometries) | shapely.is_empty(geometries))
    if not whole.any():
        raise RegionError(f"{path}: holds no places ({len(frame):,} rows)")
    if not whole.all():
        log.warning("%s: %d of %d rows have no geometry and are left out", path, int((~whole).sum()), len(whole))
    _require_degrees(path, geometries[whole])
    kept = {name: frame[name].to_numpy()[whole] for name in columns}
    return Places(source=str(path), geometries=geometries[whole], columns=kept)


def _read(path: Path, columns: Sequence[str], lon: str | None, lat: str | None) -> gpd.GeoDataFrame:
    suffix = path.suffix.lower()
    if suffix in {".parquet", ".geoparquet", ".pq"}:
        return _read_parquet(path, columns, lon, lat)
    if suffix in {".csv", ".tsv", ".txt"}:
        return _read_csv(path, columns, lon, lat)
    spelt = _spell(path, columns, list(pyogrio.read_info(path)["fields"]))
    frame: gpd.GeoDataFrame = pyogrio.read_dataframe(path, columns=list(spelt))
    return _in_degrees(frame.rename(columns=spelt))


def _read_csv(path: Path, columns: Sequence[str], lon: str | None, lat: str | None) -> gpd.GeoDataFrame:
    with path.open(encoding="utf-8-sig") as lines:
        first = lines.readline()
    separator = max(",;\t", key=first.count)
    header = list(pd.read_csv(path, nrows=0, sep=separator, encoding="utf-8-sig").columns)
    x, y = _coordinate_columns(path, header, lon, lat)
    spelt = _spell(path, columns, header)
    table = pd.read_csv(path, usecols=[*{x, y, *spelt}], sep=separator, encoding="utf-8-sig")
    return _as_points(path, table, x, y).rename(columns=spelt)


def _read_parquet(path: Path, columns: Sequence[str], lon: str | None, lat: str | None) -> gpd.GeoDataFrame:
    schema = pq.read_schema(path)
    spelt = _spell(path, columns, schema.names)
    geo = (schema.metadata or {}).get(b"geo")
    if geo is not None and lon is None:
        frame = gpd.read_parquet(path, columns=[*{json.loads(geo)["primary_column"], *spelt}])
        return _in_degrees(frame).rename(columns=spelt)
    x, y = _coordinate_columns(path, schema.names, lon, lat)
    return _as_points(path, pd.read_parquet(path, columns=[*{x, y, *spelt}]), x, y).rename(columns=spelt)


def _coordinate_columns(path: Path, names: Sequence[str], lon: str | None, lat: str | None) -> tuple[str, str]:
    found = []
    for wanted, known in ((lon, LON_NAMES), (lat, LAT_NAMES)):
        candidates = [name for name in names if (name == wanted if wanted else name.lower() in known)]
        if not candidates:
            looked_for = repr(wanted) if wanted else " or ".join(map(repr, known))
            raise RegionError(
                f"{path}: no geometry, and no column {looked_for}; its columns: {', '.join(names)}. "
                "Give coordinates in degrees (EPSG:4326) as `lon` and `lat`, or a file with geometries"
            )
        found.append(candidates[0])
    return found[0], found[1]


def _spell(path: Path, columns: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Names as the file spells them, with those that were asked for; case matters where there are both."""
    folded = {name.casefold(): name for name in reversed(names)} | {name: name for name in names}
    spelt = {wanted: folded.get(wanted, folded.get(wanted.casefold())) for wanted in columns}
    if missing := [wanted for wanted, name in spelt.items() if name is None]:
        raise RegionError(f"{path}: no column {', '.join(map(repr, missing))}; its columns: {', '.join(names)}")
    return {name: wanted for wanted, name in spelt.items() if name is not None}


def _as_points(path: Path, table: pd.DataFrame, x: str, y: str) -> gpd.GeoDataFrame:
    numbers = table[[x, y]].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    if bad := int((~np.isfinite(numbers)).any(axis=1).sum()):
        raise RegionError(
            f"{path}: {bad:,} of {len(table):,} rows have no number in {x!r} or {y!r}; remove or mend them"
        )
    return gpd.GeoDataFrame(table, geometry=shapely.points(numbers))


def _in_degrees(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    if frame.crs is None or frame.crs.is_geographic:
        return frame if frame.crs is None else frame.to_crs("EPSG:4326")
    to_metres = frame.crs.axis_info[0].unit_conversion_factor
    return frame.set_geometry(frame.geometry.segmentize(EDGE_M / to_metres)).to_crs("EPSG:4326")


def _require_degrees(path: Path, geometries: NDArray[np.object_]) -> None:
    west, south, east, north = shapely.total_bounds(geometries)
    if not (west >= -360 and east <= 360 and south >= -90 - 1e-9 and north <= 90 + 1e-9):
        raise RegionError(
            f"{path}: coordinates from {west:g} to {east:g} and {south:g} to {north:g} are no longitudes and latitudes "
            "in degrees; a projected file must say its CRS"
        )


def _width(geometries: NDArray[np.object_] | shapely.Geometry) -> NDArray[np.float64]:
    """Degrees of longitude that each spans, ``(n,)``."""
    west, _, east, _ = shapely.bounds(geometries).reshape(-1, 4).T
    return np.asarray(east - west)


def _joined(geometry: shapely.Geometry) -> shapely.Geometry:
    """The geometry with its parts in the far west moved beyond 180° east, where that makes it less wide."""
    parts = shapely.get_parts(geometry)
    polygons = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    parts[polygons] = unwrap(parts[polygons])
    west = shapely.bounds(parts)[:, 2] <= 0
    parts[west] = shapely.transform(parts[west], lambda lonlat: lonlat + np.array([360.0, 0.0]))
    joined = shapely.GeometryCollection(list(parts))
    return joined if _width(joined)[0] < _width(geometry)[0] else geometry
