"""What samplers draw from: the region layers, and the places where the source has scenes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.errors import RegionError
from pwcat.regions import Regions, require_class
from pwcat.regions.areas import METRES_PER_DEGREE
from pwcat.regions.cells import CELL_DEG, SHAPE
from pwcat.samplers.sphere import WORLD, AreaSampler, CellSampler, PartSampler
from pwcat.samplers.strata import Candidates, Domain

__all__ = ["AreaShares", "World"]

# Points on which area shares are measured.
SHARE_POINTS = 1_000_000
SHARE_POINTS_SCENES = 200_000

# Where a layer is read over a network, a request a place: so many places, with as many points a side around each, and so
# many pixels between them. They cost little more than the place alone, for files are read in squares of some hundred pixels.
SHARE_PLACES_REMOTE = 4_096
POINTS_A_SIDE, PIXELS_APART = 8, 16


# Cells are drawn from, rather than footprints, where they have less than this share of the footprints' area.
SMALL_MASK = 0.25

# Classes that a message names.
MOST_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class AreaShares:
    """How a domain's area is shared by combinations of classes.

    Attributes:
        of: share of each combination, largest first; those that were not seen are not in it.
        points: that have a class of every layer, on which it was measured.
    """

    of: Mapping[tuple[str, ...], float]
    points: int


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything a strategy may look at while it makes its strata.

    Attributes:
        regions: the recipe's layers.
        footprints: of the source's scenes, EPSG:4326; none where no sampler asked for them.
        base_dir: the folder that relative paths of the recipe start from.
        chip_km: side of a chip.
    """

    regions: Regions
    footprints: Sequence[shapely.Geometry]
    base_dir: Path
    chip_km: float
    _kept: dict[tuple[str, tuple[str, ...]], NDArray[np.uint8]] = field(default_factory=dict, repr=False)

    def spell(self, layer: str, values: Sequence[str]) -> tuple[str, ...]:
        """Classes as the layer spells them.

        Raises:
            RegionError: one is unknown; names the close matches and all classes.
        """
        classes = self.regions.require(layer).classes
        return tuple(require_class(value, classes, layer=layer) for value in values)

    def labels_of(self, domain: Domain) -> dict[str, tuple[str, ...]]:
        """The labels that make a site lie in a domain: on land is where the layer ``continent`` has a class."""
        return {"continent": tuple(self.regions.require("continent").classes)} if domain == "land" else {}

    def candidates(self, domain: Domain, labels: Mapping[str, tuple[str, ...]]) -> Candidates:
        """Points uniform by area over a domain, wherever one with these labels may be; the labels are still to be checked.

        Raises:
            RegionError: no place of the domain can have these labels.
        """
        mask = self.mask({**self.labels_of(domain), **labels}, domain=domain)
        if domain == "scenes":
            return self._in_scenes(mask, labels)
        if mask is None:
            return AreaSampler([WORLD])
        cells = np.flatnonzero(mask).astype(np.int32)
        if not len(cells):
            raise RegionError(f"no place has {_spelt(labels)}: nothing to sample")
        return CellSampler(cells, SHAPE)

    def mask(self, labels: Mapping[str, tuple[str, ...]], *, domain: Domain) -> NDArray[np.bool_] | None:
        """Cells that may hold a site with these labels; ``None``: any cell may.

        Where scenes say where to look, collections of class rasters are not asked for all of their files.
        """
        asked = {name for name in labels if domain == "scenes" and self.regions.require(name).rough() is None}
        masks = [self._bits(name, classes) for name, classes in labels.items() if name not in asked]
        if not masks:
            return None
        cells = np.unpackbits(reduce(np.bitwise_and, masks), count=SHAPE[0] * SHAPE[1])
        return cells.view(np.bool_).reshape(SHAPE)

    def _bits(self, name: str, classes: tuple[str, ...]) -> NDArray[np.uint8]:
        """The cells of some classes of one layer, a bit each; kept, for strata share them."""
        if (name, classes) not in self._kept:
            layer = self.regions.require(name)
            codes = [layer.classes.index(value) for value in classes]
            margin = self.chip_km if name == "landcover" else 0.0  # the label of a chip, not of its centre
            mask = layer.possible(None if len(codes) == len(layer.classes) else codes, margin_km=margin)
            self._kept[name, classes] = np.packbits(mask)
        return self._kept[name, classes]

    def _in_scenes(self, mask: NDArray[np.bool_] | None, labels: Mapping[str, tuple[str, ...]]) -> Candidates:
        """Points in footprints that touch the mask; drawn from its cells where they are much the smaller."""
        inside = AreaSampler(self._footprints(mask, labels))
        if mask is None:
            return inside
        cells = CellSampler(np.flatnonzero(mask).astype(np.int32), SHAPE)
        return PartSampler(cells, inside) if cells.area < SMALL_MASK * inside.area else inside

    def _footprints(
        self, mask: NDArray[np.bool_] | None, labels: Mapping[str, tuple[str, ...]]
    ) -> list[shapely.Geometry]:
        """Footprints, each once, that touch the mask."""
        distinct = np.asarray(list(dict.fromkeys(self.footprints)), dtype=object)
        if mask is not None and len(distinct):
            distinct = distinct[[_touches(mask, bounds) for bounds in shapely.bounds(distinct)]]
        if not len(distinct):
            raise RegionError(f"no scene of the source lies where {_spelt(labels)} is: nothing to sample")
        return list(distinct)

    def area_shares(self, domain: Domain, layers: Sequence[str]) -> AreaShares:
        """Share of a domain's area that each combination of the layers' classes has.

        Measured on a fixed draw of a million points (200,000 where scenes are) over the cells that the layers' classes
        touch, so that what has less than a few millionths of them is not seen; of layers that are read over a network, on a
        quarter of a million points at 4,096 places. Places without one of the classes count in no share.
        """
        classes_of = {name: tuple(self.regions.require(name).classes) for name in layers}
        mask = self.mask({**self.labels_of(domain), **classes_of}, domain=domain)
        if mask is not None and not mask.any():
            return AreaShares(of={}, points=0)
        opened = {name: self.regions.require(name) for name in layers}
        rough = {name: layer.rough() for name, layer in opened.items()}
        remote_m = [layer.pixel_m or 0 for name, layer in opened.items() if rough[name] is None]
        points = self._points(domain, self.candidates(domain, classes_of), remote_m)
        codes = np.stack([(rough[name] or layer).codes(points) for name, layer in opened.items()], axis=2)
        codes = codes[self._within(domain, points) & (codes >= 0).all(axis=2)]
        kinds = [len(layer.classes) for layer in opened.values()]
        found, counts = np.unique(np.ravel_multi_index(tuple(codes.T), kinds), return_counts=True)
        rows = np.column_stack(np.unravel_index(found, kinds))
        names = [tuple(layer.classes[code] for layer, code in zip(opened.values(), row, strict=True)) for row in rows]
        shares = {name: int(count) / len(codes) for name, count in zip(names, counts, strict=True)}
        return AreaShares(of=dict(sorted(shares.items(), key=lambda item: (-item[1], item[0]))), points=len(codes))

    def _points(self, domain: Domain, places: Candidates, remote_m: Sequence[float]) -> NDArray[np.float64]:
        """Points that areas are measured on, ``(n, k, 2)``: ``k`` near each other where pixels are read over a network."""
        if remote_m:
            return _around(_take(places, SHARE_PLACES_REMOTE), step_m=PIXELS_APART * min(remote_m))
        return _take(places, SHARE_POINTS_SCENES if domain == "scenes" else SHARE_POINTS)[:, None]

    def _within(self, domain: Domain, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of the points ``(n, k, 2)`` have the labels of a domain, ``(n, k)``."""
        inside = np.ones(points.shape[:2], dtype=bool)
        for name, classes in self.labels_of(domain).items():
            layer = self.regions.require(name)
            inside &= np.isin(layer.codes(points), [layer.classes.index(value) for value in classes])
        return inside


def _take(candidates: Candidates, n: int) -> NDArray[np.float64]:
    taken: list[NDArray[np.float64]] = []
    stream: Iterator[NDArray[np.float64]] = candidates(np.random.default_rng(0))
    while n > 0 and (points := next(stream, None)) is not None:
        taken.append(points[:n])
        n -= len(taken[-1])
    return np.concatenate(taken) if taken else np.empty((0, 2))


def _around(places: NDArray[np.float64], *, step_m: float) -> NDArray[np.float64]:
    """A square lattice of points around each of the places, ``(n, 64, 2)``; it goes on beyond the antimeridian."""
    steps = (np.arange(POINTS_A_SIDE) - (POINTS_A_SIDE - 1) / 2) * step_m / METRES_PER_DEGREE
    east, north = (axis.ravel() for axis in np.meshgrid(steps, steps))
    lat = np.clip(places[:, 1:] + north, -90, 90)
    lon = places[:, :1] + east / np.maximum(np.cos(np.deg2rad(lat)), 1e-3)
    return np.stack([(lon + 180) % 360 - 180, lat], axis=2)


def _touches(mask: NDArray[np.bool_], bounds: NDArray[np.float64]) -> bool:
    """Whether a box of longitude and latitude touches a cell of the mask."""
    west, south, east, north = bounds
    rows = slice(max(0, int((90 - north) / CELL_DEG)), int((90 - south) / CELL_DEG) + 1)
    columns = slice(max(0, int((west + 180) / CELL_DEG)), int((east + 180) / CELL_DEG) + 1)
    return bool(mask[rows, columns].any())


def _spelt(labels: Mapping[str, tuple[str, ...]]) -> str:
    return " and ".join(f"{name} {_either(classes)}" for name, classes in labels.items()) or "a class"


def _either(classes: Sequence[str]) -> str:
    more = [f"{len(classes) - MOST_NAMED} more"] if len(classes) > MOST_NAMED else []
    return " or ".join([*map(repr, classes[:MOST_NAMED]), *more])
