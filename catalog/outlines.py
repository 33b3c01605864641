"""Where chips lie on the globe: their outlines and bounding boxes, cut at the antimeridian."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

__all__ = ["BBOX", "bounding_boxes", "outlines_of"]

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
    outlines = np.empty(len(x0), dtype=object)
    for epsg in np.unique(epsgs):
        rows = np.flatnonzero(epsgs == epsg)
        x = x0[rows, None] + np.array([0, 0, side, side, 0])
        y = y0[rows, None] - np.array([0, side, side, 0, 0])
        lon, lat = Transformer.from_crs(f"EPSG:{epsg}", "EPSG:4326", always_xy=True).transform(x, y)
        crossing = np.ptp(lon, axis=1) > 180
        lon[crossing] = np.where(lon[crossing] < 0, lon[crossing] + 360, lon[crossing])
        outlines[rows] = shapely.polygons(np.stack([lon, lat], axis=-1))
        for row in rows[crossing]:
            outlines[row] = _cut_at_antimeridian(outlines[row])
    return outlines


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
