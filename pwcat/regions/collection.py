"""Class rasters that a STAC API lists: asked for where points lie, and the answers kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray

from pwcat.errors import RegionError, SourceError
from pwcat.gdal import GDAL_OPTIONS
from pwcat.plain import open_plain
from pwcat.providers import OpenSource
from pwcat.providers.guard import gdal_options
from pwcat.providers.redaction import unsign
from pwcat.regions.raster import RasterFile, RasterLayer, pixel_metres
from pwcat.search import ask

__all__ = ["AskedFiles", "open_collection"]

# The world is asked for in squares of this side; beyond this many unknown ones, for everything at once.
SQUARE_DEG = 10
SQUARES_ONE_BY_ONE = 16
ALL_SQUARES = frozenset(range((360 // SQUARE_DEG) * (180 // SQUARE_DEG)))


@dataclass(frozen=True, kw_only=True, eq=False)
class AskedFiles:
    """Files of a collection, asked for by the squares of 10° that points lie in.

    Attributes:
        name: of the layer, for messages.
        source: the STAC API.
        collection: there.
        asset: key of the asset that holds the classes.
        datetime: of the items, as STAC writes it; ``None`` for all.
        moved: start of hrefs, and what to read instead.
    """

    name: str
    source: OpenSource
    collection: str
    asset: str
    datetime: str | None = None
    moved: tuple[str, str] | None = None
    _asked: set[int] = field(default_factory=set)
    _files: dict[str, RasterFile] = field(default_factory=dict)

    def over(self, bounds: NDArray[np.float64]) -> Sequence[RasterFile]:
        """The files known after asking where it was not asked before, in the order of their items' names."""
        unknown = sorted(_squares(bounds) - self._asked)
        if len(unknown) > SQUARES_ONE_BY_ONE:
            return self._all()
        for square in unknown:
            self._ask(bbox=_box(square))
            self._asked.add(square)
        return [self._files[item] for item in sorted(self._files)]

    def outline(self) -> Sequence[shapely.Geometry]:
        """The footprint of each item of the collection; it is asked for everything, once."""
        return [file.footprint for file in self._all()]

    def _all(self) -> Sequence[RasterFile]:
        if self._asked < ALL_SQUARES:
            self._ask()
            self._asked.update(ALL_SQUARES)
        return [self._files[item] for item in sorted(self._files)]

    def _ask(self, **query: Any) -> None:
        for item in ask(self.source, collection=self.collection, datetime=self.datetime, **query):
            asset = self.asset_of(item)
            self._files[item["id"]] = RasterFile(
                href=self.read_from(asset["href"]), footprint=shapely.geometry.shape(item["geometry"])
            )

    def first(self) -> Mapping[str, Any] | None:
        """One item, or ``None`` where the collection has none."""
        return next(ask(self.source, collection=self.collection, datetime=self.datetime, max_items=1), None)

    def asset_of(self, item: Mapping[str, Any]) -> Mapping[str, Any]:
        """The asset that holds the classes.

        Raises:
            RegionError: the item has no such asset; lists those it has.
        """
        if self.asset not in item["assets"]:
            has = ", ".join(sorted(item["assets"]))
            raise RegionError(f"regions.{self.name}: item {item['id']} has no asset {self.asset!r}; it has {has}")
        asset: Mapping[str, Any] = item["assets"][self.asset]
        return asset

    def read_from(self, href: str) -> str:
        """Where to read what the API names, unsigned."""
        if self.moved is not None and href.startswith(self.moved[0]):
            return self.moved[1] + href.removeprefix(self.moved[0])
        return self.source.freeze(href)

    def readable(self, href: str) -> str:
        """The href as it can be read right now, signed where it needs that. Not to be kept.

        Raises:
            SourceError: it leads to this computer or its network, and neither to the API's own server nor to where files were
                moved; or no token can be had.
        """
        if self.moved is not None and href.startswith(self.moved[1]):
            return href
        own = _server(href) == _server(self.source.url)
        try:
            return (replace(self.source, allow_private=True) if own else self.source).sign(href)
        except SourceError as exc:
            raise SourceError(f"regions.{self.name}: {exc}") from exc


def open_collection(
    files: AskedFiles, *, legend: Mapping[int, str] | None, pixel_m: float | None = None, record: str | None = None
) -> RasterLayer:
    """A collection of class rasters as a layer.

    Args:
        files: where to ask.
        legend: of the values; ``None`` for what the collection's first item says.
        pixel_m: native sampling, where it is known; else the first item's file is opened to see.
        record: how the record names the source; else by provider and collection.

    Raises:
        RegionError: the collection is empty, or says nothing about its classes.
        SourceError: the API does not answer, or names an address that is refused.
    """
    if legend is None or pixel_m is None:
        item = files.first()
        asset = files.asset_of(item) if item is not None else {}
        legend = legend or {int(entry["value"]): _name_of(entry) for entry in _legend_of(asset)}
        if not legend or not asset:
            raise RegionError(
                f"regions.{files.name}: collection {files.collection!r} of {files.source.provider} has no item that says "
                "its classes (classification:classes); say them with `classes`"
            )
        pixel_m = pixel_m or _pixel_m(files, files.read_from(asset["href"]))
    source = record or f"{files.source.provider}:{files.collection}"
    return RasterLayer(name=files.name, source=source, files=files, legend=legend, pixel_m=pixel_m)


def _pixel_m(files: AskedFiles, href: str) -> float:
    try:
        readable = files.readable(href)
        with rasterio.Env(**GDAL_OPTIONS, **gdal_options(readable)), open_plain(readable) as raster:
            return pixel_metres(raster)
    except rasterio.errors.RasterioError as exc:
        raise RegionError(f"regions.{files.name}: {href} cannot be read: {unsign(str(exc))}") from exc


def _server(href: str) -> tuple[str, str]:
    parts = urlsplit(href)
    return parts.scheme, parts.netloc


def _name_of(entry: Mapping[str, Any]) -> str:
    return str(entry.get("name") or entry.get("description") or entry["value"])


def _legend_of(asset: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    bands = asset.get("bands") or asset.get("raster:bands") or [{}]
    classes: Sequence[Mapping[str, Any]] = asset.get("classification:classes") or bands[0].get(
        "classification:classes", []
    )
    return classes


def _squares(bounds: NDArray[np.float64]) -> set[int]:
    """Numbers of the squares that boxes ``(n, 4)`` touch."""
    columns, rows = 360 // SQUARE_DEG, 180 // SQUARE_DEG
    west, east = (np.clip((bounds[:, i] + 180) // SQUARE_DEG, 0, columns - 1) for i in (0, 2))
    south, north = (np.clip((bounds[:, i] + 90) // SQUARE_DEG, 0, rows - 1) for i in (1, 3))
    corners = np.unique(np.column_stack([west, south, east, north]).astype(int), axis=0)
    return {
        row * columns + column
        for left, low, right, high in corners.tolist()
        for row in range(low, high + 1)
        for column in range(left, right + 1)
    }


def _box(square: int) -> tuple[float, float, float, float]:
    row, column = divmod(square, 360 // SQUARE_DEG)
    west, south = column * SQUARE_DEG - 180, row * SQUARE_DEG - 90
    return (west, south, west + SQUARE_DEG, south + SQUARE_DEG)
