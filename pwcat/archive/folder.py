"""The archive on disk: a static STAC 1.1 catalog with relative links, and the COGs beside its items.

``catalog.json`` / ``<collection>/collection.json`` / ``<collection>/<item>/<item>.json`` and assets. Every file is written
to a temporary name and renamed, so that a name that is there is a file that is whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pystac
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.io import MemoryFile
from rasterio.shutil import copy
from rasterio.transform import Affine, array_bounds
from rasterio.warp import transform_geom
from shapely import affinity, union_all
from shapely.geometry import box, mapping, shape
from shapely.geometry.base import BaseGeometry

from pwcat.archive.spectra import BANDS
from pwcat.errors import ArchiveError

__all__ = [
    "EXTENSIONS",
    "Grid",
    "band_fields",
    "everywhere",
    "make_item",
    "raster_asset",
    "read_items",
    "read_json",
    "replacing",
    "write_catalog",
    "write_cog",
    "write_collection",
    "write_item",
]

EXTENSIONS = {
    "proj": "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "eo": "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
    "raster": "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "classification": "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "file": "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "grid": "https://stac-extensions.github.io/grid/v1.1.0/schema.json",
}
CATALOG_ID = "pwcat-archive"
JSON, GEOJSON = "application/json", "application/geo+json"


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The pixel grid of a raster: its CRS, (height, width) and the transform from pixel to CRS."""

    crs: CRS
    shape: tuple[int, int]
    transform: Affine

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in the units of the CRS."""
        west, south, east, north = array_bounds(*self.shape, self.transform)
        return west, south, east, north

    def fields(self) -> dict[str, Any]:
        """The grid in the fields of the projection extension v2; a CRS without an EPSG code goes as WKT2."""
        code = self.crs.to_epsg()
        fields: dict[str, Any] = {"proj:code": f"EPSG:{code}" if code else None}
        if not code:
            fields["proj:wkt2"] = self.crs.to_wkt(version="WKT2_2019")
        return fields | {
            "proj:shape": list(self.shape),
            "proj:transform": [float(v) for v in tuple(self.transform)[:6]],
            "proj:bbox": [float(v) for v in self.bounds],
        }


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that takes its place when the block ends well, and goes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.part{path.suffix}")  # GDAL goes by the suffix
    try:
        yield part
        part.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            part.unlink()
        raise


def write_cog(path: Path, pixels: NDArray[Any], *, grid: Grid, nodata: float | None, categorical: bool = False) -> None:
    """Write one band (y, x) as a cloud-optimised GeoTIFF: DEFLATE with a predictor, 512 tiles, overviews down to 128.

    Overviews are means, or the nearest pixel where values are classes.
    """
    halvings = max(0, int(np.floor(np.log2(max(min(grid.shape) / 128, 1)))))
    predictor = "FLOATING_POINT" if pixels.dtype.kind == "f" else "NO" if pixels.dtype.itemsize == 1 else "STANDARD"
    # Told to make 0 of them, GDAL fails where one side is longer than a tile
    overviews = {"overview_count": halvings} if halvings else {"overviews": "NONE"}
    profile = {"count": 1, "dtype": pixels.dtype, "height": grid.shape[0], "width": grid.shape[1]}
    # A plain copy first: rasterio lets go of the interpreter's lock in copy(), not where it closes a COG it writes.
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", crs=grid.crs, transform=grid.transform, nodata=nodata, **profile) as plain:
            plain.write(pixels, 1)
        with replacing(path) as part, memory.open() as plain:
            copy(
                plain,
                part,
                driver="COG",
                compress="DEFLATE",
                predictor=predictor,
                blocksize=512,
                overview_resampling="NEAREST" if categorical else "AVERAGE",
                **overviews,
            )


def band_fields(name: str, *, dtype: str, nodata: float | None, gsd_m: float | None = None) -> dict[str, Any]:
    """The entry of a band in a STAC 1.1 ``bands`` list; a name of a Sentinel-2 band brings its wavelength along."""
    fields: dict[str, Any] = {"name": name, "data_type": dtype}
    if nodata is not None:
        fields["nodata"] = "nan" if np.isnan(nodata) else int(nodata) if float(nodata).is_integer() else nodata
    if gsd_m is not None:
        fields["gsd"] = gsd_m
    if name in BANDS:
        band = BANDS[name]
        fields |= {
            "eo:common_name": band.common_name,
            "eo:center_wavelength": band.centre_um,
            "eo:full_width_half_max": band.width_um,
        }
    return fields


def raster_asset(
    href: str,
    *,
    title: str,
    grid: Grid,
    bands: Sequence[Mapping[str, Any]],
    cog: bool = True,
    fields: Mapping[str, Any] = MappingProxyType({}),
) -> pystac.Asset:
    """A raster asset with its grid; ``href`` is relative to the item."""
    return pystac.Asset(
        href,
        title=title,
        media_type=pystac.MediaType.COG if cog else pystac.MediaType.GEOTIFF,
        roles=["data"],
        extra_fields=grid.fields() | dict(fields) | {"bands": [dict(band) for band in bands]},
    )


def make_item(
    item_id: str,
    *,
    collection: str,
    when: datetime,
    grid: Grid,
    properties: Mapping[str, Any],
    assets: Mapping[str, pystac.Asset],
    extensions: Sequence[str],
    footprint: BaseGeometry | None = None,
) -> pystac.Item:
    """An item of that collection, its geometry the footprint in the grid's CRS (the whole grid where it is None)."""
    outline = footprint if footprint is not None else box(*grid.bounds)
    polygon = _on_the_map(shape(transform_geom(grid.crs, CRS.from_epsg(4326), mapping(outline), precision=7)))
    item = pystac.Item(
        item_id,
        geometry=_as_lists(mapping(polygon)),
        bbox=[round(v, 7) for v in polygon.bounds],
        datetime=when,
        properties={
            **properties,
            **grid.fields(),
            "proj:centroid": {"lat": round(polygon.centroid.y, 6), "lon": round(polygon.centroid.x, 6)},
        },
        stac_extensions=[EXTENSIONS[name] for name in extensions],
    )
    for key, asset in assets.items():
        item.add_asset(key, asset)
    item.collection_id = collection
    for rel, target in (
        ("root", "../../catalog.json"),
        ("parent", "../collection.json"),
        ("collection", "../collection.json"),
    ):
        item.add_link(pystac.Link(rel, target, JSON))
    return item


def _on_the_map(polygon: BaseGeometry) -> BaseGeometry:
    """The same within ±180° and ±90°: grids in degrees may count on to 360°, and begin half a pixel before the map does."""
    west, south, east, north = polygon.bounds
    if west >= -180 and east <= 180 and south >= -90 and north <= 90:
        return polygon
    turns = [affinity.translate(polygon, 360 * turn) for turn in (-1, 0, 1)]
    return union_all([box(-180, -90, 180, 90) & turn for turn in turns])


def write_item(directory: Path, item: pystac.Item) -> None:
    """Write an item into its collection's folder; its files are there already, and it says how large they are."""
    path = directory / str(item.collection_id) / item.id / f"{item.id}.json"
    for asset in item.assets.values():
        if (file := path.parent / asset.href).is_file():
            asset.extra_fields["file:size"] = file.stat().st_size
    item.stac_extensions = list(dict.fromkeys([*item.stac_extensions, EXTENSIONS["file"]]))
    _write_json(path, item.to_dict(include_self_link=False, transform_hrefs=False))


def read_items(directory: Path, collection: str) -> list[dict[str, Any]]:
    """The items of a collection on disk, as plain dicts, sorted by id."""
    return [
        read_json(path) for path in sorted((directory / collection).glob("*/*.json")) if path.stem == path.parent.name
    ]


def read_json(path: Path) -> dict[str, Any]:
    """One JSON document.

    Raises:
        ArchiveError: It is missing or not JSON.
    """
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise ArchiveError(f"cannot read {path}: {exc}; the archive is damaged, make it anew") from exc
    return document


def everywhere() -> pystac.Extent:
    """The extent of a collection whose items are not known yet: the whole earth, at any time."""
    any_time: list[list[datetime | None]] = [[None, None]]
    return pystac.Extent(pystac.SpatialExtent([[-180.0, -90.0, 180.0, 90.0]]), pystac.TemporalExtent(any_time))


def write_collection(directory: Path, collection: pystac.Collection) -> None:
    """Write a collection with the extent and the links of the items that are on disk."""
    items = read_items(directory, collection.id)
    if items:
        collection.extent = _extent(items)
    collection.clear_links()
    for rel in ("root", "parent"):
        collection.add_link(pystac.Link(rel, "../catalog.json", JSON))
    for item in items:
        collection.add_link(pystac.Link("item", f"./{item['id']}/{item['id']}.json", GEOJSON))
    document = collection.to_dict(include_self_link=False, transform_hrefs=False)
    _write_json(directory / collection.id / "collection.json", document)


def write_catalog(directory: Path) -> None:
    """Write ``catalog.json`` over the collections that are on disk."""
    catalog = pystac.Catalog(CATALOG_ID, "Scenes of an embedded pwcat archive.", title="Embedded archive")
    catalog.clear_links()
    catalog.add_link(pystac.Link("root", "./catalog.json", JSON))
    for path in sorted(directory.glob("*/collection.json")):
        catalog.add_link(pystac.Link("child", f"./{path.parent.name}/collection.json", JSON))
    _write_json(directory / "catalog.json", catalog.to_dict(include_self_link=False, transform_hrefs=False))


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    with replacing(path) as part:
        part.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _extent(items: Sequence[Mapping[str, Any]]) -> pystac.Extent:
    boxes = np.array([item["bbox"] for item in items])
    times = [datetime.fromisoformat(item["properties"]["datetime"]).astimezone(UTC) for item in items]
    bbox = [*boxes[:, :2].min(0).tolist(), *boxes[:, 2:].max(0).tolist()]
    return pystac.Extent(pystac.SpatialExtent([bbox]), pystac.TemporalExtent([[min(times), max(times)]]))


def _as_lists(value: Any) -> Any:
    """The same with lists for tuples, as JSON has them."""
    if isinstance(value, Mapping):
        return {key: _as_lists(one) for key, one in value.items()}
    return [_as_lists(one) for one in value] if isinstance(value, (list, tuple)) else value
