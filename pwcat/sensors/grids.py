"""Grids that a sensor's pixels are brought onto: a chip's own, and one for elevations that a slope is computed of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from affine import Affine
from pyproj import CRS
from pyproj.exceptions import CRSError

from pwcat.errors import SourceError

__all__ = ["METRES_A_DEGREE", "PixelGrid", "around", "sampling_m"]

# Cells around a chip: one for the neighbours of a slope, one for the interpolation onto the chip.
MARGIN = 2
# On the sphere of Earth's mean radius, 6371.0088 km.
METRES_A_DEGREE = 111_195.08


@dataclass(frozen=True, kw_only=True)
class PixelGrid:
    """Upright, square pixels.

    Attributes:
        epsg: CRS, projected, in metres.
        left: easting of the upper-left corner, metres.
        top: its northing.
        gsd: side of a pixel, metres.
        width: pixels in a row.
        height: rows.
    """

    epsg: int
    left: float
    top: float
    gsd: float
    width: int
    height: int

    @property
    def transform(self) -> Affine:
        """From column and row to CRS."""
        return Affine(self.gsd, 0.0, self.left, 0.0, -self.gsd, self.top)

    @property
    def shape(self) -> tuple[int, int]:
        """``(y, x)``."""
        return self.height, self.width

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north."""
        return self.left, self.top - self.height * self.gsd, self.left + self.width * self.gsd, self.top


def around(grid: PixelGrid, gsd: float) -> PixelGrid:
    """A grid of another sampling that holds a grid and :data:`MARGIN` cells around it.

    Its lines lie at whole multiples of the sampling, so that grids around neighbours have their cells in common.
    """
    west, south, east, north = (value / gsd for value in grid.bounds)
    left, top = math.floor(west) - MARGIN, math.ceil(north) + MARGIN
    return PixelGrid(
        epsg=grid.epsg,
        left=left * gsd,
        top=top * gsd,
        gsd=gsd,
        width=math.ceil(east) + MARGIN - left,
        height=top - math.floor(south) + MARGIN,
    )


def sampling_m(item: Mapping[str, Any], key: str) -> float:
    """Side of the pixels of an item's asset, metres: from north to south, as the item says it.

    Raises:
        SourceError: it does not.
    """
    fields = {**(item.get("properties") or {}), **item["assets"][key]}
    code = fields.get("proj:code") or fields.get("proj:epsg")
    if fields.get("proj:transform") and code:
        try:
            crs = CRS.from_user_input(code)
        except CRSError as exc:
            raise SourceError(f"{item['id']}: its CRS {code!r} is not known") from exc
        side = abs(float(fields["proj:transform"][4]))
        return side * (METRES_A_DEGREE if crs.is_geographic else crs.axis_info[0].unit_conversion_factor)
    if fields.get("gsd"):
        return float(fields["gsd"])
    raise SourceError(
        f"{item['id']}: it says neither its pixel grid (proj:transform, proj:code) nor its sampling (gsd)"
    )
