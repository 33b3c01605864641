"""Files of places: points, lines and polygons from vector files, GeoParquet, and tables with longitude and latitude."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyogrio
import shapely
from numpy.typing import NDArray

from pwcat.errors import RegionError
from pwcat.geo.antimeridian import unwrap

__all__ = ["Places", "read_place_table", "read_places"]

log = logging.getLogger(__name__)

# What columns of coordinates are called where the user does not say; any case, the first that is there.
LON_NAMES = ("lon", "longitude", "lng", "long", "x")
LAT_NAMES = ("lat", "latitude", "y")

SEPARATORS = ",;\t|"

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
        beyond = np.abs(lon) > 180
        lon[beyond] = (lon[beyond] + 180) % 360 - 180
        return np.column_stack([lon, lat])


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
    frame = _whole_places(path, _read(path, columns, lon, lat).frame)
    if not len(frame):
        raise RegionError(f"{path}: holds no places (0 rows)")
    kept = {name: frame[name].to_numpy() for name in columns}
    return Places(source=str(path), geometries=frame.geometry.to_numpy(), columns=kept)


def read_place_table(path: Path, *, lon: str | None = None, lat: str | None = None) -> pd.DataFrame:
    """The places of a file as a table: ``lon`` and ``lat`` of their centres (EPSG:4326), and every other column.

    Reads what :func:`read_places` reads, and as that does; but a file without rows gives a table without rows. Columns that
    held the coordinates become ``lon`` and ``lat``; beside geometries, columns of these names give way to them.

    Args:
        path: the file.
        lon: column of longitudes of a table, degrees; found by its name where not given.
        lat: column of latitudes.

    Raises:
        RegionError: the file is missing or unreadable, or has coordinates that are none.
    """
    given = _read(path, None, lon, lat)
    frame = _whole_places(path, given.frame)
    geometries = frame.geometry.to_numpy()
    table = pd.DataFrame(frame.drop(columns=frame.geometry.name)).reset_index(drop=True)
    if given.coordinates is not None:
        of = dict(zip(given.coordinates, ("lon", "lat"), strict=True))
        gone = [name for name in ("lon", "lat") if name in table.columns and name not in of]
        table = table.drop(columns=gone).rename(columns=of)
    x, y = Places(source=str(path), geometries=geometries, columns={}).centres().T
    return table.assign(lon=x, lat=y)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Read:
    """What a reader hands on: places in EPSG:4326, and which columns their coordinates came from, where they did."""

    frame: gpd.GeoDataFrame
    coordinates: tuple[str, str] | None = None


def _whole_places(path: Path, frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The rows that have a geometry, with those without told; coordinates must be degrees."""
    if not len(frame):
        return frame
    geometries = frame.geometry.to_numpy()
    whole = ~(shapely.is_missing(geometries) | shapely.is_empty(geometries))
    if not whole.any():
        raise RegionError(f"{path}: holds no places: none of {len(frame):,} rows has a geometry")
    if not whole.all():
        log.warning("%s: %d of %d rows have no geometry and are left out", path, int((~whole).sum()), len(whole))
    _require_degrees(path, geometries[whole])
    return frame[whole]


def _read(path: Path, columns: Sequence[str] | None, lon: str | None, lat: str | None) -> _Read:
    """The rows of a file with the columns that are asked for, or with all.

    Raises:
        RegionError: it is missing or unreadable, or lacks a column.
    """
    if not path.exists():
        raise RegionError(f"{path}: no such file of places; relative paths start from the recipe's folder")
    try:
        return _reader_of(path)(path, columns, lon, lat)
    except RegionError:
        raise
    except Exception as exc:  # the readers of formats raise what they like
        reason = " ".join(str(exc).split()).partition("; It might help")[0].rstrip(".")  # advice on GDAL's drivers
        raise RegionError(f"{path}: cannot be read as places: {reason}") from exc


def _reader_of(path: Path) -> Callable[[Path, Sequence[str] | None, str | None, str | None], _Read]:
    suffix = path.suffix.lower()
    if suffix in {".parquet", ".geoparquet", ".pq"}:
        return _read_parquet
    return _read_csv if suffix in {".csv", ".tsv", ".txt"} else _read_vector


def _read_vector(path: Path, columns: Sequence[str] | None, lon: str | None, lat: str | None) -> _Read:
    layers = [str(name) for name, _ in pyogrio.list_layers(path)]
    if len(layers) > 1:
        log.warning("%s holds the layers %s: the first is read", path, ", ".join(layers))
    info = pyogrio.read_info(path, layer=0)
    names = list(info["fields"])
    if info["geometry_type"] is None:
        x, y = _coordinate_columns(path, names, lon, lat)
        spelt = _spell(path, columns, names)
        table = pyogrio.read_dataframe(path, layer=0, columns=[*{x, y, *spelt}])
        return _as_points(path, table, x, y, spelt)
    spelt = _spell(path, columns, names)
    frame: gpd.GeoDataFrame = pyogrio.read_dataframe(path, layer=0, columns=list(spelt))
    return _Read(frame=_in_degrees(frame.rename(columns=spelt)))


def _read_csv(path: Path, columns: Sequence[str] | None, lon: str | None, lat: str | None) -> _Read:
    separator = _separator(path, lon, lat)

    def read(**options: Any) -> pd.DataFrame:
        # Of the ways to parse a number the exact one, so that coordinates are written again as they were.
        exact: dict[str, Any] = {"skipinitialspace": True, "encoding": "utf-8-sig", "float_precision": "round_trip"}
        return pd.read_csv(path, sep=separator, **exact, **options)

    header = list(read(nrows=0).columns)
    x, y = _coordinate_columns(path, header, lon, lat)
    spelt = _spell(path, columns, header)
    wanted = [name for name in header if name in {x, y, *spelt}]
    table = read(usecols=wanted)
    if separator != "," and any(_has_decimal_commas(table[name]) for name in (x, y)):
        table = read(usecols=wanted, decimal=",")
    return _as_points(path, table, x, y, spelt)


def _separator(path: Path, lon: str | None, lat: str | None) -> str:
    """What stands between the columns: that by which the header names coordinates, else what it holds most of."""
    with path.open(encoding="utf-8-sig") as lines:
        first = lines.readline()

    def fits(separator: str) -> tuple[bool, int]:
        names = next(csv.reader([first], delimiter=separator, skipinitialspace=True), [])
        return _coordinates_among(names, lon, lat) is not None, first.count(separator)

    return max(SEPARATORS, key=fits)


def _has_decimal_commas(column: pd.Series) -> bool:
    return column.dtype == object and bool(column.astype(str).str.fullmatch(r"\s*[-+]?\d+,\d+\s*").any())


def _read_parquet(path: Path, columns: Sequence[str] | None, lon: str | None, lat: str | None) -> _Read:
    schema = pq.read_schema(path)
    geo = (schema.metadata or {}).get(b"geo")
    if geo is not None and lon is None:
        geometry = json.loads(geo)["primary_column"]
        spelt = _spell(path, columns, [name for name in schema.names if name != geometry])
        frame = gpd.read_parquet(path, columns=[*{geometry, *spelt}] if columns is not None else None)
        frame = frame.reset_index() if frame.index.name in spelt else frame
        return _Read(frame=_in_degrees(frame).rename(columns=spelt))
    x, y = _coordinate_columns(path, schema.names, lon, lat)
    spelt = _spell(path, columns, schema.names)
    table = pq.read_table(path, columns=[name for name in schema.names if name in {x, y, *spelt}])
    return _as_points(path, table.to_pandas(ignore_metadata=True), x, y, spelt)


def _coordinate_columns(path: Path, names: Sequence[str], lon: str | None, lat: str | None) -> tuple[str, str]:
    found = _coordinates_among(names, lon, lat)
    if found is None:
        lacking = [
            repr(wanted) if wanted else " or ".join(map(repr, known[:2]))
            for wanted, known in ((lon, LON_NAMES), (lat, LAT_NAMES))
            if _first_of([wanted] if wanted else known, names, exactly=wanted is not None) is None
        ]
        raise RegionError(
            f"{path}: no geometry, and no column {', and none '.join(lacking)}; its columns: {', '.join(names)}. "
            "Give coordinates in degrees (EPSG:4326) as `lon` and `lat`, or a file with geometries"
        )
    return found


def _coordinates_among(names: Sequence[str], lon: str | None, lat: str | None) -> tuple[str, str] | None:
    x = _first_of([lon] if lon else LON_NAMES, names, exactly=lon is not None)
    y = _first_of([lat] if lat else LAT_NAMES, names, exactly=lat is not None)
    return (x, y) if x is not None and y is not None else None


def _first_of(wanted: Sequence[str], names: Sequence[str], *, exactly: bool) -> str | None:
    """The first of the wanted names that a table has, as it spells it."""
    spelt = {name if exactly else name.strip().lower(): name for name in reversed(names)}
    return next((spelt[name] for name in wanted if name in spelt), None)


def _spell(path: Path, columns: Sequence[str] | None, names: Sequence[str]) -> dict[str, str]:
    """Names as the file spells them, with those that were asked for; case matters where there are both. All for None."""
    if columns is None:
        return {name: name for name in names}
    folded = {name.casefold(): name for name in reversed(names)} | {name: name for name in names}
    spelt = {wanted: folded.get(wanted, folded.get(wanted.casefold())) for wanted in columns}
    if missing := [wanted for wanted, name in spelt.items() if name is None]:
        raise RegionError(f"{path}: no column {', '.join(map(repr, missing))}; its columns: {', '.join(names)}")
    return {name: wanted for wanted, name in spelt.items() if name is not None}


def _as_points(path: Path, table: pd.DataFrame, x: str, y: str, spelt: Mapping[str, str]) -> _Read:
    numbers = table[[x, y]].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~np.isfinite(numbers).all(axis=1)
    if wrong.any():
        raise RegionError(
            f"{path}: {int(wrong.sum()):,} of {len(table):,} rows have no number in {x!r} or {y!r}, the first of them row "
            f"{int(np.flatnonzero(wrong)[0]) + 1:,}; remove or mend them"
        )
    geometry = next(name for name in ("geometry", "point", "point_") if name not in table.columns)
    frame = gpd.GeoDataFrame(table.rename(columns=dict(spelt)).assign(**{geometry: shapely.points(numbers)}))
    return _Read(frame=frame.set_geometry(geometry), coordinates=(x, y))


def _in_degrees(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    if frame.crs is None or frame.crs.is_geographic:
        return frame if frame.crs is None else frame.to_crs("EPSG:4326")
    to_metres = frame.crs.axis_info[0].unit_conversion_factor
    return frame.set_geometry(frame.geometry.segmentize(EDGE_M / to_metres)).to_crs("EPSG:4326")


def _require_degrees(path: Path, geometries: NDArray[np.object_]) -> None:
    west, south, east, north = shapely.total_bounds(geometries)
    if _are_degrees(west, south, east, north):
        return
    todo = "a projected file must say its CRS"
    if _are_degrees(south, west, north, east):
        todo = "exchanged they would be: the longitude comes first, and `lon` and `lat` name the columns of a table"
    raise RegionError(
        f"{path}: coordinates from {west:g} to {east:g} and {south:g} to {north:g} are no longitudes and latitudes "
        f"in degrees; {todo}"
    )


def _are_degrees(west: float, south: float, east: float, north: float) -> bool:
    return bool(west >= -360 and east <= 360 and south >= -90 - 1e-9 and north <= 90 + 1e-9)


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
