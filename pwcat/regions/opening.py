"""Layers of a recipe, opened: known datasets, vector and raster files, collections of class rasters."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

from pwcat.errors import RegionError
from pwcat.landcover import LEGENDS
from pwcat.layers import Layer, RegionLayers
from pwcat.providers import OpenSource
from pwcat.regions.cache import dataset_path
from pwcat.regions.collection import AskedFiles, open_collection
from pwcat.regions.continents import continents_by_land
from pwcat.regions.datasets import Dataset, find_dataset
from pwcat.regions.editions import edition_of, warn_of_another
from pwcat.regions.layer import RegionLayer, Regions
from pwcat.regions.raster import RasterLayer, open_raster
from pwcat.regions.vector import VectorLayer, read_vector, vector_layer

__all__ = ["check_file", "open_dataset", "open_layer", "open_regions"]


def open_regions(layers: RegionLayers, *, base_dir: Path, source: OpenSource | None) -> Regions:
    """The layers of a recipe, ready to label.

    Args:
        layers: the recipe's.
        base_dir: the folder that relative paths start from.
        source: the recipe's source, for layers that are a collection there; not needed where none is.

    Raises:
        RegionError: layers are missing or unreadable; all of them are told.
        SourceError: a STAC API does not answer.
    """
    opened: dict[str, RegionLayer] = {}
    faults = []
    for name, layer in layers.given().items():
        try:
            opened[name] = open_layer(name, layer, base_dir=base_dir, source=source)
        except RegionError as exc:
            faults.append(str(exc))
    if faults:
        raise RegionError("\n  ".join(dict.fromkeys(faults)))
    return Regions(layers=opened)


def open_layer(name: str, layer: Layer, *, base_dir: Path, source: OpenSource | None = None) -> RegionLayer:
    """One layer, ready to label.

    Args:
        name: of the layer: says which field of a dataset is meant.
        layer: what it is.
        base_dir: the folder that relative paths start from.
        source: for collections without a ``url`` of their own.

    Raises:
        RegionError: it is missing or unreadable.
        SourceError: a STAC API does not answer.
    """
    path = _require_file(name, layer.path, base_dir) if layer.path is not None else None
    if layer.dataset is not None:
        return open_dataset(layer.dataset, name=name, field=layer.field, path=path, url=layer.url)
    if layer.collection is not None:
        return _open_collection(name, layer, source)
    assert path is not None, "the recipe's validator saw to it"
    if layer.classes is not None:
        return open_raster(path, name=name, source=path.name, legend=_legend(layer.classes))
    assert layer.field is not None, "the recipe's validator saw to it"
    return vector_layer(read_vector(path, name=name), name=name, source=path.name, field=layer.field, path=path)


def open_dataset(
    dataset_name: str, *, name: str, field: str | None = None, path: Path | None = None, url: str | None = None
) -> VectorLayer | RasterLayer:
    """A known dataset as a layer.

    Args:
        dataset_name: in :data:`pwcat.regions.datasets.DATASETS`.
        name: of the layer.
        field: that holds the class; the dataset's own for this layer, if it is left out.
        path: its file, where it is not in the cache.
        url: another STAC API than the one it is usually asked for at.

    Raises:
        RegionError: it is not there, damaged, or has no such layer; says what to do.
    """
    dataset = find_dataset(dataset_name)
    if dataset.kind == "stac":
        return _open_stac(dataset, name=name, url=url)
    field = field or _field_of(dataset, name)
    inside = dataset.inside if path is None or path.suffix == ".zip" else None
    path = path or dataset_path(dataset.name)
    if dataset.kind == "raster":
        edition = edition_of(dataset, path)
        warn_of_another(dataset, edition)
        source = f"{dataset.name} {edition}" if edition is not None else dataset.name
        return open_raster(path, name=name, source=source, legend=LEGENDS[dataset.legend or ""])
    frame = read_vector(path, name=name, inside=inside)
    if dataset.by_land and field == dataset.layers["continent"]:
        return continents_by_land(frame, name=name, source=dataset.name, path=path)[0]
    if dataset.leave_out is not None and dataset.leave_out[0] in frame.columns:
        frame = frame[frame[dataset.leave_out[0]] != dataset.leave_out[1]]
    return vector_layer(frame, name=name, source=dataset.name, field=field, path=path)


def check_file(dataset: Dataset, path: Path) -> None:
    """See that a file can be what a dataset should be, before it takes its place in the cache.

    Raises:
        RegionError: it cannot.
    """
    if dataset.kind == "raster":
        layer = open_raster(
            path, name=next(iter(dataset.layers)), source=dataset.name, legend=LEGENDS[dataset.legend or ""]
        )
        areas = layer.areas_km2()
        if areas is not None and not areas.any():
            raise RegionError(f"{path}: none of its values is a class of {dataset.name}")
        return
    if dataset.inside is not None:
        _require_inside(dataset, dataset.inside, path)
    frame = read_vector(path, name=dataset.name, inside=dataset.inside)
    lacking = [field for field in dataset.layers.values() if field not in frame.columns]
    if lacking:
        raise RegionError(f"{path} is not the file of {dataset.name}: it has no {', '.join(lacking)}")


def _require_inside(dataset: Dataset, inside: str, path: Path) -> None:
    if not zipfile.is_zipfile(path):
        raise RegionError(
            f"{path} is no zip archive, and {dataset.name} comes as one, with {inside} in it. {_as_it_is(dataset)}"
        )
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if inside not in names:
        holds = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise RegionError(f"{path} does not hold {inside}, but {holds or 'nothing'}")


def _as_it_is(dataset: Dataset) -> str:
    if dataset.kind == "points":
        return "Samplers take any file of places by its path, without fetching it"
    return (
        f"A vector file can be used where it is: `{{dataset: {dataset.name}, path: FILE}}` in a recipe, "
        f"`--dataset {dataset.name} --path FILE` in `regions show`"
    )


def _field_of(dataset: Dataset, name: str) -> str:
    if name in dataset.layers:
        return dataset.layers[name]
    if len(dataset.layers) == 1:
        return next(iter(dataset.layers.values()))
    if not dataset.layers:
        raise RegionError(f"regions.{name}: the dataset {dataset.name!r} is points, which are no layer")
    fields = ", ".join(dataset.layers.values())
    raise RegionError(f"regions.{name}: the dataset {dataset.name!r} has several classes; say which `field`: {fields}")


def _open_stac(dataset: Dataset, *, name: str, url: str | None) -> RasterLayer:
    files = AskedFiles(
        name=name,
        source=OpenSource(provider="stac", url=(url or dataset.url).rstrip("/"), collection=dataset.collection),
        collection=dataset.collection,
        asset=dataset.asset,
        datetime=dataset.datetime,
        moved=dataset.moved,
    )
    return open_collection(files, legend=LEGENDS[dataset.legend or ""], pixel_m=dataset.pixel_m, record=dataset.name)


def _open_collection(name: str, layer: Layer, source: OpenSource | None) -> RasterLayer:
    assert layer.collection is not None
    if layer.url is not None:
        trusted = source is not None and source.allow_private
        url = layer.url.rstrip("/")
        source = OpenSource(provider="stac", url=url, collection=layer.collection, allow_private=trusted)
    if source is None:
        raise RegionError(f"regions.{name}: a collection needs a `url` here, where there is no recipe with a source")
    files = AskedFiles(
        name=name, source=source, collection=layer.collection, asset=layer.asset, datetime=layer.datetime
    )
    return open_collection(files, legend=_legend(layer.classes) if layer.classes is not None else None)


def _legend(classes: str | Mapping[int, str]) -> Mapping[int, str]:
    return LEGENDS[classes] if isinstance(classes, str) else classes


def _require_file(name: str, given: str, base_dir: Path) -> Path:
    path = (base_dir / given).resolve()
    if not path.exists():
        raise RegionError(f"regions.{name}: {given} does not exist (looked for {path}); put the layer there")
    return path
