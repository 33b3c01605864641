"""Where a town lies, and how dense it is: the ground on which streets and houses are laid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.archive.towns.manners import MANNERS, Manner
from pwcat.archive.world import CONTINENTS, continent_shapes

__all__ = ["GROUP_ZOOM", "ZOOM", "Field", "Ground", "choose_ground"]

ZOOM, GROUP_ZOOM = 16, 14
PER_GROUP = 2 ** (ZOOM - GROUP_ZOOM)
EQUATOR_M = 40_075_016.686  # WGS 84
MOST_LAT = 58.0  # towns lie between as many degrees south and north


@dataclass(frozen=True, kw_only=True)
class Field:
    """A smooth field over a town: a sum of waves, of zero mean and about unit variance.

    Attributes:
        waves: (n, 2) radians a metre.
        phases: (n,).
    """

    waves: NDArray[np.float64]
    phases: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator, *, wavelength_m: float, waves: int = 8) -> Field:
        """A field whose waves are about so long."""
        angle = rng.uniform(0, 2 * np.pi, waves)
        frequency = 2 * np.pi / (wavelength_m * rng.uniform(0.6, 1.6, waves))
        return cls(
            waves=(frequency * [np.cos(angle), np.sin(angle)]).T,
            phases=rng.uniform(0, 2 * np.pi, waves),
        )

    def at(self, xy_N2: NDArray[np.float64]) -> NDArray[np.float64]:
        """Its values at points, (N,)."""
        return np.cos(xy_N2 @ self.waves.T + self.phases).sum(-1) * math.sqrt(2 / len(self.phases))


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The square of a town: ``across`` by ``across`` tiles of zoom 16 within one of zoom 14.

    Points are metres east and south of the square's north-western corner, true at its middle, and straight in web mercator.

    Attributes:
        number: of the town.
        continent: where it lies.
        group: x and y of its tile of zoom 14.
        across: tiles of zoom 16 on a side.
        density: 0 is open land, 1 a city's middle; see :meth:`density_at`.
        middle: where the town is densest.
        radius_m: where the density has fallen to 1/e.
        peak: the density in the middle.
        mapped: share of buildings that mappers have drawn.
        numbered: share of buildings with an address.
        storeyed: share of buildings with their levels.
        plain: share of buildings that are only ``building=yes``.
        posted: share of small streets whose speed limit is mapped.
    """

    number: int
    continent: str
    group: tuple[int, int]
    across: int
    density: Field
    middle: tuple[float, float]
    radius_m: float
    peak: float
    mapped: float
    numbered: float
    storeyed: float
    plain: float
    posted: float

    @property
    def manner(self) -> Manner:
        """How towns are built on this continent."""
        return MANNERS[self.continent]

    @property
    def corner(self) -> tuple[int, int]:
        """Column and row of the north-western tile of zoom 16."""
        inset = (PER_GROUP - self.across) // 2
        return self.group[0] * PER_GROUP + inset, self.group[1] * PER_GROUP + inset

    @property
    def tile_m(self) -> float:
        """Side of a tile on the ground, metres."""
        return EQUATOR_M / 2**ZOOM * math.cos(math.radians(_latitude(self.corner[1] + self.across / 2)))

    @property
    def side_m(self) -> float:
        """Side of the town."""
        return self.across * self.tile_m

    @property
    def square(self) -> shapely.Polygon:
        """The town's ground, but for a hem of a metre, so that nothing lies in the tiles beside it."""
        return shapely.box(1, 1, self.side_m - 1, self.side_m - 1)

    def density_at(self, xy_N2: NDArray[np.float64]) -> NDArray[np.float64]:
        """How dense the town is at points, (N,), 0..1."""
        away = ((xy_N2 - np.array(self.middle)) ** 2).sum(-1) / self.radius_m**2
        return np.clip(self.peak * np.exp(-away) + 0.10 * self.density.at(xy_N2), 0, 1)

    def lonlat(self, xy_N2: NDArray[np.float64]) -> NDArray[np.float64]:
        """Longitude and latitude of points, (N, 2) degrees, EPSG:4326."""
        tiles = np.asarray(xy_N2, np.float64) / self.tile_m + np.array(self.corner)
        lat = np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * tiles[:, 1] / 2**ZOOM))))
        return np.column_stack([tiles[:, 0] / 2**ZOOM * 360 - 180, lat])


def choose_ground(rng: np.random.Generator, *, number: int, across: int, taken: set[tuple[int, int]]) -> Ground:
    """The ground of a town on the continent that is its turn's; its group joins ``taken``, so that no two share one."""
    continent = CONTINENTS[number % len(CONTINENTS)]
    inland = shapely.buffer(continent_shapes()[continent], -0.5)
    west, south, east, north = inland.bounds
    while True:
        lon, lat = rng.uniform(west, east), rng.uniform(max(south, -MOST_LAT), min(north, MOST_LAT))
        group = _tile(lon, lat)
        if group not in taken and shapely.contains_xy(inland, lon, lat):
            break
    taken.add(group)
    inset = (PER_GROUP - across) // 2
    tile_m = EQUATOR_M / 2**ZOOM * math.cos(math.radians(_latitude(group[1] * PER_GROUP + inset + across / 2)))
    side = across * tile_m
    return Ground(
        number=number,
        continent=continent,
        group=group,
        across=across,
        density=Field.draw(rng, wavelength_m=700),
        middle=(side * rng.uniform(0.25, 0.75), side * rng.uniform(0.25, 0.75)),
        radius_m=side * rng.uniform(0.35, 0.9),
        peak=float(rng.uniform(0.35, 1.0)),
        mapped=float(rng.uniform(0.75, 1.0)),
        numbered=float(rng.beta(0.7, 2.0)),
        storeyed=float(rng.beta(0.6, 3.0)),
        plain=float(rng.uniform(0.2, 0.7)),
        posted=float(rng.uniform(0.2, 0.8)),
    )


def _latitude(y: float) -> float:
    """Latitude of a row of tiles of zoom 16, degrees."""
    return math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * y / 2**ZOOM))))


def _tile(lon: float, lat: float) -> tuple[int, int]:
    """Column and row of the tile of zoom 14 that holds a point."""
    n = 2**GROUP_ZOOM
    x = (lon + 180) / 360 * n
    y = (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2 * n
    return int(x), int(y)
