"""Samples as STAC items, written as columns: STAC GeoParquet, one row a sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from catalog.extension import SCHEMA_URI
from catalog.spectral import spectral_entropy
from pwcat.atomic import replacing
from pwcat.building.ledger import served_scenes
from pwcat.cube import Cube
from pwcat.plan import FRACTIONS, FrozenPlan

__all__ = ["ITEM_SCHEMA", "make_items", "write_items"]

STAC_VERSION = "1.1.0"
PROJECTION_URI = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
ROW_GROUP_ROWS = 50_000

_BBOX = pa.struct([pa.field(name, pa.float64()) for name in ("xmin", "ymin", "xmax", "ymax")])
_LINK = pa.struct([pa.field(name, pa.string()) for name in ("href", "rel", "type")])
_ASSET = pa.struct(
    [
        pa.field("href", pa.string()),
        pa.field("title", pa.string()),
        pa.field("type", pa.string()),
        pa.field("roles", pa.list_(pa.string())),
    ]
)
_CENTROID = pa.struct([pa.field("lat", pa.float64()), pa.field("lon", pa.float64())])

# Fields of the projection and diversity extensions, and our own: the sample's row in the cube, its split and scenes.
ITEM_SCHEMA = pa.schema(
    [
        pa.field("type", pa.string()),
        pa.field("stac_version", pa.string()),
        pa.field("stac_extensions", pa.list_(pa.string())),
        pa.field("id", pa.string()),
        pa.field("geometry", pa.binary()),
        pa.field("bbox", _BBOX),
        pa.field("links", pa.list_(_LINK)),
        pa.field("assets", pa.struct([pa.field("chips", _ASSET)])),
        pa.field("collection", pa.string()),
        pa.field("datetime", pa.timestamp("us", tz="UTC")),
        pa.field("proj:code", pa.string()),
        pa.field("proj:shape", pa.list_(pa.int32())),
        pa.field("proj:transform", pa.list_(pa.float64())),
        pa.field("proj:centroid", _CENTROID),
        pa.field("div:continent", pa.string()),
        pa.field("div:biome", pa.string()),
        pa.field("div:landcover", pa.string()),
        pa.field("div:landcover_fractions", FRACTIONS),
        pa.field("div:spectral_entropy", pa.float64()),
        pa.field("div:valid_fraction", pa.float64()),
        pa.field("pwcat:index", pa.int64()),
        pa.field("pwcat:split", pa.string()),
        pa.field("pwcat:scene_ids", pa.list_(pa.string())),
    ]
)


def make_items(plan: FrozenPlan, ledger: pa.Table, cube: Cube) -> pa.Table:
    """The items of the samples that have pixels, :data:`ITEM_SCHEMA`, in cube order.

    Args:
        plan: of the collection.
        ledger: of all its shards.
        cube: of the collection; every written chip is read once, for its spectral entropy.
    """
    written = np.flatnonzero(np.asarray(ledger["status"].to_pylist(), dtype=object) == "written")
    rows, told = plan.table.take(pa.array(written)), ledger.take(pa.array(written))
    chip = plan.recipe.chip
    step = chip.resolution_m
    x0, y0 = rows["x0"].to_numpy(), rows["y0"].to_numpy()
    outlines = _outlines(rows["epsg"].to_numpy(), x0, y0, chip.size_px * step)
    count = len(rows)
    transforms = np.column_stack(
        [np.full(count, step), np.zeros(count), x0, np.zeros(count), np.full(count, -step), y0]
    )
    name = plan.recipe.name
    columns: dict[str, Any] = {
        "type": ["Feature"] * count,
        "stac_version": [STAC_VERSION] * count,
        "stac_extensions": [[PROJECTION_URI, SCHEMA_URI]] * count,
        "id": rows["id"],
        "geometry": shapely.to_wkb(outlines),
        "bbox": _bboxes(outlines),
        "links": [[{"href": "./collection.json", "rel": "collection", "type": "application/json"}]] * count,
        "assets": [{"chips": _cube_asset()}] * count,
        "collection": [name] * count,
        "datetime": pa.compute.list_element(rows["datetime"], 0),
        "proj:code": [f"EPSG:{code}" for code in rows["epsg"].to_pylist()],
        "proj:shape": [[chip.size_px, chip.size_px]] * count,
        "proj:transform": transforms.tolist(),
        "proj:centroid": [
            {"lat": lat, "lon": lon} for lat, lon in zip(rows["lat"].to_pylist(), rows["lon"].to_pylist(), strict=True)
        ],
        "div:continent": rows["continent"],
        "div:biome": rows["biome"],
        "div:landcover": rows["landcover"],
        "div:landcover_fractions": rows["landcover_fractions"],
        "div:spectral_entropy": _entropies(cube, written),
        "div:valid_fraction": told["valid_fraction"],
        "pwcat:index": written,
        "pwcat:split": rows["split"],
        "pwcat:scene_ids": served_scenes(told, rows["scene_ids"].to_pylist()),
    }
    arrays = [_as_array(columns[field.name], field.type) for field in ITEM_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=ITEM_SCHEMA)


def _as_array(values: Any, kind: pa.DataType) -> Any:
    if isinstance(values, pa.ChunkedArray | pa.Array):
        return values.cast(kind)
    return pa.array(values, type=kind)


def _cube_asset() -> dict[str, Any]:
    return {"href": "./cube.zarr", "title": "Chips, Zarr v3", "type": "application/vnd+zarr", "roles": ["data"]}


def _entropies(cube: Cube, written: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of the reflectance alone: what sensors measure has other units."""
    entropies = np.empty(len(written))
    shard_of = written // cube.shard_size
    for shard in np.unique(shard_of):
        rows = np.flatnonzero(shard_of == shard)
        chips = cube.read_shard(int(shard))[:, :, cube.main]
        entropies[rows] = spectral_entropy(chips[written[rows] - shard * cube.shard_size])
    return entropies


def _outlines(
    epsgs: NDArray[np.int32], x0: NDArray[np.float64], y0: NDArray[np.float64], side: float
) -> NDArray[np.object_]:
    """The chips' outlines, EPSG:4326; one that crosses the antimeridian is cut there (RFC 7946, section 3.1.9)."""
    outlines = np.empty(len(x0), dtype=object)
    for epsg in np.unique(epsgs):
        rows = np.flatnonzero(epsgs == epsg)
        x = x0[rows, None] + np.array([0, 0, side, side, 0])
        y = y0[rows, None] - np.array([0, side, side, 0, 0])
        lon, lat = Transformer.from_crs(f"EPSG:{epsg}", "EPSG:4326", always_xy=True).transform(x, y)
        crossing = np.ptp(lon, axis=1) > 180
        lon[crossing] = np.where(lon[crossing] < 0, lon[crossing] + 360, lon[crossing])
        outlines[rows] = shapely.polygons(np.stack([lon, lat], axis=-1))
        for row in rows[crossing]:
            outlines[row] = _cut_at_antimeridian(outlines[row])
    return outlines


def _cut_at_antimeridian(outline: shapely.Polygon) -> shapely.MultiPolygon:
    west = shapely.intersection(outline, shapely.box(-180, -90, 180, 90))
    east = shapely.intersection(outline, shapely.box(180, -90, 540, 90))
    east = shapely.transform(east, lambda xy: xy - np.array([360.0, 0.0]))
    return shapely.MultiPolygon([west, east])


def _bboxes(outlines: NDArray[np.object_]) -> list[dict[str, float]]:
    """Bounds of the outlines; across the antimeridian the western bound is the larger (RFC 7946, section 5.2)."""
    boxes = []
    for outline, (xmin, ymin, xmax, ymax) in zip(outlines, shapely.bounds(outlines), strict=True):
        if isinstance(outline, shapely.MultiPolygon):
            west, east = outline.geoms
            xmin, xmax = west.bounds[0], east.bounds[2]
        boxes.append({"xmin": xmin, "ymin": ymin, "xmax": xmax, "ymax": ymax})
    return boxes


def write_items(path: Path, items: pa.Table) -> None:
    """Write STAC GeoParquet (GeoParquet 1.1 with bbox covering), whole or not at all."""
    kinds = shapely.get_type_id(shapely.from_wkb(items["geometry"].to_numpy(zero_copy_only=False)))
    names = sorted({"MultiPolygon" if kind == shapely.GeometryType.MULTIPOLYGON else "Polygon" for kind in kinds})
    geo = {
        "version": "1.1.0",
        "primary_column": "geometry",
        "columns": {
            "geometry": {
                "encoding": "WKB",
                "geometry_types": names,
                "covering": {"bbox": {name: ["bbox", name] for name in ("xmin", "ymin", "xmax", "ymax")}},
            }
        },
    }
    notes = {"geo": json.dumps(geo), "stac-geoparquet": json.dumps({"version": "1.1.0"})}
    with replacing(path) as temporary:
        pq.write_table(
            items.replace_schema_metadata(notes),
            temporary,
            compression="zstd",
            row_group_size=ROW_GROUP_ROWS,
            write_page_checksum=True,
        )
