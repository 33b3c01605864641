"""Region layers: what continent, biome and land cover a place has. Points are longitude and latitude, EPSG:4326."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.io import DatasetReader
from rasterio.windows import Window

from pwcat.errors import RegionError
from pwcat.gdal import GDAL_OPTIONS
from pwcat.landcover import LEGENDS
from pwcat.providers import OpenSource
from pwcat.recipe import Layer, RegionLayers
from pwcat.scenes import ask

__all__ = [
    "RasterFile",
    "RasterLayer",
    "Regions",
    "VectorLayer",
    "majority",
    "open_raster_layer",
    "open_regions",
    "open_vector_layer",
    "require_class",
]

# A raster of up to this many pixels is read whole to label points; a larger one is read window by window.
WHOLE_RASTER_PIXELS = 64_000_000


def require_class(value: str, classes: Iterable[str], *, layer: str) -> str:
    """The class as the layer spells it; case, spaces and underscores do not matter.

    Raises:
        RegionError: no such class; names the close matches and lists every class.
    """
    spelt = {_fold(name): name for name in classes}
    if _fold(value) in spelt:
        return spelt[_fold(value)]
    parts = [name for name in spelt if _fold(value) in name]
    close = dict.fromkeys([*parts, *difflib.get_close_matches(_fold(value), spelt, n=3, cutoff=0.5)])
    hint = f"did you mean {' or '.join(repr(spelt[name]) for name in [*close][:3])}? " if close else ""
    raise RegionError(f"unknown {layer} {value!r}: {hint}Known: {', '.join(sorted(spelt.values()))}")


def _fold(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())


@dataclass(frozen=True, kw_only=True)
class VectorLayer:
    """Polygons with a class each.

    Attributes:
        name: continent, biome, …
        source: the file it was read from, for the record.
        class_of: class of each polygon, ``(n,)`` of str.
        polygons: geometry of each polygon, EPSG:4326.
    """

    name: str
    source: str
    class_of: NDArray[np.object_]
    polygons: NDArray[np.object_]

    @cached_property
    def classes(self) -> list[str]:
        """The classes, sorted."""
        return sorted(set(self.class_of))

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(self.polygons)

    def label(self, lonlat: NDArray[np.float64]) -> NDArray[np.object_]:
        """Class of each point, ``(n,)``; ``None`` where no polygon is. On a border the polygon first in the file wins."""
        labels = np.full(len(lonlat), None, dtype=object)
        point_index, polygon_index = self._tree.query(shapely.points(lonlat), predicate="intersects")
        order = np.lexsort((polygon_index, point_index))[::-1]  # written last, and so kept: the first in the file
        labels[point_index[order]] = self.class_of[polygon_index[order]]
        return labels

    def polygons_of(self, value: str | None = None) -> list[shapely.Polygon]:
        """The polygons of one class, or of all."""
        return list(self.polygons if value is None else self.polygons[self.class_of == value])


@dataclass(frozen=True, kw_only=True)
class RasterFile:
    """One class raster: where it can be read now, and where on Earth it lies (EPSG:4326)."""

    href: str
    footprint: shapely.Geometry


@dataclass(frozen=True, kw_only=True)
class RasterLayer:
    """Class rasters with one legend, each in its own CRS."""

    name: str
    source: str
    files: tuple[RasterFile, ...]
    legend: Mapping[int, str]

    @cached_property
    def classes(self) -> list[str]:
        """The classes, sorted."""
        return sorted(set(self.legend.values()))

    def fractions(self, grids: NDArray[np.float64]) -> list[dict[str, float]]:
        """Area fractions of the classes in each chip, largest first, ties by name.

        Args:
            grids: ``(n, k, 2)``, longitude and latitude of ``k`` points spread evenly over each chip.

        Returns:
            ``n`` dicts of class to share of those points, over the points that have a class; empty where none has.
        """
        values = np.full(grids.shape[:2], -1, dtype=np.int64)
        if self.files and len(grids):
            tree = shapely.STRtree([file.footprint for file in self.files])
            chip_index, file_index = tree.query(shapely.points(grids.mean(axis=1)), predicate="intersects")
            for number in np.unique(file_index)[::-1]:  # the first file wins where several cover a chip
                rows = chip_index[file_index == number]
                values[rows] = _sample(self.files[number].href, grids[rows])
        return [self._shares(row) for row in values]

    def _shares(self, values_K: NDArray[np.int64]) -> dict[str, float]:
        found, counts = np.unique(values_K, return_counts=True)
        known = {self.legend[int(v)]: int(n) for v, n in zip(found, counts, strict=True) if int(v) in self.legend}
        total = sum(known.values())
        return {name: n / total for name, n in sorted(known.items(), key=lambda item: (-item[1], item[0]))}


def _sample(href: str, grids: NDArray[np.float64]) -> NDArray[np.int64]:
    """Raster value at each point, ``(n, k)``; -1 outside the raster."""
    with rasterio.Env(**GDAL_OPTIONS), rasterio.open(href) as raster:
        to_raster = Transformer.from_crs("EPSG:4326", raster.crs, always_xy=True)
        x, y = to_raster.transform(grids[..., 0], grids[..., 1])
        back = ~raster.transform
        columns = np.floor(back.a * x + back.b * y + back.c).astype(np.int64)
        rows = np.floor(back.d * x + back.e * y + back.f).astype(np.int64)
        inside = (columns >= 0) & (columns < raster.width) & (rows >= 0) & (rows < raster.height)
        values = np.full(columns.shape, -1, dtype=np.int64)
        if raster.width * raster.height <= WHOLE_RASTER_PIXELS:
            values[inside] = raster.read(1)[rows[inside], columns[inside]]
            return values
        for number in np.flatnonzero(inside.any(axis=1)):
            values[number] = _sample_window(raster, rows[number], columns[number], inside[number])
        return values


def _sample_window(
    raster: DatasetReader, rows: NDArray[np.int64], columns: NDArray[np.int64], inside: NDArray[np.bool_]
) -> NDArray[np.int64]:
    top, left = rows[inside].min(), columns[inside].min()
    window = Window(left, top, columns[inside].max() - left + 1, rows[inside].max() - top + 1)
    values = np.full(rows.shape, -1, dtype=np.int64)
    values[inside] = raster.read(1, window=window)[rows[inside] - top, columns[inside] - left]
    return values


@dataclass(frozen=True, kw_only=True)
class Regions:
    """The layers of a recipe; a layer that the recipe leaves out is ``None`` and labels nothing."""

    continent: VectorLayer | None = None
    biome: VectorLayer | None = None
    landcover: RasterLayer | None = None

    def sources(self) -> dict[str, str]:
        """Where each layer came from, for the record."""
        layers = {"continent": self.continent, "biome": self.biome, "landcover": self.landcover}
        return {name: layer.source for name, layer in layers.items() if layer is not None}


def open_regions(layers: RegionLayers, *, base_dir: Path, source: OpenSource) -> Regions:
    """The layers of a recipe, ready to label.

    Args:
        layers: the recipe's.
        base_dir: the folder that relative paths start from.
        source: the recipe's source, for layers that are a collection there.

    Raises:
        RegionError: a layer is missing or unreadable.
    """
    continent, biome, landcover = layers.continent, layers.biome, layers.landcover
    return Regions(
        continent=open_vector_layer("continent", continent, base_dir=base_dir) if continent else None,
        biome=open_vector_layer("biome", biome, base_dir=base_dir) if biome else None,
        landcover=_open_landcover(landcover, base_dir=base_dir, source=source) if landcover else None,
    )


def _open_landcover(layer: Layer, *, base_dir: Path, source: OpenSource) -> RasterLayer:
    if layer.collection is None:
        return open_raster_layer("landcover", layer, base_dir=base_dir)
    files, legend = [], dict[int, str]()
    for item in ask(source, collection=layer.collection):
        asset = item["assets"].get(layer.asset)
        if asset is None:
            raise RegionError(f"regions.landcover: item {item['id']} has no asset {layer.asset!r}")
        legend |= {entry["value"]: entry["name"] for entry in _legend_of(asset)}
        files.append(RasterFile(href=asset["href"], footprint=shapely.geometry.shape(item["geometry"])))
    if not legend:
        raise RegionError(
            f"regions.landcover: collection {layer.collection!r} of {source.provider} has no item that says its classes "
            "(classification:classes)"
        )
    return RasterLayer(
        name="landcover", source=f"{source.provider}:{layer.collection}", files=tuple(files), legend=legend
    )


def _legend_of(asset: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    bands = asset.get("bands") or asset.get("raster:bands") or [{}]
    classes: Sequence[Mapping[str, Any]] = asset.get("classification:classes") or bands[0].get(
        "classification:classes", []
    )
    return classes


def open_vector_layer(name: str, layer: Layer, *, base_dir: Path) -> VectorLayer:
    """A vector file as a layer; multipolygons are taken apart.

    Raises:
        RegionError: the file is missing or unreadable, or has no such field.
    """
    path = _require_file(name, layer, base_dir)
    try:
        frame = gpd.read_file(path)
    except Exception as exc:  # pyogrio raises many kinds for what is not a vector file
        raise RegionError(f"regions.{name}: {path} cannot be read as a vector file: {exc}") from exc
    if layer.field not in frame.columns:
        fields = ", ".join(column for column in frame.columns if column != frame.geometry.name)
        raise RegionError(f"regions.{name}: {path} has no field {layer.field!r}; it has {fields}")
    if frame.crs is not None:
        frame = frame.to_crs("EPSG:4326")
    frame = frame.dropna(subset=[layer.field]).explode(ignore_index=True)
    polygons = shapely.make_valid(frame.geometry.to_numpy())
    return VectorLayer(
        name=name,
        source=path.name,
        class_of=frame[layer.field].astype(str).to_numpy(dtype=object),
        polygons=np.asarray(polygons, dtype=object),
    )


def open_raster_layer(name: str, layer: Layer, *, base_dir: Path) -> RasterLayer:
    """A class raster file as a layer.

    Raises:
        RegionError: the file is missing or unreadable.
    """
    path = _require_file(name, layer, base_dir)
    assert layer.classes is not None, "the recipe's validator saw to it"
    legend = LEGENDS[layer.classes] if isinstance(layer.classes, str) else layer.classes
    try:
        with rasterio.open(path) as raster, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            left, bottom, right, top = raster.bounds
            if not raster.crs.is_geographic:
                left, bottom, right, top = rasterio.warp.transform_bounds(raster.crs, "EPSG:4326", *raster.bounds)
    except (rasterio.errors.RasterioError, AttributeError) as exc:
        raise RegionError(f"regions.{name}: {path} cannot be read as a georeferenced raster: {exc}") from exc
    file = RasterFile(href=str(path), footprint=shapely.box(left, bottom, right, top))
    return RasterLayer(name=name, source=path.name, files=(file,), legend=legend)


def _require_file(name: str, layer: Layer, base_dir: Path) -> Path:
    assert layer.path is not None, "the recipe's validator saw to it"
    path = (base_dir / layer.path).resolve()
    if not path.exists():
        raise RegionError(f"regions.{name}: {layer.path} does not exist (looked for {path}); put the layer there")
    return path


def majority(fractions: Sequence[dict[str, float]]) -> list[str | None]:
    """The class with the largest share of each chip; ``None`` where there is none."""
    return [next(iter(shares), None) for shares in fractions]
