"""Questions that cover sites: few of them, each about a neighbourhood.

One question a site is as slow as there are sites, and questions about sites from all over the world bring every scene many
times. Sites are put in Z-order on a grid of half a degree, less than half a scene's side. Where they lie dense in a cell, its
box stands for them all, since hardly a scene touches the box and none of its sites; elsewhere they are points. Points and
boxes are asked for by the many, in that order, so that a scene is in few answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

__all__ = ["Question", "cover_sites", "z_order"]

CELL_DEG = 0.5
# So many sites of a cell are asked for as a box: it has five corners to say.
DENSE = 8
# Positions a question. A request of 30 kB; the index of pgstac goes by the bounding box of it all, so that more would not help.
POSITIONS = 1000
# Boxes are this much wider than their sites, and are never flat: 1 m.
MARGIN_DEG = 1e-5


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked for in one go.

    Attributes:
        sites: ``(n, 2)`` longitudes and latitudes; an item is wanted that holds one of them.
        boxes: ``(m, 4)`` west, south, east, north, where boxes are asked for instead; ``None`` for the very points.
    """

    sites: NDArray[np.float64]
    boxes: NDArray[np.float64] | None = None

    @property
    def geometry(self) -> dict[str, Any]:
        """GeoJSON, as ``intersects`` takes it."""
        if self.boxes is None:
            return {"type": "MultiPoint", "coordinates": self.sites.tolist()}
        return _plain(shapely.geometry.mapping(shapely.union_all(shapely.box(*self.boxes.T))))

    def wants(self, geometry: Mapping[str, Any] | None) -> bool:
        """Whether an item that was found holds a site; only boxes bring others.

        What is wider than half the world is taken as it is: it may cross the antimeridian in a way of its own.
        """
        if self.boxes is None or geometry is None:
            return True
        footprint = shapely.geometry.shape(geometry)
        west, south, east, north = footprint.bounds
        if east - west > 180:
            return True
        x, y = self.sites.T
        near = self.sites[(x >= west) & (x <= east) & (y >= south) & (y <= north)]
        return bool(shapely.intersects_xy(footprint, near).any())

    def halves(self) -> list[Question]:
        """The same in two, for an API that will not answer all of it; none where it is one site."""
        if len(self.sites) < 2:
            return []
        if self.boxes is None or len(self.boxes) < 2:  # a box that is too much is asked for by its points
            return [Question(sites=part) for part in np.array_split(self.sites, 2)]
        cells = [_in_box(self.sites, box) for box in self.boxes]
        middle = len(cells) // 2
        return [
            Question(sites=self.sites[np.logical_or.reduce(part)], boxes=boxes)
            for part, boxes in ((cells[:middle], self.boxes[:middle]), (cells[middle:], self.boxes[middle:]))
        ]


def cover_sites(sites: NDArray[np.float64], *, positions: int = POSITIONS) -> list[Question]:
    """Questions that together bring every item that holds a site.

    Args:
        sites: ``(n, 2)`` longitudes and latitudes, EPSG:4326.
        positions: a question at most.
    """
    sites = np.unique(np.asarray(sites, dtype=np.float64), axis=0)
    if not len(sites):
        return []
    order = np.argsort(cells := z_order(sites), kind="stable")
    sites, cells = sites[order], cells[order]
    starts = np.flatnonzero(np.diff(cells, prepend=-1))
    counts = np.diff(np.append(starts, len(sites)))
    dense = np.repeat(counts >= DENSE, counts)
    points = _in_parts(sites[~dense], positions)
    groups = [sites[start : start + count] for start, count in zip(starts, counts, strict=True) if count >= DENSE]
    return [Question(sites=part) for part in points] + _boxes(groups, max(positions // 5, 1))


def _boxes(groups: Sequence[NDArray[np.float64]], most: int) -> list[Question]:
    questions = []
    for start in range(0, len(groups), most):
        part = groups[start : start + most]
        boxes = np.array([[*group.min(axis=0) - MARGIN_DEG, *group.max(axis=0) + MARGIN_DEG] for group in part])
        boxes = np.clip(boxes, [-180, -90, -180, -90], [180, 90, 180, 90])
        questions.append(Question(sites=np.concatenate(part), boxes=boxes))
    return questions


def _in_parts(sites: NDArray[np.float64], most: int) -> list[NDArray[np.float64]]:
    """Runs of about equal length, none longer than ``most``."""
    return np.array_split(sites, -(-len(sites) // most)) if len(sites) else []


def z_order(sites: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number of each site's cell along a Z-curve (Morton)."""
    column = np.clip((sites[:, 0] + 180) / CELL_DEG, 0, 360 / CELL_DEG - 1).astype(np.int64)
    row = np.clip((sites[:, 1] + 90) / CELL_DEG, 0, 180 / CELL_DEG - 1).astype(np.int64)
    number = np.zeros(len(sites), dtype=np.int64)
    for bit in range(int(np.ceil(np.log2(360 / CELL_DEG)))):
        number |= ((column >> bit) & 1) << (2 * bit) | ((row >> bit) & 1) << (2 * bit + 1)
    return number


def _in_box(sites: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((sites >= box[:2]).all(axis=1) & (sites <= box[2:]).all(axis=1))


def _plain(geometry: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": geometry["type"], "coordinates": _lists(geometry["coordinates"])}


def _lists(value: Any) -> Any:
    return [_lists(one) for one in value] if isinstance(value, (tuple, list)) else value
