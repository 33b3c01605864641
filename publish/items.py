"""The light tables beside the chips: STAC items that say where each chip lies, and a few thumbnails to look at."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from PIL import Image

from catalog.extension import SCHEMA_URI
from catalog.items import ITEM_SCHEMA, PROJECTION_URI, STAC_VERSION, repeat
from catalog.published.layout import ITEMS_PATH, PREVIEW_PATH
from catalog.subset import CONSTANT, Subset
from publish.describing.facts import DatasetFacts
from publish.manifest import FileRecord, RecordedFile
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

GEOMETRY_TYPES = {
    int(shapely.GeometryType.POINT): "Point",
    int(shapely.GeometryType.POLYGON): "Polygon",
    int(shapely.GeometryType.MULTIPOLYGON): "MultiPolygon",
}
ITEMS_AT_ONCE: Final = 16_384  # rows of a row group
ITEM_NAMES: Final = [name for name in ITEM_SCHEMA.names if name not in CONSTANT]
LINK: Final = {"href": "../stac/collection.json", "rel": "collection", "type": "application/json"}
LINKS: Final = pa.list_(pa.struct([(name, pa.string()) for name in LINK]))

Bytes = NDArray[np.uint8]


def write_items(subset: Subset, folder: Path, shards: list[Shard], *, facts: DatasetFacts) -> FileRecord:
    """The record of the samples' file, STAC GeoParquet: the catalog's columns, and the shard and row of each chip.

    The items belong to the published collection; ``pwcat:collection`` says which one they come from, and ``pwcat:index``
    is their own number in this file. All other columns are those of the catalog, to the bit. A row group is held at a time.
    """
    found = _Found.of(subset, shards)
    names = [*ITEM_NAMES, *map_columns(subset)]
    path = folder / ITEMS_PATH
    path.parent.mkdir()
    schema, kinds = _items_schema(subset, names), set[str]()
    with (
        RecordedFile(path) as file,
        pq.ParquetWriter(
            file,
            schema,
            compression="zstd",
            compression_level=3,
            write_page_index=True,
            use_content_defined_chunking=True,
        ) as writer,
    ):
        for start in range(0, len(subset), ITEMS_AT_ONCE):
            rows = np.arange(start, min(start + ITEMS_AT_ONCE, len(subset)))
            table = _published(subset.only(rows).columns(names), rows, found, name=facts.name)
            kinds |= _kinds(table["geometry"])
            writer.write_table(table.select(schema.names).cast(schema), row_group_size=len(rows))
        writer.add_key_value_metadata({"geo": json.dumps(_geo_metadata(kinds, facts.bbox))})
    return file.record(rows=len(subset))


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Where each sample's chip lies: the paths of the shards, each sample's shard among them, and its row there."""

    paths: pa.Array
    shard: NDArray[np.int32]
    row: NDArray[np.int64]

    @staticmethod
    def of(subset: Subset, shards: list[Shard]) -> _Found:
        shard, row = np.empty(len(subset), dtype=np.int32), np.empty(len(subset), dtype=np.int64)
        for number, one in enumerate(shards):
            shard[one.rows], row[one.rows] = number, np.arange(len(one.rows))
        return _Found(paths=pa.array([one.path for one in shards], pa.string()), shard=shard, row=row)


def _items_schema(subset: Subset, names: Sequence[str]) -> pa.Schema:
    """Columns of the file, in order."""
    nothing = (
        subset.only(np.zeros(1, dtype=np.int64)).columns(names).slice(0, 0)
    )  # of nothing, no collection has columns
    found = _Found(paths=pa.array([], pa.string()), shard=np.empty(0, dtype=np.int32), row=np.empty(0, dtype=np.int64))
    return _published(nothing, np.empty(0, dtype=np.int64), found, name="").schema


def _published(items: pa.Table, rows: NDArray[np.int64], found: _Found, *, name: str) -> pa.Table:
    """Items as they are published.

    Args:
        items: Columns of the catalog's.
        rows: Their own numbers.
        found: Where chips lie.
        name: Of the published collection.
    """
    shard = found.paths.take(pa.array(found.shard[rows]))
    count = len(rows)
    table = items.append_column("pwcat:shard", shard).append_column("pwcat:row", pa.array(found.row[rows]))
    table = table.append_column("pwcat:collection", items["collection"])
    changed = {
        "pwcat:index": pa.array(rows),
        "collection": repeat(name, count, pa.string()),
        "assets": _assets(shard),
        "links": repeat([LINK], count, LINKS),
        "type": repeat("Feature", count, pa.string()),
        "stac_version": repeat(STAC_VERSION, count, pa.string()),
        "stac_extensions": repeat([PROJECTION_URI, SCHEMA_URI], count, pa.list_(pa.string())),
    }
    for column, values in changed.items():
        table = _replace(table, column, values)
    return table


def _assets(shards: pa.Array) -> pa.Array:
    """Each item's asset: the shard that holds its chip. The catalog's own assets are paths of the machine it lies on."""
    hrefs = pc.binary_join_element_wise("..", shards, "/")
    media = repeat("application/vnd.apache.parquet", len(shards), pa.string())
    roles = repeat(["data"], len(shards), pa.list_(pa.string()))
    return pa.StructArray.from_arrays(
        [pa.StructArray.from_arrays([hrefs, media, roles], ["href", "type", "roles"])], ["chips"]
    )


def _replace(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    if name not in table.column_names:
        return table.append_column(name, values)
    return table.set_column(table.column_names.index(name), name, values)


def _kinds(geometry: pa.ChunkedArray) -> set[str]:
    """Kinds of some outlines, by name: in well-known binary the order of bytes comes first, then the kind."""
    heads = pc.unique(pc.binary_slice(geometry, 0, 5)).to_pylist()
    return {GEOMETRY_TYPES[int.from_bytes(head[1:], "little" if head[0] else "big") & 0xFF] for head in heads if head}


def _geo_metadata(kinds: set[str], bbox: tuple[float, float, float, float]) -> dict[str, Any]:
    """GeoParquet 1.1 metadata. Without a CRS, which then is OGC:CRS84: longitude and latitude in that order."""
    column = {
        "encoding": "WKB",
        "geometry_types": sorted(kinds),
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
    """The record of a file of up to 64 thumbnails from all over the subset; ``None`` where chips are too small."""
    if min(subset.chip_shape[-2:]) < MIN_PREVIEW_PX:
        return None
    chosen = _spread(subset)
    columns = {name: chosen.table[f"div:{name}"] for name in ("continent", "biome", "landcover", "spectral_entropy")}
    columns |= {
        "id": chosen.table["id"],
        "thumbnail": [{"bytes": _png(image), "path": None} for image in _pictures(chosen)],
        "lon": chosen.lonlat[:, 0],
        "lat": chosen.lonlat[:, 1],
        "datetime": chosen.table["datetime"],
        "split": chosen.table["pwcat:split"],
    }
    schema = _preview_schema()
    arrays = [_cast(columns[field.name], field.type) for field in schema]
    path = folder / PREVIEW_PATH
    path.parent.mkdir()
    with RecordedFile(path) as file:
        pq.write_table(pa.table(arrays, schema=schema), file, compression="zstd", write_page_index=True)
    return file.record(rows=len(chosen))


def _spread(subset: Subset) -> Subset:
    """As many samples of each biome, as far as they go; where biomes are not known, as far from each other as may be."""
    biomes = subset.columns(["div:biome"])["div:biome"]
    if (
        len(subset) > PREVIEW_SAMPLES
        and not biomes.null_count
        and 1 < pc.count_distinct(biomes).as_py() <= PREVIEW_SAMPLES
    ):
        return subset.sample(PREVIEW_SAMPLES, by="biome")
    rows = np.linspace(0, len(subset) - 1, min(len(subset), PREVIEW_SAMPLES)).round().astype(np.int64)
    return subset.only(np.unique(rows))


def _cast(values: Any, dtype: pa.DataType) -> pa.ChunkedArray | pa.Array:
    return values.cast(dtype) if isinstance(values, pa.ChunkedArray) else pa.array(values, dtype)


def _pictures(subset: Subset) -> Iterator[Bytes]:
    """The first date of some chips, each ``(y, x, 3)``, 8 bits a channel, thinned out; one whole chip is held at a time."""
    bands = subset.bands[subset.collections[0].cube.main]
    named = next((names for names in (TRUE_COLOUR, PICTURE) if set(names) <= set(bands)), None)
    channels = [bands.index(name) for name in named] if named else [0, 1, 2] if len(bands) >= 3 else [0, 0, 0]
    step = max(1, min(subset.chip_shape[-2:]) // (2 * THUMBNAIL_PX))
    thinned = [subset.read(np.array([row]))[0, 0][channels, ::step, ::step] for row in range(len(subset))]
    low, high = _range(thinned, bands)
    for picture in thinned:
        scaled = (picture.astype(np.float32) - low) / max(high - low, 1.0)
        yield np.moveaxis((np.clip(scaled, 0, 1) * 255).round().astype(np.uint8), 0, -1)


def _range(pictures: Sequence[NDArray[np.uint16]], bands: tuple[str, ...]) -> tuple[float, float]:
    """The numbers that are black and white."""
    if set(TRUE_COLOUR) <= set(bands):
        return 0.0, float(WHITE_DN)
    if set(PICTURE) <= set(bands) and max(int(picture.max()) for picture in pictures) <= PICTURE_MOST:
        return 1.0, float(PICTURE_MOST)
    low, high = np.percentile(np.stack(pictures)[..., ::2, ::2], (2, 98))
    return float(low), float(high)


def _png(image: Bytes) -> bytes:
    picture = Image.fromarray(image)
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
