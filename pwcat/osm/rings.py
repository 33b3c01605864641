"""Areas of multipolygon relations, put together from the ways that bound them.

Roles are not looked at: mappers set them wrongly, and what lies inside follows from the lines. Stretches that two members
share are no border (a hole that touches the outer ring, two outer rings side by side), and inside is what a ray leaves by
crossing an odd number of lines. This is how libosmium's assembler reads them; in distinction from it, rings that cross
themselves or one another are cut where they cross, and what closes is kept where a member is missing.

Source: "Relation:multipolygon" in OpenStreetMap's wiki: rings of type ``multipolygon``, touching inner rings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.compiling import compiled

__all__ = ["DEGREE", "Assembled", "assemble_area"]

DEGREE: Final = 10_000_000  # OpenStreetMap keeps seven decimals of a degree


@dataclass(frozen=True, kw_only=True, eq=False)
class Assembled:
    """An area, and what was wrong with its lines.

    Attributes:
        geometry: a multipolygon, EPSG:4326; empty where nothing closes.
        is_open: whether some lines bound nothing: a ring is not closed.
        is_crossed: whether lines cross where they have no common node.
    """

    geometry: shapely.MultiPolygon
    is_open: bool
    is_crossed: bool


def assemble_area(ways: Sequence[NDArray[np.int32]]) -> Assembled:
    """The area that ways bound.

    Args:
        ways: ``(vertices, 2)`` longitude and latitude of each way's vertices, in units of ``1 / DEGREE`` degrees.
    """
    segments_S4 = _border(ways)
    ends, touching = np.unique(segments_S4.reshape(-1, 2), axis=0, return_counts=True)
    lines = shapely.linestrings(segments_S4.reshape(-1, 2, 2) / DEGREE)
    noded = shapely.get_parts(shapely.union_all(lines))
    faces = shapely.get_parts(shapely.polygonize(noded))
    faces = faces[_are_inside(faces)]
    corners = np.unique(shapely.get_coordinates(noded), axis=0)
    return Assembled(
        geometry=shapely.MultiPolygon(list(faces)),
        is_open=bool((touching % 2).any()),
        is_crossed=len(corners) > len(ends),
    )


def _border(ways: Sequence[NDArray[np.int32]]) -> NDArray[np.int64]:
    """``(S, 4)`` segments that an odd number of ways run along, sorted: the same in whatever order the ways come."""
    runs = [np.hstack([way[:-1], way[1:]]) for way in ways if len(way) > 1]
    segments = np.vstack(runs).astype(np.int64) if runs else np.empty((0, 4), dtype=np.int64)
    distinct, counts = np.unique(_from_west(segments), axis=0, return_counts=True)
    has_length = (distinct[:, :2] != distinct[:, 2:]).any(axis=1)
    return distinct[(counts % 2 == 1) & has_length]


def _from_west(segments_S4: NDArray[Any]) -> NDArray[Any]:
    """Segments, each from its end in the west, or in the south."""
    x0, y0, x1, y1 = segments_S4.T
    backwards = (x0 > x1) | ((x0 == x1) & (y0 > y1))
    return np.where(backwards[:, None], segments_S4[:, [2, 3, 0, 1]], segments_S4)


def _are_inside(faces: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Which faces lie inside: lines that bound no face are none that a ray crosses."""
    if not len(faces):
        return np.zeros(0, dtype=bool)
    places = shapely.get_coordinates(shapely.point_on_surface(faces))
    vertices, ring = shapely.get_coordinates(shapely.get_rings(faces), return_index=True)
    inner = ring[1:] == ring[:-1]
    segments = np.hstack([vertices[:-1][inner], vertices[1:][inner]])
    return _crossings_are_odd(places, np.unique(_from_west(segments), axis=0))


@compiled
def _crossings_are_odd(places_N2: NDArray[np.float64], segments_S4: NDArray[np.float64]) -> NDArray[np.bool_]:
    odd = np.zeros(len(places_N2), dtype=np.bool_)
    for n in range(len(places_N2)):
        x, y = places_N2[n]
        for s in range(len(segments_S4)):
            x0, y0, x1, y1 = segments_S4[s]
            if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
                odd[n] = not odd[n]
    return odd
