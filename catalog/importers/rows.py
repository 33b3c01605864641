"""Imported samples as rows of items: the columns of :mod:`catalog.items`, whatever grid a chip has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from catalog.importers.importer import Grid, Sample
from catalog.importers.labels import Labels, to_lonlat
from catalog.items import ASSET, ITEM_SCHEMA, list_column
from catalog.spectral import SpectralMeasures
from catalog.stac.outlines import bounding_boxes

__all__ = ["MEDIA_TYPES", "outlines", "rows_of_items"]

MEDIA_TYPES = {
    ".tif": "image/tiff; application=geotiff",
    ".tiff": "image/tiff; application=geotiff",
    ".parquet": "application/vnd.apache.parquet",
    ".zip": "application/zip",
    ".zarr": "application/vnd.zarr; version=2",
}
# From the upper left corner, against the clock, and back to it.
CORNERS = np.array([0.0, 0.0, 1.0, 1.0, 0.0]), np.array([0.0, 1.0, 1.0, 0.0, 0.0])


def rows_of_items(
    samples: Sequence[Sample],
    grids: Sequence[Grid],
    lonlat: NDArray[np.float64],
    *,
    labels: Labels,
    spectra: SpectralMeasures,
    valid: Sequence[float],
    numbers: NDArray[np.int64],
    root: PurePosixPath,
) -> pa.Table:
    """Items of some samples, without what is the same for all of a collection.

    Args:
        samples: of one batch.
        grids: of their chips.
        lonlat: ``(n, 2)``, their places.
        labels: of them.
        spectra: of their chips.
        valid: share of pixels with data, each.
        numbers: row of each in ``pixels.parquet``.
        root: the dataset's folder, relative to the collection's.
    """
    shapes = outlines(grids)
    columns: dict[str, Any] = {
        "id": [sample.id for sample in samples],
        "geometry": shapely.to_wkb(shapes),
        "bbox": bounding_boxes(shapes),
        "assets": pa.array([{"chips": _asset(sample, root)} for sample in samples], pa.struct([("chips", ASSET)])),
        "datetime": [sample.times[0] for sample in samples],
        "proj:code": [grid.crs if grid.crs.startswith("EPSG:") else None for grid in grids],
        "proj:shape": list_column(np.array([(grid.height, grid.width) for grid in grids], dtype=np.int32)),
        "proj:transform": list_column(np.array([grid.transform for grid in grids])),
        "proj:centroid": [{"lat": lat, "lon": lon} for lon, lat in lonlat.tolist()],
        **{f"div:{name}": values for name, values in labels.names.items()},
        "div:landcover_fractions": [fractions or None for fractions in labels.fractions],
        "div:landcover_share": [fractions[0]["fraction"] if fractions else None for fractions in labels.fractions],
        "div:spectral_entropy": _numbers(spectra.band_histogram),
        "div:spectral_entropy_codebook": _numbers(spectra.codebook),
        "div:spectral_entropy_covariance": _numbers(spectra.covariance),
        "div:valid_fraction": list(valid),
        "pwcat:index": numbers,
        "pwcat:split": [sample.split for sample in samples],
        "pwcat:scene_ids": [list(sample.scene_ids) for sample in samples],
    }
    fields = [field for field in ITEM_SCHEMA if field.name in columns]
    return pa.Table.from_arrays([_typed(columns[field.name], field.type) for field in fields], schema=pa.schema(fields))


def _typed(values: Any, kind: pa.DataType) -> pa.Array:
    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, type=kind)


def _numbers(values: NDArray[np.float64]) -> pa.Array:
    return pa.array(values, pa.float64(), from_pandas=True)


def _asset(sample: Sample, root: PurePosixPath) -> dict[str, Any]:
    path = root / sample.place.path
    kind = MEDIA_TYPES.get(path.suffix.lower(), "application/octet-stream")
    return {"href": str(path), "title": "Pixels, where they lie", "type": kind, "roles": ["data"]}


def outlines(grids: Sequence[Grid]) -> NDArray[np.object_]:
    """The chips' outlines, ``(n,)``, EPSG:4326; one that crosses the antimeridian is cut there (RFC 7946, section 3.1.9)."""
    rings = to_lonlat(grids, *CORNERS)
    crossing = np.ptp(rings[..., 0], axis=1) > 180
    rings[crossing, :, 0] %= 360
    found = shapely.polygons(rings)
    for row in np.flatnonzero(crossing):
        found[row] = _cut(found[row])
    return np.asarray(found, dtype=object)


def _cut(outline: shapely.Polygon) -> shapely.MultiPolygon:
    west = shapely.intersection(outline, shapely.box(0, -90, 180, 90))
    east = shapely.intersection(outline, shapely.box(180, -90, 360, 90))
    return shapely.MultiPolygon([west, shapely.transform(east, lambda xy: xy - np.array([360.0, 0.0]))])
