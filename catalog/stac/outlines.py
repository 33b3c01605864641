"""Where chips lie on the globe: their outlines and bounding boxes, cut at the antimeridian."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

__all__ = ["BBOX", "bounding_boxes", "outline_columns", "outlines_of"]

BBOX = pa.struct([pa.field(name, pa.float64()) for name in ("xmin", "ymin", "xmax", "ymax")])


def outlines_of(
    epsgs: NDArray[np.integer[Any]], x0: NDArray[np.float64], y0: NDArray[np.float64], side: float
) -> NDArray[np.object_]:
    """The chips' outlines, ``(n,)``, EPSG:4326; one that crosses the antimeridian is cut there (RFC 7946, section 3.1.9).

    Args:
        epsgs: CRS of each chip's grid.
        x0: left edge in that CRS, metres.
        y0: upper edge, metres.
        side: of a chip, metres.
    """
    rings_N52, crossing = _rings(epsgs, x0, y0, side)
    outlines: NDArray[np.object_] = shapely.polygons(rings_N52)
    for row in np.flatnonzero(crossing):
        outlines[row] = _cut_at_antimeridian(outlines[row])
    return outlines


def outline_columns(
    epsgs: NDArray[np.integer[Any]], x0: NDArray[np.float64], y0: NDArray[np.float64], side: float
) -> tuple[pa.Array, pa.StructArray]:
    """The same outlines as WKB, and their :func:`bounding_boxes`, without an object a chip: for millions of them."""
    rings_N52, crossing = _rings(epsgs, x0, y0, side)
    low, high = rings_N52.min(axis=1), rings_N52.max(axis=1)
    west, east = low[:, 0], np.where(crossing, high[:, 0] - 360, high[:, 0])
    boxes = pa.StructArray.from_arrays([pa.array(v) for v in (west, low[:, 1], east, high[:, 1])], fields=list(BBOX))
    if not crossing.any():
        return _wkb(rings_N52), boxes
    written = _wkb(rings_N52).to_numpy(zero_copy_only=False)
    cut = [_cut_at_antimeridian(polygon) for polygon in shapely.polygons(rings_N52[crossing])]
    written[crossing] = shapely.to_wkb(np.array(cut, dtype=object))
    return pa.array(written, pa.binary()), boxes


def _rings(
    epsgs: NDArray[np.integer[Any]], x0: NDArray[np.float64], y0: NDArray[np.float64], side: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Corners, degrees, ``(n, 5, 2)``, and which chips cross the antimeridian: their longitudes go on beyond 180."""
    rings_N52 = np.empty((len(x0), 5, 2))
    for epsg in np.unique(epsgs):
        rows = np.flatnonzero(epsgs == epsg)
        x = x0[rows, None] + np.array([0, 0, side, side])
        y = y0[rows, None] - np.array([0, side, side, 0])
        lon, lat = Transformer.from_crs(f"EPSG:{epsg}", "EPSG:4326", always_xy=True).transform(x, y)
        rings_N52[rows, :4, 0], rings_N52[rows, :4, 1] = lon, lat
    lon = rings_N52[:, :4, 0]
    crossing = np.asarray(np.ptp(lon, axis=1) > 180) if len(lon) else np.zeros(0, dtype=bool)
    rings_N52[:, :4, 0] = np.where(crossing[:, None] & (lon < 0), lon + 360, lon)
    rings_N52[:, 4] = rings_N52[:, 0]
    return rings_N52, crossing


def _wkb(rings_N52: NDArray[np.float64]) -> pa.Array:
    """Rings as polygons in well-known binary: byte order, type, one ring, its points, little endian."""
    head = np.frombuffer(struct.pack("<BIII", 1, 3, 1, 5), dtype=np.uint8)
    count, width = len(rings_N52), len(head) + 80
    rows = np.empty((count, width), dtype=np.uint8)
    rows[:, : len(head)] = head
    rows[:, len(head) :] = np.ascontiguousarray(rings_N52, dtype="<f8").reshape(count, 10).view(np.uint8)
    offsets = np.arange(count + 1, dtype=np.int32) * width
    return pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(rows)])


def _cut_at_antimeridian(outline: shapely.Polygon) -> shapely.MultiPolygon:
    west = shapely.intersection(outline, shapely.box(-180, -90, 180, 90))
    east = shapely.intersection(outline, shapely.box(180, -90, 540, 90))
    east = shapely.transform(east, lambda xy: xy - np.array([360.0, 0.0]))
    return shapely.MultiPolygon([west, east])


def bounding_boxes(outlines: NDArray[np.object_]) -> pa.StructArray:
    """Bounds of the outlines, :data:`BBOX`; across the antimeridian the western is the larger (RFC 7946, section 5.2)."""
    bounds = shapely.bounds(outlines)
    cut = np.flatnonzero(shapely.get_type_id(outlines) == shapely.GeometryType.MULTIPOLYGON)
    bounds[cut, 0] = shapely.bounds(shapely.get_geometry(outlines[cut], 0))[:, 0]
    bounds[cut, 2] = shapely.bounds(shapely.get_geometry(outlines[cut], 1))[:, 2]
    return pa.StructArray.from_arrays([pa.array(column) for column in bounds.T], fields=list(BBOX))
