"""Continent, biome and land cover of a task's samples, by the same layers as those of the datasets.

A sample is where its centre is: what a task knows of places is one point each.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pwcat.errors import PwcatError, RegionError, TrainingError
from pwcat.layers import RegionLayers
from pwcat.recipe import load_recipe
from pwcat.regions import Regions, open_layer, open_regions
from pwcat.regions.cache import is_here
from pwcat.regions.datasets import DATASETS, DEFAULTS
from training.tasks.base import TaskData

__all__ = ["GROUPINGS", "cached_layers", "grouped", "layers_of"]

log = logging.getLogger(__name__)

GROUPINGS = ("continent", "biome", "landcover")
RECIPE = "recipe.yaml"  # of a collection


def grouped(data: TaskData, regions: Regions | None = None) -> TaskData:
    """The task with the continent, biome and land cover of each sample; what it knows of them already stays.

    Args:
        data: samples with places; those without one have no groups.
        regions: layers, as :func:`layers_of` opens them; where ``None``, those that were fetched (``pwcat regions fetch``).
    """
    missing = [name for name in GROUPINGS if all(each is None for each in data.groups.get(name, ()))]
    known_N = np.asarray(np.isfinite(data.lonlat).all(axis=1))
    if not missing or not known_N.any():
        return data
    layers = cached_layers() if regions is None else regions
    found = {name: layer.label(data.lonlat[known_N]) for name in missing if (layer := layers.get(name)) is not None}
    return data.with_groups({name: _spread(labels, known_N) for name, labels in found.items()}) if found else data


@contextmanager
def layers_of(place: str | Path) -> Iterator[Regions]:
    """The layers of a recipe, or of a collection or catalog whose recipe names them; to be used while the context lasts.

    Args:
        place: file of a recipe, folder of a collection, or folder of a catalog, of whose collections the first is taken.

    Raises:
        TrainingError: there is no recipe, or the layers of a collection's cannot be opened from there.
        RegionError: layers are missing or unreadable; all of them are told.
    """
    from pwcat.providers import open_source

    path = _recipe_in(Path(place))
    recipe = load_recipe(path, planned=path.name == RECIPE)
    asks = any(layer.collection is not None for layer in recipe.regions.given().values())
    with ExitStack() as opened:
        try:
            source = opened.enter_context(open_source(recipe.source, base_dir=path.parent)) if asks else None
            regions = open_regions(recipe.regions, base_dir=path.parent, source=source)
        except PwcatError as exc:
            if path.name != RECIPE:
                raise
            raise TrainingError(
                f"layers of {path} cannot be opened: {exc}. Its relative paths start where the recipe was written first: give "
                "that file"
            ) from exc
        yield regions


def cached_layers() -> Regions:
    """The layers whose files were fetched, by their datasets' default; none of them reads anything over a network."""
    opened = {}
    for name in GROUPINGS:
        if is_here(DATASETS[DEFAULTS[name]]):
            try:
                opened[name] = open_layer(
                    name, RegionLayers.model_validate({name: DEFAULTS[name]}).given()[name], base_dir=Path()
                )
            except RegionError as exc:
                log.warning("test samples are not grouped by %s: %s", name, exc)
    return Regions(layers=opened)


def _recipe_in(place: Path) -> Path:
    if place.is_file():
        return place
    if (place / RECIPE).is_file():
        return place / RECIPE
    found = sorted(place.glob(f"*/{RECIPE}"))
    if not found:
        raise TrainingError(
            f"{place} has no layers of regions: give the file of a recipe with `regions`, or a collection or catalog that was "
            "built from one"
        )
    return found[0]


def _spread(labels: NDArray[np.object_], known_N: NDArray[np.bool_]) -> NDArray[np.object_]:
    """Labels of the samples whose place is known, as labels of all."""
    found: NDArray[np.object_] = np.full(len(known_N), None, dtype=object)
    found[known_N] = labels
    return found
