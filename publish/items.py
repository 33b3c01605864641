"""The light tables beside the chips: STAC items that say where each chip lies, and a few thumbnails to look at."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from PIL import Image

from catalog.extension import SCHEMA_URI
from catalog.items import PROJECTION_URI, STAC_VERSION
from catalog.published.layout import ITEMS_PATH, PREVIEW_PATH
from catalog.subset import Subset
from publish.facts import DatasetFacts
from publish.manifest import FileRecord, describe_file
from publish.maps import map_columns
from publish.shards import Shard

__all__ = ["PREVIEW_SAMPLES", "write_items", "write_preview"]

PREVIEW_SAMPLES = 64
THUMBNAIL_PX = 128
MIN_PREVIEW_PX = 16  # below this a thumbnail shows nothing: pixel time series have no preview

# Sentinel-2 in true colour, black at 0 and white at a reflectance of 0.3, as ESA's true-colour images about do.
TRUE_COLOUR = ("B04", "B03", "B02")
WHITE_DN = 3000
# Images of 8 bits, each number one higher, are shown as they are.
PICTURE, PICTURE_MOST = ("red", "green", "blue"), 256

GEOMETRY_TYPES = {int(shapely.GeometryType.POLYGON): "Polygon", int(shapely.GeometryType.MULTIPOLYGON): "MultiPolygon"}

Bytes = NDArray[np.uint8]


def write_items(subset: Subset, folder: Path, shards: list[Shard], *, facts: DatasetFacts) -> FileRecord:
    """The record of the samples' file, STAC GeoParquet: the catalog's columns, and the shard and row of each chip.

    The items belong to the published collection; ``pwcat:collection`` says which one they come from.
    """
    names = [*subset.table.column_names, *map_columns(subset)]
    table = _locate(subset.columns(names), shards).drop_columns(["pwcat:index"])
    table = table.append_column("pwcat:collection", table["collection"])
    table = _replace(table, "collection", _repeat(facts.name, len(table)))
    table = _replace(table, "assets", _assets(table["pwcat:shard"]))
    table = _replace(table, "links", _links(len(table)))
    for name, value in {"type": "Feature", "stac_version": STAC_VERSION}.items():
        table = _replace(table, name, _repeat(value, len(table)))
    table = _replace(table, "stac_extensions", _repeat([PROJECTION_URI, SCHEMA_URI], len(table)))
    path = folder / ITEMS_PATH
    path.parent.mkdir()
    metadata = {b"geo": json.dumps(_geo_metadata(table, facts.bbox)).encode()}
    pq.write_table(
        table.replace_schema_metadata(metadata),
        path,
        compression="zstd",
        row_group_size=16_384,
        write_page_index=True,
        use_content_defined_chunking=True,
    )
    return describe_file(path, rows=len(table))


def _locate(table: pa.Table, shards: list[Shard]) -> pa.Table:
    """The table with the shard and the row within it of each sample."""
    path = np.empty(len(table), dtype=object)
    row = np.empty(len(table), dtype=np.int64)
    for shard in shards:
        path[shard.rows] = shard.path
        row[shard.rows] = np.arange(len(shard.rows))
    return table.append_column("pwcat:shard", pa.array(path, pa.string())).append_column("pwcat:row", pa.array(row))


def _assets(shard_paths: pa.ChunkedArray) -> pa.Array:
    """Each item's asset: the shard that holds its chip. The catalog's own assets are paths of the machine it lies on."""
    count = len(shard_paths)
    hrefs = pc.binary_join_element_wise("..", shard_paths.combine_chunks(), "/")
    values = [hrefs, _repeat("application/vnd.apache.parquet", count), _repeat(["data"], count)]
    return pa.StructArray.from_arrays([pa.StructArray.from_arrays(values, ["href", "type", "roles"])], ["chips"])


def _links(count: int) -> pa.Array:
    return _repeat([{"href": "../stac/collection.json", "rel": "collection", "type": "application/json"}], count)


def _repeat(value: Any, count: int) -> pa.Array:
    """A column of one value, nested or not, without a Python object a row."""
    return pa.array([value]).take(pa.array(np.zeros(count, dtype=np.int64)))


def _replace(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    if name not in table.column_names:
        return table.append_column(name, values)
    return table.set_column(table.column_names.index(name), name, values)


def _geo_metadata(table: pa.Table, bbox: tuple[float, float, float, float]) -> dict[str, Any]:
    """GeoParquet 1.1 metadata. Without a CRS, which then is OGC:CRS84: longitude and latitude in that order."""
    kinds: set[int] = set()
    for chunk in table["geometry"].chunks:
        kinds |= set(shapely.get_type_id(shapely.from_wkb(chunk.to_numpy(zero_copy_only=False))).tolist())
    column = {
        "encoding": "WKB",
        "geometry_types": sorted(GEOMETRY_TYPES[kind] for kind in kinds),
        "bbox": list(bbox),
        "covering": {"bbox": {corner: ["bbox", corner] for corner in ("xmin", "ymin", "xmax", "ymax")}},
    }
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


def _preview_schema() -> pa.Schema:
    """The columns of the preview; ``datasets`` shows ``thumbnail`` as an image."""
    texts = ("continent", "biome", "landcover", "split")
    fields = [
        ("id", pa.string()),
        ("thumbnail", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("lon", pa.float64()),
        ("lat", pa.float64()),
        ("datetime", pa.timestamp("us", tz="UTC")),
        *((name, pa.string()) for name in texts),
        ("spectral_entropy", pa.float64()),
    ]
    return pa.schema(fields)


def write_preview(subset: Subset, folder: Path) -> FileRecord | None:
    """The record of a file of up to 64 thumbnails, spread evenly over the subset; ``None`` where chips are too small."""
    if min(subset.chip_shape[-2:]) < MIN_PREVIEW_PX:
        return None
    rows = np.unique(np.linspace(0, len(subset) - 1, min(len(subset), PREVIEW_SAMPLES)).round().astype(np.int64))
    chosen = subset.select(rows)
    chips = chosen.read(np.arange(len(rows)))
    main = chosen.collections[0].cube.main
    images = [_png(image) for image in _true_colour(chips[:, :, main], subset.bands[main])]
    columns = {name: chosen.table[f"div:{name}"] for name in ("continent", "biome", "landcover", "spectral_entropy")}
    columns |= {
        "id": chosen.table["id"],
        "thumbnail": [{"bytes": png, "path": None} for png in images],
        "lon": chosen.lonlat[:, 0],
        "lat": chosen.lonlat[:, 1],
        "datetime": chosen.table["datetime"],
        "split": chosen.table["pwcat:split"],
    }
    schema = _preview_schema()
    arrays = [_cast(columns[field.name], field.type) for field in schema]
    path = folder / PREVIEW_PATH
    path.parent.mkdir()
    pq.write_table(pa.table(arrays, schema=schema), path, compression="zstd", write_page_index=True)
    return describe_file(path, rows=len(rows))


def _cast(values: Any, dtype: pa.DataType) -> pa.ChunkedArray | pa.Array:
    return values.cast(dtype) if isinstance(values, pa.ChunkedArray) else pa.array(values, dtype)


def _true_colour(chips: NDArray[np.uint16], bands: tuple[str, ...]) -> Bytes:
    """The first date of chips ``(n, time, band, y, x)`` as ``(n, y, x, 3)``, 8 bits a channel."""
    first = chips[:, 0].astype(np.float32)
    if set(TRUE_COLOUR) <= set(bands):
        channels, low, high = [bands.index(name) for name in TRUE_COLOUR], 0.0, float(WHITE_DN)
    elif set(PICTURE) <= set(bands) and first.max(initial=0) <= PICTURE_MOST:
        channels, low, high = [bands.index(name) for name in PICTURE], 1.0, float(PICTURE_MOST)
    else:
        channels = [0, 1, 2] if len(bands) >= 3 else [0, 0, 0]
        low, high = (float(v) for v in np.percentile(first[:, channels], (2, 98)))
    scaled = (first[:, channels] - low) / max(high - low, 1.0)
    return np.moveaxis((np.clip(scaled, 0, 1) * 255).round().astype(np.uint8), 1, -1)


def _png(image: Bytes) -> bytes:
    picture = Image.fromarray(image)
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
