"""Tables of points as files: CSV, GeoParquet, GeoJSON, GeoPackage, FlatGeobuf."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
from pyogrio.errors import DataLayerError, DataSourceError

from pwcat.atomic import replacing_by_name
from pwcat.errors import PwcatError

__all__ = ["POINT_FORMATS", "write_points"]

# GDAL's driver of each ending that GDAL writes.
_DRIVERS: Final = {".geojson": "GeoJSON", ".gpkg": "GPKG", ".fgb": "FlatGeobuf"}

POINT_FORMATS: Final = (".csv", ".parquet", *_DRIVERS)


def write_points(path: Path, table: pd.DataFrame, *, layer: str) -> None:
    """Write a table of points, EPSG:4326; the file appears whole or not at all, and its folder is made.

    All formats but CSV have a geometry beside the columns. Where a format holds no lists, they are written as JSON.

    Args:
        path: ends in one of :data:`POINT_FORMATS`, and is replaced.
        table: ``(n, columns)``, with ``lon`` and ``lat`` in degrees among them.
        layer: name of the layer, in formats that have such names.

    Raises:
        PwcatError: the name ends otherwise, or the file cannot be written there.
    """
    if path.suffix.lower() not in POINT_FORMATS:
        raise PwcatError(f"{path}: points are written as {', '.join(POINT_FORMATS)}; name a file that ends so")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing_by_name(path) as temporary:
            _write(temporary, table, layer)
    except OSError as exc:
        raise PwcatError(f"{path} cannot be written: {_reason(path, exc)}; choose another place with -o") from exc
    except (DataSourceError, DataLayerError, pa.ArrowException) as exc:
        reason = " ".join(str(exc).split())
        raise PwcatError(f"{path} cannot be written: {reason}; try another format: {', '.join(POINT_FORMATS)}") from exc


def _reason(path: Path, exc: OSError) -> str:
    if isinstance(exc, FileExistsError | NotADirectoryError):
        return f"{path.parent} is no folder"
    return str(exc.strerror or exc)


def _write(path: Path, table: pd.DataFrame, layer: str) -> None:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        _flat(table).to_csv(path, index=False)
        return
    geometry = next(name for name in ("geometry", "point", "point_") if name not in table.columns)
    points = gpd.points_from_xy(table["lon"], table["lat"])
    if suffix == ".parquet":
        gpd.GeoDataFrame(table.assign(**{geometry: points}), geometry=geometry, crs="EPSG:4326").to_parquet(path)
        return
    frame = gpd.GeoDataFrame(_flat(table).assign(**{geometry: points}), geometry=geometry, crs="EPSG:4326")
    frame.to_file(path, driver=_DRIVERS[suffix], layer=layer, engine="pyogrio")


def _flat(table: pd.DataFrame) -> pd.DataFrame:
    """The table with lists and mappings as JSON."""
    texts = {
        name: [_as_json(value) for value in column]
        for name, column in table.items()
        if column.dtype == object and any(isinstance(value, list | dict | np.ndarray) for value in column)
    }
    return table.assign(**{str(name): values for name, values in texts.items()})


def _as_json(value: Any) -> Any:
    if not isinstance(value, list | dict | np.ndarray):
        return value
    return json.dumps(value, default=lambda one: one.tolist() if isinstance(one, np.ndarray | np.generic) else str(one))
