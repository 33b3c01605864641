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
from pwcat.samplers.reach import reach_of
from pwcat.samplers.strata import Domain, SamplerDocument, Stratum

if TYPE_CHECKING:
    from pwcat.samplers.world import World

__all__ = ["Cells", "Grid", "Shuffle", "equal_area_cells", "major_tom_cells"]

# Major TOM measures on a sphere of the equatorial radius, and has rows of which the southern edge lies between these
# latitudes (Francis and Czerkawski, 2024, arXiv:2402.12095; src/grid.py of ESA-PhiLab/Major-TOM).
MAJOR_TOM_RADIUS_KM = 6378.137
MAJOR_TOM_LATITUDES = (-85.0, 85.0)

# The sphere with the area of the WGS84 ellipsoid.
AUTHALIC_RADIUS_KM = 6371.0072

DEFAULT_CELL_KM = {"major-tom": 10.0, "equal-area": 23.0}

# Cells that are made at once.
CHUNK = 65_536

# Where the domain can have more cells than this, all of the grid is walked through: a list of them would fill memory.
MOST_LISTED = 8_000_000

# Slack of edges that are compared, degrees: far more than rounding, far less than a cell.
SLACK_DEG = 1e-9


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

    def points(self, cells: NDArray[np.int64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """A point in each cell, ``(n, 2)``, EPSG:4326, at these shares ``(n, 2)`` of its width and of its area from the south.

        Shares that are uniform make points that are uniform by area.
        """
        west, south, east, north = self.boxes(cells).T
        low, high = np.sin(np.deg2rad(south)), np.sin(np.deg2rad(north))
        lon = west + shares[:, 0] * (east - west)
        lat = np.rad2deg(np.arcsin(low + shares[:, 1] * (high - low)))
        return np.column_stack([_wrap(lon), lat])

    def touching(self, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Numbers, ascending, of the cells that touch a mask's, ``(n,)``; hardly any that do not.

        Args:
            mask: over the cells of :mod:`pwcat.regions.cells`, ``(3600, 7200)``.
        """
        boxes = _boxes_of(mask)
        first = np.searchsorted(self.north, boxes[:, 1])
        count = np.maximum(np.searchsorted(self.south, boxes[:, 3], side="right") - first, 0)
        row, box = _expand(first, count), np.repeat(np.arange(len(boxes)), count)
        columns, offset = self.columns[row], (np.cumsum(self.columns) - self.columns)[row]
        west, east = ((boxes[box, side] - self.west[row]) * columns / 360 for side in (0, 2))
        start = np.floor(west).astype(np.int64)
        length = np.minimum(np.floor(east).astype(np.int64) - start + 1, columns)
        start %= columns
        over = np.maximum(start + length - columns, 0)  # beyond a row's last cell lies its first
        starts = np.concatenate([offset + start, offset])
        return _union(starts, starts + np.concatenate([length - over, over]))


def _boxes_of(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """West, south, east and north of each run of a row of a mask, ``(n, 4)``, a little widened."""
    from pwcat.regions.cells import CELL_DEG

    rows = np.flatnonzero(mask.any(axis=1))
    edges = np.pad(mask[rows], ((0, 0), (1, 1)))
    row, column = np.nonzero(edges[:, 1:] != edges[:, :-1])
    north = 90 - CELL_DEG * rows[row[::2]]
    west, east = (-180 + CELL_DEG * column[end::2] for end in (0, 1))
    wider = SLACK_DEG * np.array([-1, -1, 1, 1])
    return np.column_stack([west, north - CELL_DEG, east, north]) + wider


def _expand(first: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """``first, first + 1, …``, ``count`` numbers of each."""
    within = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    return np.asarray(np.repeat(first, count) + within)


def _union(first: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers of all ranges from ``first`` to below ``end``, ascending, each once."""
    some = np.flatnonzero(end > first)
    some = some[np.argsort(first[some], kind="stable")]
    first, reach = first[some], np.maximum.accumulate(end[some])
    apart = first[1:] > reach[:-1]
    starts = first[np.append(True, apart)] if len(some) else first
    ends = reach[np.append(apart, True)] if len(some) else reach
    return _expand(starts, ends - starts)


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
        sites = _Sites(grid=self, narrow=narrow, reach=reach_of(self.domain, labels, world=world))
        return [Stratum(name=name, wanted=n, candidates=sites, labels=labels, domain=self.domain)]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sites:
    """A site a cell, in chunks, so that a fine grid takes no memory."""

    grid: Grid
    narrow: Narrow
    reach: NDArray[np.bool_] | None

    def __call__(self, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
        cells = self.grid.cells()
        shuffle = Shuffle.of(len(cells), rng) if self.grid.order == "random" else None
        keys = rng.integers(0, 2**64, size=2, dtype=np.uint64)
        for numbers in self._numbers(cells, shuffle):
            shares = np.column_stack([_uniform(numbers, key) for key in keys])
            points = self.narrow(cells.points(numbers, shares) if self.grid.jitter else cells.centres(numbers))
            if len(points):
                yield points

    def _numbers(self, cells: Cells, shuffle: Shuffle | None) -> Iterator[NDArray[np.int64]]:
        """Numbers of the cells, or of those within reach, which makes no difference to the sites."""
        if self.reach is None or len(cells) * _share(self.reach) > MOST_LISTED:
            return _in_order(len(cells)) if shuffle is None else shuffle.all()
        some = cells.touching(self.reach)
        listed = some if shuffle is None else shuffle.sort(some)
        return (listed[numbers] for numbers in _in_order(len(listed)))


def _share(mask: NDArray[np.bool_]) -> float:
    """Share of the sphere's area."""
    from pwcat.regions.cells import row_weights

    return float(row_weights() @ mask.sum(axis=1) / (4 * np.pi))


@dataclass(frozen=True, kw_only=True, eq=False)
class Shuffle:
    """The numbers below ``n`` in random order, each once, without a list of them.

    A Feistel network over the next power of four, six rounds with a key each; what falls outside is left out.
    """

    n: int
    keys: NDArray[np.uint64]

    @classmethod
    def of(cls, n: int, rng: np.random.Generator) -> Shuffle:
        """An order at random."""
        return cls(n=n, keys=rng.integers(0, 2**64, size=6, dtype=np.uint64))

    @property
    def _half(self) -> np.uint64:
        """Bits of half a number."""
        return np.uint64(max(1, (max(self.n - 1, 1).bit_length() + 1) // 2))

    @property
    def _low(self) -> np.uint64:
        return np.uint64((1 << int(self._half)) - 1)

    def all(self) -> Iterator[NDArray[np.int64]]:
        """All numbers in this order, some at a time."""
        for places in _in_order(1 << 2 * int(self._half)):
            left, right = self._halves(places)
            for key in self.keys:
                left, right = right, left ^ (_mix(right + key) & self._low)
            order = ((left << self._half) | right).astype(np.int64)
            yield order[order < self.n]

    def sort(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Some of the numbers in this order: the network backwards tells the place of each."""
        left, right = self._halves(numbers)
        for key in self.keys[::-1]:
            left, right = right ^ (_mix(left + key) & self._low), left
        return numbers[np.argsort((left << self._half) | right)]

    def _halves(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        return numbers.astype(np.uint64) >> self._half, numbers.astype(np.uint64) & self._low


def _uniform(numbers: NDArray[np.int64], key: np.uint64) -> NDArray[np.float64]:
    """A share below one for each number, that hangs on it and the key alone: SplitMix64, whose counter the number is."""
    counter = key + numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (_mix(counter) >> np.uint64(11)).astype(np.float64) * 2.0**-53


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
