"""Land beneath the samples on a map: the coasts that the user's own layers know, or else our own sketch."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely

from pwcat.archive.world import continent_shapes
from pwcat.errors import PwcatError
from pwcat.maps import united
from pwcat.origin import noted_recipe
from pwcat.recipe import load_recipe
from pwcat.regions.cache import dataset_path, is_here
from pwcat.regions.datasets import find_dataset
from pwcat.regions.opening import open_layer
from pwcat.regions.vector import VectorLayer, read_vector

if TYPE_CHECKING:
    from catalog.query import Collection

__all__ = ["Land", "land_of", "sketched_land"]

log = logging.getLogger(__name__)

LAYERS = ("continent", "biome", "ecoregion")  # of a recipe, in this order: the first that is of polygons
DATASETS = ("natural-earth-110m", "natural-earth")  # of the user's cache, the small one first
LEAST_DEG2 = 0.02  # smaller islands are left out: less than a pixel of a map of the world


@dataclass(frozen=True, kw_only=True)
class Land:
    """Polygons of land, EPSG:4326, without borders between them.

    Attributes:
        source: where they come from, for people.
        polygons: single polygons.
    """

    source: str
    polygons: tuple[shapely.Polygon, ...]

    def rings(self, *, tolerance_deg: float) -> list[list[int]]:
        """Outer and inner rings as ``lon, lat, lon, lat …`` in hundredths of a degree, simplified to a tolerance."""
        parts = shapely.simplify(np.array(self.polygons, dtype=object), tolerance_deg)
        parts = parts[shapely.area(parts) > LEAST_DEG2]
        edges = shapely.segmentize(shapely.get_rings(parts), 4.0)  # long edges bend with the projection
        return [np.round(shapely.get_coordinates(ring) * 100).astype(int).ravel().tolist() for ring in edges]


def land_of(members: Iterable[Collection]) -> Land:
    """Land for a map of some collections: of their region layers, of the user's cache, or the sketch that comes along.

    A layer that cannot be read any more is passed over: a map is no reason to fail.
    """
    for source, shapes in _candidates(members):
        polygons = tuple(united(shapes))
        if polygons:
            return Land(source=source, polygons=polygons)
    return sketched_land()


def sketched_land() -> Land:
    """Our own coarse outlines of the continents, the same on every computer."""
    source = "a coarse sketch; `pwcat regions fetch natural-earth-110m` brings real coasts"
    return Land(source=source, polygons=tuple(united(continent_shapes().values())))


def _candidates(members: Iterable[Collection]) -> Iterator[tuple[str, list[shapely.Geometry]]]:
    for member in members:
        try:
            yield from _of_recipe(member)
        except (PwcatError, OSError) as exc:
            log.info("no land of %s for the map: %s", member.name, exc)
    for name in DATASETS:
        try:
            if is_here(dataset := find_dataset(name)):
                frame = read_vector(dataset_path(name), name="continent", inside=dataset.inside)
                yield dataset.name, list(frame.geometry)
        except (PwcatError, OSError) as exc:
            log.info("no land of %s for the map: %s", name, exc)


def _of_recipe(member: Collection) -> Iterator[tuple[str, list[shapely.Geometry]]]:
    noted = noted_recipe(member.path)
    path, recipe = noted or (member.path / "recipe.yaml", load_recipe(member.path / "recipe.yaml"))
    for name in LAYERS:
        layer = recipe.regions.given().get(name)
        if layer is not None and layer.collection is None and layer.classes is None:
            opened = open_layer(name, layer, base_dir=path.parent)
            if isinstance(opened, VectorLayer):
                yield f"the layer {name} of {member.name}: {opened.source}", opened.polygons_of()
