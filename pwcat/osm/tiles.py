"""Tiles of the web mercator grid: which tile a place lies on, where on it, and a tile's bounds.

At zoom ``z`` the world between the latitudes of :data:`MAX_LATITUDE` is ``2**z`` by ``2**z`` squares, x from the antimeridian
to the east, y from the north to the south. *World coordinates* are counted in tiles: their whole part is the tile, the rest
are tile coordinates, from 0 to 1.

Source: EPSG:3857 (EPSG Guidance Note 7-2, method 1024), and the tile numbers of OGC Two Dimensional Tile Matrix Set 2.0,
annex D.1 (WebMercatorQuad).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pwcat.errors import PwcatError

__all__ = [
    "HALF_WORLD_M",
    "MAX_LATITUDE",
    "MAX_ZOOM",
    "Tile",
    "decode_tiles",
    "encode_tiles",
    "from_mercator",
    "from_world",
    "parse_tile",
    "tile_coordinates",
    "tile_of",
    "tiles_within",
    "to_mercator",
    "to_world",
]

HALF_WORLD_M: Final = np.pi * 6_378_137.0  # half the width of EPSG:3857, by WGS 84's semi-major axis
MAX_LATITUDE: Final = float(
    np.rad2deg(2 * np.arctan(np.exp(np.pi)) - np.pi / 2)
)  # 85.0511: there the world is a square
MAX_ZOOM: Final = 24  # 2.4 m at the equator; codes need twice as many bits


@dataclass(frozen=True, order=True)
class Tile:
    """A tile of the web mercator grid.

    Attributes:
        zoom: 0 for the whole world; each further halves the width.
        x: from the west, ``0 .. 2**zoom - 1``.
        y: from the north, ``0 .. 2**zoom - 1``.
    """

    zoom: int
    x: int
    y: int

    def __post_init__(self) -> None:
        side = 1 << self.zoom if 0 <= self.zoom <= MAX_ZOOM else 0
        if not (0 <= self.x < side and 0 <= self.y < side):
            raise PwcatError(
                f"tile {self}: there is none; zoom is 0 to {MAX_ZOOM}, x and y are whole numbers below 2 to the power of it"
            )

    def __str__(self) -> str:
        return f"{self.zoom}/{self.x}/{self.y}"

    def at(self, zoom: int) -> Self:
        """The tile of a lower zoom that this one lies in: its group.

        Raises:
            PwcatError: the zoom is a higher one.
        """
        if zoom > self.zoom:
            raise PwcatError(f"tile {self} lies in no tile of zoom {zoom}; name one from 0 to {self.zoom}")
        return type(self)(zoom, self.x >> self.zoom - zoom, self.y >> self.zoom - zoom)

    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in degrees, EPSG:4326."""
        (west, east), (north, south) = from_world([self.x, self.x + 1], [self.y, self.y + 1], self.zoom)
        return float(west), float(south), float(east), float(north)

    def mercator_bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in metres, EPSG:3857."""
        side = 2 * HALF_WORLD_M / (1 << self.zoom)
        west, north = self.x * side - HALF_WORLD_M, HALF_WORLD_M - self.y * side
        return west, north - side, west + side, north


def parse_tile(text: str) -> Tile:
    """The tile that ``zoom/x/y`` names; ``zoom-x-y`` and ``zoom_x_y`` are read too.

    Raises:
        PwcatError: the text names no tile.
    """
    numbers = text.replace("-", "/").replace("_", "/").split("/")
    if len(numbers) != 3 or not all(number.isascii() and number.isdigit() for number in numbers):
        raise PwcatError(f"tile {text!r} is not understood; write zoom/x/y, 16/34117/23887 say")
    return Tile(*map(int, numbers))


def to_mercator(lon: ArrayLike, lat: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Easting and northing in metres, EPSG:3857, of degrees; those of the poles are infinite."""
    x, y = to_world(lon, lat, 0)
    return (2 * x - 1) * HALF_WORLD_M, (1 - 2 * y) * HALF_WORLD_M


def from_mercator(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude in degrees of metres in EPSG:3857."""
    east, north = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    return from_world((east / HALF_WORLD_M + 1) / 2, (1 - north / HALF_WORLD_M) / 2, 0)


def to_world(lon: ArrayLike, lat: ArrayLike, zoom: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """World coordinates of degrees, in tiles: x eastwards, y southwards, both from 0 to ``2**zoom``."""
    lon_deg, lat_deg = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
    with np.errstate(divide="ignore"):  # the poles lie infinitely far
        north = np.arctanh(np.sin(np.deg2rad(lat_deg))) / np.pi
    return (lon_deg / 360 + 0.5) * (1 << zoom), (0.5 - north / 2) * (1 << zoom)


def from_world(x: ArrayLike, y: ArrayLike, zoom: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude in degrees of world coordinates."""
    east = np.asarray(x, dtype=np.float64) / (1 << zoom)
    north = np.pi * (1 - 2 * np.asarray(y, dtype=np.float64) / (1 << zoom))
    return (east - 0.5) * 360, np.rad2deg(np.arctan(np.sinh(north)))


def tile_of(lon: ArrayLike, lat: ArrayLike, zoom: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers x and y of the tiles that places lie on, degrees; 180 degrees east belongs to the last tile.

    What lies beyond :data:`MAX_LATITUDE` is put on the outermost tile: who cares leaves it out before.
    """
    last = (1 << zoom) - 1
    x, y = to_world(lon, lat, zoom)
    return tuple(np.clip(np.floor(each), 0, last).astype(np.int64) for each in (x, y))  # type: ignore[return-value]


def tile_coordinates(lon: ArrayLike, lat: ArrayLike, tile: Tile) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where places lie on a tile: x from 0 in the west to 1 in the east, y from 0 in the north to 1; outside it beyond that."""
    x, y = to_world(lon, lat, tile.zoom)
    return x - tile.x, y - tile.y


def encode_tiles(x: ArrayLike, y: ArrayLike) -> NDArray[np.int64]:
    """One number a tile: the bits of y and x in turn, from the highest.

    In the order of these numbers, tiles lie together by the tiles of every lower zoom: ``code >> 2 * (zoom - group_zoom)``
    is the number of the group.
    """
    return _spread(np.asarray(x, dtype=np.int64)) | _spread(np.asarray(y, dtype=np.int64)) << 1


def decode_tiles(codes: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers x and y of the tiles of such codes."""
    numbers = np.asarray(codes, dtype=np.int64)
    return _gather(numbers), _gather(numbers >> 1)


def tiles_within(bounds: tuple[float, float, float, float], zoom: int) -> tuple[int, int, int, int]:
    """First x, first y, last x, last y of the tiles that a box shares an area with, or that a place without one lies on.

    Args:
        bounds: west, south, east, north in degrees; west is not greater than east.
        zoom: of the tiles.
    """
    west, south, east, north = bounds
    x, y = to_world([west, east], np.clip([north, south], -MAX_LATITUDE, MAX_LATITUDE), zoom)
    first = np.floor([x[0], y[0]])
    last = np.maximum(np.ceil([x[1], y[1]]) - 1, first)
    x0, y0, x1, y1 = np.clip([*first, *last], 0, (1 << zoom) - 1).astype(int).tolist()
    return x0, y0, x1, y1


# Shifts and masks that put a zero between every two bits of a number of 32 bits, and take them out again.
_STEPS: Final = (
    (16, 0x0000FFFF0000FFFF),
    (8, 0x00FF00FF00FF00FF),
    (4, 0x0F0F0F0F0F0F0F0F),
    (2, 0x3333333333333333),
    (1, 0x5555555555555555),
)


def _spread(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    for shift, mask in _STEPS:
        numbers = (numbers | numbers << shift) & mask
    return numbers


def _gather(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    numbers = numbers & _STEPS[-1][1]
    for (shift, _), (_, mask) in zip(_STEPS[::-1], [*_STEPS[-2::-1], (0, 0xFFFFFFFF)], strict=True):
        numbers = (numbers | numbers >> shift) & mask
    return numbers
