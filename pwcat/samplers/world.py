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
from pwcat.regions.cells import CELL_DEG, SHAPE
from pwcat.samplers.sphere import WORLD, AreaSampler, CellSampler
from pwcat.samplers.strata import Candidates, Domain

__all__ = ["World"]

# Points on which area shares are measured; fewer where a layer is read over the network, a request a point.
SHARE_POINTS = 1_000_000
SHARE_POINTS_REMOTE = 4_096
SHARE_POINTS_SCENES = 200_000


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
    _kept: dict[tuple[str, tuple[str, ...]], NDArray[np.uint8] | None] = field(default_factory=dict, repr=False)

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
        mask = self.mask({**self.labels_of(domain), **labels})
        if domain == "scenes":
            return AreaSampler(self._footprints(mask, labels))
        if mask is None:
            return AreaSampler([WORLD])
        cells = np.flatnonzero(mask).astype(np.int32)
        if not len(cells):
            raise RegionError(f"no place has {_spelt(labels)}: nothing to sample")
        return CellSampler(cells, SHAPE)

    def mask(self, labels: Mapping[str, tuple[str, ...]]) -> NDArray[np.bool_] | None:
        """Cells that may hold a site with these labels; ``None``: any cell may."""
        masks = [self._bits(name, classes) for name, classes in labels.items()]
        known = [mask for mask in masks if mask is not None]
        if not known:
            return None
        cells = np.unpackbits(reduce(np.bitwise_and, known), count=SHAPE[0] * SHAPE[1])
        return cells.view(np.bool_).reshape(SHAPE)

    def _bits(self, name: str, classes: tuple[str, ...]) -> NDArray[np.uint8] | None:
        """The cells of some classes of one layer, a bit each; kept, for strata share them."""
        if (name, classes) not in self._kept:
            layer = self.regions.require(name)
            codes = [layer.classes.index(value) for value in classes]
            margin = self.chip_km if name == "landcover" else 0.0  # the label of a chip, not of its centre
            mask = layer.possible(None if len(codes) == len(layer.classes) else codes, margin_km=margin)
            self._kept[name, classes] = None if mask is None else np.packbits(mask)
        return self._kept[name, classes]

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

    def area_shares(self, domain: Domain, layers: Sequence[str]) -> dict[tuple[str, ...], float]:
        """Share of a domain's area that each combination of the layers' classes has, largest first.

        Measured on a fixed draw of a million points (200,000 where scenes are), so that what has less than a few
        millionths is not seen. Places without one of the classes count in no share.
        """
        opened = [self.regions.require(name) for name in layers]
        points = _take(self.candidates(domain, {}), self._share_points(domain, layers))
        inside = np.ones(len(points), dtype=bool)
        for name, classes in self.labels_of(domain).items():
            layer = self.regions.require(name)
            inside &= np.isin(layer.codes(points), [layer.classes.index(value) for value in classes])
        codes = np.column_stack([layer.codes(points[inside]) for layer in opened])
        codes = codes[(codes >= 0).all(axis=1)]
        found, counts = np.unique(codes, axis=0, return_counts=True)
        names = [tuple(layer.classes[code] for layer, code in zip(opened, row, strict=True)) for row in found]
        shares = {name: int(count) / len(codes) for name, count in zip(names, counts, strict=True)}
        return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))

    def _share_points(self, domain: Domain, layers: Sequence[str]) -> int:
        if any(self.regions.require(name).possible(None) is None for name in layers):
            return SHARE_POINTS_REMOTE
        return SHARE_POINTS_SCENES if domain == "scenes" else SHARE_POINTS


def _take(candidates: Candidates, n: int) -> NDArray[np.float64]:
    taken: list[NDArray[np.float64]] = []
    stream: Iterator[NDArray[np.float64]] = candidates(np.random.default_rng(0))
    while n > 0 and (points := next(stream, None)) is not None:
        taken.append(points[:n])
        n -= len(taken[-1])
    return np.concatenate(taken) if taken else np.empty((0, 2))


def _touches(mask: NDArray[np.bool_], bounds: NDArray[np.float64]) -> bool:
    """Whether a box of longitude and latitude touches a cell of the mask."""
    west, south, east, north = bounds
    rows = slice(max(0, int((90 - north) / CELL_DEG)), int((90 - south) / CELL_DEG) + 1)
    columns = slice(max(0, int((west + 180) / CELL_DEG)), int((east + 180) / CELL_DEG) + 1)
    return bool(mask[rows, columns].any())


def _spelt(labels: Mapping[str, tuple[str, ...]]) -> str:
    return " and ".join(f"{name} {' or '.join(map(repr, classes))}" for name, classes in labels.items()) or "a class"
