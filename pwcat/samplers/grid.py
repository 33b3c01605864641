"""``grid``: at most one site a cell of a global grid, Major TOM's or one of equal areas."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator

from pwcat.samplers.narrow import Narrow, narrow_to
from pwcat.samplers.strata import Domain, SamplerDocument, Stratum

if TYPE_CHECKING:
    from pwcat.samplers.world import World

__all__ = ["Cells", "Grid", "equal_area_cells", "major_tom_cells", "shuffled"]

# Major TOM measures on a sphere of the equatorial radius, and has rows of which the southern edge lies between these
# latitudes (Francis and Czerkawski, 2024, arXiv:2402.12095; src/grid.py of ESA-PhiLab/Major-TOM).
MAJOR_TOM_RADIUS_KM = 6378.137
MAJOR_TOM_LATITUDES = (-85.0, 85.0)

# The sphere with the area of the WGS84 ellipsoid.
AUTHALIC_RADIUS_KM = 6371.0072

DEFAULT_CELL_KM = {"major-tom": 10.0, "equal-area": 23.0}

# Cells that are made at once.
CHUNK = 65_536


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """A grid of cells in rows, numbered from the south-west: eastwards, then northwards.

    Attributes:
        south: ``(r,)`` latitude of the southern edge of each row, degrees, ascending.
        north: ``(r,)`` latitude of the northern edge.
        columns: ``(r,)`` cells of each row, of the same width in longitude.
        west: ``(r,)`` longitude of the western edge of each row's first cell.
    """

    south: NDArray[np.float64]
    north: NDArray[np.float64]
    columns: NDArray[np.int64]
    west: NDArray[np.float64]

    def __len__(self) -> int:
        return int(self.columns.sum())

    def boxes(self, cells: NDArray[np.int64]) -> NDArray[np.float64]:
        """West, south, east and north of each cell, ``(n, 4)``, degrees; east passes 180° where a cell does."""
        ends = np.cumsum(self.columns)
        row = np.searchsorted(ends, cells, side="right")
        width = 360 / self.columns[row]
        west = self.west[row] + (cells - (ends[row] - self.columns[row])) * width
        return np.column_stack([west, self.south[row], west + width, self.north[row]])

    def centres(self, cells: NDArray[np.int64]) -> NDArray[np.float64]:
        """The middle of each cell in longitude and latitude, ``(n, 2)``, EPSG:4326."""
        west, south, east, north = self.boxes(cells).T
        return np.column_stack([_wrap((west + east) / 2), (south + north) / 2])

    def draw(self, cells: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
        """A point uniform by area in each cell, ``(n, 2)``, EPSG:4326."""
        west, south, east, north = self.boxes(cells).T
        low, high = np.sin(np.deg2rad(south)), np.sin(np.deg2rad(north))
        lon = west + rng.random(len(cells)) * (east - west)
        lat = np.rad2deg(np.arcsin(low + rng.random(len(cells)) * (high - low)))
        return np.column_stack([_wrap(lon), lat])


def major_tom_cells(cell_km: float) -> Cells:
    """Major TOM's grid: rows and columns at most ``cell_km`` apart, at whole steps from the equator and from 0° E.

    ``R = ceil(pi r / d)`` rows from pole to pole, ``180° / R`` high; ``C = ceil(2 pi r cos(lat) / d)`` columns, where ``lat``
    is the row's southern edge. In rows of an odd number the last cell lies across the antimeridian.

    Source: the grid of Francis and Czerkawski (2024), arXiv:2402.12095.
    """
    rows = math.ceil(math.pi * MAJOR_TOM_RADIUS_KM / cell_km)
    south = np.arange(-(rows // 2), rows - rows // 2) * 180 / rows
    least, most = MAJOR_TOM_LATITUDES
    south = south[(south >= least) & (south <= most)]
    around_km = 2 * math.pi * MAJOR_TOM_RADIUS_KM * np.cos(np.deg2rad(south))
    columns = np.ceil(around_km / cell_km).astype(np.int64)
    return Cells(south=south, north=south + 180 / rows, columns=columns, west=-(columns // 2) * 360 / columns)


def equal_area_cells(cell_km: float) -> Cells:
    """Cells of exactly one area on the sphere, about ``cell_km`` wide and high everywhere; the first starts at 180° W.

    ``R = round(pi r / d)`` rows with ``round(2 pi r cos(lat) / d)`` columns each, where ``lat`` is the row's middle if all were
    equally high; then the edges are moved so that each row has the share of the sphere that it has of the cells.
    """
    rows = max(round(math.pi * AUTHALIC_RADIUS_KM / cell_km), 1)
    middle = (np.arange(rows) + 0.5) * 180 / rows - 90
    around_km = 2 * math.pi * AUTHALIC_RADIUS_KM * np.cos(np.deg2rad(middle))
    columns = np.maximum(np.rint(around_km / cell_km), 1).astype(np.int64)
    ends = np.cumsum(columns)
    edges = np.rad2deg(np.arcsin(np.concatenate([[-1.0], (2 * ends - ends[-1]) / ends[-1]])))
    return Cells(south=edges[:-1], north=edges[1:], columns=columns, west=np.full(rows, -180.0))


class Grid(SamplerDocument):
    """At most one site in each cell of a global grid."""

    strategy: Literal["grid"]
    system: Literal["major-tom", "equal-area"] = Field(
        description="Major TOM's grid, or cells of one area such as SSL4Eco's regular 23 km on land"
    )
    cell_km: float | None = Field(
        None, ge=0.1, le=5000, description="side of a cell; by default 10 for major-tom, else 23"
    )
    jitter: bool = Field(False, description="a point drawn uniform by area in the cell instead of its middle")
    order: Literal["random", "row"] = Field(
        "random", description="row: from the south-west, eastwards, then northwards"
    )
    domain: Domain = Field("land", description="as for `uniform`, for the site, not for its whole cell")
    exclude: list[str] = Field(default_factory=list, description="continents that are left out of the domain `land`")

    @field_validator("cell_km")
    @classmethod
    def _said(cls, cell_km: float | None, info: ValidationInfo) -> float | None:
        return DEFAULT_CELL_KM.get(info.data.get("system", "")) if cell_km is None else cell_km

    @field_validator("exclude")
    @classmethod
    def _on_land(cls, exclude: list[str], info: ValidationInfo) -> list[str]:
        if exclude and info.data.get("domain", "land") != "land":
            raise ValueError("`exclude` leaves continents out of the domain `land`; this is another domain")
        return exclude

    def layers(self) -> list[tuple[str, str]]:
        """That of the domain."""
        return [("continent", "the domain `land`")] if self.domain == "land" else []

    def draws_from_scenes(self) -> bool:
        """Where the domain says so."""
        return self.domain == "scenes"

    def cells(self) -> Cells:
        """The grid, all around the Earth."""
        assert self.cell_km is not None, "its validator saw to it"
        return (major_tom_cells if self.system == "major-tom" else equal_area_cells)(self.cell_km)

    def strata(self, n: int, *, world: World) -> list[Stratum]:
        """One stratum, whose candidates are cells, each once.

        Raises:
            RegionError: a continent is unknown.
        """
        labels = world.labels_of(self.domain)
        if self.exclude:
            left_out = set(world.spell("continent", self.exclude))
            labels["continent"] = tuple(name for name in labels["continent"] if name not in left_out)
        narrow = narrow_to(self.domain, labels, world=world)
        name = f"{self.system} grid of {self.cell_km:g} km"
        return [Stratum(name=name, wanted=n, candidates=_Sites(self, narrow), labels=labels)]


@dataclass(frozen=True)
class _Sites:
    """A site a cell, in chunks, so that a fine grid takes no memory."""

    grid: Grid
    narrow: Narrow

    def __call__(self, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
        cells = self.grid.cells()
        for numbers in shuffled(len(cells), rng) if self.grid.order == "random" else _in_order(len(cells)):
            points = self.narrow(cells.draw(numbers, rng) if self.grid.jitter else cells.centres(numbers))
            if len(points):
                yield points


def shuffled(n: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """The numbers below ``n`` in random order, each once, some at a time and without a list of them.

    A Feistel network over the next power of four, six rounds with keys from ``rng``; what falls outside is left out.
    """
    half = np.uint64(max(1, (max(n - 1, 1).bit_length() + 1) // 2))
    low = np.uint64((1 << int(half)) - 1)
    keys = rng.integers(0, 2**64, size=6, dtype=np.uint64)
    for numbers in _in_order(1 << 2 * int(half)):
        left, right = numbers.astype(np.uint64) >> half, numbers.astype(np.uint64) & low
        for key in keys:
            left, right = right, left ^ (_mix(right + key) & low)
        order = ((left << half) | right).astype(np.int64)
        yield order[order < n]


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Bits that depend on all bits: the finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _in_order(n: int) -> Iterator[NDArray[np.int64]]:
    return (np.arange(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK))


def _wrap(lon: NDArray[np.float64]) -> NDArray[np.float64]:
    """Longitudes within [-180°, 180°)."""
    return (lon + 180) % 360 - 180
